//! Whole clients against a homeserver on loopback.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::certificate::{AnchorSet, Validity};
use crate::clock::tests::TestClock;
use crate::event::Event;
use crate::message::{Body, Progress};
use crate::store::{Family, NewStore};
use crate::testing::loopback::{Loopback, PASSWORD, within};

mod asking;
mod contacts;
mod devices;
mod history;

const KEY: StoreKey = StoreKey::Key([3; 32]);

fn enrolment(homeserver: &Loopback, handle: &str) -> Enrolment {
    Enrolment {
        reset: false,
        server_endpoint: homeserver.address.to_string(),
        address: format!("{handle}@{}", homeserver.organisation.server)
            .parse()
            .unwrap(),
        password: PASSWORD.into(),
        root_sha256: homeserver.organisation.fingerprint(),
        device_name: "laptop".to_owned(),
    }
}

pub(super) struct Person {
    folder: tempfile::TempDir,
    pub(super) client: Client,
    events: Events,
}

pub(super) async fn person(homeserver: &Arc<Loopback>, handle: &str) -> Person {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::enrol(folder.path(), KEY, enrolment(homeserver, handle))
        .await
        .unwrap();
    client.connect();
    client.connected().await.unwrap();
    Person {
        events: client.events(),
        folder,
        client,
    }
}

impl Person {
    /// The next message's text.
    async fn hear(&mut self) -> Message {
        loop {
            match self.events.next().await.expect("the client is open") {
                Event::Message(message) => return message,
                Event::Unreadable { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }
}

fn text(message: &Message) -> &str {
    match &message.body {
        Body::Text { text } => text,
        Body::File { name, .. } => name,
    }
}

/// Goal: enrol, connect, talk, wait for acceptance, close, open again: the public way through it all.
#[tokio::test]
async fn a_conversation() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let room = alice
            .client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        let options = SendOptions::default();
        let id = alice
            .client
            .send_text(room, "hello", options)
            .await
            .unwrap();
        assert!(alice.client.wait_accepted(id).await.unwrap() > 0);
        let heard = bob.hear().await;
        assert_eq!(text(&heard), "hello");
        assert_eq!(heard.sender, alice.client.address());
        assert_eq!(bob.client.message(id).await.unwrap(), heard);
        assert_eq!(alice.client.rooms().await.unwrap().len(), 1);

        alice.client.close().await;
        let closed = alice.client.send_text(room, "late", options).await;
        assert_eq!(closed, Err(Error::Closed));
        let wrong = Client::open(alice.folder.path(), StoreKey::Key([4; 32])).await;
        assert_eq!(wrong.err(), Some(Error::WrongKey));
        let alice = Client::open(alice.folder.path(), KEY).await.unwrap();
        let again = Client::open(bob.folder.path(), KEY).await;
        assert!(matches!(again, Err(Error::InUse(_))));
        // Written without a session, sent with the next one.
        let id = alice.send_text(room, "again", options).await.unwrap();
        assert_eq!(alice.message(id).await.unwrap().progress, Progress::Waiting);
        alice.connect();
        alice.wait_accepted(id).await.unwrap();
        assert_eq!(text(&bob.hear().await), "again");
        assert_eq!(alice.history(room).await.unwrap().len(), 2);
    })
    .await;
}

/// Goal: a wrong password and a wrong fingerprint are told apart and leave nothing behind.
#[tokio::test]
async fn enrolments_that_fail() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("device");
        let mut wrong = enrolment(&homeserver, "alice");
        wrong.password = "guess".into();
        let error = Client::enrol(&folder, KEY, wrong).await.unwrap_err();
        assert_eq!(error.code(), "sign-in-failed");
        let mut wrong = enrolment(&homeserver, "alice");
        wrong.root_sha256 = "ab".repeat(32);
        let error = Client::enrol(&folder, KEY, wrong).await.unwrap_err();
        assert_eq!(error.code(), "untrusted-server");
        let mut wrong = enrolment(&homeserver, "alice");
        wrong.address = "alice@b.example".parse().unwrap();
        let error = Client::enrol(&folder, KEY, wrong).await.unwrap_err();
        assert_eq!(error.code(), "untrusted-server");
        assert!(!folder.exists());
        let missing = Client::open(&folder, KEY).await.unwrap_err();
        assert_eq!(missing.code(), "not-enrolled");
        homeserver.kill();
        let error = Client::enrol(&folder, KEY, enrolment(&homeserver, "alice"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "unreachable");
    })
    .await;
}

