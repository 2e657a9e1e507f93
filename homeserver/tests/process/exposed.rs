//! What everybody on the machine could change, and variables that set nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::{Place, code, errors, terminate};

/// Goal: `config check` warns of configuration files and a data folder that everybody may change, and of nothing else; they
/// are no mistake, and `run` logs the same. Method: each made so by hand.
#[test]
fn what_everybody_can_change_is_warned_of() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let check = |output: &str| {
        let check = place
            .command(&["config", "check", "--output", output])
            .output()
            .unwrap();
        assert_eq!(code(&check), Some(0), "{}", errors(&check));
        String::from_utf8(check.stdout).unwrap()
    };
    let answer: serde_json::Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!(answer["warnings"], serde_json::json!([]));
    std::fs::create_dir(place.path("conf.d")).unwrap();
    std::fs::write(place.path("conf.d/more.toml"), "").unwrap();
    let open = ["entente.toml", "conf.d", "conf.d/more.toml", "data"];
    for name in open {
        std::fs::set_permissions(place.path(name), Permissions::from_mode(0o777)).unwrap();
    }
    let expected = open.map(|name| {
        let path = place.path(name).display().to_string();
        format!("{path}: every user of this machine can change it: chmod o-w {path}")
    });
    let answer: serde_json::Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!(answer["warnings"], serde_json::json!(expected));
    let said = check("text");
    for warning in &expected {
        assert!(said.contains(&format!("warning: {warning}\n")), "{said}");
    }
    let log = errors(&terminate(place.start()));
    assert_eq!(
        log.matches("every user of this machine can change it")
            .count(),
        4,
        "{log}"
    );
}

/// Goal: a variable with one underscore where two belong is told, not passed over; another program's are let be. Method: both.
#[test]
fn one_underscore_is_told() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let mut check = place.command(&["config", "check"]);
    check
        .env("ENTENTE_ADMIN_SOCKET", "/x")
        .env("ENTENTE_OTHER", "y");
    let checked = check.output().unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
    let checked = check
        .env("ENTENTE_LISTEN_CLIENT", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(code(&checked), Some(78));
    let said = "environment variable ENTENTE_LISTEN_CLIENT: two underscores part a section from a key: did you mean \
                ENTENTE_LISTEN__CLIENT?";
    assert!(errors(&checked).contains(said), "{}", errors(&checked));
}
