//! Two nodes of one organisation: what happens at one is seen at the other, with hints and without.

use federation_proto::ids::{DeviceId, Handle, RoomId};
use futures_util::{FutureExt as _, StreamExt as _};
use homeserver_api::admin::{BarriersRequest, ChangeUserRequest};
use homeserver_api::policy::{Barriers, UserTypePolicy};
use homeserver_api::session::{CLOSE_SUSPENDED, SUBPROTOCOL};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;
use crate::audit::{self, Actor};
use crate::client_api::router;
use crate::delivery::batch::Batch;
use crate::delivery::inbox;
use crate::identity::testing::{device, device_with_token};
use crate::identity::{accounts, barriers, user_types};
use crate::node::testing::{beside, node};
use crate::organisation::{Act, Asked, Keeper, KeyFolder, Keys};
use crate::store::PartOutcome;
use crate::store::inbox::InboxBody;

/// Two nodes that know each other.
async fn pair() -> [Arc<Node>; 2] {
    let (founder, _) = node("a.example");
    let nodes = [beside(&founder, "one").await, beside(&founder, "two").await];
    for _ in 0..2 {
        for node in &nodes {
            round(node).await.unwrap();
        }
    }
    nodes
}

/// What one node has told arrives at the other as a hint.
async fn hint(from: &Node, to: &Arc<Node>) {
    let secret = Secret::new(b"the secret of both");
    for datagram in from.cluster.to_send(&secret).await {
        apply(to, to.cluster.received(&secret, &datagram)).await;
    }
}

/// Something is put into a device's inbox.
async fn put_mail(at: &Node, device: DeviceId) {
    let mut batch = Batch::open(at).await.unwrap();
    let body = InboxBody::RoomClosed {
        room: RoomId::from_bytes([5; 16]),
        server: "b.example".parse().unwrap(),
    };
    inbox::append(&mut batch, device, body).await.unwrap();
    let outcome = batch.commit().await.unwrap();
    assert_eq!(outcome, PartOutcome::Committed);
}

type Client = WebSocketStream<DuplexStream>;

