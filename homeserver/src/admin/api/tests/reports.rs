//! Reports of abuse through the admin API.

use federation_proto::hash::Digest;
use federation_proto::ids::RoomId;
use federation_proto::payload::{AbuseReason, ReportedMessage};
use homeserver_api::admin::{ReportDetail, ReportState, ReportSummary, Reports, Told};
use homeserver_api::session::{Outcome, Report, Submission, SubmissionBody, Telling};

use super::*;
use crate::delivery::submit::submit;
use crate::identity::testing::device;

const PATH: &str = "/admin/v1/reports";

/// Goal: an administrator finds a report, reads what it discloses and what that is worth, and closes it once; what is
/// asked wrongly is a problem that says what to do, and a status at a glance warns. By a report and its whole way.
#[tokio::test]
async fn a_report() {
    let world = World::new("a.example");
    let nothing: Reports = read(world.local("GET", PATH, Value::Null).await).await;
    assert_eq!(nothing.reports, []);
    let alice = device(&world.node, "alice").await;
    let anna = device(&world.node, "anna").await;
    let report = Report {
        account: anna.account,
        address: "anna@a.example".parse().unwrap(),
        room: RoomId::from_bytes([7; 16]),
        reason: AbuseReason::Impersonation,
        note: "she says she is Bob".to_owned(),
        messages: vec![ReportedMessage {
            device: anna.device,
            accepted_ms: 5,
            message_sha256: Digest::of(b"x"),
            text: "I am Bob".to_owned(),
        }],
        tell: Telling::OwnOnly,
    };
    let submission = Submission {
        counter: 1,
        body: SubmissionBody::Report(report),
    };
    let results = submit(&world.node, alice, &[submission]).await.unwrap();
    assert!(matches!(results[0].outcome, Outcome::Accepted { .. }));

    let status: ServerStatus =
        read(world.local("GET", "/admin/v1/server", Value::Null).await).await;
    let warning = status
        .warnings
        .iter()
        .find(|text| text.contains("hsctl reports"));
    assert!(
        warning.is_some_and(|text| text.starts_with("1 report")),
        "{:?}",
        status.warnings
    );
    let open = format!("{PATH}?state=open&limit=1");
    let listed: Reports = read(world.local("GET", &open, Value::Null).await).await;
    let [summary] = <[ReportSummary; 1]>::try_from(listed.reports).unwrap();
    assert_eq!(summary.reporter, Some("alice".parse().unwrap()));
    assert_eq!((summary.state, summary.messages), (ReportState::Open, 1));
    assert_eq!(listed.next_before, Some(summary.report));

    let one = format!("{PATH}/{}", summary.report);
    let detail: ReportDetail = read(world.local("GET", &one, Value::Null).await).await;
    assert_eq!(detail.summary, summary);
    assert_eq!(detail.disclosed[0].text, "I am Bob");
    assert_eq!(
        detail.disclosed[0].message_sha256,
        Digest::of(b"x").to_string()
    );
    assert_eq!(
        detail.reporter_in_room,
        Some(false),
        "nobody is in that room"
    );
    assert_eq!(detail.told, Told::No);
    assert_eq!(
        world.told("report.read").await,
        [summary.report.to_string()]
    );

    let close = format!("{one}/close");
    let long = json!({"note": "x".repeat(2049)});
    let refused = world.local("POST", &close, long).await;
    problem(refused, 400, "malformed-request").await;
    let closed = world
        .local("POST", &close, json!({"note": "spoken to"}))
        .await;
    let closed: ReportSummary = read(closed).await;
    assert_eq!(closed.state, ReportState::Closed);
    let again = world.local("POST", &close, Value::Null).await;
    problem(again, 409, "conflict").await;
    let left: Reports = read(world.local("GET", &open, Value::Null).await).await;
    assert_eq!(left.reports, []);
    let detail: ReportDetail = read(world.local("GET", &one, Value::Null).await).await;
    assert_eq!(detail.closed.unwrap().note, "spoken to");

    let unknown = format!("{PATH}/{}", "0".repeat(32));
    problem(
        world.local("GET", &unknown, Value::Null).await,
        404,
        "not-found",
    )
    .await;
    problem(
        world
            .local("POST", &format!("{unknown}/close"), Value::Null)
            .await,
        404,
        "not-found",
    )
    .await;
    for wrong in ["?state=new", "?before=12", "?limit=x"] {
        let response = world
            .local("GET", &format!("{PATH}{wrong}"), Value::Null)
            .await;
        problem(response, 400, "malformed-request").await;
    }
}
