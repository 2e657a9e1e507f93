//! What programs see of the demonstration when something does not hold.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Goal: the object is the last line and the exit status 1 also when an act fails. Method: the real
/// program over a homeserver that does nothing but fail.
#[test]
fn a_failed_act_prints_the_object_too() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["homeserver", "hsctl", "chat"] {
        let path = folder.path().join(program);
        fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--json")
        .arg("--bin-dir")
        .arg(folder.path())
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    let last = printed.lines().last().unwrap_or_default();
    let object: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(object["sent"], 0);
    assert_eq!(object["kills"], 0);
}