/// A device's session.
async fn session(at: &Arc<Node>, token: &str) -> Client {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = TowerToHyperService::new(router(Arc::clone(at)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(connection.with_upgrades());
    let mut request = "ws://a.example/v1/session".into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers.insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    let (mut client, _) = tokio_tungstenite::client_async(request, near)
        .await
        .unwrap();
    // It greets.
    client.next().await.unwrap().unwrap();
    client
}

/// The code that the session is closed with.
async fn closed(client: &mut Client) -> u16 {
    loop {
        if let Message::Close(frame) = client.next().await.unwrap().unwrap() {
            return frame.unwrap().code.into();
        }
    }
}

/// Rounds of both nodes, without end, and with pauses in which others have the processor.
async fn rounds_of(nodes: &[Arc<Node>; 2]) {
    loop {
        for node in nodes {
            round(node).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Goal: a device whose session is at one node is woken for what another node has accepted: at once by a hint, and with
/// the next rounds when hints get lost. Method: mail at one node, a bell at the other; hints are carried by hand.
#[tokio::test]
async fn mail_is_heard_at_the_other_node() {
    let [one, two] = pair().await;
    let of = device(&one, "alice").await;
    let bell = two.mailboxes.open(of.device);
    put_mail(&one, of.device).await;
    assert!(!bell.heard().has(Ring::Mail));
    hint(&one, &two).await;
    assert!(bell.heard().has(Ring::Mail));
    let page = inbox::read(&two, of.device, 0, 10, usize::MAX).await;
    assert_eq!(page.unwrap().deliveries.len(), 1);

    round(&one).await.unwrap();
    round(&two).await.unwrap();
    bell.heard();
    put_mail(&one, of.device).await;
    round(&one).await.unwrap();
    round(&two).await.unwrap();
    assert!(bell.heard().has(Ring::Mail), "without a hint");
}

/// Goal: who is suspended at one node is cut off at the other, before whoever suspended him is answered, also when no hint
/// arrives. Method: a session at the other node, and rounds alone.
#[tokio::test]
async fn a_suspension_cuts_at_the_other_node() {
    let nodes = pair().await;
    let [one, two] = &nodes;
    let (_, token) = device_with_token(one, "alice").await;
    let mut client = session(two, &token).await;
    let handle: Handle = "alice".parse().unwrap();
    let request = ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    let suspended = accounts::change(one, &Actor::System, &handle, &request);
    tokio::select! {
        changed = suspended => drop(changed.unwrap()),
        () = rounds_of(&nodes) => {}
    }
    tokio::select! {
        code = closed(&mut client) => assert_eq!(code, CLOSE_SUSPENDED),
        () = rounds_of(&nodes) => {}
    }
}

/// Goal: segments and user types that are changed at one node reach the sessions at the other, also when no hint arrives. Method: a
/// bell at the other node, and rounds alone.
#[tokio::test]
async fn rules_are_heard_at_the_other_node() {
    let [one, two] = pair().await;
    let of = device(&one, "alice").await;
    let bell = two.mailboxes.open(of.device);
    let rung = async || {
        round(&one).await.unwrap();
        round(&two).await.unwrap();
        let heard = bell.heard().has(Ring::Rules);
        bell.looked(bell.for_rules());
        heard
    };
    rung().await;
    assert!(!rung().await, "nothing has changed");
    let request = BarriersRequest {
        barriers: Barriers::default(),
        follows: Some(0),
        dry_run: false,
    };
    let changed = barriers::change(&one, &Actor::System, request).await;
    changed.unwrap();
    assert!(rung().await);
    let policy = UserTypePolicy::default();
    let changed = user_types::put(&one, &Actor::System, "standard", policy).await;
    changed.unwrap();
    assert!(rung().await);
}

/// Goal: a node says that it has heard of changed rules when its sessions have looked at them, or ended, and not before.
/// Method: a bell that nobody looks at, and rounds.
#[tokio::test]
async fn heard_is_what_sessions_have_looked_at() {
    let [one, two] = pair().await;
    let of = device(&one, "alice").await;
    let bell = two.mailboxes.open(of.device);
    let rounds = async || {
        for node in [&two, &two, &one] {
            round(node).await.unwrap();
        }
    };
    for is_ended in [false, true] {
        one.mailboxes.ring([of.device], Ring::Rules);
        round(&one).await.unwrap();
        rounds().await;
        assert!(bell.heard().has(Ring::Rules));
        assert!(one.cluster.until_heard().now_or_never().is_none());
        match is_ended {
            false => bell.looked(bell.for_rules()),
            true => two.mailboxes.end(&bell),
        }
        rounds().await;
        assert!(one.cluster.until_heard().now_or_never().is_some());
    }
}

/// Goal: a device that comes to another node leaves no session behind at the first one. Method: a session at each, some
/// seconds apart, and hints.
#[tokio::test(start_paused = true)]
async fn a_session_moves() {
    let [one, two] = pair().await;
    let of = device(&one, "alice").await;
    let former = one.mailboxes.open(of.device);
    tokio::time::advance(Duration::from_secs(3)).await;
    let present = two.mailboxes.open(of.device);
    hint(&two, &one).await;
    assert!(former.heard().has(Ring::Replaced));
    hint(&one, &two).await;
    assert!(!present.heard().has(Ring::Replaced), "it came later");
}

/// Goal: one of two nodes does what the clock asks for, and each peer is sent to by one; administrators see that. Method:
/// two nodes, and what they hold.
#[tokio::test]
async fn duties_are_shared() {
    let [one, two] = pair().await;
    for node in [&one, &two] {
        round(node).await.unwrap();
    }
    let holders = [&one, &two].map(|node| node.cluster.holds(&Duty::Tasks));
    assert_eq!(holders.iter().filter(|holds| **holds).count(), 1);
    let status = one.cluster.status(&one.store).await.unwrap();
    let holding = status.iter().filter(|node| !node.duties.is_empty());
    assert_eq!(holding.count(), 1);
}

/// Goal: a homeserver without a cluster's configuration does not start beside nodes that work, and does when they have ended.
/// Method: two nodes, and one over their store that minds no others.
#[tokio::test]
async fn nobody_works_beside_a_cluster_unnoticed() {
    let (founder, _) = node("a.example");
    nobody_unminded(&founder).await.unwrap();
    let one = beside(&founder, "one").await;
    let refused = nobody_unminded(&founder).await.unwrap_err();
    assert!(refused.to_string().contains("(one)"), "{refused}");
    leave(&one).await;
    nobody_unminded(&founder).await.unwrap();
}

/// Goal: keys that one node changes are in use at the other, and written to its folder, before it would change them
/// itself, and whatever else lies there stays; two that change them at once make two changes, one after the other; another
/// secret opens none. Method: two nodes with folders of their own over one store.
#[tokio::test]
async fn keys_are_shared() {
    let (founder, _) = node("a.example");
    let folders = tempfile::tempdir().unwrap();
    let load = |folder: &KeyFolder| -> Arc<Keys> {
        let (now_ms, random) = (founder.clock.now_ms(), founder.random.as_ref());
        Arc::new(folder.load(&founder.server, now_ms, random).unwrap())
    };
    let at = |name: &str, secret: &[u8]| {
        let path = folders.path().join(name);
        KeyFolder::at(&path).create(&founder.keys).unwrap();
        let keys = load(&KeyFolder::at(&path));
        let mut keeper = Keeper::new(Arc::clone(&keys), KeyFolder::at(&path));
        keeper.share(Arc::new(Secret::new(secret)));
        (keeper, keys, KeyFolder::at(&path))
    };
    let secret = b"0123456789abcdef0123456789abcdef";
    let (one, keys_of_one, _) = at("one", secret);
    let (two, keys_of_two, folder_of_two) = at("two", secret);
    let (store, now_ms) = (&founder.store, founder.clock.now_ms());
    let random = founder.random.as_ref();
    for keeper in [&one, &two] {
        keeper.meet(store, now_ms, random).await.unwrap();
    }
    let rotate = Act::Asked(Asked::RotateTls { replaces: None });
    let rotated = one
        .act(store, &Actor::System, &rotate, now_ms, random)
        .await;
    assert!(rotated.unwrap());
    assert_ne!(keys_of_one.tls_pins(), keys_of_two.tls_pins());
    let own = ["store-master.key", "issuing-next-key.pem"];
    let own = own.map(|name| folders.path().join("two").join(name));
    for path in &own {
        std::fs::write(path, "its own").unwrap();
    }
    assert!(two.catch_up(store, now_ms, random).await.unwrap());
    for path in &own {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "its own");
    }
    assert_eq!(keys_of_one.manifest(), keys_of_two.manifest());
    assert_eq!(keys_of_one.tls_pins(), keys_of_two.tls_pins());
    assert_eq!(load(&folder_of_two).manifest(), keys_of_two.manifest());
    assert!(!two.catch_up(store, now_ms, random).await.unwrap());

    let before = keys_of_one.manifest().serial();
    let (first, second) = tokio::join!(
        one.act(store, &Actor::System, &rotate, now_ms, random),
        two.act(store, &Actor::System, &rotate, now_ms, random),
    );
    assert!(first.unwrap() && second.unwrap());
    for keeper in [&one, &two] {
        keeper.catch_up(store, now_ms, random).await.unwrap();
    }
    assert_eq!(keys_of_one.manifest(), keys_of_two.manifest());
    assert!(keys_of_one.manifest().serial() > before);
    let log = audit::page(store, random, 0, 9).await.unwrap();
    let rotated = log.entries.iter();
    let rotated = rotated.filter(|entry| entry.action == "keys.rotated");
    assert_eq!(rotated.count(), 3);

    let (stranger, _, _) = at("three", b"another secret of the same length");
    let refused = stranger.meet(store, now_ms, random).await.unwrap_err();
    assert!(refused.to_string().contains("another secret"), "{refused}");
}
