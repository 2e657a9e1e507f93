//! The keys of the store, as an operator meets them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::{Place, code, errors, terminate};

/// Goal: a master key that is missing or another one is told with what to do, by the check and at the start, and nothing is
/// lost by it; so are generations that are missing. Method: each taken away, and put back.
#[test]
fn keys_that_are_missing_are_told() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let other = format!("{}=\n", "A".repeat(43));
    let key = place.path("data/keys/store-master.key");
    let kept = std::fs::read_to_string(&key).unwrap();
    let told = |said: &str| {
        let checked = place.command(&["config", "check"]).output().unwrap();
        assert_eq!(code(&checked), Some(78), "{}", errors(&checked));
        for output in [checked, place.command(&["run"]).output().unwrap()] {
            assert_ne!(code(&output), Some(0));
            assert!(errors(&output).contains(said), "{}", errors(&output));
        }
    };
    std::fs::write(&key, &other).unwrap();
    told("the master key does not open it");
    std::fs::remove_file(&key).unwrap();
    told("the master key is missing");
    std::fs::write(&key, &kept).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    told("others can read it: chmod 600");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let (folder, away) = (place.path("data/generations"), place.path("away"));
    std::fs::rename(&folder, &away).unwrap();
    told("the folder of generation keys is missing");
    std::fs::rename(&away, &folder).unwrap();
    let ended = terminate(place.start());
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
}

/// Goal: an organisation goes over to another master key, kept elsewhere, and the former one is of no use any more. Method: a
/// program that prints the new one.
#[test]
fn the_master_key_is_changed() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let former = place.path("data/keys/store-master.key");
    std::fs::create_dir(place.path("conf.d")).unwrap();
    let printed = format!("{}=", "A".repeat(43));
    let section =
        format!("[store_keys]\nmaster_command = [\"/bin/sh\", \"-c\", \"echo {printed}\"]\n");
    std::fs::write(place.path("conf.d/keys.toml"), section).unwrap();
    let checked = place.command(&["config", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(78), "{}", errors(&checked));

    let former = former.display().to_string();
    let change = ["store", "master-key", "--former-file", &former];
    for _ in 0..2 {
        let changed = place.command(&change).output().unwrap();
        assert_eq!(code(&changed), Some(0), "{}", errors(&changed));
    }
    let checked = place.command(&["store", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
    let ended = terminate(place.start());
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
    std::fs::remove_file(place.path("conf.d/keys.toml")).unwrap();
    let checked = place.command(&["config", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(78), "{}", errors(&checked));
}
