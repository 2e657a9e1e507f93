//! `homeserver store move`.

use postgresql_server::Server;

use super::database::{DATABASE, init, place};
use super::{Place, code, errors, terminate};

/// A configuration of another place in the folder, with what its store stands on.
fn write_target(place: &Place, name: &str, store: &str) -> String {
    let data = place.path(name);
    let text = format!(
        "[server]\nname = \"a.example\"\ndata_dir = \"{}\"\n{store}",
        data.display()
    );
    let path = place.path(&format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn sum(place: &Place) -> serde_json::Value {
    let checked = place
        .command(&["store", "check", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    checked["sha256"].clone()
}

/// Goal: a store moves to another folder, the former one stays, and what has to be changed is said. Method: do what is
/// said, and start on the new one.
#[test]
fn a_store_moves_to_another_folder() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let target = write_target(&place, "next", "[store]\ncommit_log = false\n");
    let before = sum(&place);
    let words = ["store", "move", "--to", target.as_str()];
    let moved = place.command(&words).output().unwrap();
    assert_eq!(code(&moved), Some(0), "{}", errors(&moved));
    let told = String::from_utf8_lossy(&moved.stdout).into_owned();
    assert!(told.contains("commit_log = false"), "{told}");
    assert!(errors(&moved).contains("copying: "), "{}", errors(&moved));
    assert_eq!(sum(&place), before, "the former store stays as it was");

    let again = place.command(&words).output().unwrap();
    assert_eq!(code(&again), Some(1));
    assert!(errors(&again).contains("not empty"), "{}", errors(&again));

    let (from, to) = (place.path("data"), place.path("next"));
    let moves = format!("Move {}/keys to {}/keys", from.display(), to.display());
    assert!(told.contains(&moves), "{told}");
    let generations = [&from, &to].map(|data| data.join("generations"));
    let [present, next] = &generations;
    let moves = format!("Move {} to {}", present.display(), next.display());
    assert!(told.contains(&moves), "{told}");
    std::fs::rename(from.join("keys"), to.join("keys")).unwrap();
    std::fs::rename(present, next).unwrap();
    let config = std::fs::read_to_string(place.path("entente.toml")).unwrap();
    let config = config.replace(from.to_str().unwrap(), to.to_str().unwrap());
    std::fs::write(
        place.path("entente.toml"),
        format!("{config}\n[store]\ncommit_log = false\n"),
    )
    .unwrap();
    assert_eq!(sum(&place), before);
    let ended = terminate(place.start());
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
}

/// Goal: what can't be a target is told before anything is done. Method: another server's configuration, and the same
/// folder.
#[test]
fn what_is_no_target_is_refused() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let same = write_target(&place, "data", "");
    let other = write_target(&place, "other", "");
    let text = std::fs::read_to_string(&other).unwrap();
    std::fs::write(&other, text.replace("a.example", "b.example")).unwrap();
    for (target, said) in [(same, "both stores would lie in"), (other, "b.example")] {
        let refused = place
            .command(&["store", "move", "--to", &target])
            .output()
            .unwrap();
        assert_eq!(code(&refused), Some(1));
        assert!(errors(&refused).contains(said), "{}", errors(&refused));
    }
    assert!(!place.path("other").exists());
}

/// Goal: a store moves from a database to a folder. Method: an organisation in a real server's database.
#[test]
fn a_store_moves_out_of_a_database() {
    let server = Server::start().unwrap();
    server.create_database(DATABASE).unwrap();
    let (place, flags) = place(&server);
    let made = init(&place, &flags);
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let before = sum(&place);
    let target = write_target(&place, "data", "");
    let moved = place
        .command(&["store", "move", "--to", &target, "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(code(&moved), Some(0), "{}", errors(&moved));
    let moved: serde_json::Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert_eq!(moved["sha256"], before);
    assert_eq!(moved["next"].as_array().unwrap().len(), 3);
    assert!(place.path("data/store").exists());
}
