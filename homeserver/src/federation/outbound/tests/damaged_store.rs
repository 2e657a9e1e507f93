//! Records that do not decode, and tasks that end: what else there is to do is done nevertheless.

use std::sync::Mutex;
use std::time::Duration;

use federation_proto::ids::ServerName;
use futures_util::future::BoxFuture;
use http::Response;
use tokio::sync::Notify;

use super::*;
use crate::audit;
use crate::federation::outbound::{Network, RESPAWN_DELAY, ResponseBody, run};
use crate::http_client::ConnectionError;
use crate::store::Order;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Makes the first record of this family undecodable; its key.
async fn damage(side: &Side, from: &'static [u8], to: &'static [u8]) -> crate::store::Key {
    let records = side.node.store.range(from, to, 1, Order::Ascending);
    let (key, _) = records.await.unwrap().remove(0);
    let mut part = Part::default();
    part.put(key.clone(), Bytes::from_static(b"?"));
    side.node.store.commit(part).await.unwrap();
    key
}

async fn damage_told(side: &Side) -> Vec<String> {
    let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.into_iter();
    let told = entries.filter(|entry| entry.action == "store.damaged");
    told.map(|entry| entry.subject).collect()
}

/// Goal: a dead letter or a peer's record that does not decode keeps no round from what is due with others, and ends
/// nothing; it is audited once. Method: damage one of each, and let another peer's offer expire, in two rounds.
#[tokio::test]
async fn rounds_pass_over_damage() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    accepted(&a, &c, None).await;
    alice.say(&a, ROOM, b"given up", 3600).await;
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    damage(&a, b"Xe", b"Xf").await;
    // Of the two the first by name is b.
    let record = damage(&a, b"G", b"H").await;
    assert!(record.ends_with(b"b.example"), "{record:?}");
    // In memory, b's agreement is still as it was: its last day is met in the round too.
    a.clock.advance_ms(400 * DAY_MS);
    let mut noted = crate::federation::outbound::damage::Damage::default();
    for _ in 0..2 {
        crate::federation::outbound::round(&a.node, &mut noted)
            .await
            .unwrap();
    }
    let told = damage_told(&a).await;
    assert!(told.contains(&String::new()), "the dead letter: {told:?}");
    let distinct: std::collections::BTreeSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), told.len(), "{told:?}");
    let refreshed = a.node.peers.refresh(&a.node).await;
    assert!(matches!(refreshed, Err(StoreError::Corrupt { .. })));
    assert_eq!(a.node.peers.get(&b.node.server), None, "it is left out");
    let offer = a.node.peers.get(&c.node.server).unwrap();
    assert_eq!(offer.state, PeerState::Expired);
}

/// A network on which whoever sends to one server ends, and whoever sends to another waits; it tells who was cut.
struct Fatal {
    fatal: ServerName,
    met: Notify,
    cut: Mutex<Vec<ServerName>>,
    cuts: Notify,
}

impl Network for Fatal {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        _request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            if *server == self.fatal {
                self.met.notify_one();
                panic!("the test ends this task");
            }
            std::future::pending().await
        })
    }

    fn cut(&self, server: &ServerName) {
        self.cut.lock().unwrap().push(server.clone());
        self.cuts.notify_one();
    }
}

/// Goal: a task that has ended stays away for a while, and a cut does not wait for that. Method: the task of one peer
/// panics, and another's agreement is revoked at once, while its own task waits for an answer; the time until it is cut.
#[tokio::test]
async fn no_cut_waits_for_a_task_that_has_ended() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&a, &c).await;
    let network = Arc::new(Fatal {
        fatal: c.node.server.clone(),
        met: Notify::new(),
        cut: Mutex::default(),
        cuts: Notify::new(),
    });
    let running = tokio::spawn(run(Arc::clone(&a.node), network.clone()));
    network.met.notified().await;
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let soon = RESPAWN_DELAY - Duration::from_millis(100);
    let cut = tokio::time::timeout(soon, async {
        while !network.cut.lock().unwrap().contains(&b.node.server) {
            network.cuts.notified().await;
        }
    });
    assert!(cut.await.is_ok(), "it waited");
    running.abort();
}

/// Goal: mail that does not decode is given up and counts against nobody any more. Method: damage one of two messages that wait.
#[tokio::test]
async fn damaged_mail_is_counted_out() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    a.network.set_down(true);
    for text in [b"damaged", b"is fine"] {
        let said = alice.say(&a, ROOM, text, 3600).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    }
    damage(&a, b"O", b"P").await;
    a.network.set_down(false);
    let mut to_b = worker(&a, &b);
    to_b.mail();
    go_on(&mut to_b).await;
    assert_eq!(bob.heard(&b).await, 1);
    let sent = crate::store::tally::sent(alice.of.account);
    let left = crate::store::tally::get(&a.node.store, &sent).await;
    assert_eq!(left.unwrap().entries, 0);
}
