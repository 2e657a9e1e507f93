//! The real network between two homeservers.

use super::*;
use crate::http_client::ConnectionError;

/// Goal: over real sockets and mutual TLS a peer gets through and a stranger fails in the handshake;
/// by one listener of b, called by a and by c.
#[tokio::test]
async fn over_mutual_tls() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    // The ceremony names the endpoint, so the listener comes first.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    peered(&a, &b).await;
    let serving = tokio::spawn(serve(Arc::clone(&b.node), listener));
    let probe = |side: &Side| {
        let network = TlsNetwork::new(
            Arc::clone(&side.node.keys),
            Arc::clone(&side.node.peer_roots),
            Arc::clone(&side.node.clock),
            Arc::clone(&side.node.random),
            &side.node.config.discovery,
            Arc::clone(&side.node.links),
        );
        let (server, endpoint) = (b.node.server.clone(), endpoint.clone());
        async move {
            let request = Request::builder()
                .uri(format!("https://{server}{}", paths::PROBE))
                .body(Bytes::new())
                .unwrap();
            let within = std::time::Duration::from_secs(30);
            let response = network.send(&server, &[endpoint], request, within).await;
            response.map(|response| response.status())
        }
    };
    assert_eq!(probe(&a).await.unwrap(), StatusCode::OK);
    let found = a.node.links.status(&b.node.server).found.unwrap();
    assert_eq!(found, "the agreement's endpoints; the DNS was not asked");
    // c knows b, so that it is b who refuses.
    let anchor = a.node.peer_roots.get(&b.node.server).unwrap();
    let anchors = [(b.node.server.clone(), anchor)];
    c.node.peer_roots.replace(anchors.into_iter().collect());
    let error = probe(&c).await.unwrap_err();
    assert!(matches!(error, ConnectionError::TurnedAway), "{error:?}");
    serving.abort();
}
