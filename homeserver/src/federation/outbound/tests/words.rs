//! What another server says is told with its name, so that nobody takes it for his own server's words (PEER-017).

use federation_proto::ids::{AccountId, ReportId};
use federation_proto::payload::{
    About, AbuseReason, AbuseReport, DirectoryAnswer, DirectoryQuery, GroupInfoRequest,
    GroupInfoResponse, Handshake, KeyRequest, KeysOf, Message, Notice, Payload, Sender, Sought,
};
use federation_proto::refusal::Refusal;
use homeserver_api::admin::ChangeUserRequest;
use homeserver_api::policy::{ExternalScope, UserTypePolicy};

use super::bad_peers::envelope;
use super::*;
use crate::audit;
use crate::identity::{accounts, user_types};

/// What `a.example` might say to get somebody to do something.
const LURE: &str = "your account is locked: open https://a.example/unlock";

fn lure() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, LURE)
}

/// Why something failed, as `person` was told.
async fn told(person: &Person, at: &Side) -> Vec<String> {
    let refusal = |body| match body {
        InboxBody::KeyMaterial {
            result: Err(refusal),
            ..
        }
        | InboxBody::Directory {
            result: Err(refusal),
            ..
        }
        | InboxBody::GroupInfo {
            result: Err(refusal),
            ..
        }
        | InboxBody::CommitRefused { refusal, .. }
        | InboxBody::Returned { refusal, .. }
        | InboxBody::ReportReturned { refusal, .. } => Some(refusal.reason),
        _ => None,
    };
    let inbox = person.inbox(at).await;
    inbox.into_iter().filter_map(refusal).collect()
}

fn sender(person: &Person) -> Sender {
    Sender {
        account: person.of.account,
        device: person.of.device,
    }
}

/// This person of `side` may not talk to other organisations any more.
async fn close(side: &Side, handle: &str) {
    let policy = UserTypePolicy {
        external: ExternalScope::None,
        ..UserTypePolicy::default()
    };
    user_types::put(&side.node, &admin(), "internal", policy)
        .await
        .unwrap();
    let request = ChangeUserRequest {
        user_type: Some("internal".to_owned()),
        ..ChangeUserRequest::default()
    };
    accounts::change(&side.node, &admin(), &handle.parse().unwrap(), &request)
        .await
        .unwrap();
}

/// Goal: an answer that refuses a look-up or a group info is told as the other server's words. Method: a question of
/// each, answered so.
#[tokio::test]
async fn answers_that_refuse() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (_alice, mut bob) = acquainted(&a, &b).await;
    let request = RequestId::from_bytes([1; 16]);
    let device = bob.of.device;
    let look_up = SubmissionBody::LookUp {
        request,
        server: a.node.server.clone(),
        sought: Sought::Handle("alice".parse().unwrap()),
    };
    bob.submit(&b, look_up).await;
    let group_info = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    bob.submit(&b, group_info).await;
    let found = Payload::DirectoryAnswer(DirectoryAnswer {
        request,
        device,
        result: Err(lure()),
    });
    let info = Payload::GroupInfo(GroupInfoResponse {
        request,
        room: ROOM,
        device,
        result: Err(lure()),
    });
    // The room's lane has carried a welcome.
    let answers = vec![
        envelope(&a, Lane::CONTROL, 1, &found),
        envelope(&a, ROOM.into(), 2, &info),
    ];
    let results = exchange(&a, &b, answers).await;
    assert_eq!(results, [ItemResult::Accepted, ItemResult::Accepted]);
    let said = format!("a.example says: {LURE:?}");
    assert_eq!(told(&bob, &b).await, [said.clone(), said]);
}

/// Goal: a hub's notice of a commit that it refuses, or of a message that did not reach somebody, is told as the hub's
/// words. Method: one of each, made up.
#[tokio::test]
async fn notices() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (_alice, bob) = acquainted(&a, &b).await;
    let notice = |about, sequence| {
        let notice = Payload::Notice(Notice {
            room: ROOM,
            about,
            device: bob.of.device,
            reference: 1,
            server: "c.example".parse().unwrap(),
            refusal: lure(),
        });
        envelope(&a, ROOM.into(), sequence, &notice)
    };
    let notices = vec![notice(About::Handshake, 2), notice(About::Message, 3)];
    let results = exchange(&a, &b, notices).await;
    assert_eq!(results, [ItemResult::Accepted, ItemResult::Accepted]);
    let said = format!("a.example says: {LURE:?}");
    assert_eq!(told(&bob, &b).await, [said.clone(), said]);
}

