//! The table of who may use whom is the architecture: these tests fail on any edge that is not in it,
//! on a crate named where it must not be, and on documents that have lost touch with the tree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

#[path = "layering/documents.rs"]
mod documents;
#[path = "layering/http_api.rs"]
mod http_api;
#[path = "layering/source.rs"]
mod source;
#[path = "layering/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{code_of, module_of, paths_in, rust_files};
use table::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The room that a module path lies in.
fn room_of(module: &[String]) -> Option<String> {
    let top = module.first()?;
    match module.get(1) {
        Some(part) if SPLIT.contains(&top.as_str()) => Some(format!("{top}/{part}")),
        _ => Some(top.clone()),
    }
}

/// The edges of a crate's files: from room, to room, seen where.
fn edges_of(
    files: &[(PathBuf, String)],
    rooms: &BTreeSet<String>,
) -> Vec<(String, String, String)> {
    let mut edges = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let Some(from) = room_of(&module) else {
            continue;
        };
        for path in paths_in(&code_of(text), &module) {
            // The program stands beside the library and names it as any other crate.
            if path[0] != "crate" && !(from == "cli" && path[0] == "homeserver") {
                continue;
            }
            let shown = SHOWN_BY_PARENTS.iter().find(|(name, _)| {
                path[1..]
                    .iter()
                    .map(String::as_str)
                    .take(2)
                    .eq(name.iter().copied())
            });
            if let Some((_, to)) = shown {
                edges.push((from.clone(), (*to).to_owned(), file.display().to_string()));
                continue;
            }
            let Some(to) = room_of(&path[1..]) else {
                continue;
            };
            // `federation::Error` names the parent, not a part of it.
            let to = if rooms.contains(&to) {
                to
            } else {
                path[1].clone()
            };
            if to != from && rooms.contains(&to) {
                edges.push((from.clone(), to, file.display().to_string()));
            }
        }
    }
    edges
}

fn refused_edges(edges: &[(String, String, String)]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    edges
        .iter()
        .filter(|(from, to, _)| {
            let inner = to.starts_with(&format!("{from}/")) || from.starts_with(&format!("{to}/"));
            let listed = allowed
                .get(from.as_str())
                .is_some_and(|room| room.contains(&to.as_str()));
            !inner && !listed
        })
        .map(|(from, to, file)| format!("{from} -> {to} (in {file})"))
        .collect()
}

fn homeserver_files() -> Vec<(PathBuf, String)> {
    let src = root().join("homeserver/src");
    rust_files(&src)
        .into_iter()
        .filter(|file| !is_test_module(file))
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            (file.strip_prefix(&src).unwrap().to_path_buf(), text)
        })
        .collect()
}

/// A file that is compiled for tests alone: its parent module declares it so.
fn is_test_module(file: &Path) -> bool {
    let declared = || {
        let name = file.file_stem()?.to_str()?;
        let parent = fs::read_to_string(file.parent()?.join("mod.rs")).ok()?;
        let shown = ["", "pub(crate) "];
        Some(
            shown
                .iter()
                .any(|shown| parent.contains(&format!("#[cfg(test)]\n{shown}mod {name};"))),
        )
    };
    file.components().any(|part| part.as_os_str() == "tests") || declared().unwrap_or(false)
}

fn rooms_of(files: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (file, _) in files {
        let module = module_of(file);
        if let Some(room) = room_of(&module) {
            rooms.insert(room);
            rooms.insert(module[0].clone());
        }
    }
    rooms
}

