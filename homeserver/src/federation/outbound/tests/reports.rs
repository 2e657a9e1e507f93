//! Reports of abuse, kept at home and passed on to partners.

use federation_proto::hash::Digest;
use federation_proto::ids::{AccountId, ReportId};
use federation_proto::payload::{AbuseReason, AbuseReport, Payload, ReportedMessage};
use homeserver_api::session::{Report, Telling};

use super::*;
use crate::audit;
use crate::delivery::limits::{ACCOUNT_REPORTS_MAX, PEER_REPORTS_MAX, REPORT_TTL_MS, REPORTS_MS};
use crate::delivery::reports::{self, CloseError};
use crate::store::report::{KEPT_MS, Partner, ReportRecord, Reporter};

fn disclosed(of: &Person, text: &str) -> ReportedMessage {
    ReportedMessage {
        device: of.of.device,
        accepted_ms: 1_794_000_000_000,
        message_sha256: Digest::of(text.as_bytes()),
        text: text.to_owned(),
    }
}

/// A report about `who`, whose address this is.
fn about(who: &Person, address: &str, tell: Telling) -> Report {
    Report {
        account: who.of.account,
        address: address.parse().unwrap(),
        room: ROOM,
        reason: AbuseReason::Harassment,
        note: "since Monday".to_owned(),
        messages: vec![disclosed(who, "you will regret it")],
        tell,
    }
}

async fn file(who: &mut Person, at: &Side, report: Report) -> Outcome {
    who.submit(at, SubmissionBody::Report(report)).await
}

fn accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

