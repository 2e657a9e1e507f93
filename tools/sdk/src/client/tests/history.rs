//! Backups by the public way, as files.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{RecoveryCode, read_backup};

/// Goal: a backup is a new file for its owner alone, tells whose it is, comes back once, and whatever is wrong with file or code is
/// told and changes nothing. Method: Alice makes one, and it is restored on her device and on Bob's.
#[tokio::test]
async fn backups_are_files() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let with = [bob.client.address()];
        let room = alice.client.start_conversation(&with).await.unwrap();
        let options = SendOptions::default();
        let id = alice
            .client
            .send_text(room, "hello", options)
            .await
            .unwrap();
        alice.client.wait_accepted(id).await.unwrap();
        bob.hear().await;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let made = bob.client.backup(&path).await.unwrap();
        assert_eq!((made.messages, made.left_out), (1, 0));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = bob.client.backup(&path).await;
        assert!(matches!(again, Err(Error::File { .. })), "{again:?}");
        let of = read_backup(&path, &made.code).await.unwrap();
        assert_eq!(of.address, bob.client.address());
        assert_eq!(of.endpoint, homeserver.address.to_string());
        assert_eq!(of.root_sha256, homeserver.organisation.fingerprint());

        let before = bob.client.history(room).await.unwrap();
        let restored = bob.client.restore(&path, &made.code).await.unwrap();
        assert_eq!((restored.messages, restored.passed_over), (0, 1));
        let other = bob
            .client
            .backup(folder.path().join("other"))
            .await
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        let cut = folder.path().join("cut");
        std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
        for (path, code) in [(&path, &other.code), (&cut, &made.code)] {
            let refused = bob.client.restore(path, code).await;
            assert!(matches!(refused, Err(Error::Backup(_))), "{refused:?}");
        }
        let hers = alice.client.restore(&path, &made.code).await;
        assert!(matches!(hers, Err(Error::Backup(_))), "{hers:?}");
        let missing = bob
            .client
            .restore(folder.path().join("no"), &made.code)
            .await;
        assert!(matches!(missing, Err(Error::File { .. })));
        assert_eq!(bob.client.history(room).await.unwrap(), before);
        let typed: RecoveryCode = made.code.to_string().parse().unwrap();
        assert_eq!(typed, made.code);
    })
    .await;
}

/// Goal: a history for a device that the account does not have is refused at once; by one that does not exist.
#[tokio::test]
async fn a_history_for_nobody() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let nobody = crate::ids::DeviceId::from_bytes([9; 16]);
        let refused = alice.client.send_history(nobody).await;
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{refused:?}"
        );
    })
    .await;
}
