//! A peer that takes a request and says nothing, and whose agreement, key or certificate ends meanwhile: over mutual TLS.

use std::collections::HashMap;
use std::time::Duration;

use homeserver_api::admin::AmendRequest;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use super::bad_peers::To;
use super::*;
use crate::federation::outbound::{Network, run};
use crate::tls::PeerAnchor;

/// Longest time from the end of an agreement until nothing is left of it (PEER-023, PEER-032).
const CUT_TIME_MAX: Duration = Duration::from_secs(1);

/// Where a peer says nothing before it has proven who it is.
const HANDSHAKE: &str = "handshake";

/// Takes one connection, and says nothing until it ends.
async fn hold_silently(listener: TcpListener, heard: oneshot::Sender<()>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    heard.send(()).unwrap();
    // Cut, it ends in one way or the other.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Serves one connection as `node` would, but for requests to `silent_at`, which get no answer; tells of the
/// first of those.
async fn serve_silently(
    node: Arc<Node>,
    listener: TcpListener,
    silent_at: &'static str,
    heard: oneshot::Sender<()>,
) {
    let clock = Arc::clone(&node.clock);
    let config = tls::federation_listener(&node.keys, Arc::clone(&node.peer_roots), clock).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
    let peer = tls::authenticated(stream.get_ref().1).unwrap().peer;
    let router = inbound::router(node).layer(Extension(peer));
    let heard = Arc::new(std::sync::Mutex::new(Some(heard)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, heard) = (router.clone(), Arc::clone(&heard));
        async move {
            if request.uri().path() == silent_at {
                if let Some(heard) = heard.lock().unwrap().take() {
                    heard.send(()).unwrap();
                }
                return std::future::pending::<Result<Response<_>, _>>().await;
            }
            router.oneshot(request).await
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    // Cut, it ends with an error.
    let _ = connection.await;
}

/// The agreement is revoked while b says nothing at `silent_at`: the connection is cut, what waits is
/// dead-lettered and its sender told, all within [`CUT_TIME_MAX`].
async fn is_cut(silent_at: &'static str) {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    if silent_at == paths::AMENDMENT {
        let tighter = AmendRequest {
            label_max: Some(1),
            ..AmendRequest::default()
        };
        peers::amend(&a.node, &admin(), &b.node.server, &tighter)
            .await
            .unwrap();
    }
    let said = alice.say(&a, ROOM, b"waits", 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let (tell, heard) = oneshot::channel();
    let serving = match silent_at {
        HANDSHAKE => tokio::spawn(hold_silently(listener, tell)),
        _ => tokio::spawn(serve_silently(b.node.clone(), listener, silent_at, tell)),
    };
    let network: Arc<dyn Network> = Arc::new(To(
        endpoint,
        TlsNetwork::new(
            Arc::clone(&a.node.keys),
            Arc::clone(&a.node.peer_roots),
            Arc::clone(&a.node.clock),
            Arc::clone(&a.node.random),
            &a.node.config.discovery,
            Arc::clone(&a.node.links),
        ),
    ));
    let running = tokio::spawn(run(Arc::clone(&a.node), network));
    heard.await.unwrap();

    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let over = async {
        serving.await.unwrap();
        while waiting(&a, &b).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    let over = tokio::time::timeout(CUT_TIME_MAX, over).await;
    assert!(over.is_ok(), "{silent_at}: {} wait", waiting(&a, &b).await);
    assert!(returned(&alice, &a, 2, RefusalCode::AgreementRevoked).await);
    running.abort();
}

/// Goal: a peer that is silent when it is greeted keeps neither its connection nor our mail past the end of its
/// agreement (PEER-032); by one that never answers the probe.
#[tokio::test]
async fn revocation_cuts_a_greeting() {
    is_cut(paths::PROBE).await;
}

/// Goal: as [`revocation_cuts_a_greeting`], for a connection that is being opened; by a peer that never shakes hands.
#[tokio::test]
async fn revocation_cuts_a_handshake() {
    is_cut(HANDSHAKE).await;
}

/// Goal: as [`revocation_cuts_a_greeting`], for a document that is being brought; by an amendment.
#[tokio::test]
async fn revocation_cuts_a_document() {
    is_cut(paths::AMENDMENT).await;
}

/// Goal: as [`revocation_cuts_a_greeting`], for a transaction, when nothing else waits; by one message.
#[tokio::test]
async fn revocation_cuts_a_transaction() {
    is_cut(paths::TRANSACTIONS).await;
}

/// A request of a's is under way at b, which says nothing, when this happens to what a has pinned for b: the
/// connection is cut within [`CUT_TIME_MAX`], and the request with it.
async fn is_cut_when(happens: impl FnOnce(&Side, PeerAnchor) -> PeerAnchor) {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = [listener.local_addr().unwrap().to_string()];
    let (tell, heard) = oneshot::channel();
    let serving = serve_silently(b.node.clone(), listener, paths::PROBE, tell);
    let serving = tokio::spawn(serving);
    let network = TlsNetwork::new(
        Arc::clone(&a.node.keys),
        Arc::clone(&a.node.peer_roots),
        Arc::clone(&a.node.clock),
        Arc::clone(&a.node.random),
        &a.node.config.discovery,
        Arc::clone(&a.node.links),
    );
    let server = b.node.server.clone();
    let asking = tokio::spawn({
        let server = server.clone();
        async move {
            let request = Request::get(format!("https://{server}{}", paths::PROBE));
            let request = request.body(Bytes::new()).unwrap();
            let within = Duration::from_secs(30);
            let answer = network.send(&server, &endpoints, request, within).await;
            answer.map(|answer| answer.status())
        }
    });
    heard.await.unwrap();
    let anchor = a.node.peer_roots.get(&server).unwrap();
    let anchor = happens(&a, anchor);
    a.node.peer_roots.replace(HashMap::from([(server, anchor)]));
    let over = tokio::time::timeout(CUT_TIME_MAX, async {
        serving.await.unwrap();
        asking.await.unwrap()
    });
    let answer = over.await.expect("the connection is cut");
    assert!(answer.is_err(), "{answer:?}");
}

/// Goal: a request does not go on over a connection whose key the peer has revoked (NET-007); by one that is not
/// answered while the peer's newest manifest pins another.
#[tokio::test]
async fn an_unpinned_key_ends_what_is_under_way() {
    is_cut_when(|_, anchor| PeerAnchor {
        pins: vec![[9; 32]],
        ..anchor
    })
    .await;
}

/// Goal: as [`an_unpinned_key_ends_what_is_under_way`], for a certificate that expires meanwhile; by moving the clock.
#[tokio::test]
async fn an_expired_certificate_ends_what_is_under_way() {
    is_cut_when(|a, anchor| {
        a.clock.advance_ms(400 * 24 * 60 * 60 * 1000);
        anchor
    })
    .await;
}