/// Goal: what can't be written is noticed before the homeserver hears of it; an enrolment that a crash
/// interrupts leaves no device, and the next one starts afresh with another key; two at once are told
/// apart. Method: a folder below a file; a copy of a folder as it is in mid-enrolment.
#[tokio::test]
async fn enrolments_that_are_interrupted() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Client::enrol(file.join("device"), KEY, enrolment(&homeserver, "alice"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "file");
        assert_eq!(homeserver.network().device_count(), 0);

        let (folder, crashed) = (parent.path().join("device"), tempfile::tempdir().unwrap());
        let unfinished = NewStore::create(&folder, &KEY).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
        }
        let busy = Client::enrol(&folder, KEY, enrolment(&homeserver, "alice")).await;
        assert_eq!(busy.unwrap_err().code(), "in-use");
        drop(unfinished);
        assert!(!folder.exists());

        let none = Client::open(crashed.path(), KEY).await.unwrap_err();
        assert_eq!(none.code(), "not-enrolled");
        let other = StoreKey::Key([9; 32]);
        let enrolled = Client::enrol(
            crashed.path(),
            other.clone(),
            enrolment(&homeserver, "alice"),
        );
        enrolled.await.unwrap().close().await;
        let client = Client::open(crashed.path(), other).await.unwrap();
        assert_eq!(client.address().to_string(), "alice@a.example");
        assert_eq!(homeserver.network().device_count(), 1);
    })
    .await;
}

/// Goal: key packages that wait for others never end before the certificate that is shown now, however
/// often it is renewed; by moving the clock from renewal to renewal.
#[tokio::test]
async fn renewals_replace_key_packages() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let Person { folder, client, .. } = person(&homeserver, "alice").await;
        client.close().await;
        let clock = Arc::new(homeserver.clock.clone());
        let client = Client::open_with_clock(folder.path(), KEY, Arc::<TestClock>::clone(&clock))
            .await
            .unwrap();
        let own = &homeserver.organisation;
        let anchors = AnchorSet::own(own.server.clone(), own.root.clone());
        for _ in 0..3 {
            let before = homeserver.network().waiting_key_packages(&client.member());
            homeserver.clock.advance(21 * 86_400_000);
            upkeep::if_due(Arc::clone(&client.shared)).await;
            let after = homeserver.network().waiting_key_packages(&client.member());
            assert_eq!((before.len(), after.len()), (41, 41));
            for bytes in after {
                assert!(!before.contains(&bytes));
                let message = crate::mls::parse(&bytes).unwrap();
                let identity = message.as_key_package().unwrap().signing_identity();
                let chain = identity.credential.as_x509().unwrap().to_vec();
                let chain: Vec<Vec<u8>> = chain.into_iter().map(|c| c.into_vec()).collect();
                let later = Validity::At(clock.now_ms() / 1000 + 20 * 86_400);
                anchors.verify(&chain, later).unwrap();
            }
        }
    })
    .await;
}

/// Goal: a job that panics ends the client; nobody waits for ever. By one that does, and what comes after.
#[tokio::test]
async fn panics_end_the_client() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let mut alice = person(&homeserver, "alice").await;
        let shared = &alice.client.shared;
        let panicked: Result<(), Error> = shared.run(|_| panic!("on purpose")).await;
        assert_eq!(panicked, Err(Error::Closed));
        assert_eq!(alice.client.rooms().await.err(), Some(Error::Closed));
        while alice.events.next().await.is_some() {}
        assert_eq!(alice.client.connected().await, Err(Error::Closed));
    })
    .await;
}

/// Goal: a session that stands for weeks renews the certificate all the same; by a clock that jumps.
#[tokio::test]
async fn long_sessions_are_looked_after() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let Person { folder, client, .. } = person(&homeserver, "alice").await;
        client.close().await;
        let clock = Arc::new(homeserver.clock.clone());
        let client = Client::open_with_clock(folder.path(), KEY, clock)
            .await
            .unwrap();
        client.connect();
        client.connected().await.unwrap();
        let mut renewals = homeserver.renewals.subscribe();
        assert_eq!(*renewals.borrow_and_update(), 0);
        homeserver.clock.advance(21 * 86_400_000);
        client.shared.keeper.notify_one();
        renewals.changed().await.unwrap();
        client.close().await;
    })
    .await;
}

