//! Our crates depend on each other as the table says, whatever a manifest calls them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::root;
use super::table::CRATE_EDGES;

const SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

fn read(path: &Path) -> Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The folders of the workspace's crates.
pub fn member_folders() -> Vec<PathBuf> {
    let workspace = read(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| root().join(member.as_str().unwrap()))
        .collect()
}

/// Whether a file belongs to the crate of that folder, not to one in a folder below.
pub fn is_in(file: &Path, member: &Path) -> bool {
    let nearest = file
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("Cargo.toml").exists());
    nearest == Some(member)
}

/// The dependencies of a manifest: what it calls each, and which package that is.
fn dependencies(manifest: &Table, workspace: &Table) -> Vec<(String, String)> {
    let shared = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let targets = manifest.get("target").and_then(Value::as_table);
    let places = std::iter::once(manifest).chain(
        targets
            .into_iter()
            .flat_map(|all| all.values())
            .filter_map(Value::as_table),
    );
    let mut found = Vec::new();
    for place in places {
        for section in SECTIONS {
            let Some(table) = place.get(*section).and_then(Value::as_table) else {
                continue;
            };
            for (name, value) in table {
                let inherited = value.get("workspace").is_some();
                let value = shared
                    .filter(|_| inherited)
                    .and_then(|shared| shared.get(name))
                    .unwrap_or(value);
                let package = value.get("package").and_then(Value::as_str);
                found.push((name.clone(), package.unwrap_or(name).to_owned()));
            }
        }
    }
    found
}

fn manifests() -> Vec<Table> {
    let folders = member_folders();
    folders
        .iter()
        .map(|folder| read(&folder.join("Cargo.toml")))
        .collect()
}

fn name_of(manifest: &Table) -> String {
    manifest["package"]["name"].as_str().unwrap().to_owned()
}

/// Our crates and those of ours that each depends on.
fn crate_edges(manifests: &[Table], workspace: &Table) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeSet<String> = manifests.iter().map(name_of).collect();
    manifests
        .iter()
        .map(|manifest| {
            let own = name_of(manifest);
            let used = dependencies(manifest, workspace)
                .into_iter()
                .map(|(_, package)| package)
                .filter(|package| names.contains(package) && *package != own)
                .collect();
            (own, used)
        })
        .collect()
}

/// What the table does not allow, what it allows in vain, and what it doesn't know.
fn faults(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let table: BTreeMap<&str, BTreeSet<String>> = CRATE_EDGES
        .iter()
        .map(|(name, uses)| (*name, uses.iter().map(|used| (*used).to_owned()).collect()))
        .collect();
    let mut faults = Vec::new();
    for (name, used) in edges {
        let Some(allowed) = table.get(name.as_str()) else {
            faults.push(format!("{name} is not in the table"));
            continue;
        };
        let extra = used.difference(allowed);
        faults.extend(extra.map(|other| format!("{name} may not depend on {other}")));
        let dead = allowed.difference(used);
        faults.extend(dead.map(|other| format!("{name} does not depend on {other}")));
    }
    let gone = table.keys().filter(|name| !edges.contains_key(**name));
    faults.extend(gone.map(|name| format!("the table names {name}, which is gone")));
    faults
}

/// Goal: our crates depend on each other only as the table says. Method: compare it with the manifests, both ways.
#[test]
fn crates_depend_only_as_the_table_says() {
    let edges = crate_edges(&manifests(), &read(&root().join("Cargo.toml")));
    assert_eq!(faults(&edges), Vec::<String>::new());
}

/// Goal: sources name crates by their own names, which is what their check knows. Method: no manifest renames a
/// dependency, nor does the workspace for all.
#[test]
fn dependencies_keep_their_names() {
    let workspace = read(&root().join("Cargo.toml"));
    let renamed: Vec<(String, String)> = manifests()
        .iter()
        .flat_map(|manifest| dependencies(manifest, &workspace))
        .filter(|(name, package)| name != package)
        .collect();
    assert_eq!(renamed, Vec::new());
}

/// Goal: a dependency that is called otherwise is caught. Method: one sample of each way to write it, added to
/// `conformance`, which may have none of ours but one.
#[test]
fn a_renamed_dependency_is_caught() {
    let mut workspace = read(&root().join("Cargo.toml"));
    let shared = workspace["workspace"]["dependencies"]
        .as_table_mut()
        .unwrap();
    let renamed: Table = "fp = { package = \"federation-proto\", path = \"federation-proto\" }"
        .parse()
        .unwrap();
    shared.extend(renamed);
    for text in [
        "[dependencies]\nfederation-proto.workspace = true",
        "[dependencies]\nfp = { package = \"federation-proto\", path = \"../federation-proto\" }",
        "[dependencies]\nfp.workspace = true",
        "[dev-dependencies.fp]\nworkspace = true",
        "[target.'cfg(unix)'.build-dependencies]\nfp = { package = \"federation-proto\", version = \"0\" }",
    ] {
        let mut all = manifests();
        for manifest in &mut all {
            if name_of(manifest) == "conformance" {
                manifest.clear();
                let sample = format!("[package]\nname = \"conformance\"\n{text}");
                manifest.extend(sample.parse::<Table>().unwrap());
            }
        }
        let found = faults(&crate_edges(&all, &workspace));
        let expected = ["conformance may not depend on federation-proto"];
        assert_eq!(found, expected, "{text}");
    }
}
