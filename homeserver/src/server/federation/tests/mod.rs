//! TLS keys that change while peers talk, over real sockets.

mod consortium;
mod endings;
mod farewells;
mod renewal;
mod roots;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use federation_proto::limits::PADDED_BYTES_MIN;
use homeserver_api::problem::Problem;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;

use super::*;
use crate::federation::outbound::{Network, TlsNetwork};
use crate::federation::testing::{Side, admin, peered, sides};
use crate::federation::{paths, peers};
use crate::http_client::ConnectionError;
use crate::organisation::{Act, Asked, KeyFolder, Keys};
use crate::server::health::Health;
use crate::server::{connections, tasks};

/// Serves `side`'s federation API; where.
async fn serving(side: &Side) -> String {
    let node = Arc::clone(&side.node);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let tls = Arc::new(ListenerTls::new(&node).unwrap());
    let figures = Health::new(&node).federation.clone();
    let (ending, _) = connections::ending();
    tokio::spawn(serve(
        Arc::clone(&node),
        listener,
        tls.clone(),
        figures,
        ending,
    ));
    tokio::spawn(tasks::renewals(node, tls));
    endpoint
}

/// The network of whoever holds `keys` and knows what `side` knows.
fn network(keys: &Arc<Keys>, side: &Side) -> Arc<TlsNetwork> {
    let node = &side.node;
    Arc::new(TlsNetwork::new(
        Arc::clone(keys),
        Arc::clone(&node.peer_roots),
        Arc::clone(&node.clock),
        Arc::clone(&node.random),
        &node.config.discovery,
        Arc::clone(&node.links),
    ))
}

async fn ask(
    network: &TlsNetwork,
    server: &ServerName,
    endpoint: &str,
) -> Result<StatusCode, ConnectionError> {
    let request = Request::builder()
        .uri(format!("https://{server}{}", paths::MANIFEST))
        .body(Bytes::new())
        .unwrap();
    let within = Duration::from_secs(30);
    let endpoints = [endpoint.to_owned()];
    let answer = network.send(server, &endpoints, request, within).await;
    answer.map(|answer| answer.status())
}

async fn change(side: &Side, asked: Asked) {
    let (store, random) = (&side.node.store, side.node.random.as_ref());
    let act = Act::Asked(asked);
    let keeper = &side.node.keeper;
    let done = keeper
        .act(store, &admin(), &act, side.node.clock.now_ms(), random)
        .await;
    assert!(done.unwrap());
}

/// `at` learns the keys of `of`.
async fn learn(at: &Side, of: &Side) {
    let newest = of.node.keys.manifest().bytes().clone();
    peers::take_manifest(&at.node, &of.node.server, newest)
        .await
        .unwrap();
}

/// Goal: no request fails while the TLS keys of both sides change, whether the other side has heard of the
/// change or knows the backup's pin alone; by three talkers and 24 changes by hand.
#[tokio::test]
async fn tls_keys_rotate_while_peers_talk() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let endpoint = serving(&b).await;
    let towards_b = network(&a.node.keys, &a);
    let (answered, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let talkers: Vec<_> = (0..3)
        .map(|_| {
            let (network, server) = (Arc::clone(&towards_b), b.node.server.clone());
            let (endpoint, answered) = (endpoint.clone(), Arc::clone(&answered));
            let (over, clock) = (Arc::clone(&over), Arc::clone(&b.clock));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let status = ask(&network, &server, &endpoint).await.unwrap();
                    assert_eq!(status, StatusCode::OK);
                    // More than the rate of one peer, in no time.
                    clock.advance_ms(100);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for n in 0..24 {
        let (changes, other) = if n % 2 == 0 { (&b, &a) } else { (&a, &b) };
        change(changes, Asked::RotateTls { replaces: None }).await;
        for told in [false, true] {
            if told {
                learn(other, changes).await;
            }
            let before = answered.load(Ordering::SeqCst);
            while answered.load(Ordering::SeqCst) < before + 10 {
                assert!(
                    talkers.iter().all(|talker| !talker.is_finished()),
                    "a request failed"
                );
                tokio::task::yield_now().await;
            }
        }
    }
    over.store(true, Ordering::SeqCst);
    for talker in talkers {
        talker.await.unwrap();
    }
}

/// Goal, the drill for stolen TLS keys (docs/security/compromise-drill.md): whoever has a copy of the keys
/// passes for the organisation until they are revoked, one after the other; from then on neither his open
/// connection nor a new one is let in, with the one key or the other, and the organisation itself is let in
/// all the time. By a thief with a copy of b's folder who calls a.
#[tokio::test]
async fn drill_tls_keys() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let endpoint = serving(&a).await;
    let place = tempfile::tempdir().unwrap();
    let folder = KeyFolder::at(place.path().join("keys"));
    folder.create(&b.node.keys).unwrap();
    let (now_ms, random) = (b.node.clock.now_ms(), b.node.random.as_ref());
    let stolen = Arc::new(folder.load(&b.node.server, now_ms, random).unwrap());
    let (thief, own) = (network(&stolen, &b), network(&b.node.keys, &b));
    let server = &a.node.server;
    assert_eq!(
        ask(&thief, server, &endpoint).await.unwrap(),
        StatusCode::OK
    );
    assert_eq!(ask(&own, server, &endpoint).await.unwrap(), StatusCode::OK);

    let [first, second] = stolen.tls_pins();
    change(&b, Asked::RevokeTls { pin: first }).await;
    assert_eq!(
        ask(&own, server, &endpoint).await.unwrap(),
        StatusCode::OK,
        "by the backup"
    );
    learn(&a, &b).await;
    assert!(ask(&thief, server, &endpoint).await.is_err());
    assert_eq!(ask(&own, server, &endpoint).await.unwrap(), StatusCode::OK);

    // He has the other key too.
    let rotate = Asked::RotateTls { replaces: None };
    let his = stolen.asked(&rotate, now_ms, random).unwrap().unwrap();
    stolen.take(&his);
    assert_eq!(
        ask(&thief, server, &endpoint).await.unwrap(),
        StatusCode::OK
    );
    change(&b, Asked::RevokeTls { pin: second }).await;
    learn(&a, &b).await;
    assert!(ask(&thief, server, &endpoint).await.is_err());
    assert_eq!(ask(&own, server, &endpoint).await.unwrap(), StatusCode::OK);
}

/// Goal: a peer's request whose head is over the bounds is refused with a problem, padded as any short answer, and one
/// within them is answered; by headers of both sizes, over HTTP/2.
#[tokio::test]
async fn peers_heads_have_bounds() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let endpoints = [serving(&b).await];
    let (network, server) = (network(&a.node.keys, &a), &b.node.server);
    for (bytes, status) in [
        (15_000, StatusCode::OK),
        (20_000, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    ] {
        let request = Request::builder()
            .uri(format!("https://{server}{}", paths::MANIFEST))
            .header("long", "x".repeat(bytes))
            .body(Bytes::new())
            .unwrap();
        let within = Duration::from_secs(30);
        let answer = network.send(server, &endpoints, request, within).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status);
        if status != StatusCode::OK {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), PADDED_BYTES_MIN);
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.code(), "head-too-large");
        }
    }
}