/// Goal: the background deletes what expires, without a session, and what it deletes is unreadable.
/// Method: a client whose homeserver is gone, on a clock and timers that the test moves; the content
/// record's sealed bytes and salt are kept while the message lives.
#[tokio::test]
async fn the_keeper_deletes_what_expires() {
    let homeserver = Loopback::start("a.example").await;
    let alice = person(&homeserver, "alice").await;
    let bob = person(&homeserver, "bob").await;
    let room = alice
        .client
        .start_conversation(&[bob.client.address()])
        .await
        .unwrap();
    let options = SendOptions {
        ttl_seconds: Some(3600),
        ..SendOptions::default()
    };
    let id = alice
        .client
        .send_text(room, "soon gone", options)
        .await
        .unwrap();
    alice.client.wait_accepted(id).await.unwrap();
    alice.client.close().await;
    bob.client.close().await;
    homeserver.kill();

    let clock = homeserver.clock.clone();
    let client = Client::open_with_clock(alice.folder.path(), KEY, Arc::new(clock.clone()))
        .await
        .unwrap();
    let number = client.message(id).await.unwrap().number;
    let content = Family::MessageContent;
    let (sealed, salt) = client
        .shared
        .run(move |core| {
            Ok(core
                .store()
                .sealed(content, room.as_bytes(), number)
                .unwrap())
        })
        .await
        .unwrap();
    let mut events = client.events();
    tokio::time::pause();
    client.connect();
    clock.advance(3_601_000);
    loop {
        if let Event::Deleted { message, .. } = events.next().await.unwrap() {
            assert_eq!(message, id);
            break;
        }
    }
    let left = fs::read(alice.folder.path().join("salts")).unwrap();
    client
        .shared
        .run(move |core| {
            let (store, scope) = (core.store(), room.as_bytes());
            assert!(store.sealed(content, scope, number).is_none());
            assert!(store.opens(content, scope, number, &sealed, &salt));
            for other in left.chunks(salt.len()) {
                assert!(!store.opens(content, scope, number, &sealed, other));
            }
            Ok(())
        })
        .await
        .unwrap();
}

/// Goal: a file arrives as it was sent, also when the homeserver fetches it first; a changed one is
/// refused and leaves nothing; sizes around the chunks' and the padding's bounds.
#[tokio::test]
async fn files() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let room = alice
            .client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        *homeserver.fetches.lock().unwrap() = 1;
        let mut last = None;
        for bytes in [0, 1, 256, 65_535, 65_536, 65_537, 200_000] {
            let path = folder.path().join(format!("report-{bytes}"));
            let content: Vec<u8> = (0..bytes).map(|n: u32| n.to_le_bytes()[0]).collect();
            fs::write(&path, &content).unwrap();
            let options = SendOptions::default();
            alice.client.send_file(room, &path, options).await.unwrap();
            let message = bob.hear().await;
            assert_eq!(text(&message), format!("report-{bytes}"));
            let saved = folder.path().join(format!("saved-{bytes}"));
            bob.client.save_file(message.id, &saved).await.unwrap();
            assert_eq!(fs::read(&saved).unwrap(), content);
            let twice = bob.client.save_file(message.id, &saved).await;
            assert_eq!(twice.unwrap_err().code(), "file", "never overwritten");
            last = Some(message.id);
        }
        homeserver.damage_files();
        let saved = folder.path().join("damaged");
        let damaged = bob.client.save_file(last.unwrap(), &saved).await;
        assert_eq!(damaged.unwrap_err().code(), "protocol");
        assert!(!saved.exists());
    })
    .await;
}

/// Goal: a homeserver that is killed in mid-traffic, again and again, costs nothing: everything
/// arrives once and in order, and the application is told of each pause.
#[tokio::test]
async fn homeservers_come_back() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let mut alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let room = alice
            .client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        let mut sent = Vec::new();
        for round in 0..3 {
            for number in 0..40 {
                let text = format!("{round}-{number}");
                let options = SendOptions::default();
                sent.push(alice.client.send_text(room, &text, options).await.unwrap());
                if number == 20 {
                    homeserver.kill();
                }
            }
            loop {
                let event = alice.events.next().await.unwrap();
                if matches!(event, Event::Disconnected { .. }) {
                    break;
                }
            }
            homeserver.revive().await;
        }
        for id in &sent {
            alice.client.wait_accepted(*id).await.unwrap();
        }
        for id in &sent {
            assert_eq!(bob.hear().await.id, *id);
        }
        assert!(
            bob.events
                .try_next()
                .is_none_or(|e| !matches!(e, Event::Message(_)))
        );
        assert_eq!(bob.client.history(room).await.unwrap().len(), sent.len());
    })
    .await;
}

