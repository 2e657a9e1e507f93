//! How soon a running homeserver takes up what is due, and an issuing CA that waits in its folder.

use std::collections::HashMap;

use rustls_pki_types::CertificateDer;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::*;
use crate::audit::Actor;
use crate::node::testing;
use crate::organisation::{Keeper, issuing, pem};
use crate::tls::PeerAnchor;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How often the homeserver looks.
const LOOK: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1);

/// `at` takes connections of `of`, under its root and its keys of this moment.
fn know(at: &Node, of: &Node) {
    let anchor = PeerAnchor {
        roots: vec![of.keys.root().clone()],
        pins: of.keys.tls_pins().to_vec(),
    };
    let anchors = HashMap::from([(of.server.clone(), anchor)]);
    at.peer_roots.replace(anchors);
}

/// The chain that `a` shows to `b`.
async fn shown(tls: &ListenerTls, a: &Node, b: &Node) -> Vec<CertificateDer<'static>> {
    know(b, a);
    let client = tls::federation_client(
        &b.keys,
        &a.server,
        Arc::clone(&b.peer_roots),
        Arc::clone(&a.clock),
    );
    let (here, there) = tokio::io::duplex(64 * 1024);
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let (accepted, called) = tokio::join!(
        TlsAcceptor::from(tls.federation.load_full()).accept(there),
        TlsConnector::from(client.unwrap()).connect(name, here)
    );
    accepted.unwrap();
    let called = called.unwrap();
    called.get_ref().1.peer_certificates().unwrap().to_vec()
}

/// Goal: partners are shown a renewed certificate, and one of a new issuing CA, at the next of the looks that come a
/// minute after each other, and the key that takes over by hand at once; a former key's pin stays listed for a day
/// and goes with the next look. Method: virtual time, around each moment; a partner who connects.
#[tokio::test(start_paused = true)]
async fn keys_are_taken_up_within_a_minute() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys");
    let (mut node, clock, root_key) = testing::founded("a.example");
    let folder = KeyFolder::at(&path);
    folder.create(&node.keys).unwrap();
    node.keeper = Keeper::new(Arc::clone(&node.keys), KeyFolder::at(&path));
    let (a, (b, _)) = (Arc::new(node), testing::node("b.example"));
    know(&a, &b);
    let tls = Arc::new(ListenerTls::new(&a).unwrap());
    tokio::spawn(tasks::renewals(Arc::clone(&a), Arc::clone(&tls)));
    sleep(MOMENT).await;
    let first = shown(&tls, &a, &b).await;

    clock.advance_ms(61 * DAY_MS);
    sleep(LOOK - 2 * MOMENT).await;
    assert_eq!(shown(&tls, &a, &b).await, first, "not before the next look");
    sleep(2 * MOMENT).await;
    let renewed = shown(&tls, &a, &b).await;
    assert_ne!(renewed[0], first[0]);
    assert_eq!(renewed[1], first[1], "the issuing CA");

    let [_, backup] = a.keys.tls_pins();
    let rotate = Act::Asked(Asked::RotateTls { replaces: None });
    let (store, random, now_ms) = (&a.store, a.random.as_ref(), a.clock.now_ms());
    let rotated = a.keeper.act(store, &Actor::System, &rotate, now_ms, random);
    assert!(rotated.await.unwrap());
    sleep(MOMENT).await;
    let rotated = shown(&tls, &a, &b).await;
    assert_eq!(tls::of_leaf(&rotated[0]).unwrap().pin, backup, "at once");
    let listed = || a.keys.manifest().body().tls_pins.len();
    assert_eq!(listed(), 3);
    for (passes_ms, remain) in [(DAY_MS - 1, 3), (1, 2)] {
        clock.advance_ms(passes_ms);
        sleep(LOOK).await;
        assert_eq!(listed(), remain);
    }

    let root = pem::encode("CERTIFICATE", a.keys.root());
    let request = folder.request_issuing(&a.server).unwrap();
    let now_ms = a.clock.now_ms();
    let answer = issuing::sign(&request, &root, &root_key, now_ms, random).unwrap();
    folder.install_issuing(&answer, now_ms).unwrap();
    sleep(LOOK / 2).await;
    assert_eq!(
        shown(&tls, &a, &b).await,
        rotated,
        "not before the next look"
    );
    sleep(LOOK / 2).await;
    let reissued = shown(&tls, &a, &b).await;
    assert_ne!(reissued[1], rotated[1]);
    let pin = |chain: &[CertificateDer<'_>]| tls::of_leaf(&chain[0]).unwrap().pin;
    assert_eq!(pin(&reissued), pin(&rotated), "for the same key");
}
