//! Sessions over a pipe: a WebSocket client on one end, the router on the other.

use std::sync::Arc;

use axum::extract::ws::close_code;
use bytes::Bytes;
use federation_proto::ids::{Handle, Member, RoomId};
use futures_util::{SinkExt as _, StreamExt as _};
use homeserver_api::admin::ChangeUserRequest;
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::client::CLIENT_VERSION_HEADER;
use homeserver_api::policy::UserTypePolicy;
use homeserver_api::session::{
    CLOSE_DEVICE_REMOVED, CLOSE_REPLACED, CLOSE_SUSPENDED, ClientFrame, Commit, Delivery,
    DeliveryBody, Outcome, SUBPROTOCOL, ServerFrame, Submission, SubmissionBody,
    UNACKNOWLEDGED_DELIVERIES_MAX,
};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::audit::Actor;
use crate::client_api::router;
use crate::delivery::evidence;
use crate::delivery::mailboxes::Ring;
use crate::delivery::submit::submit;
use crate::identity::testing::{device_with_token, member};
use crate::identity::{accounts, devices, user_types};
use crate::node::testing::node;
use crate::node::{Hint, Node};
use crate::rooms::mls_framing::testing::{
    application_message, commit_message, group_info_message, welcome_message,
};
use crate::store::device::DeviceOf;

mod gates;

const ROOM: RoomId = RoomId::from_bytes([5; 16]);

type Client = WebSocketStream<DuplexStream>;

async fn connect(
    node: &Arc<Node>,
    token: &str,
    subprotocol: &str,
) -> Result<Client, tungstenite::Error> {
    connect_as(node, token, subprotocol, None).await
}

