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
#[path = "layering/manifests.rs"]
mod manifests;
#[path = "layering/paths.rs"]
mod paths;
#[path = "layering/source.rs"]
mod source;
#[path = "layering/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use paths::{Named, paths_in};
use source::{code_of, files_drawn_in, module_of, rust_files, tokens_of};
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
        for Named { path, .. } in paths_in(&code_of(text), &module) {
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
        ("policy/mod.rs", "use crate::r#store;", "policy -> store"),
        (
            "policy/mod.rs",
            "use self::super::store;",
            "policy -> store",
        ),
        ("policy/rules.rs", "use crate::store::*;", "policy -> store"),
        (
            "policy/mod.rs",
            "mod inner { use super::super::store; }",
            "policy -> store",
        ),
        (
            "policy/mod.rs",
            "mod inner { } fn f() { super::store::open(); }",
            "policy -> store",
        ),
        (
            "policy/mod.rs",
            "use {crate as c}; fn f() { c::store::open(); }",
            "policy -> store",
        ),
        (
            "delivery/mod.rs",
            "use crate::federation as f; use f::inbound as g; fn h() { g::serve(); }",
            "delivery -> federation/inbound",
        ),
        (
            "policy/mod.rs",
            "fn f() { <crate::store::Store>::open(); }",
            "policy -> store",
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

/// Uses that would hide edges: of the crate's root or of a split room, whole or under a name, for all rooms are in
/// reach behind it; of anything in the root and in a split room itself, for all rooms reach what they show; of crates by
/// `extern crate`, which renames them for every file.
fn hiding_uses(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let code = code_of(text);
        let split = |part: &String| SPLIT.contains(&part.as_str());
        // The program's root shows nothing to the library.
        let shows_all = file.ends_with("lib.rs") || module.len() == 1 && module.iter().all(split);
        for Named {
            path, imported_as, ..
        } in paths_in(&code, &module)
        {
            let Some(name) = imported_as else { continue };
            let root = path.first().is_some_and(|first| first == "crate");
            let wide = root && (path.len() == 1 || path.len() == 2 && path[1..].iter().all(split));
            let listed = SHOWN_BY_PARENTS
                .iter()
                .any(|(shown, _)| module.iter().chain([&name]).eq(shown.iter().copied()));
            if wide || shows_all && !listed {
                let path = path.join("::");
                found.push(format!("{}: use {path} as {name}", file.display()));
            }
        }
        let tokens = tokens_of(&code);
        if tokens.windows(2).any(|pair| pair == ["extern", "crate"]) {
            found.push(format!("{}: extern crate", file.display()));
        }
    }
    found
}

/// Goal: no edge hides behind a use of many rooms at once or of another name for them. Method: search every
/// source, and one sample of each.
#[test]
fn nobody_hides_edges_behind_a_use() {
    assert_eq!(hiding_uses(&homeserver_files()), Vec::<String>::new());
    for (file, text) in [
        ("policy/rules.rs", "use crate::*;"),
        ("policy/rules.rs", "use {crate::*};"),
        ("policy/rules.rs", "use {std::fmt, crate::{*}};"),
        ("policy/mod.rs", "use crate as c;"),
        ("policy/mod.rs", "use crate::{self as c};"),
        ("policy/mod.rs", "use crate::{self};"),
        ("clock.rs", "use super::*;"),
        ("policy/rules.rs", "use super::super::*;"),
        ("policy/mod.rs", "mod inner { use super::super::*; }"),
        ("policy/rules.rs", "fn f() { use super::{super::*}; }"),
        ("policy/rules.rs", "use self::super::super::{self as c};"),
        ("federation/inbound/mod.rs", "use super::*;"),
        ("federation/inbound/gate.rs", "use super::super::*;"),
        ("federation/inbound/gate.rs", "use super::super::super::*;"),
        ("federation/inbound/mod.rs", "use super as f;"),
        ("delivery/mod.rs", "use crate::federation;"),
        ("delivery/mod.rs", "use crate::federation::*;"),
        ("delivery/mod.rs", "use crate::{clock, r#federation as f};"),
        ("lib.rs", "extern crate self as me;"),
        ("delivery/mod.rs", "extern crate axum as web;"),
        ("lib.rs", "pub use store::Store;"),
        ("lib.rs", "pub use axum;"),
        ("federation/mod.rs", "pub use peers::Peers;"),
    ] {
        let file = (PathBuf::from(file), text.to_owned());
        assert_eq!(hiding_uses(&[file]).len(), 1, "{text}");
    }
}

/// Goal: what hides nothing is allowed. Method: globs and names within a room.
#[test]
fn uses_within_a_room_hide_nothing() {
    for (file, text) in [
        ("policy/rules.rs", "use super::*;"),
        ("policy/mod.rs", "use rules::*; use self::rules as r;"),
        ("policy/mod.rs", "mod inner { use super::*; }"),
        ("federation/inbound/gate.rs", "use super::*;"),
        ("federation/mod.rs", "pub use outbound::run;"),
        ("main.rs", "use std::process::ExitCode;"),
    ] {
        let file = (PathBuf::from(file), text.to_owned());
        assert_eq!(hiding_uses(&[file]), Vec::<String>::new(), "{text}");
    }
}

/// Files that a source draws in from outside its folder, or from `anywhere`.
fn drawn_in(file: &Path, text: &str, folder: &Path, anywhere: bool) -> Vec<String> {
    let mut found = Vec::new();
    for named in files_drawn_in(text) {
        let mut whole = PathBuf::new();
        for part in file.parent().unwrap().join(&named).components() {
            match part {
                std::path::Component::ParentDir => drop(whole.pop()),
                part => whole.push(part),
            }
        }
        // What fuzz crates share with tests is in no room; they depend on what they like.
        let fuzz = whole.components().any(|part| part.as_os_str() == "fuzz");
        if anywhere || !whole.starts_with(folder) && !fuzz {
            found.push(format!("{} draws in {named}", file.display()));
        }
    }
    found
}

/// Goal: no file is part of two crates, or of two rooms of the homeserver. Method: search every crate of the
/// workspace for `#[path]` and `include!` that lead out of it, the homeserver's sources for any; one sample of each.
#[test]
fn files_belong_to_one_crate() {
    let mut found = Vec::new();
    for member in manifests::member_folders() {
        let room = root().join("homeserver/src");
        // A crate within another crate's folder is looked at by itself.
        for file in rust_files(&member)
            .into_iter()
            .filter(|file| manifests::is_in(file, &member))
        {
            let text = fs::read_to_string(&file).unwrap();
            found.extend(drawn_in(&file, &text, &member, file.starts_with(&room)));
        }
    }
    assert_eq!(found, Vec::<String>::new());
    let (file, folder) = (Path::new("/w/chat/src/main.rs"), Path::new("/w/chat"));
    for (text, anywhere, caught) in [
        ("#[path = \"../../conformance/src/x.rs\"] mod x;", false, 1),
        (
            "#[cfg_attr(unix, path=\"../../admin/src/x.rs\")] mod x;",
            false,
            1,
        ),
        ("include!(\"../../admin/src/x.rs\");", false, 1),
        ("#[path = \"/w/admin/src/x.rs\"] mod x;", false, 1),
        ("#[path = \"../tests/x.rs\"] mod x;", false, 0),
        ("#[path = \"../tests/x.rs\"] mod x;", true, 1),
        (
            "// #[path = \"../../admin/x.rs\"]\nlet path = \"/x\"; f(path == \"/x\");",
            true,
            0,
        ),
    ] {
        assert_eq!(
            drawn_in(file, text, folder, anywhere).len(),
            caught,
            "{text}"
        );
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
        for Named { path, .. } in paths_in(&code, &module_of(file)) {
            let builds = path.windows(2).any(|pair| {
                CONFIGURATIONS.contains(&pair[0].as_str()) && pair[1].starts_with("builder")
            });
            if builds && !file.starts_with("tls") {
                misplaced.push(format!(
                    "{} calls {}: only tls/ builds rustls configurations",
                    file.display(),
                    path.join("::")
                ));
            }
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
        ("delivery/inbox.rs", "fn f(_: ::axum::Json<u8>) {}"),
        (
            "delivery/inbox.rs",
            "impl<T> ::axum::extract::FromRef<T> for u8 {}",
        ),
        ("delivery/inbox.rs", "use ::{axum::Json};"),
        ("delivery/inbox.rs", "use r#axum::Json;"),
        ("delivery/inbox.rs", "use {axum as web};"),
        ("delivery/inbox.rs", "use axum::*;"),
        (
            "node.rs",
            "use rustls::ClientConfig as C; fn f() { C::builder(); }",
        ),
        (
            "node.rs",
            "use rustls::client as c; type T = c::ClientConfig; fn f() { T::builder(); }",
        ),
        ("node.rs", "fn f() { <rustls::ServerConfig>::builder(); }"),
        (
            "node.rs",
            "use rustls::ServerConfig as C; fn f() { <C>::builder(); }",
        ),
    ];
    for (file, text) in samples {
        assert!(
            !misplaced_crates(&[(PathBuf::from(file), text.to_owned())]).is_empty(),
            "{file}: {text}"
        );
    }
    for (file, text) in [
        ("server.rs", "fn f(_: ArcSwap<rustls::ServerConfig>) {}"),
        ("tls/mod.rs", "fn f() { rustls::ServerConfig::builder(); }"),
        (
            "delivery/inbox.rs",
            "fn f() { Vec::<u8>::new(); self::http::x(); }",
        ),
    ] {
        let misplaced = misplaced_crates(&[(PathBuf::from(file), text.to_owned())]);
        assert_eq!(misplaced, Vec::<String>::new(), "{text}");
    }
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
