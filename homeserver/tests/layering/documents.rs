//! Documents that point into the tree point at what is there, and at nothing of one person's machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// Folders that paths in ARCHITECTURE.md may start from.
const STARTS: &[&str] = &["", "homeserver/src"];

/// What a path of one person's machine looks like.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", "/Users/"];

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    waiting.push(path);
                }
            } else if name.ends_with(".md")
                || name.ends_with(".toml")
                || name.ends_with(".yaml")
                || name == "Dockerfile"
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Words between backticks that are paths in the tree: with a slash in them or a known ending, and
/// neither a route, a media type nor Rust.
fn paths_named(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (number, piece) in text.split('`').enumerate() {
        let quoted = number % 2 == 1;
        let plain = piece
            .chars()
            .all(|c| c.is_alphanumeric() || "_-./{},".contains(c));
        let path_like = piece.contains('/')
            || [".rs", ".md", ".toml"]
                .iter()
                .any(|end| piece.ends_with(end));
        let other = piece.starts_with('/')
            || piece.starts_with("application/")
            || piece.starts_with('.') && !piece.contains('/');
        if quoted && plain && path_like && !other && !piece.is_empty() {
            paths.extend(expanded(piece));
        }
    }
    paths
}

/// `a/{b,c}/d` is `a/b/d` and `a/c/d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((choices, after)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    choices
        .split(',')
        .flat_map(|choice| expanded(&format!("{before}{}{after}", choice.trim())))
        .collect()
}

/// Those that are neither there nor, as modules are named, there with `.rs` behind.
fn gone(paths: &[String], tree: &Path) -> Vec<String> {
    let is_there = |path: &str| {
        STARTS.iter().any(|start| {
            let at = tree.join(start);
            at.join(path).exists() || at.join(format!("{path}.rs")).exists()
        })
    };
    paths
        .iter()
        .filter(|path| !is_there(path))
        .cloned()
        .collect()
}

/// Goal: ARCHITECTURE.md names no path that is gone. Method: look up every path between its backticks.
#[test]
fn architecture_names_only_what_is_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = paths_named(&text);
    assert!(!named.is_empty(), "ARCHITECTURE.md names no path at all");
    let gone = gone(&named, &root());
    assert!(gone.is_empty(), "gone: {gone:?}");
}

/// Goal: ARCHITECTURE.md's table tells of every room of the homeserver. Method: look for each file and folder of its sources
/// but the roots.
#[test]
fn architecture_names_every_room() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("homeserver/src")).unwrap() {
        let path = entry.unwrap().path();
        let mut name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_folder = path.is_dir();
        // `server.rs` is the room of `server/` too.
        let shown_by_file = is_folder && path.with_extension("rs").exists();
        if shown_by_file || name == "lib.rs" || name == "main.rs" {
            continue;
        }
        if is_folder {
            name.push('/');
        }
        if !text.contains(&format!("\n| `{name}` |")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// Goal: the check catches a path that is gone, and takes no route for one. Method: by example.
#[test]
fn a_path_that_is_gone_is_caught() {
    let text = "`homeserver/src/{lib.rs,gone.rs}` answers `/federation/v1/probe` with `application/json` in `crate::store`.";
    let named = paths_named(text);
    assert_eq!(named, ["homeserver/src/lib.rs", "homeserver/src/gone.rs"]);
    assert_eq!(gone(&named, &root()), ["homeserver/src/gone.rs"]);
}

/// `path::test` between backticks.
fn tests_named(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|piece| piece.split_once(".rs::"))
        .map(|(path, name)| (format!("{path}.rs"), name.to_owned()))
        .collect()
}

/// Goal: every test that a document names is there. Method: look for each in its file.
#[test]
fn documents_name_tests_that_are_there() {
    let mut gone = Vec::new();
    let mut count = 0;
    for document in documents() {
        for (path, name) in tests_named(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            let source = fs::read_to_string(root().join(&path)).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                gone.push(format!("{path}::{name}"));
            }
        }
    }
    assert!(count > 0, "no document names a test");
    assert!(gone.is_empty(), "gone: {gone:?}");
}

/// Goal: no document speaks of one person's machine. Method: search each for such paths.
#[test]
fn documents_name_no_machine_paths() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            // The change of the root has paths of its own in the API.
            let line_read = line.replace("/keys/root/", "/keys/");
            if MACHINE_PATHS.iter().any(|path| line_read.contains(path)) {
                found.push(format!(
                    "{}:{}: {line}",
                    document.strip_prefix(root()).unwrap().display(),
                    number + 1
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Goal: every document in the tree is linked to only by paths that exist. Method: follow relative Markdown links.
#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
    {
        let text = fs::read_to_string(&document).unwrap();
        for piece in text.split("](").skip(1) {
            let target = piece.split([')', '#', ' ']).next().unwrap_or_default();
            let outside =
                target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !outside && !document.parent().unwrap().join(target).exists() {
                broken.push(format!(
                    "{} -> {target}",
                    document.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
