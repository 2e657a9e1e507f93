//! What the other side's people are told when something is refused here.

use homeserver_api::admin::ChangeUserRequest;
use homeserver_api::policy::{ExternalScope, UserTypePolicy};

use super::*;
use crate::audit;
use crate::identity::{accounts, user_types};

/// Goal: a message that the recipient's user type bars returns with words for its sender, that name no user type of
/// the other organisation, and that organisation's audit log has the type. Method: bob becomes `internal` after the
/// room was made.
#[tokio::test]
async fn user_types_stay_at_home() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _bob) = acquainted(&a, &b).await;
    let policy = UserTypePolicy {
        external: ExternalScope::None,
        ..UserTypePolicy::default()
    };
    user_types::put(&b.node, &admin(), "internal", policy)
        .await
        .unwrap();
    let request = ChangeUserRequest {
        user_type: Some("internal".to_owned()),
        ..ChangeUserRequest::default()
    };
    accounts::change(&b.node, &admin(), &"bob".parse().unwrap(), &request)
        .await
        .unwrap();
    alice.say(&a, ROOM, b"not for you", 3600).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);

    let inbox = alice.inbox(&a).await;
    let told = inbox.iter().find_map(|body| match body {
        InboxBody::Returned { refusal, .. } => Some(refusal),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.code, RefusalCode::ExternalScope);
    assert_eq!(
        told.reason,
        r#"b.example says: "the recipient may not communicate with your organisation""#
    );
    let log = audit::page(&b.node.store, b.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let mut entries = log.entries.iter();
    let refused = entries.find(|entry| entry.action == "envelope.refused");
    let detail = &refused.unwrap().detail;
    assert!(detail.contains("`internal`"), "{detail}");
}
