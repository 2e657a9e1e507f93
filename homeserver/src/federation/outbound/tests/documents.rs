//! Documents that can't be taken, told before fingerprints are compared, and those that were lost.

use homeserver_api::admin::{AcceptRequest, CountersignRequest, PeerState};

use crate::federation::peers::{self, PeeringError};
use crate::federation::testing::{Side, admin, sides};

/// Goal: what can't be taken says so before fingerprints are compared: one's own offer, one for somebody else,
/// an acceptance without an offer. Method: each is inspected, beside those that can be taken.
#[tokio::test]
async fn documents_that_cannot_be_taken() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let request = homeserver_api::admin::OfferRequest {
        server: b.node.server.clone(),
        terms: None,
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    let offer = peers::offer(&a.node, &admin(), &request).await.unwrap();
    let obstacle = async |at: &Side, document: &str| {
        let seen = peers::inspect(&at.node, document).await.unwrap();
        seen.obstacle.unwrap_or_default()
    };
    assert_eq!(obstacle(&b, &offer).await, "");
    assert!(obstacle(&a, &offer).await.contains("is your own"));
    assert!(obstacle(&c, &offer).await.contains("is for b.example"));
    let request = AcceptRequest {
        fingerprint: peers::inspect(&b.node, &offer).await.unwrap().fingerprint,
        document: offer.clone(),
        terms: None,
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    let acceptance = peers::accept(&b.node, &admin(), &request).await.unwrap();
    assert_eq!(obstacle(&a, &acceptance).await, "");
    peers::revoke(&a.node, &admin(), &b.node.server, "no more")
        .await
        .unwrap();
    assert!(
        obstacle(&a, &acceptance)
            .await
            .contains("no offer to b.example")
    );
}

/// Goal: an acceptance or a countersignature whose file was lost can be had again, the very same, and nothing else
/// comes of it: other terms, or another's fingerprint, are refused. Method: each command twice, and the first
/// acceptance countersigned at the end.
#[tokio::test]
async fn lost_documents_are_given_again() {
    let [a, b] = sides(["a.example", "b.example"]);
    let lines = async |at: &Side, document: &str| {
        let seen = peers::inspect(&at.node, document).await.unwrap();
        assert_eq!(seen.obstacle, None);
        (seen.lines.join("\n"), seen.fingerprint)
    };
    let request = homeserver_api::admin::OfferRequest {
        server: b.node.server.clone(),
        terms: None,
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    let offer = peers::offer(&a.node, &admin(), &request).await.unwrap();
    let mut accept = AcceptRequest {
        fingerprint: lines(&b, &offer).await.1,
        document: offer.clone(),
        terms: None,
        endpoints: vec!["192.0.2.2:8448".to_owned()],
        contact: String::new(),
    };
    let acceptance = peers::accept(&b.node, &admin(), &accept).await.unwrap();
    b.clock.advance_ms(5 * 60 * 1000);
    let (said, _) = lines(&b, &offer).await;
    assert!(said.contains("accepted here already"), "{said}");
    let again = peers::accept(&b.node, &admin(), &accept).await.unwrap();
    assert_eq!(again, acceptance);
    accept.contact = "somebody else".to_owned();
    let error = peers::accept(&b.node, &admin(), &accept).await;
    assert!(matches!(error, Err(PeeringError::State(_))), "{error:?}");

    let mut countersign = CountersignRequest {
        fingerprint: lines(&a, &acceptance).await.1,
        document: acceptance.clone(),
    };
    let first = peers::countersign(&a.node, &admin(), &countersign).await;
    a.clock.advance_ms(5 * 60 * 1000);
    let (said, theirs) = lines(&a, &acceptance).await;
    assert!(said.contains("countersigned already"), "{said}");
    let second = peers::countersign(&a.node, &admin(), &countersign).await;
    assert_eq!(first.unwrap(), *second.as_ref().unwrap());
    countersign.fingerprint = lines(&b, &offer).await.1;
    assert_ne!(countersign.fingerprint, theirs);
    let error = peers::countersign(&a.node, &admin(), &countersign).await;
    assert!(matches!(error, Err(PeeringError::State(_))), "{error:?}");

    peers::take(&b.node, &admin(), &second.unwrap())
        .await
        .unwrap();
    for (at, of) in [(&a, &b), (&b, &a)] {
        let view = at.node.peers.get(&of.node.server).unwrap();
        assert_eq!(view.state, PeerState::Active);
    }
    accept.contact = String::new();
    let error = peers::accept(&b.node, &admin(), &accept).await;
    assert!(matches!(error, Err(PeeringError::State(_))), "{error:?}");
}
