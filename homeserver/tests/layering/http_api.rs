//! The description of the HTTP APIs says what the routers and the types say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::root;

const TEXT: &str = "docs/operations/http-api.md";

/// Method, path, who may, type of the request, status and type of the answer.
type Endpoint = [String; 6];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// What stands between the two, for the first place of `before`.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// An endpoint, by the source of its handler.
fn endpoint(method: &str, path: &str, who: &str, source: &str, handler: &str) -> Endpoint {
    let function = between(source, &format!("async fn {handler}("), "\n}\n").expect(path);
    let (signature, _) = function.split_once("{\n").expect(path);
    let (taken, given) = signature.split_once("->").expect(path);
    let kind = |text: &str, before: &str| between(text, before, ">").map(str::to_owned);
    let statuses = [
        ("StatusCode::CREATED", "201"),
        ("StatusCode::ACCEPTED", "202"),
        ("StatusCode::NO_CONTENT", "204"),
        ("WebSocketUpgrade", "101"),
    ];
    let status = statuses
        .iter()
        .find(|(name, _)| function.contains(name))
        .map_or("200", |(_, status)| status);
    [
        method.to_uppercase(),
        path.to_owned(),
        who.to_owned(),
        kind(taken, ": Json<").unwrap_or_default(),
        status.to_owned(),
        kind(given, "Json<").unwrap_or_default(),
    ]
}

/// The admin API's route table, `.route("PATH", METHOD(MODULE::handle))` each.
fn of_administrators() -> BTreeSet<Endpoint> {
    let table = read("homeserver/src/admin/api/mod.rs");
    let routes = table.split(".route(\"").skip(1).map(|route| {
        let (path, rest) = route.split_once("\", ").unwrap();
        let (method, rest) = rest.split_once('(').unwrap();
        let (module, _) = rest.split_once("::handle)").expect(path);
        let file = module.replace("::", "/");
        let source = read(&format!("homeserver/src/admin/api/{file}.rs"));
        let who = match module {
            "sign_in" => "anyone",
            _ => "administrator",
        };
        endpoint(method, path, who, &source, "handle")
    });
    routes.collect()
}

/// The client API's route table, `.add("PATH", ACCESS, LIMIT, METHOD(MODULE::HANDLER)…)` each.
fn of_clients() -> BTreeSet<Endpoint> {
    let table = read("homeserver/src/client_api/mod.rs");
    let mut found = BTreeSet::new();
    for route in table.split(".add(\"").skip(1) {
        let (path, rest) = route.split_once("\",").unwrap();
        let (line, _) = rest.split_once('\n').unwrap();
        let (access, methods) = line.split_once(',').unwrap();
        let who = match access.trim() {
            "Public" => "anyone",
            _ => "device",
        };
        for method in ["get", "put", "post", "patch", "delete"] {
            let Some(handler) = between(methods, &format!("{method}("), ")") else {
                continue;
            };
            let (module, name) = handler.split_once("::").expect(path);
            let one = read(&format!("homeserver/src/client_api/{module}.rs"));
            let folder = read(&format!("homeserver/src/client_api/{module}/mod.rs"));
            found.insert(endpoint(method, path, who, &(one + &folder), name));
        }
    }
    found
}

/// Cells of the tables' rows, without backticks.
fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| {
        let cells = row.trim_end_matches(" |").split(" | ");
        cells.map(|cell| cell.replace('`', "")).collect()
    })
    .collect()
}

/// Goal: every endpoint is described, as it is, and none that there is not. Method: the text's tables against the
/// routers' source and the handlers' signatures.
#[test]
fn the_tables_are_the_routers() {
    let described: BTreeSet<Endpoint> = rows(&read(TEXT))
        .into_iter()
        .filter(|cells| cells.len() == 6 && cells[1].starts_with('/'))
        .map(|cells| {
            let (status, answer) = cells[4].split_once(' ').unwrap_or((cells[4].as_str(), ""));
            let request = cells[3].trim_matches('–');
            [
                cells[0].as_str(),
                cells[1].as_str(),
                cells[2].as_str(),
                request,
                status,
                answer,
            ]
            .map(str::to_owned)
        })
        .collect();
    let there: BTreeSet<Endpoint> = of_administrators()
        .into_iter()
        .chain(of_clients())
        .collect();
    assert!(there.len() > 50, "the routers were not read: {there:?}");
    let missing: Vec<_> = there.difference(&described).collect();
    assert!(missing.is_empty(), "{TEXT} lacks {missing:#?}");
    let gone: Vec<_> = described.difference(&there).collect();
    assert!(gone.is_empty(), "{TEXT} has what is not so: {gone:#?}");
}

/// Public fields of every struct of the API's types.
fn structs() -> BTreeMap<String, Vec<String>> {
    let sources = super::rust_files(&root().join("homeserver/api/src"));
    let mut found = BTreeMap::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        for piece in text.split("pub struct ").skip(1) {
            let Some((name, rest)) = piece.split_once(" {\n") else {
                continue;
            };
            let body = rest.split("\n}").next().unwrap_or_default();
            let fields = body
                .lines()
                .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "))
                .map(|(field, _)| field.to_owned());
            found.insert(name.to_owned(), fields.collect());
        }
    }
    found
}

/// Goal: the fields of every request are described, and none that it does not take. Method: the text's table against
/// the types' source.
#[test]
fn the_fields_are_those_of_the_types() {
    let structs = structs();
    let described: BTreeMap<String, Vec<String>> = rows(&read(TEXT))
        .into_iter()
        .filter(|cells| cells.len() == 2 && cells[0] != "type")
        .map(|cells| {
            let fields = cells[1].split(", ");
            let fields = fields.map(|field| field.trim_end_matches('?').to_owned());
            (cells[0].clone(), fields.collect())
        })
        .collect();
    for (name, fields) in &described {
        assert_eq!(structs.get(name), Some(fields), "{name}");
    }
    for [.., request, _, _] in of_administrators().into_iter().chain(of_clients()) {
        assert!(
            request.is_empty() || described.contains_key(&request),
            "{TEXT} does not say what {request} holds"
        );
    }
}