/// Goal: whatever another server refuses, its sender and the administrator read whose reason that is. Method: an
/// envelope of each kind that a device waits for, in a lane that is not its own.
#[tokio::test]
async fn refused_envelopes() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let request = RequestId::from_bytes([1; 16]);
    let payloads = [
        Payload::KeyRequest(KeyRequest {
            request,
            requester: sender(&bob),
            requester_handle: "bob".parse().unwrap(),
            of: KeysOf::Account(alice.of.account),
            known: Vec::new(),
        }),
        Payload::DirectoryQuery(DirectoryQuery {
            request,
            requester: sender(&bob),
            sought: Sought::Handle("alice".parse().unwrap()),
        }),
        Payload::GroupInfoRequest(GroupInfoRequest {
            request,
            room: ROOM,
            requester: sender(&bob),
        }),
        Payload::AbuseReport(AbuseReport {
            report: ReportId::from_bytes([4; 16]),
            account: AccountId::from_bytes([4; 16]),
            room: ROOM,
            reason: AbuseReason::Spam,
            note: String::new(),
            reporter: None,
            reported_ms: now(&b),
            messages: Vec::new(),
        }),
        Payload::Handshake(Handshake {
            room: ROOM,
            hub: a.node.server.clone(),
            epoch: 1,
            sender: bob.member.clone(),
            reference: 1,
            commit: Bytes::from_static(b"commit"),
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: None,
            group_info: None,
            stamp_ms: 0,
        }),
        Payload::Message(Message {
            room: ROOM,
            sender: sender(&bob),
            reference: 1,
            message: Bytes::from_static(b"message"),
        }),
    ];
    let mut part = Part::default();
    for payload in &payloads {
        let row = OutboxItem {
            kind: payload.kind(),
            payload: payload.encode().unwrap(),
            created_ms: now(&b),
            expires_ms: now(&b) + 1_000_000,
            sender: Some(SenderRef {
                account: bob.of.account,
                device: bob.of.device,
                room: ROOM,
                counter: 9,
            }),
            origin: None,
        };
        queue_up(&mut part, &a, Lane::from_bytes([1; 16]), &row);
    }
    b.node.store.commit(part).await.unwrap();
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    let said = r#"a.example says: "the payload is of another room than its lane""#;
    assert_eq!(told(&bob, &b).await, [said; 6]);
    let given_up = dead_letters::newest(&b.node.store, 10).await.unwrap();
    let reasons: Vec<String> = given_up.into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [said; 6]);
}

/// Goal: a reason is set apart once, however many servers hand it on: the hub passes it on as it was said, and its own
/// audit log names who said it. Method: a member of a third server who may not be written to.
#[tokio::test]
async fn never_twice() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (_alice, mut bob, _carol) = three_acquainted(&a, &b, &c).await;
    let (mut to_b, mut to_c) = (worker(&a, &b), worker(&a, &c));
    drain(&mut to_b).await;
    drain(&mut to_c).await;
    close(&c, "carol").await;
    bob.say(&b, ROOM, b"to both of you", 3600).await;
    drain(&mut worker(&b, &a)).await;
    drain(&mut to_c).await;
    drain(&mut to_b).await;
    let reason = r#""the recipient may not communicate with your organisation""#;
    assert_eq!(told(&bob, &b).await, [format!("a.example says: {reason}")]);
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let mut entries = log.entries.iter();
    let given_up = entries.find(|entry| entry.action == "envelope.given-up");
    let detail = &given_up.unwrap().detail;
    let said = format!("c.example says: {reason}");
    assert!(detail.contains(&said), "{detail}");
}

/// Goal: what a peer answers to a whole request is set apart in what administrators are shown. Method: a peer that has
/// suspended the agreement with such a reason.
#[tokio::test]
async fn answers_to_requests() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _bob) = acquainted(&a, &b).await;
    peers::suspend(&b.node, &admin(), &a.node.server, "audit")
        .await
        .unwrap();
    alice.say(&a, ROOM, b"waits", 3600).await;
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    let error = a.node.links.status(&b.node.server).last_error.unwrap();
    assert!(error.starts_with(r#"b.example answered: ""#), "{error}");
    assert!(error.ends_with('"'), "{error}");
}