/// Goal: sends made at once share batches, and all are accepted.
#[tokio::test]
async fn sends_at_once() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let room = alice
            .client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        let sends = (0..300).map(|number| {
            let client = alice.client.clone();
            tokio::spawn(async move {
                let text = number.to_string();
                let id = client
                    .send_text(room, &text, SendOptions::default())
                    .await?;
                client.wait_accepted(id).await
            })
        });
        for accepted in futures_util::future::join_all(sends).await {
            accepted.unwrap().unwrap();
        }
        let mut heard = std::collections::BTreeSet::new();
        for _ in 0..300 {
            heard.insert(bob.hear().await.id);
        }
        assert_eq!(heard.len(), 300);
    })
    .await;
}

/// Goal: a device that the homeserver does not know any more says so instead of trying for ever in
/// silence; a store that is older than what was sent is not used.
#[tokio::test]
async fn devices_that_must_not_go_on() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let bob = person(&homeserver, "bob").await;
        let older = tempfile::tempdir().unwrap();
        alice.client.close().await;
        for entry in fs::read_dir(alice.folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), older.path().join(entry.file_name())).unwrap();
        }
        let client = Client::open(alice.folder.path(), KEY).await.unwrap();
        client.connect();
        client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        client.close().await;
        let older = Client::open(older.path(), KEY).await.unwrap();
        older.connect();
        assert_eq!(older.connected().await, Err(Error::StaleStore));

        homeserver.network().forget(&bob.client.member());
        bob.client.disconnect().await;
        bob.client.connect();
        let error = bob.client.connected().await.unwrap_err();
        assert_eq!(error.code(), "unauthorised");
    })
    .await;
}

/// Goal: a load generator's way: messages made beforehand, submitted by a bare session, and read by
/// the other side's client.
#[tokio::test]
async fn bare_sessions() {
    use homeserver_api::session::{ClientFrame, Outcome, ServerFrame, Submission, SubmissionBody};

    use crate::session::Session;

    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let mut bob = person(&homeserver, "bob").await;
        let room = alice
            .client
            .start_conversation(&[bob.client.address()])
            .await
            .unwrap();
        let options = SendOptions::default();
        let mut detached = alice.client.detach(room, options).await.unwrap();
        let message = detached.encrypt("made beforehand").unwrap();
        alice.client.disconnect().await;
        let endpoint = alice.client.endpoint();
        let (mut session, hello) = Session::open(&endpoint, &alice.client.token())
            .await
            .unwrap();
        let submission = Submission {
            counter: hello.last_counter + 1,
            body: SubmissionBody::Message { room, message },
        };
        session
            .send(&ClientFrame::Submit(vec![submission]))
            .await
            .unwrap();
        let results = loop {
            match session.next().await.unwrap() {
                Some(ServerFrame::Results(results)) => break results,
                Some(_) => {}
                None => panic!("the session ended"),
            }
        };
        assert!(matches!(results[0].outcome, Outcome::Accepted { .. }));
        assert_eq!(text(&bob.hear().await), "made beforehand");
        let refused = Session::open(&endpoint, &"00".repeat(16)).await;
        assert_eq!(refused.unwrap_err().code(), "unauthorised");
    })
    .await;
}

/// Goal: the password is changed by whoever knows it, and a device that signs out is removed at the homeserver and
/// leaves nothing here; one that can't, stays; one that was removed already goes as well. Method: each way.
#[tokio::test]
async fn passwords_and_sign_out() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let guess = alice
            .client
            .change_password("guess".into(), "new".into())
            .await;
        assert_eq!(guess.unwrap_err().code(), "wrong-password");
        alice
            .client
            .change_password(PASSWORD.into(), "new".into())
            .await
            .unwrap();

        homeserver.kill();
        let error = alice.client.sign_out().await.unwrap_err();
        assert_eq!(error.code(), "unreachable");
        assert!(alice.folder.path().join("unlock").exists());
        homeserver.revive().await;
        let device = alice.client.member().device;
        alice.client.sign_out().await.unwrap();
        assert!(homeserver.removed.lock().unwrap().contains(&device));
        assert!(!alice.folder.path().exists());
        assert_eq!(alice.client.rooms().await, Err(Error::Closed));
        let gone = Client::open(alice.folder.path(), KEY).await;
        assert_eq!(gone.unwrap_err().code(), "not-enrolled");

        let bob = person(&homeserver, "bob").await;
        std::fs::write(bob.folder.path().join("notes"), "mine").unwrap();
        let device = bob.client.member().device;
        homeserver.removed.lock().unwrap().insert(device);
        bob.client.sign_out().await.unwrap();
        let left: Vec<_> = std::fs::read_dir(bob.folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "what is not the device's stays");
    })
    .await;
}
