//! The command over a PostgreSQL database.

use postgresql_server::{PASSWORD, ROLE, Server};

use super::{Place, code, errors, terminate};

pub(super) const DATABASE: &str = "organisation";

/// A place whose organisation is made in the server's database, and the flags for that.
pub(super) fn place(server: &Server) -> (Place, [[String; 2]; 6]) {
    let place = Place::new();
    let file = place.path("database-password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let flags = [
        ("--store-engine", "postgresql".to_owned()),
        ("--postgresql-host", format!("localhost:{}", server.port())),
        ("--postgresql-database", DATABASE.to_owned()),
        ("--postgresql-user", ROLE.to_owned()),
        ("--postgresql-password-file", file.display().to_string()),
        (
            "--postgresql-root-certificates",
            server.root_certificate().display().to_string(),
        ),
    ];
    (place, flags.map(|(flag, answer)| [flag.to_owned(), answer]))
}

pub(super) fn init(place: &Place, flags: &[[String; 2]; 6]) -> std::process::Output {
    let flags = flags
        .each_ref()
        .map(|[flag, answer]| [flag.as_str(), answer.as_str()]);
    place.init_with(&place.path("entente.toml"), &flags)
}

fn is_nothing_left(place: &Place) -> bool {
    ["entente.toml", "data", "root-key.enc"].map(|name| place.path(name).exists()) == [false; 3]
}

/// Goal: an organisation lives in a database as it does in a folder: made, checked, served, looked through; nothing of
/// the store is on this machine. Method: each command in turn, over a real server with TLS.
#[test]
fn an_organisation_in_a_database() {
    let server = Server::start().unwrap();
    server.create_database(DATABASE).unwrap();
    let (place, flags) = place(&server);
    let made = init(&place, &flags);
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    assert!(place.path("data/keys").exists());
    assert!(!place.path("data/store").exists());
    for words in [["config", "check"], ["store", "check"]] {
        let checked = place.command(&words).output().unwrap();
        assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
    }
    let ended = terminate(place.start());
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
    let looked = place.command(&["store", "check"]).output().unwrap();
    let told = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(
        told.contains("administrators and their sessions: 1 entries"),
        "{told}"
    );
    assert!(told.contains("chain unbroken"), "{told}");

    // Without the database, `config check` says so and nothing starts.
    server.crash().unwrap();
    let checked = place.command(&["config", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(78), "{}", errors(&checked));
    assert!(errors(&checked).contains("store.engine: "));
    let run = place.command(&["run"]).output().unwrap();
    assert_ne!(code(&run), Some(0));
}

/// Goal: where the database can't be used nothing is made, and an organisation that is in it stays. Method: a password
/// that is wrong, then a second organisation in one database.
#[test]
fn what_a_database_refuses_leaves_nothing() {
    let server = Server::start().unwrap();
    server.create_database(DATABASE).unwrap();
    let (first, flags) = place(&server);
    std::fs::write(first.path("database-password"), "guessed").unwrap();
    let refused = init(&first, &flags);
    assert_eq!(code(&refused), Some(1), "{}", errors(&refused));
    let said = errors(&refused);
    assert!(said.contains("can't connect to PostgreSQL"), "{said}");
    assert!(!said.contains("guessed"), "{said}");
    assert!(is_nothing_left(&first));

    std::fs::write(first.path("database-password"), PASSWORD).unwrap();
    let made = init(&first, &flags);
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let (second, flags) = place(&server);
    let refused = init(&second, &flags);
    assert_eq!(code(&refused), Some(1), "{}", errors(&refused));
    let said = errors(&refused);
    assert!(said.contains("holds an organisation already"), "{said}");
    assert!(is_nothing_left(&second));
    let checked = first.command(&["store", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
}
