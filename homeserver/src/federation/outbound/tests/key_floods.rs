//! A peer that changes its keys without end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use federation_proto::ids::ServerName;
use futures_util::future::BoxFuture;
use http::Response;

use super::keys::{pass, rotate, serial_known};
use super::*;
use crate::audit;
use crate::federation::outbound::{
    MANIFEST_EVERY_MS, MANIFESTS_AT_ONCE_MAX, Network, ResponseBody, run,
};
use crate::federation::testing::LocalNetwork;
use crate::http_client::ConnectionError;

/// A way to a peer that has new keys for each receipt, which no manifest of before lists.
struct NewKeys {
    network: Arc<LocalNetwork>,
    peer: Arc<Side>,
    over: AtomicBool,
    asked: AtomicU64,
}

impl Network for NewKeys {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let path = request.uri().path();
            if path == paths::MANIFEST {
                self.asked.fetch_add(1, Ordering::SeqCst);
            }
            if path == paths::TRANSACTIONS && !self.over.load(Ordering::SeqCst) {
                // Two, for the next one is known beforehand.
                rotate(&self.peer).await;
                rotate(&self.peer).await;
            }
            self.network.request(server, request).await
        })
    }

    fn cut(&self, _server: &ServerName) {}
}

async fn keys_changed(at: &Side) -> usize {
    let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.iter();
    entries
        .filter(|entry| entry.action == "peer.keys-changed")
        .count()
}

/// Goal: a peer that has other keys for every receipt brings about no more than so many acts at once and one in five
/// minutes afterwards, is asked twice a minute then, and when it comes to rest nothing of what was sent to it is
/// lost or shown twice. By mail in each of twenty minutes, under virtual time.
#[tokio::test(start_paused = true)]
async fn changed_keys_are_a_flood() {
    const MINUTES: u64 = 20;
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let b = Arc::new(b);
    let network = Arc::new(NewKeys {
        network: Arc::clone(&a.network),
        peer: Arc::clone(&b),
        over: AtomicBool::new(false),
        asked: AtomicU64::new(0),
    });
    let running = [
        tokio::spawn(run(Arc::clone(&a.node), network.clone())),
        tokio::spawn(run(Arc::clone(&b.node), b.network.clone())),
    ];
    let both = [&a, &*b];
    let (mut sent, mut seconds) = (0, 0);
    while seconds < MINUTES * 60 {
        if seconds % 2 == 0 {
            let said = alice.say(&a, ROOM, b"again", 24 * 3600).await;
            assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
            sent += 1;
        }
        // The store works in a thread of its own, for which virtual time does not wait.
        for _ in 0..20 {
            pass(&both, 50).await;
            tokio::task::yield_now().await;
        }
        seconds += 1;
    }
    let at_once = usize::try_from(MANIFESTS_AT_ONCE_MAX).unwrap();
    let most = at_once + usize::try_from(MINUTES * 60_000 / MANIFEST_EVERY_MS).unwrap() + 1;
    let changed = keys_changed(&a).await;
    assert!((at_once..=most).contains(&changed), "{changed}");
    // Once they are used up, it is asked twice a minute.
    let most = u64::try_from(most).unwrap() + 2 * MINUTES;
    assert!(network.asked.load(Ordering::SeqCst) <= most);
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let told = log.entries.iter();
    let mut told = told.filter(|entry| entry.detail.contains("changes its keys often"));
    assert!(told.next().is_some(), "a's administrator sees it");

    network.over.store(true, Ordering::SeqCst);
    for side in both {
        side.clock.advance_ms(MANIFEST_EVERY_MS);
    }
    // As long as a lane is put off at the most.
    for _ in 0..20 * 60 {
        let known = serial_known(&a, &b) == b.node.keys.manifest().serial();
        if known && waiting(&a, &b).await == 0 {
            break;
        }
        pass(&both, 1_000).await;
    }
    assert_eq!(waiting(&a, &b).await, 0);
    assert_eq!(bob.heard(&b).await, sent);
    for task in running {
        task.abort();
    }
}
