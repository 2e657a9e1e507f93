//! Mail between members of a consortium who never met in a ceremony.

use homeserver_api::consortium::{
    CharterRequest, IntroductionRequest, MergeRequest, SignCharterRequest,
};

use super::*;
use crate::federation::peers::consortium;

/// Goal: members of a consortium exchange mail both ways, and the first pair's pause is not the others'; by
/// three nodes that sign one charter, and messages over their links.
#[tokio::test]
async fn members_exchange_mail() {
    let all = sides(["a.example", "b.example", "c.example"]);
    let endpoints = vec!["192.0.2.1:8448".to_owned()];
    let introduced = all[1..].iter().map(|side| {
        let request = IntroductionRequest {
            endpoints: endpoints.clone(),
            contact: String::new(),
        };
        consortium::introduce(&side.node, &request).unwrap()
    });
    let request = CharterRequest {
        name: Some("Relief Network".to_owned()),
        introductions: introduced.collect(),
        endpoints: endpoints.clone(),
        ..CharterRequest::default()
    };
    let charter = consortium::charter(&all[0].node, &request).unwrap();
    let mut documents = Vec::new();
    for side in &all {
        let request = SignCharterRequest {
            document: charter.clone(),
            fingerprint: consortium::inspect(&side.node, &charter)
                .await
                .unwrap()
                .fingerprint,
        };
        documents.push(
            consortium::sign(&side.node, &admin(), &request)
                .await
                .unwrap(),
        );
    }
    let merged = consortium::merge(&all[0].node, &MergeRequest { documents })
        .await
        .unwrap();
    for side in &all {
        consortium::join(&side.node, &admin(), &merged)
            .await
            .unwrap();
    }
    let [a, b, c] = &all;
    let mut alice = person(a, "alice").await;
    let mut bob = person(b, "bob").await;
    let carol = person(c, "carol").await;
    let created = alice.create_room(a, ROOM, &[&bob, &carol]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    for to in [b, c] {
        assert_eq!(drain(&mut worker(a, to)).await, Step::Idle);
    }
    alice.say(a, ROOM, b"to all", 3600).await;
    for to in [b, c] {
        assert_eq!(drain(&mut worker(a, to)).await, Step::Idle);
    }
    assert_eq!((bob.heard(b).await, carol.heard(c).await), (1, 1));
    let said = bob.say(b, ROOM, b"back", 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    assert_eq!(drain(&mut worker(b, a)).await, Step::Idle);
    assert_eq!(alice.heard(a).await, 1);
    assert_eq!(drain(&mut worker(a, c)).await, Step::Idle);

    peers::suspend(&c.node, &admin(), &a.node.server, "drill")
        .await
        .unwrap();
    let said = alice.say(a, ROOM, b"again", 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    assert_eq!(drain(&mut worker(a, b)).await, Step::Idle);
    drain(&mut worker(a, c)).await;
    assert_eq!(bob.heard(b).await, 2);
    assert_eq!((carol.heard(c).await, waiting(a, c).await), (2, 1));
}