fn refused(outcome: &Outcome) -> Option<RefusalCode> {
    match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

async fn kept(at: &Side) -> Vec<(ReportId, ReportRecord)> {
    reports::list(&at.node, None, None, 1000).await.unwrap()
}

async fn events(at: &Side, action: &str) -> Vec<(String, String)> {
    let page = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = page.entries.into_iter();
    entries
        .filter(|entry| entry.action == action)
        .map(|entry| (entry.actor, entry.detail))
        .collect()
}

/// Hands over so many reports of `from` at once, as the envelopes of the control lane from `first` on.
async fn pass_on(
    from: &Side,
    to: &Side,
    first: u64,
    count: u32,
    account: AccountId,
) -> Vec<ItemResult> {
    let payload = Payload::AbuseReport(AbuseReport {
        report: ReportId::from_bytes([4; 16]),
        account,
        room: ROOM,
        reason: AbuseReason::Spam,
        note: String::new(),
        reporter: None,
        reported_ms: now(from),
        messages: Vec::new(),
    });
    let envelope = |n: u32| Outgoing {
        kind: payload.kind(),
        lane: Lane::CONTROL,
        sequence: first + u64::from(n),
        created_ms: now(from),
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    };
    exchange(from, to, (0..count).map(envelope).collect()).await
}

fn code(result: &ItemResult) -> Option<RefusalCode> {
    match result {
        ItemResult::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// Goal: a report is kept at home with the reporter's name, goes to the partner when asked for and names him there only
/// then (ABUSE-003), and is audited without what was said and without a name; by a report each way of
/// telling.
#[tokio::test]
async fn reports_reach_whom_they_are_for() {
    for (tell, named) in [
        (Telling::OwnOnly, None),
        (Telling::Partner, Some(None)),
        (Telling::PartnerWithName, Some(Some("alice"))),
    ] {
        let [a, b] = sides(["a.example", "b.example"]);
        let (mut alice, bob) = acquainted(&a, &b).await;
        let report = about(&bob, "bob@b.example", tell);
        assert!(accepted(&file(&mut alice, &a, report.clone()).await));
        drain(&mut worker(&a, &b)).await;

        let [(id, at_a)] = <[_; 1]>::try_from(kept(&a).await).unwrap();
        assert!(matches!(&at_a.from, Reporter::Own { handle, .. } if handle.as_str() == "alice"));
        assert!(at_a.known.reported_in_room && at_a.known.reporter_in_room);
        assert_eq!(
            (&at_a.messages, &at_a.note),
            (&report.messages, &report.note)
        );
        let told = match at_a.partner {
            Partner::Sent { named } => Some(named),
            Partner::NotTold | Partner::Returned(_) => None,
        };
        assert_eq!(told, named.map(|name| name.is_some()));
        let log = events(&a, "report.received").await;
        assert_eq!(log.len(), 1);
        let about = format!("harassment: account {} of b.example", report.account);
        assert!(log[0].1.contains(&about), "{log:?}");
        for unsaid in ["regret", "Monday", "alice", "bob"] {
            assert!(!log[0].1.contains(unsaid), "{log:?}");
        }

        let at_b = kept(&b).await;
        assert_eq!(at_b.len(), usize::from(named.is_some()));
        for (own_id, record) in at_b {
            let Reporter::Peer {
                server,
                report,
                handle,
            } = record.from
            else {
                panic!("{:?}", record.from)
            };
            assert_eq!((server, report), (a.node.server.clone(), id));
            assert_ne!(own_id, id);
            assert_eq!(
                handle.as_ref().map(|handle| handle.as_str()),
                named.unwrap()
            );
            assert_eq!(record.address.to_string(), "bob@b.example");
            assert_eq!(record.messages, at_a.messages);
            assert!(record.known.reported_in_room);
            assert_eq!(events(&b, "report.received").await[0].0, "peer:a.example");
        }
        assert_eq!(waiting(&a, &b).await, 0);
    }
}

/// Goal: one's own people are reported too, and then nobody else is told; who is not in the room is reported, with this
/// server's doubt noted; oneself, a stranger and somebody under another's name are not. By a report of each.
#[tokio::test]
async fn reports_at_home() {
    let [a] = sides(["a.example"]);
    let mut alice = person(&a, "alice").await;
    let anna = person(&a, "anna").await;
    let both = about(&anna, "anna@a.example", Telling::PartnerWithName);
    assert!(accepted(&file(&mut alice, &a, both).await));
    let [(_, record)] = <[_; 1]>::try_from(kept(&a).await).unwrap();
    assert_eq!(record.partner, Partner::NotTold);
    assert!(!record.known.reported_in_room && !record.known.reporter_in_room);

    let own = about(&alice, "alice@a.example", Telling::OwnOnly);
    assert_eq!(
        refused(&file(&mut alice, &a, own).await),
        Some(RefusalCode::Malformed)
    );
    let other = about(&anna, "alice@a.example", Telling::OwnOnly);
    let unknown = Some(RefusalCode::UnknownRecipient);
    assert_eq!(refused(&file(&mut alice, &a, other).await), unknown);
    let far = Report {
        address: "bob@b.example".parse().unwrap(),
        ..about(&anna, "anna@a.example", Telling::Partner)
    };
    let outcome = file(&mut alice, &a, far).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::NoAgreement));
    let long = Report {
        note: "x".repeat(2049),
        ..about(&anna, "anna@a.example", Telling::OwnOnly)
    };
    assert_eq!(
        refused(&file(&mut alice, &a, long).await),
        Some(RefusalCode::TooLarge)
    );
    assert_eq!(kept(&a).await.len(), 1);
    assert_eq!(events(&a, "report.refused").await.len(), 4);
}

/// Goal: accounts and peers have their quotas (ABUSE-006), for a day; by one more than that, and a day that passes.
#[tokio::test]
async fn reports_have_quotas() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let report = || about(&bob, "bob@b.example", Telling::OwnOnly);
    for _ in 0..ACCOUNT_REPORTS_MAX {
        assert!(accepted(&file(&mut alice, &a, report()).await));
    }
    let outcome = file(&mut alice, &a, report()).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::Quota));
    let one_more = PEER_REPORTS_MAX + 1;
    let results = pass_on(&a, &b, 1, one_more, bob.of.account).await;
    let (last, within) = results.split_last().unwrap();
    assert!(within.iter().all(|result| *result == ItemResult::Accepted));
    assert_eq!(code(last), Some(RefusalCode::Quota), "in one transaction");
    let next = u64::from(one_more) + 1;
    let later = pass_on(&a, &b, next, 1, bob.of.account).await;
    assert_eq!(code(&later[0]), Some(RefusalCode::Quota), "in the next");
    assert_eq!(kept(&b).await.len(), 100);
    for side in [&a, &b] {
        side.clock.advance_ms(REPORTS_MS);
    }
    assert!(accepted(&file(&mut alice, &a, report()).await));
    let taken = pass_on(&a, &b, next + 1, 1, bob.of.account).await;
    assert_eq!(taken, [ItemResult::Accepted]);
}

