//! How soon a running homeserver takes up what is due, and an issuing CA that waits in its folder.

use std::collections::HashMap;
use std::sync::mpsc;

use rustls_pki_types::CertificateDer;
use tokio::task::JoinHandle;
use tokio::time::advance;
use tokio_rustls::TlsConnector;

use super::*;
use crate::audit::Actor;
use crate::node::testing;
use crate::organisation::{Keeper, issuing, pem};
use crate::tls::PeerAnchor;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const MINUTE: Duration = Duration::from_secs(60);
/// How long the machine may take for what takes no virtual time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Certificates, the leaf first.
type Chain = Vec<CertificateDer<'static>>;

/// `at` takes connections of `of`, under its root and the keys that its manifest lists at this moment.
fn know(at: &Node, of: &Node) {
    let manifest = of.keys.manifest();
    let pins = manifest.body().tls_pins.iter();
    let anchor = PeerAnchor {
        roots: vec![of.keys.root().clone()],
        pins: pins.map(|pin| *pin.as_bytes()).collect(),
    };
    let anchors = HashMap::from([(of.server.clone(), anchor)]);
    at.peer_roots.replace(anchors);
}

fn acceptor(tls: &ListenerTls) -> Arc<rustls::ServerConfig> {
    Arc::clone(&tls.federation.borrow().tls)
}

/// The chain that `a` shows to `b`.
async fn shown(tls: &ListenerTls, a: &Node, b: &Node) -> Chain {
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
        TlsAcceptor::from(acceptor(tls)).accept(there),
        TlsConnector::from(client.unwrap()).connect(name, here)
    );
    accepted.unwrap();
    let called = called.unwrap();
    called.get_ref().1.peer_certificates().unwrap().to_vec()
}

/// Virtual time that moves when it is told to, and not while threads of the machine are at work: for so long at most.
struct Held {
    at_work: JoinHandle<()>,
    _release: mpsc::Sender<()>,
}

impl Held {
    fn new() -> Self {
        let (release, held) = mpsc::channel::<()>();
        Self {
            at_work: tokio::task::spawn_blocking(move || {
                let _ = held.recv_timeout(PATIENCE);
            }),
            _release: release,
        }
    }

    /// What `a` shows to `b` once it is right.
    async fn until_shown(
        &self,
        (tls, a, b): (&ListenerTls, &Node, &Node),
        is_right: impl Fn(&Chain) -> bool,
    ) -> Chain {
        loop {
            let chain = shown(tls, a, b).await;
            if is_right(&chain) {
                return chain;
            }
            assert!(!self.at_work.is_finished(), "it was not taken up");
            tokio::task::yield_now().await;
        }
    }
}

/// Goal: partners are shown a renewed certificate, and one of a new issuing CA, within a minute; the key that takes over
/// by hand at once; a former key's pin is listed for a day, and no longer than a minute more. Method: virtual time; a
/// partner who connects.
#[tokio::test(start_paused = true)]
async fn keys_are_taken_up_within_a_minute() {
    let held = Held::new();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys");
    let (mut node, clock, root_key) = testing::founded("a.example");
    let folder = KeyFolder::at(&path);
    folder.create(&node.keys).unwrap();
    node.keeper = Keeper::new(Arc::clone(&node.keys), KeyFolder::at(&path));
    let (a, (b, _)) = (Arc::new(node), testing::node("b.example"));
    know(&a, &b);
    let tls = Arc::new(ListenerTls::new(&a).unwrap());
    let look = acceptor(&tls);
    tokio::spawn(tasks::renewals(Arc::clone(&a), Arc::clone(&tls)));
    while Arc::ptr_eq(&look, &acceptor(&tls)) {
        tokio::task::yield_now().await;
    }
    let scene = (&*tls, &*a, &*b);
    let first = shown(&tls, &a, &b).await;

    clock.advance_ms(61 * DAY_MS);
    advance(MINUTE).await;
    let renewed = held.until_shown(scene, |chain| chain[0] != first[0]).await;
    assert_eq!(renewed[1], first[1], "the issuing CA");

    let [_, backup] = a.keys.tls_pins();
    let rotate = Act::Asked(Asked::RotateTls { replaces: None });
    let (store, random, now_ms) = (&a.store, a.random.as_ref(), a.clock.now_ms());
    let rotated = a.keeper.act(store, &Actor::System, &rotate, now_ms, random);
    assert!(rotated.await.unwrap());
    let pin = |chain: &Chain| tls::of_leaf(&chain[0]).unwrap().pin;
    let rotated = held.until_shown(scene, |chain| pin(chain) == backup).await;

    let listed = || a.keys.manifest().body().tls_pins.len();
    clock.advance_ms(DAY_MS - 1);
    advance(MINUTE).await;
    shown(&tls, &a, &b).await;
    assert_eq!(listed(), 3);
    clock.advance_ms(1);
    advance(MINUTE).await;
    held.until_shown(scene, |_| listed() == 2).await;

    let root = pem::encode("CERTIFICATE", &a.keys.root());
    let request = folder.request_issuing(&a.server).unwrap();
    let now_ms = a.clock.now_ms();
    let answer = issuing::sign(&request, &root, &root_key, now_ms, random).unwrap();
    folder.install_issuing(&answer, now_ms).unwrap();
    advance(MINUTE).await;
    let reissued = held
        .until_shown(scene, |chain| chain[1] != rotated[1])
        .await;
    assert_eq!(pin(&reissued), pin(&rotated), "for the same key");
}