/// Goal: no room of the homeserver uses another that the table does not allow. Method: read every
/// path that its sources name.
#[test]
fn rooms_use_only_what_the_table_allows() {
    let files = homeserver_files();
    let edges = edges_of(&files, &rooms_of(&files));
    let refused: BTreeSet<String> = refused_edges(&edges).into_iter().collect();
    assert!(
        refused.is_empty(),
        "not in the table:\n{}",
        refused.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// Goal: the table says nothing that is not so. Method: every line of it must be used by the sources.
#[test]
fn the_table_has_no_dead_lines() {
    let files = homeserver_files();
    let edges = edges_of(&files, &rooms_of(&files));
    let used: BTreeSet<(&str, &str)> = edges
        .iter()
        .map(|(from, to, _)| (from.as_str(), to.as_str()))
        .collect();
    let dead: Vec<String> = EDGES
        .iter()
        .flat_map(|(from, list)| list.iter().map(move |to| (*from, *to)))
        .filter(|edge| !used.contains(edge))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    assert!(dead.is_empty(), "allowed but unused: {dead:?}");
}

/// Goal: the check catches an edge added by hand, however it is written. Method: samples with one
/// illegal edge each.
#[test]
fn an_illegal_edge_is_caught() {
    let rooms: BTreeSet<String> = [
        "policy",
        "store",
        "admin",
        "client_api",
        "federation",
        "federation/inbound",
        "delivery",
        "rooms",
    ]
    .map(str::to_owned)
    .into();
    let samples = [
        (
            "policy/mod.rs",
            "use crate::store::Store;",
            "policy -> store",
        ),
        (
            "policy/rules.rs",
            "use crate::{policy::Rules, store::{self, Store}};",
            "policy -> store",
        ),
        (
            "policy/rules.rs",
            "fn f() { let s: super::super::store::Store; }",
            "policy -> store",
        ),
        ("policy/mod.rs", "use super::store;", "policy -> store"),
        (
            "client_api/mod.rs",
            "pub(crate) use crate::admin as other;",
            "client_api -> admin",
        ),
        (
            "admin/api/peers.rs",
            "fn f() { crate::federation::inbound::serve(); }",
            "admin -> federation/inbound",
        ),
        (
            "federation/inbound/mod.rs",
            "use crate::client_api::{self};",
            "federation/inbound -> client_api",
        ),
        (
            "rooms/hub.rs",
            "impl From<crate::client_api::Error> for u8 {}",
            "rooms -> client_api",
        ),
    ];
    for (file, text, expected) in samples {
        let edges = edges_of(&[(PathBuf::from(file), text.to_owned())], &rooms);
        let refused = refused_edges(&edges);
        assert!(
            refused.iter().any(|line| line.starts_with(expected)),
            "{text}: {refused:?}"
        );
    }
}

/// Uses of everything at once, which would hide edges: of the whole crate, or of the parent of a top room.
fn sweeping_uses(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let code: String = code_of(text)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let mut sweeping = vec![
            "use crate::*",
            "use crate as ",
            "use crate::{self",
            "use crate;",
        ];
        if module.len() == 1 {
            sweeping.extend(["use super::*", "use super as ", "use super::{self"]);
        }
        found.extend(
            sweeping
                .iter()
                .filter(|used| code.contains(*used))
                .map(|used| format!("{}: {used}", file.display())),
        );
    }
    found
}

/// Goal: no edge hides behind a use of the whole crate. Method: search every source, and one sample of each.
#[test]
fn nobody_uses_the_whole_crate() {
    assert_eq!(sweeping_uses(&homeserver_files()), Vec::<String>::new());
    for (file, text) in [
        ("policy/rules.rs", "use crate::*;"),
        ("policy/mod.rs", "use crate as c;"),
        ("policy/mod.rs", "use crate::{self as c};"),
        ("clock.rs", "use super::*;"),
    ] {
        let file = (PathBuf::from(file), text.to_owned());
        assert_eq!(sweeping_uses(&[file]).len(), 1, "{text}");
    }
}

/// Goal: code after a test module counts. Method: an edge below one.
#[test]
fn code_after_a_test_module_counts() {
    let rooms: BTreeSet<String> = ["policy", "store"].map(str::to_owned).into();
    let text = "#[cfg(test)]\nmod tests { fn f() { let _ = \"}\"; } }\nuse crate::store::Store;";
    let edges = edges_of(&[(PathBuf::from("policy/mod.rs"), text.to_owned())], &rooms);
    assert_eq!(edges.len(), 1);
}

/// The rooms that `from` leads to, over any number of edges.
fn reached<'a>(from: &'a str, edges: &[(&'a str, &'a [&'a str])]) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(room) = waiting.pop() {
        for (_, uses) in edges.iter().filter(|(name, _)| *name == room) {
            waiting.extend(uses.iter().copied().filter(|to| found.insert(*to)));
        }
    }
    found
}

/// Goal: the rooms form layers but for one circle, which can only shrink. Method: which rooms lead back to
/// themselves by the table.
#[test]
fn there_is_one_circle_and_it_only_shrinks() {
    let circle: BTreeSet<&str> = EDGES
        .iter()
        .map(|(room, _)| *room)
        .filter(|room| reached(room, EDGES).contains(room))
        .collect();
    assert_eq!(circle, CIRCLE.iter().copied().collect());
    // The check itself: a circle by hand.
    let edges: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])];
    assert!(reached("a", edges).contains("a"));
    assert!(!reached("d", edges).contains("d"));
}

/// Goal: what only looks like an edge is none. Method: comments, strings and test modules that name one.
#[test]
fn words_and_tests_are_no_edges() {
    let rooms: BTreeSet<String> = ["policy", "store"].map(str::to_owned).into();
    let text = "//! See [`crate::store`].\n/* crate::store */ const S: &str = \"crate::store::x\"; const R: &str = r#\"crate::store\"#;\nconst C: char = '\"';\n#[cfg(test)]\nmod tests { use crate::store::Store; }";
    assert_eq!(
        edges_of(&[(PathBuf::from("policy/mod.rs"), text.to_owned())], &rooms),
        Vec::new()
    );
}