/// As a client of this version.
async fn connect_as(
    node: &Arc<Node>,
    token: &str,
    subprotocol: &str,
    version: Option<&str>,
) -> Result<Client, tungstenite::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = TowerToHyperService::new(router(Arc::clone(node)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(connection.with_upgrades());
    let mut request = "ws://a.example/v1/session".into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers.insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    if let Some(version) = version {
        headers.insert(CLIENT_VERSION_HEADER, version.parse().unwrap());
    }
    let (client, _) = tokio_tungstenite::client_async(request, near).await?;
    Ok(client)
}

/// An open session, its Hello read.
async fn session(node: &Arc<Node>, token: &str) -> (Client, u64) {
    let mut client = connect(node, token, SUBPROTOCOL).await.unwrap();
    match next(&mut client).await {
        ServerFrame::Hello(hello) => (client, hello.last_counter),
        other => panic!("{other:?}"),
    }
}

/// The next frame but the one that tells that nothing waits any more.
async fn next(client: &mut Client) -> ServerFrame {
    loop {
        match any_next(client).await {
            ServerFrame::CaughtUp => {}
            frame => return frame,
        }
    }
}

async fn any_next(client: &mut Client) -> ServerFrame {
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => return ServerFrame::decode(&bytes).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code that the session is closed with, whatever is sent before.
async fn closed(client: &mut Client) -> u16 {
    loop {
        if let Message::Close(frame) = client.next().await.unwrap().unwrap() {
            return frame.unwrap().code.into();
        }
    }
}

async fn send(client: &mut Client, frame: &ClientFrame) {
    let bytes = frame.encode().unwrap();
    client.send(Message::Binary(bytes.into())).await.unwrap();
}

async fn deliveries(client: &mut Client) -> Vec<Delivery> {
    match next(client).await {
        ServerFrame::Deliver(deliveries) => deliveries,
        other => panic!("{other:?}"),
    }
}

fn message(counter: u64, inside: &[u8]) -> Submission {
    let attributes = MessageAttributes {
        ttl_seconds: 3600,
        burn_seconds: 0,
        label: 0,
        file: false,
    };
    Submission {
        counter,
        body: SubmissionBody::Message {
            room: ROOM,
            message: application_message(ROOM, 1, attributes, inside).into(),
        },
    }
}

fn create_room(adds: Vec<Member>) -> Submission {
    Submission {
        counter: 1,
        body: SubmissionBody::Commit(Commit {
            room: ROOM,
            hub: "a.example".parse().unwrap(),
            epoch: 0,
            commit: commit_message(ROOM, 0, b"proposals").into(),
            welcome: Some(welcome_message().into()),
            adds,
            removes: Vec::new(),
            group_info: group_info_message(ROOM, 1).into(),
            founding: None,
        }),
    }
}

/// Alice and Bob in a room, with their tokens; Alice has used counter 1.
async fn pair(node: &Arc<Node>) -> [(DeviceOf, String); 2] {
    let alice = device_with_token(node, "alice").await;
    let bob = device_with_token(node, "bob").await;
    let mut room = create_room(vec![member(node, bob.0)]);
    crate::rooms::testing::fill(node, alice.0, &mut room.body);
    let results = submit(node, alice.0, &[room]).await.unwrap();
    assert!(matches!(results[0].outcome, Outcome::Accepted { .. }));
    [alice, bob]
}

/// Goal: the whole exchange: Hello, results in order, deliveries pushed and numbered, acknowledged
/// ones never sent again, others sent again to the next session.
#[tokio::test]
async fn exchange() {
    let (node, _) = node("a.example");
    let [(_, alice), (_, bob)] = pair(&node).await;
    let (mut sender, last_counter) = session(&node, &alice).await;
    assert_eq!(last_counter, 1);
    let (mut receiver, _) = session(&node, &bob).await;
    let welcome = deliveries(&mut receiver).await;
    assert!(matches!(welcome[0].body, DeliveryBody::Welcome { .. }));
    send(&mut receiver, &ClientFrame::Acknowledge(welcome[0].number)).await;
    assert!(matches!(
        deliveries(&mut sender).await[0].body,
        DeliveryBody::Commit { .. }
    ));

    let frame = ClientFrame::Submit(vec![
        message(2, b"one"),
        message(3, b"two"),
        message(9, b"gap"),
    ]);
    send(&mut sender, &frame).await;
    let ServerFrame::Results(results) = next(&mut sender).await else {
        panic!("no results");
    };
    let counters: Vec<u64> = results.iter().map(|result| result.counter).collect();
    assert_eq!(counters, [2, 3, 9]);
    assert!(matches!(results[1].outcome, Outcome::Accepted { .. }));
    assert!(matches!(results[2].outcome, Outcome::Refused(_)));
    let mut got = deliveries(&mut receiver).await;
    while got.len() < 2 {
        got.extend(deliveries(&mut receiver).await);
    }
    let numbers: Vec<u64> = got.iter().map(|delivery| delivery.number).collect();
    assert_eq!(numbers, [2, 3]);
    send(&mut receiver, &ClientFrame::Acknowledge(2)).await;
    // What follows on the same connection is handled after the acknowledgement.
    let repeated = ClientFrame::Submit(vec![message(7, b"gap")]);
    send(&mut receiver, &repeated).await;
    assert!(matches!(next(&mut receiver).await, ServerFrame::Results(_)));

    let (mut again, _) = session(&node, &bob).await;
    let rest = deliveries(&mut again).await;
    assert_eq!(rest.iter().map(|d| d.number).collect::<Vec<_>>(), [3]);
    assert_eq!(closed(&mut receiver).await, CLOSE_REPLACED);
}

/// Goal: a device that does not acknowledge gets the window's worth and no more, and goes on where
/// it was as soon as it does; by more mail than the window.
#[tokio::test]
async fn window() {
    let (node, _) = node("a.example");
    let [(alice, _), (_, bob)] = pair(&node).await;
    let window = u64::try_from(UNACKNOWLEDGED_DELIVERIES_MAX).unwrap();
    for start in [0, 1024] {
        let frame: Vec<Submission> = (0..1024).map(|n| message(start + n + 2, b"x")).collect();
        submit(&node, alice, &frame).await.unwrap();
    }
    let (mut client, _) = session(&node, &bob).await;
    let mut last = 0;
    while last < window {
        for delivery in deliveries(&mut client).await {
            assert_eq!(delivery.number, last + 1);
            last = delivery.number;
        }
    }
    assert_eq!(last, window);
    // Nothing more comes: the next frame is the answer to this.
    send(&mut client, &ClientFrame::Submit(vec![message(9, b"gap")])).await;
    assert!(matches!(next(&mut client).await, ServerFrame::Results(_)));
    send(&mut client, &ClientFrame::Acknowledge(10)).await;
    let more = deliveries(&mut client).await;
    assert_eq!(
        more.first().map(|delivery| delivery.number),
        Some(window + 1)
    );
    assert_eq!(more.len(), 10);
}

/// Goal: a device is told once that all that waited for it has been sent: after all of it, and never again in the
/// session; by more mail than the window, and a session without any.
#[tokio::test]
async fn caught_up() {
    let (node, _) = node("a.example");
    let [(alice, alices), (_, bobs)] = pair(&node).await;
    let waiting = u64::try_from(UNACKNOWLEDGED_DELIVERIES_MAX).unwrap() + 1;
    for start in [0, 1024] {
        let frame: Vec<Submission> = (0..1024).map(|n| message(start + n + 2, b"x")).collect();
        submit(&node, alice, &frame).await.unwrap();
    }
    let (mut client, _) = session(&node, &bobs).await;
    let mut last = 0;
    loop {
        match any_next(&mut client).await {
            ServerFrame::Deliver(deliveries) => last = deliveries.last().unwrap().number,
            ServerFrame::CaughtUp => break,
            other => panic!("{other:?}"),
        }
        send(&mut client, &ClientFrame::Acknowledge(last)).await;
    }
    assert_eq!(last, 1 + 2048, "the welcome and every message");
    assert!(last > waiting);
    submit(&node, alice, &[message(2050, b"later")])
        .await
        .unwrap();
    assert!(matches!(
        any_next(&mut client).await,
        ServerFrame::Deliver(_)
    ));
    send(&mut client, &ClientFrame::Submit(vec![message(9, b"gap")])).await;
    assert!(matches!(
        any_next(&mut client).await,
        ServerFrame::Results(_)
    ));

    let (mut client, _) = session(&node, &alices).await;
    let ServerFrame::Deliver(own) = any_next(&mut client).await else {
        panic!("her commit comes back");
    };
    send(&mut client, &ClientFrame::Acknowledge(own[0].number)).await;
    assert_eq!(any_next(&mut client).await, ServerFrame::CaughtUp);
}

/// Goal: what is no frame, or makes no sense, ends the session as the device's mistake; by one of
/// each kind. An unknown subprotocol or token opens none.
#[tokio::test]
async fn bad_input() {
    let (node, _) = node("a.example");
    let [(_, alice), _] = pair(&node).await;
    let trailing = [ClientFrame::Acknowledge(0).encode().unwrap(), vec![0]].concat();
    let never_sent = ClientFrame::Acknowledge(1000).encode().unwrap();
    let too_many: Vec<Submission> = (0..1025).map(|n| message(n, b"")).collect();
    let too_many = ClientFrame::Submit(too_many).encode().unwrap();
    for bad in [
        Message::Binary(Bytes::from_static(b"\xff\xff")),
        Message::Binary(trailing.into()),
        Message::Binary(never_sent.into()),
        Message::Binary(too_many.into()),
        Message::Text("hello".into()),
    ] {
        let (mut client, _) = session(&node, &alice).await;
        client.send(bad).await.unwrap();
        assert_eq!(closed(&mut client).await, close_code::PROTOCOL);
    }
    for (token, subprotocol, status) in [(alice.as_str(), "chat.v9", 400), ("x", SUBPROTOCOL, 401)]
    {
        let error = connect(&node, token, subprotocol).await.unwrap_err();
        let tungstenite::Error::Http(response) = error else {
            panic!("{error}");
        };
        assert_eq!(response.status().as_u16(), status);
    }
}

/// Goal: sessions hear of changed rules, and end with a removed device, a suspended account and a
/// stopping homeserver; only those concerned.
#[tokio::test]
async fn rings() {
    let (node, _) = node("a.example");
    let [(_, alice), (_, bob)] = pair(&node).await;
    let (carol_of, carol) = device_with_token(&node, "carol").await;
    let (mut a, _) = session(&node, &alice).await;
    let (mut b, _) = session(&node, &bob).await;
    let (mut c, _) = session(&node, &carol).await;
    deliveries(&mut a).await;
    deliveries(&mut b).await;
    let actor = &Actor::System;

    // Only Alice's account has the changed user type.
    let mut policy = UserTypePolicy::default();
    user_types::put(&node, actor, "other", policy.clone())
        .await
        .unwrap();
    let handle: Handle = "alice".parse().unwrap();
    let change = |user_type: Option<&str>, suspended| ChangeUserRequest {
        user_type: user_type.map(str::to_owned),
        suspended,
    };
    accounts::change(&node, actor, &handle, &change(Some("other"), None))
        .await
        .unwrap();
    assert_eq!(next(&mut a).await, ServerFrame::AccountChanged);
    policy.files = false;
    user_types::put(&node, actor, "other", policy)
        .await
        .unwrap();
    assert_eq!(next(&mut a).await, ServerFrame::AccountChanged);

    devices::remove(&node, actor, carol_of).await.unwrap();
    assert_eq!(closed(&mut c).await, CLOSE_DEVICE_REMOVED);
    accounts::change(&node, actor, &handle, &change(None, Some(true)))
        .await
        .unwrap();
    assert_eq!(closed(&mut a).await, CLOSE_SUSPENDED);

    // Bob's first news are of the peers: nothing before concerned him.
    node.hint(Hint::PeersChanged);
    assert_eq!(next(&mut b).await, ServerFrame::AccountChanged);
    node.mailboxes.ring_all(Ring::Stopping);
    assert_eq!(closed(&mut b).await, close_code::AWAY);
}

/// Goal: a device that says nothing, not even pongs, is cut within 90 s; by virtual time and a client
/// that reads nothing.
#[tokio::test(start_paused = true)]
async fn silent_devices_are_cut() {
    let (node, _) = node("a.example");
    let (_, token) = device_with_token(&node, "alice").await;
    let (_client, _) = session(&node, &token).await;
    let start = tokio::time::Instant::now();
    while node.mailboxes.sessions() > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let silent = start.elapsed().as_secs();
    assert!((60..=92).contains(&silent), "{silent}");
}

/// Goal: a device that another one of its account signs out is cut at once, not when some time has passed, and the other
/// one is told of it; by virtual time that stands still meanwhile.
#[tokio::test]
async fn a_remote_sign_out_takes_no_time() {
    let (node, _) = node("a.example");
    let (old, old_token) = device_with_token(&node, "alice").await;
    let (lost, lost_token) = device_with_token(&node, "alice").await;
    let (mut at_hand, _) = session(&node, &old_token).await;
    let (mut away, _) = session(&node, &lost_token).await;
    tokio::time::pause();
    // While a blocking task is at work the paused clock does not run ahead to the next timer.
    let (work, wait) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || wait.recv());
    let before = tokio::time::Instant::now();
    devices::remove(&node, &Actor::Device(old.device), lost)
        .await
        .unwrap();
    assert_eq!(closed(&mut away).await, CLOSE_DEVICE_REMOVED);
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    assert_eq!(next(&mut at_hand).await, ServerFrame::AccountChanged);
    drop(work);
    let _ = blocking.await;
    let refused = connect(&node, &lost_token, SUBPROTOCOL).await;
    assert!(refused.is_err(), "its token is void");
}

/// Goal: a user who is deleted is cut off on every device at once, before whoever deleted him is answered, and evidence says how
/// many sessions that were; one who has none leaves evidence too. Method: two sessions, and virtual time that stands still.
#[tokio::test]
async fn a_deleted_user_is_cut_off_at_once() {
    let (node, _) = node("a.example");
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let (_, token) = device_with_token(&node, "alice").await;
        sessions.push(session(&node, &token).await.0);
    }
    let (_, _) = device_with_token(&node, "alice").await;
    let (_, _) = device_with_token(&node, "bob").await;
    tokio::time::pause();
    // While a blocking task is at work the paused clock does not run ahead to the next timer.
    let (work, wait) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || wait.recv());
    let before = tokio::time::Instant::now();
    for handle in ["alice", "bob"] {
        accounts::delete(&node, &Actor::Local(0), &handle.parse().unwrap())
            .await
            .unwrap();
    }
    let found = evidence::list(&node, None, None, 9).await.unwrap();
    let of = |handle: &str| {
        let mut found = found.iter().map(|(_, record, _)| record);
        let record = found.find(|record| record.handle.as_str() == handle);
        let record = record.unwrap();
        (
            record.devices.len(),
            record.sessions,
            record.sessions_ended_ms,
        )
    };
    let now_ms = Some(node.clock.now_ms());
    assert_eq!(of("alice"), (3, Some(2), now_ms));
    assert_eq!(of("bob"), (1, Some(0), now_ms));
    for session in &mut sessions {
        assert_eq!(closed(session).await, CLOSE_DEVICE_REMOVED);
    }
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    drop(work);
    let _ = blocking.await;
}
