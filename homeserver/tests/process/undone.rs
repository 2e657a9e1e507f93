//! `init` makes all or nothing.

use std::path::Path;

use super::{Place, code, errors};

/// What lies in the folder beside the secrets' files.
fn left(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> = names
        .filter(|name| name != "password" && name != "passphrase")
        .collect();
    left.sort();
    left
}

/// Goal: a root key that can't be written leaves nothing behind, is told with its path, and the next attempt is not in its
/// own way; by a place where nobody can make a file, then a good one.
#[test]
fn without_a_root_key_there_is_nothing() {
    let place = Place::new();
    let config = place.path("entente.toml");
    let made = place.init_with(&config, &[["--root-key", "/proc/root.key"]]);
    assert_eq!(code(&made), Some(1), "{}", errors(&made));
    for said in [
        "/proc/root.key: ",
        "no organisation was made, and nothing of it is left",
    ] {
        assert!(errors(&made).contains(said), "{}", errors(&made));
    }
    assert_eq!(left(&place), Vec::<String>::new());
    let made = place.init();
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
}

/// Goal: the folder of the root key is not made, for it would be one on this machine where the medium is not mounted;
/// by a folder that is missing.
#[test]
fn a_medium_that_is_not_mounted_is_told() {
    let place = Place::new();
    let key = place.path("medium/root.key").display().to_string();
    let made = place.init_with(&place.path("entente.toml"), &[["--root-key", &key]]);
    assert_eq!(code(&made), Some(2), "{}", errors(&made));
    let said = format!(
        "the root key's folder {} is not there: mount the medium",
        place.path("medium").display()
    );
    assert!(errors(&made).contains(&said), "{}", errors(&made));
    assert_eq!(left(&place), Vec::<String>::new());
}

/// Goal: when the last step fails, all that was made is removed: root key, keys, store and new folders, but no folder that
/// was there; by a configuration where nobody can make a file.
#[test]
fn the_last_step_undoes_the_others() {
    let place = Place::new();
    let config = Path::new("/proc/entente.toml");
    let deep = place.path("new/deep/data").display().to_string();
    let made = place.init_with(config, &[["--data-dir", &deep]]);
    assert_eq!(code(&made), Some(1), "{}", errors(&made));
    assert!(
        errors(&made).contains("/proc/entente.toml: "),
        "{}",
        errors(&made)
    );
    assert!(
        errors(&made).contains("nothing of it is left"),
        "{}",
        errors(&made)
    );
    assert_eq!(left(&place), Vec::<String>::new());

    std::fs::create_dir(place.path("data")).unwrap();
    let made = place.init_with(config, &[]);
    assert_eq!(code(&made), Some(1), "{}", errors(&made));
    assert_eq!(left(&place), ["data"]);
    assert!(
        std::fs::read_dir(place.path("data"))
            .unwrap()
            .next()
            .is_none()
    );
}