/// Goal: a report that the partner does not take is noted as returned and its reporter told, and a suspended
/// agreement lets none out (ABUSE-001, ABUSE-008); by a partner that is away for a week, and a suspension.
#[tokio::test]
async fn reports_come_back() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let report = || about(&bob, "bob@b.example", Telling::Partner);
    a.network.set_down(true);
    assert!(accepted(&file(&mut alice, &a, report()).await));
    let mut to_b = worker(&a, &b);
    drain(&mut to_b).await;
    for side in [&a, &b] {
        side.clock.advance_ms(REPORT_TTL_MS);
    }
    a.network.set_down(false);
    drain(&mut to_b).await;
    let [(_, record)] = <[_; 1]>::try_from(kept(&a).await).unwrap();
    assert!(
        matches!(&record.partner, Partner::Returned(refusal) if refusal.code == RefusalCode::Expired),
        "{:?}",
        record.partner
    );
    let told = alice.inbox(&a).await.into_iter().any(|body| {
        matches!(body, InboxBody::ReportReturned { room, server, .. }
            if room == ROOM && server == b.node.server)
    });
    assert!(told);
    assert_eq!(kept(&b).await, []);

    peers::suspend(&a.node, &admin(), &b.node.server, "drill")
        .await
        .unwrap();
    let outcome = file(&mut alice, &a, report()).await;
    assert_eq!(refused(&outcome), Some(RefusalCode::AgreementSuspended));
    assert_eq!(kept(&a).await.len(), 1);
}

/// Goal: a partner's report about nobody here is refused, and stops nothing; by an account that never was.
#[tokio::test]
async fn reports_about_nobody_are_refused() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (_, bob) = acquainted(&a, &b).await;
    let nobody = pass_on(&a, &b, 1, 1, AccountId::from_bytes([9; 16])).await;
    assert_eq!(code(&nobody[0]), Some(RefusalCode::UnknownRecipient));
    let next = pass_on(&a, &b, 2, 1, bob.of.account).await;
    assert_eq!(next, [ItemResult::Accepted]);
}

/// Goal: administrators find what is open, reading and closing are in the audit log, a report is closed once, and goes
/// when its time is over; by three reports of which one is closed.
#[tokio::test]
async fn administrators_deal_with_reports() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    for _ in 0..3 {
        let report = about(&bob, "bob@b.example", Telling::OwnOnly);
        assert!(accepted(&file(&mut alice, &a, report).await));
        a.clock.advance_ms(1);
    }
    let ids: Vec<_> = kept(&a).await.into_iter().map(|(id, _)| id).collect();
    let read = reports::read(&a.node, &admin(), ids[1]).await.unwrap();
    assert_eq!(read.unwrap().messages[0].text, "you will regret it");
    let closed = reports::close(&a.node, &admin(), ids[1], "warned").await;
    assert_eq!(closed.unwrap().unwrap().closed.unwrap().by, "local:0");
    let again = reports::close(&a.node, &admin(), ids[1], "again").await;
    assert!(matches!(again, Err(CloseError::Closed)));
    assert_eq!(events(&a, "report.read").await.len(), 1);
    let log = events(&a, "report.closed").await;
    assert_eq!(log, [("local:0".to_owned(), "warned".to_owned())]);
    let open = reports::list(&a.node, None, Some(true), 9).await.unwrap();
    let open: Vec<_> = open.into_iter().map(|(id, _)| id).collect();
    assert_eq!(open, [ids[0], ids[2]]);
    let page = reports::list(&a.node, Some(ids[0]), None, 1).await.unwrap();
    assert_eq!(page[0].0, ids[1]);

    a.clock.advance_ms(KEPT_MS);
    let mut part = Part::default();
    crate::store::report::delete_old(&a.node.store, &mut part, now(&a), 9)
        .await
        .unwrap();
    a.node.store.commit(part).await.unwrap();
    assert_eq!(kept(&a).await, []);
}
