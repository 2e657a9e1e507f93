//! Which consents have to wait while a root is changed, and for what.

use homeserver_api::admin::{AmendRequest, ConsentRequest};
use homeserver_api::keys::PartnerRootStanding;

use super::keys::learn_issuing_ca;
use super::roots::{HOUR_MS, announce, consent, prepare, standing};
use super::*;
use crate::audit;
use crate::federation::peers::root;

async fn consented(at: &Side) -> usize {
    let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.iter();
    entries
        .filter(|entry| entry.action == "peer.consented-by-partner")
        .count()
}

/// Goal: while what was signed under the former root is on its way, a consent to the new root waits for that, and a
/// consent to anything else does not. By a declaration that can't be delivered, and one consent of either kind.
#[tokio::test]
async fn only_consents_to_the_new_root_wait() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let wider = AmendRequest {
        file_bytes_max: Some(1 << 40),
        ..AmendRequest::default()
    };
    peers::amend(&a.node, &admin(), &b.node.server, &wider)
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    a.network.set_down(true);
    for side in [&a, &b] {
        side.clock.advance_ms(HOUR_MS);
    }
    let fingerprint = prepare(&a);
    peers::suspend(&a.node, &admin(), &b.node.server, "drill")
        .await
        .unwrap();
    peers::resume(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    let waits = || a.node.peers.get(&b.node.server).unwrap().outgoing.len();
    assert_eq!(waits(), 1);
    let detail = peers::detail(&b.node, &a.node.server).await.unwrap();
    let request = ConsentRequest {
        amendment: detail.proposal.unwrap().amendment,
        fingerprint: None,
    };
    peers::consent(&b.node, &admin(), &a.node.server, &request)
        .await
        .unwrap();
    drain(&mut worker(&b, &a)).await;
    assert_eq!((consented(&a).await, waits()), (1, 1), "it is no new root");

    announce(&a).await;
    let announced = root::status(&a.node).partners[0].amendment.clone();
    learn_issuing_ca(&b, &a).await;
    peers::take(&b.node, &admin(), &announced.unwrap())
        .await
        .unwrap();
    consent(&b, &a, &fingerprint).await.unwrap();
    drain(&mut worker(&b, &a)).await;
    let kept = b.node.peers.get(&a.node.server).unwrap().outgoing.len();
    assert_eq!(kept, 1, "it comes again");
    assert_eq!(standing(&a, &b), PartnerRootStanding::Announced);
    a.network.set_down(false);
    drain(&mut worker(&a, &b)).await;
    assert_eq!(waits(), 0);
    drain(&mut worker(&b, &a)).await;
    assert_eq!(standing(&a, &b), PartnerRootStanding::Consented);
    assert_eq!(consented(&a).await, 2);
}
