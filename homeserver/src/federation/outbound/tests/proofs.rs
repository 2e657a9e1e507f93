//! What is kept of an exchange.

use federation_proto::codec::Wire as _;
use federation_proto::exchange::ExchangeProof;

use super::*;
use crate::store::exchange::{self, Direction};

/// Goal: both sides keep proof of an exchange that convinces a stranger who has both manifests, a lost answer
/// notwithstanding; by sending with the answer lost once, and checking what each has kept.
#[tokio::test]
async fn both_sides_keep_proof() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    a.network.mute_from(paths::TRANSACTIONS);
    alice.say(&a, ROOM, b"proved", 3600).await;
    let mut to_b = worker(&a, &b);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    a.network.unmute();
    drain(&mut to_b).await;
    let kept = [
        exchange::all(&a.node.store, Direction::Outbound, &b.node.server).await,
        exchange::all(&b.node.store, Direction::Inbound, &a.node.server).await,
    ];
    for kept in kept {
        let mut proved = Vec::new();
        for record in kept.unwrap() {
            let proof = ExchangeProof::from_bytes(record.proof).unwrap();
            let (origin, destination) = (a.node.keys.manifest(), b.node.keys.manifest());
            let receipt = proof.verify(&origin, &destination).unwrap();
            proved.push(receipt.body().lanes[&Lane::from(ROOM)].sequence);
        }
        assert_eq!(proved.into_iter().max(), Some(2));
    }
    let other_way = Direction::Inbound;
    let none = exchange::all(&a.node.store, other_way, &b.node.server).await;
    assert_eq!(none.unwrap(), []);
}
