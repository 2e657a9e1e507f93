//! Former peers are told, over the real network, that the agreement has ended.

use futures_util::future::BoxFuture;
use homeserver_api::admin::PeerState;
use http::Response;

use super::*;
use crate::federation::outbound::{self, ResponseBody};
use crate::federation::testing::{accepted, countersigned};

/// Longest that a test waits for what another task does.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The real network, to one address.
struct To(String, Arc<TlsNetwork>);

impl Network for To {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let endpoints = [self.0.clone()];
            self.1.send(server, &endpoints, request, within).await
        })
    }

    fn cut(&self, server: &ServerName) {
        self.1.cut(server);
    }
}

/// The real network, to an address that changes.
struct Moving(Arc<std::sync::Mutex<String>>, Arc<TlsNetwork>);

impl Network for Moving {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let endpoints = [self.0.lock().unwrap().clone()];
            self.1.send(server, &endpoints, request, within).await
        })
    }

    fn cut(&self, server: &ServerName) {
        self.1.cut(server);
    }
}

/// Waits until `at` sees `of` so.
async fn until(at: &Side, of: &Side, holds: impl Fn(&peers::PeerView) -> bool) {
    let mut hints = at.node.hints();
    let seen = async {
        while !holds(&at.node.peers.get(&of.node.server).unwrap()) {
            hints.recv().await.unwrap();
        }
    };
    tokio::time::timeout(WAIT_MAX, seen).await.unwrap();
}

async fn revoked(at: &Side, of: &Side) {
    peers::revoke(&at.node, &admin(), &of.node.server, "over")
        .await
        .unwrap();
}

/// Goal: a revocation reaches the other side over the real network, on a link that was up, and is told once.
/// Method: both run, a has talked to b, a revokes.
#[tokio::test]
async fn a_revocation_is_told() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let endpoint = serving(&b).await;
    let network = network(&a.node.keys, &a);
    let towards_b: Arc<dyn Network> = Arc::new(To(endpoint.clone(), Arc::clone(&network)));
    let running = tokio::spawn(outbound::run(Arc::clone(&a.node), towards_b));
    let status = ask(&network, &b.node.server, &endpoint).await.unwrap();
    assert_eq!(status, StatusCode::OK);

    revoked(&a, &b).await;
    until(&b, &a, |peer| peer.agreed == Some(PeerState::Revoked)).await;
    until(&a, &b, |peer| peer.outgoing.is_empty()).await;
    assert_eq!(a.node.peer_roots.get_to_call(&b.node.server), None);
    assert!(ask(&network, &b.node.server, &endpoint).await.is_err());
    running.abort();
}

/// Goal: a former peer that was away for days, and is called seldom by then, is told at once when it calls. Method: a
/// calls where nobody is, then b comes and calls a, who turns it away.
#[tokio::test]
async fn a_former_peer_that_calls_is_told() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (of_a, of_b) = (serving(&a).await, serving(&b).await);
    let nowhere = Arc::new(std::sync::Mutex::new("127.0.0.1:1".to_owned()));
    let towards_b: Arc<dyn Network> =
        Arc::new(Moving(Arc::clone(&nowhere), network(&a.node.keys, &a)));
    revoked(&a, &b).await;
    a.clock.advance_ms(2 * 24 * 60 * 60 * 1000);
    b.clock.advance_ms(2 * 24 * 60 * 60 * 1000);
    let running = tokio::spawn(outbound::run(Arc::clone(&a.node), towards_b));
    let is_away = async {
        while a
            .node
            .links
            .status(&b.node.server)
            .reachable
            .is_none_or(|last| last.is_ok())
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, is_away).await.unwrap();
    *nowhere.lock().unwrap() = of_b;
    // The first call may come before a has noted that b is away.
    let calls = network(&b.node.keys, &b);
    let is_told = async {
        while b.node.peers.get(&a.node.server).unwrap().agreed != Some(PeerState::Revoked) {
            assert!(ask(&calls, &a.node.server, &of_a).await.is_err());
        }
    };
    tokio::time::timeout(WAIT_MAX, is_told).await.unwrap();
    running.abort();
}

/// Goal: an offer that is made, and accepted, before the revocation is told keeps it from nobody, and becomes an
/// agreement afterwards. Method: a starts to talk only after it has revoked and offered.
#[tokio::test]
async fn a_revocation_is_told_before_a_new_agreement() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    revoked(&a, &b).await;
    let acceptance = accepted(&a, &b, None).await;
    let endpoint = serving(&b).await;
    let network: Arc<dyn Network> = Arc::new(To(endpoint, network(&a.node.keys, &a)));
    let running = tokio::spawn(outbound::run(Arc::clone(&a.node), network));
    until(&b, &a, |peer| peer.agreed == Some(PeerState::Revoked)).await;
    until(&a, &b, |peer| peer.outgoing.is_empty()).await;

    countersigned(&a, acceptance).await;
    until(&b, &a, |peer| peer.agreed == Some(PeerState::Active)).await;
    running.abort();
}