fn misplaced_crates(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut misplaced = Vec::new();
    for (file, text) in files {
        let code = code_of(text);
        for path in paths_in(&code, &module_of(file)) {
            for (crates, places, why) in CRATES {
                if crates.contains(&path[0].as_str())
                    && !places
                        .iter()
                        .any(|place| file.with_extension("").starts_with(place))
                {
                    misplaced.push(format!("{} names {}: {why}", file.display(), path[0]));
                }
            }
        }
        for builder in CONFIGURATION_BUILDERS {
            if code.contains(builder) && !file.starts_with("tls") {
                misplaced.push(format!(
                    "{} calls {builder}: only tls/ builds rustls configurations",
                    file.display()
                ));
            }
        }
    }
    misplaced
}

/// Goal: databases, HTTP, TLS configurations and the DNS are named only in their rooms. Method: read every path
/// that the sources name.
#[test]
fn crates_are_named_only_in_their_rooms() {
    let misplaced: BTreeSet<String> = misplaced_crates(&homeserver_files()).into_iter().collect();
    assert!(
        misplaced.is_empty(),
        "{}",
        misplaced.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// Goal: the check catches a crate named in the wrong room. Method: one sample for each rule.
#[test]
fn a_misplaced_crate_is_caught() {
    let samples = [
        ("delivery/inbox.rs", "use fjall::Keyspace;"),
        ("delivery/inbox.rs", "fn f(_: axum::Json<u8>) {}"),
        ("rooms/hub.rs", "use http::StatusCode;"),
        ("policy/mod.rs", "use hyper;"),
        ("identity/mod.rs", "use hickory_resolver::Resolver;"),
        (
            "federation/outbound/mod.rs",
            "fn f() { rustls::ClientConfig::builder_with_provider(p); }",
        ),
    ];
    for (file, text) in samples {
        assert_eq!(
            misplaced_crates(&[(PathBuf::from(file), text.to_owned())]).len(),
            1,
            "{file}: {text}"
        );
    }
}

/// Our crates and those of ours that each depends on, from the manifests.
fn crate_edges() -> BTreeMap<String, BTreeSet<String>> {
    let read =
        |path: PathBuf| -> toml::Table { fs::read_to_string(path).unwrap().parse().unwrap() };
    let workspace = read(root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let manifests: Vec<toml::Table> = members
        .iter()
        .map(|member| read(root().join(member.as_str().unwrap()).join("Cargo.toml")))
        .collect();
    let names: BTreeSet<String> = manifests
        .iter()
        .map(|manifest| manifest["package"]["name"].as_str().unwrap().to_owned())
        .collect();
    manifests
        .iter()
        .map(|manifest| {
            let own = manifest["package"]["name"].as_str().unwrap().to_owned();
            let targets = manifest.get("target").and_then(toml::Value::as_table);
            let places = std::iter::once(manifest).chain(
                targets
                    .into_iter()
                    .flat_map(|all| all.values())
                    .filter_map(toml::Value::as_table),
            );
            let used = places
                .flat_map(|place| {
                    ["dependencies", "dev-dependencies", "build-dependencies"]
                        .iter()
                        .filter_map(|section| place.get(*section)?.as_table())
                })
                .flat_map(|section| section.keys().cloned())
                .filter(|name| names.contains(name) && *name != own)
                .collect();
            (own, used)
        })
        .collect()
}

/// Goal: our crates depend on each other only as the table says. Method: compare it with the manifests, both ways.
#[test]
fn crates_depend_only_as_the_table_says() {
    let allowed: BTreeMap<String, BTreeSet<String>> = CRATE_EDGES
        .iter()
        .map(|(name, uses)| {
            (
                (*name).to_owned(),
                uses.iter().map(|used| (*used).to_owned()).collect(),
            )
        })
        .collect();
    for (name, used) in crate_edges() {
        let table = allowed
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        let extra: Vec<_> = used.difference(table).collect();
        assert!(extra.is_empty(), "{name} may not depend on {extra:?}");
        let dead: Vec<_> = table.difference(&used).collect();
        assert!(dead.is_empty(), "{name} does not depend on {dead:?}");
    }
    assert_eq!(
        allowed.len(),
        crate_edges().len(),
        "the table names a crate that is gone"
    );
}

/// Goal: small rooms. Method: count the lines of every file in the workspace up to its tests.
#[test]
fn files_stay_small() {
    let mut large = Vec::new();
    for file in rust_files(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        let lines = text[..end].lines().count();
        let in_workspace = file.strip_prefix(root()).unwrap();
        if lines > FILE_LINES_MAX && !is_test_module(in_workspace) {
            large.push(format!(
                "{} has {lines} lines",
                file.strip_prefix(root()).unwrap().display()
            ));
        }
    }
    assert!(
        large.is_empty(),
        "over {FILE_LINES_MAX} lines without tests:\n{}",
        large.join("\n")
    );
}
