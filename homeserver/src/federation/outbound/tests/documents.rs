//! Documents that can't be taken, told before fingerprints are compared.

use crate::federation::peers;
use crate::federation::testing::{Side, admin, sides};

/// Goal: what can't be taken says so before fingerprints are compared: one's own offer, one for somebody else, one
/// that was accepted, an acceptance without an offer. Method: each is inspected, beside those that can be taken.
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
    let request = homeserver_api::admin::AcceptRequest {
        fingerprint: peers::inspect(&b.node, &offer).await.unwrap().fingerprint,
        document: offer.clone(),
        terms: None,
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    let acceptance = peers::accept(&b.node, &admin(), &request).await.unwrap();
    assert!(obstacle(&b, &offer).await.contains("accepted here already"));
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
