//! An organisation's own root is changed while mail is on its way, partner by partner.

use federation_proto::fingerprint::Fingerprint;
use federation_proto::manifest::FormerRoot;
use homeserver_api::admin::{AmendRequest, AmendmentEffect, ConsentRequest};
use homeserver_api::keys::{PartnerRootStanding, SwitchRootRequest};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::task::JoinHandle;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::keys::{change, learn_issuing_ca, pass, rotate, serial_known, until};
use super::*;
use crate::audit;
use crate::federation::outbound::run;
use crate::federation::peers::{PeeringError, root};
use crate::organisation::{Act, Asked, root_change};

pub(super) const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Alice at a, which hubs the room and changes its root, Bob at b and Carol at c.
struct World {
    sides: [Side; 3],
    people: [Person; 3],
    /// Messages that each has said.
    said: usize,
    running: Vec<JoinHandle<()>>,
}

impl World {
    async fn new() -> Self {
        let sides = sides(["a.example", "b.example", "c.example"]);
        for side in &sides {
            let nodes = sides.iter().map(|side| Arc::clone(&side.node));
            side.network.judge(nodes);
        }
        let [a, b, c] = &sides;
        let (alice, bob, carol) = three_acquainted(a, b, c).await;
        let people = [alice, bob, carol];
        let running = sides.iter().map(|side| {
            let (node, network) = (Arc::clone(&side.node), Arc::clone(&side.network));
            tokio::spawn(async move { drop(run(node, network).await) })
        });
        let running = running.collect();
        // What is made later begins later: partners take no issuing CA that doesn't.
        sides.iter().for_each(|side| side.clock.advance_ms(HOUR_MS));
        let mut world = Self {
            sides,
            people,
            said: 0,
            running,
        };
        world.settle().await;
        world.talk().await;
        world
    }

    /// Everybody says something.
    async fn talk(&mut self) {
        self.said += 1;
        let text = self.said.to_be_bytes();
        for (person, side) in self.people.iter_mut().zip(&self.sides) {
            let said = person.say(side, ROOM, &text, 24 * 3600).await;
            assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        }
        self.pass(5).await;
    }

    async fn pass(&self, ms: u64) {
        pass(&self.sides.each_ref(), ms).await;
    }

    async fn until(&self, is_so: impl AsyncFnMut() -> bool) {
        until(&self.sides.each_ref(), is_so).await;
    }

    /// Until nothing waits anywhere.
    async fn settle(&self) {
        self.until(async || {
            let mut left = 0;
            for from in &self.sides {
                for to in self
                    .sides
                    .iter()
                    .filter(|to| to.node.server != from.node.server)
                {
                    left += waiting(from, to).await;
                    let view = from.node.peers.get(&to.node.server).unwrap();
                    left += u64::try_from(view.outgoing.len()).unwrap();
                }
            }
            left == 0
        })
        .await;
    }

    /// Everybody has heard everything that the others said, once, and nothing was refused anywhere.
    async fn all_is_well(&mut self) {
        self.talk().await;
        self.settle().await;
        for (person, side) in self.people.iter().zip(&self.sides) {
            let server = &side.node.server;
            assert_eq!(person.heard(side).await, 2 * self.said, "{server}");
            let letters = dead_letters::newest(&side.node.store, 10).await.unwrap();
            assert!(letters.is_empty(), "{server}");
            let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
                .await
                .unwrap();
            let refused = log.entries.iter().find(|entry| {
                entry.action.ends_with("refused") || entry.action.ends_with("not-taken")
            });
            assert_eq!(refused, None, "{server}");
        }
    }

    fn turned_away(&self) -> usize {
        let networks = self.sides.iter().map(|side| &side.network.turned_away);
        networks
            .map(|count| count.load(std::sync::atomic::Ordering::SeqCst))
            .sum()
    }

    /// Looks whether a's device certificate counts at each of the three.
    fn vouched(&self, chain: &[Vec<u8>]) -> [bool; 3] {
        let [a, b, c] = &self.sides;
        let own = (a.node.keys.root().to_vec(), a.node.keys.former_roots());
        let at = |side: &Side| {
            let view = side.node.peers.get(&a.node.server).unwrap();
            (view.root.clone(), view.former_roots())
        };
        [own, at(b), at(c)].map(|(root, former)| vouches(&root, &former, chain))
    }

    /// Until a's certificate counts like that.
    async fn until_vouched(&self, chain: &[Vec<u8>], expected: [bool; 3]) {
        self.until(async || self.vouched(chain) == expected).await;
    }

    fn end(self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

/// Whether these roots, as `GET /v1/anchors` names them, vouch for a device's chain whenever it was valid (docs/protocol
/// ID-021).
fn vouches(root: &[u8], former: &[FormerRoot], chain: &[Vec<u8>]) -> bool {
    let leaf = CertificateDer::from(chain[0].as_slice());
    let validity = X509Certificate::from_der(&leaf)
        .unwrap()
        .1
        .validity()
        .clone();
    let ends_ms = u64::try_from(validity.not_after.timestamp()).unwrap() * 1000;
    let begins = u64::try_from(validity.not_before.timestamp()).unwrap();
    let former = former.iter().filter(|former| ends_ms <= former.until_ms);
    let mut roots = std::iter::once(root).chain(former.map(|former| former.root.as_ref()));
    roots.any(|root| {
        let root = CertificateDer::from(root);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(begins + 3 * 3600));
        EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                &[webpki::ring::ECDSA_P256_SHA256],
                &[anchor_from_trusted_cert(&root).unwrap()],
                &[CertificateDer::from(chain[1].as_slice())],
                at,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .is_ok()
    })
}

/// The chain of a new device of `name`.
async fn device(side: &Side, name: &str) -> Vec<Vec<u8>> {
    create_account(side, name).await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    enrol(side, name, &key).await.1
}

/// A new root beside the one of `side`: what is left to take over.
pub(super) fn prepare(side: &Side) -> Fingerprint {
    let (keys, random) = (&side.node.keys, side.node.random.as_ref());
    let now_ms = side.node.clock.now_ms();
    root_change::prepare_in_memory(keys, &side.root_key, now_ms, random)
        .unwrap()
        .fingerprint
}

pub(super) async fn announce(side: &Side) {
    root::announce(&side.node, &admin(), &[]).await.unwrap();
}

pub(super) async fn consent(
    at: &Side,
    to: &Side,
    fingerprint: &Fingerprint,
) -> Result<String, PeeringError> {
    let detail = peers::detail(&at.node, &to.node.server).await.unwrap();
    let request = ConsentRequest {
        amendment: detail.proposal.unwrap().amendment,
        fingerprint: Some(fingerprint.to_string()),
    };
    peers::consent(&at.node, &admin(), &to.node.server, &request).await
}

async fn has_proposal(at: &Side, of: &Side) -> bool {
    let detail = peers::detail(&at.node, &of.node.server).await.unwrap();
    detail.proposal.is_some()
}

pub(super) fn standing(at: &Side, of: &Side) -> PartnerRootStanding {
    let partners = root::status(&at.node).partners;
    let partner = partners
        .into_iter()
        .find(|partner| partner.server == of.node.server);
    partner.unwrap().standing
}

pub(super) fn switch(fingerprint: &Fingerprint, without: &[&Side]) -> SwitchRootRequest {
    SwitchRootRequest {
        fingerprint: fingerprint.words().join(" "),
        without: without
            .iter()
            .map(|side| side.node.server.clone())
            .collect(),
    }
}

pub(super) async fn take_over(side: &Side, request: &SwitchRootRequest) {
    let to = root::may_switch(&side.node, request).unwrap();
    change(side, Asked::SwitchRoot { to }).await;
}

fn conflict<T: std::fmt::Debug>(outcome: Result<T, PeeringError>, says: &str) {
    match outcome {
        Err(PeeringError::State(text)) => assert!(text.contains(says), "{text}"),
        other => panic!("{other:?}"),
    }
}

async fn audited(side: &Side, action: &str) -> usize {
    let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    log.entries
        .iter()
        .filter(|entry| entry.action == action)
        .count()
}

/// Goal: an organisation changes its root while three of them talk: each partner goes over when it has consented, and
/// stays reachable before, between and after; keys change meanwhile; device certificates of before count everywhere until
/// they end, those of afterwards at once; in the end the former root is forgotten, but for leaves that stand in rooms; and
/// no message is lost, refused or doubled. By running tasks that TLS lets through or not, under virtual time.
#[tokio::test(start_paused = true)]
async fn the_root_changes_under_traffic() {
    let mut world = World::new().await;
    let before = device(&world.sides[0], "amelie").await;
    let old_root = world.sides[0].node.keys.root();
    let fingerprint = prepare(&world.sides[0]);
    world.talk().await;
    announce(&world.sides[0]).await;
    world.talk().await;
    {
        let [a, b, c] = &world.sides;
        world
            .until(async || has_proposal(b, a).await && has_proposal(c, a).await)
            .await;
        let too_early = root::may_switch(&a.node, &switch(&fingerprint, &[]));
        conflict(too_early, "b.example, c.example have not consented");
        let other = Fingerprint::of_root(&c.node.keys.root());
        conflict(
            root::may_switch(&a.node, &switch(&other, &[b, c])),
            "not that of the root",
        );
        conflict(consent(b, a, &other).await, "fingerprint");
        consent(b, a, &fingerprint).await.unwrap();
        world
            .until(async || standing(a, b) == PartnerRootStanding::Consented)
            .await;
        conflict(
            root::may_switch(&a.node, &switch(&fingerprint, &[])),
            "c.example has not",
        );
        conflict(
            root::may_switch(&a.node, &switch(&fingerprint, &[b, c])),
            "b.example is no",
        );
    }
    world.talk().await;
    world.settle().await;
    // One partner goes by the new root, the other by the present one, which counts for devices in all three.
    let between = device(&world.sides[0], "antoine").await;
    for chain in [&before, &between] {
        world.until_vouched(chain, [true; 3]).await;
    }
    {
        let [a, b, c] = &world.sides;
        let pinned = |at: &Side| at.node.peer_roots.get(&a.node.server).unwrap().roots;
        assert_eq!(pinned(b), [a.node.keys.target_root()]);
        assert_eq!(pinned(c), std::slice::from_ref(&old_root));
        rotate(a).await;
        change(a, Asked::RotateTls { replaces: None }).await;
        world
            .until(async || {
                let newest = a.node.keys.manifest().serial();
                serial_known(b, a) == newest && serial_known(c, a) == newest
            })
            .await;
    }
    world.talk().await;
    {
        let [a, _, c] = &world.sides;
        consent(c, a, &fingerprint).await.unwrap();
        world
            .until(async || standing(a, c) == PartnerRootStanding::Consented)
            .await;
        take_over(a, &switch(&fingerprint, &[])).await;
        let again = root::may_switch(&a.node, &switch(&fingerprint, &[])).unwrap();
        let act = Act::Asked(Asked::SwitchRoot { to: again });
        let (store, random) = (&a.node.store, a.node.random.as_ref());
        let (now_ms, by) = (a.node.clock.now_ms(), admin());
        let done = a.node.keeper.act(store, &by, &act, now_ms, random);
        assert!(!done.await.unwrap(), "once is enough");
        assert_eq!(Fingerprint::of_root(&a.node.keys.root()), fingerprint);
    }
    world.talk().await;
    {
        // From the new root's manifest they know when the former one ends.
        let [a, b, c] = &world.sides;
        let newest = a.node.keys.manifest().serial();
        world
            .until(async || serial_known(b, a) == newest && serial_known(c, a) == newest)
            .await;
    }
    let after = device(&world.sides[0], "anna").await;
    for chain in [&before, &between, &after] {
        world.until_vouched(chain, [true; 3]).await;
    }
    world.all_is_well().await;
    assert_eq!(world.turned_away(), 0);

    // The day on which the last certificate under the former root has ended.
    world
        .sides
        .iter()
        .for_each(|side| side.clock.advance_ms(30 * DAY_MS));
    {
        let [a, b, c] = &world.sides;
        let (store, random) = (&a.node.store, a.node.random.as_ref());
        let (now_ms, by) = (a.node.clock.now_ms(), admin());
        let due = a.node.keeper.act(store, &by, &Act::Due, now_ms, random);
        assert!(due.await.unwrap());
        assert!(a.node.keys.manifest_under(&old_root).is_none());
        assert!(!a.node.keys.tls_identity().chain.contains(&old_root));
        assert!(a.node.keys.handover().is_none());
        for side in [b, c] {
            let view = side.node.peers.get(&a.node.server).unwrap();
            let ends = view
                .former_roots()
                .iter()
                .map(|former| former.until_ms)
                .max();
            assert!(
                ends.unwrap() <= now_ms,
                "no certificate of today can lead to it"
            );
        }
    }
    // A leaf that stands in a room is checked by whoever joins, as it was when it was admitted.
    assert_eq!(world.vouched(&before), [true; 3]);
    world.all_is_well().await;
    assert_eq!(world.turned_away(), 0);
    let a = &world.sides[0];
    assert_eq!(audited(a, "peer.root-announced").await, 2);
    assert_eq!(audited(a, "keys.root-switched").await, 1);
    world.end();
}

/// Goal: a partner that is not waited for goes on as before for 30 days, then neither reaches nor is reached, and its mail
/// waits; brought the amendment as a file, it is back, and nothing was lost. By one that never answers the announcement.
#[tokio::test(start_paused = true)]
async fn a_partner_that_is_not_waited_for() {
    let mut world = World::new().await;
    let fingerprint = prepare(&world.sides[0]);
    announce(&world.sides[0]).await;
    {
        let [a, b, c] = &world.sides;
        world
            .until(async || has_proposal(b, a).await && has_proposal(c, a).await)
            .await;
        consent(b, a, &fingerprint).await.unwrap();
        world
            .until(async || standing(a, b) == PartnerRootStanding::Consented)
            .await;
        take_over(a, &switch(&fingerprint, &[c])).await;
    }
    let after = device(&world.sides[0], "anna").await;
    world.until_vouched(&after, [true, true, false]).await;
    world.all_is_well().await;
    assert_eq!(world.turned_away(), 0);

    change(&world.sides[0], Asked::ForgetRoot).await;
    world.talk().await;
    {
        let [a, _, c] = &world.sides;
        world.until(async || world.turned_away() > 0).await;
        assert!(waiting(a, c).await > 0 && waiting(c, a).await > 0);
        // It has the amendment already; its consent travels as a file.
        let consented = consent(c, a, &fingerprint).await.unwrap();
        peers::take(&a.node, &admin(), &consented).await.unwrap();
        // With it `c` takes either root: its own worker may bring the consent at the same moment.
        world
            .until(async || standing(a, c) == PartnerRootStanding::Consented)
            .await;
    }
    world.until_vouched(&after, [true; 3]).await;
    world.all_is_well().await;
    world.end();
}

/// Goal: a change that is given up leaves no trace at partners, and can't be given up once one has consented; two changes
/// at once, and orders without a change, are refused. By each in turn.
#[tokio::test(start_paused = true)]
async fn orders_at_the_wrong_time() {
    let mut world = World::new().await;
    {
        let [a, b, c] = &world.sides;
        let present = Fingerprint::of_root(&a.node.keys.root());
        conflict(
            root::withdraw(&a.node, &admin()).await,
            "nothing to give up",
        );
        let nobody = "nobody.example".parse().unwrap();
        let unknown = root::announce(&a.node, &admin(), &[nobody]).await;
        assert!(matches!(unknown, Err(PeeringError::UnknownPeer(_))));
        let noise = SwitchRootRequest {
            fingerprint: "noise".to_owned(),
            without: Vec::new(),
        };
        let noise = root::may_switch(&a.node, &noise);
        assert!(matches!(noise, Err(PeeringError::Statement(_))));
        root::may_switch(&a.node, &switch(&present, &[])).unwrap();
        let (keys, random) = (&a.node.keys, a.node.random.as_ref());
        let now_ms = a.node.clock.now_ms();
        for asked in [
            Asked::CancelRoot,
            Asked::ForgetRoot,
            Asked::SwitchRoot { to: [0; 32] },
        ] {
            assert!(keys.asked(&asked, now_ms, random).is_err(), "{asked:?}");
        }

        let first = prepare(a);
        let twice = root_change::prepare_in_memory(keys, &a.root_key, now_ms, random);
        assert!(twice.is_err(), "two at once");
        assert!(keys.asked(&Asked::ForgetRoot, now_ms, random).is_err());
        announce(a).await;
        announce(a).await;
        assert_eq!(audited(a, "peer.root-announced").await, 2, "each once");
        world
            .until(async || has_proposal(b, a).await && has_proposal(c, a).await)
            .await;
        root::withdraw(&a.node, &admin()).await.unwrap();
        change(a, Asked::CancelRoot).await;
        world
            .until(async || !has_proposal(b, a).await && !has_proposal(c, a).await)
            .await;
        assert_eq!(Fingerprint::of_root(&keys.root()), present);

        // Another one, which one of two consents to.
        pass(&[a, b, c], 2_000).await;
        let second = prepare(a);
        assert_ne!(first, second);
        announce(a).await;
        world.until(async || has_proposal(b, a).await).await;
        consent(b, a, &second).await.unwrap();
        world
            .until(async || standing(a, b) == PartnerRootStanding::Consented)
            .await;
        conflict(
            root::withdraw(&a.node, &admin()).await,
            "b.example has consented",
        );
    }
    world.all_is_well().await;
    world.end();
}

/// Goal: while a root is announced, what tightens is in force at once and the announcement goes on, what widens is
/// proposed together with it, and a decision that was signed under the former root arrives before the consent does. By an
/// agreement that is tightened, widened and suspended between announcement and consent.
#[tokio::test]
async fn agreements_change_meanwhile() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    a.clock.advance_ms(HOUR_MS);
    b.clock.advance_ms(HOUR_MS);
    let fingerprint = prepare(&a);
    learn_issuing_ca(&b, &a).await;
    announce(&a).await;
    let (mut to_a, mut to_b) = (worker(&b, &a), worker(&a, &b));
    drain(&mut to_b).await;
    let amend = async |request: AmendRequest| {
        peers::amend(&a.node, &admin(), &b.node.server, &request)
            .await
            .unwrap()
            .effect
    };
    let shorter = AmendRequest {
        ttl_max_seconds: Some(60),
        ..AmendRequest::default()
    };
    assert_eq!(amend(shorter).await, AmendmentEffect::InForce);
    assert_eq!(standing(&a, &b), PartnerRootStanding::Announced);
    let larger = AmendRequest {
        file_bytes_max: Some(1 << 40),
        ..AmendRequest::default()
    };
    assert_eq!(amend(larger).await, AmendmentEffect::Proposed);
    assert_eq!(standing(&a, &b), PartnerRootStanding::Announced);
    drain(&mut to_b).await;
    assert_eq!(
        b.node
            .peers
            .get(&a.node.server)
            .unwrap()
            .agreement
            .ttl_max_seconds,
        60
    );

    // Signed under the former root, and still here when the consent comes.
    peers::suspend(&a.node, &admin(), &b.node.server, "a pause")
        .await
        .unwrap();
    a.network.set_down(true);
    consent(&b, &a, &fingerprint).await.unwrap();
    assert!(matches!(drain(&mut to_a).await, Step::Mail(_)));
    assert_eq!(standing(&a, &b), PartnerRootStanding::Announced);
    a.network.set_down(false);
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(standing(&a, &b), PartnerRootStanding::Consented);
    peers::resume(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    assert_eq!(
        b.node.peers.get(&a.node.server).unwrap().agreed,
        Some(PeerState::Active)
    );
    assert_eq!(audited(&a, "peer.document-not-taken").await, 0);
    let widened = b
        .node
        .peers
        .get(&a.node.server)
        .unwrap()
        .agreement
        .file_bytes_max;
    assert_eq!(
        widened,
        a.node
            .peers
            .get(&b.node.server)
            .unwrap()
            .agreement
            .file_bytes_max
    );
}

/// Goal: between a consent and its arrival the proposer's keys are learnt under the former root, when they change then.
/// By keys that change twice while the consent can't arrive, and a message under the last of them.
#[tokio::test]
async fn keys_change_while_a_consent_is_on_its_way() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    a.clock.advance_ms(HOUR_MS);
    b.clock.advance_ms(HOUR_MS);
    let fingerprint = prepare(&a);
    learn_issuing_ca(&b, &a).await;
    announce(&a).await;
    drain(&mut worker(&a, &b)).await;
    consent(&b, &a, &fingerprint).await.unwrap();
    let newest = a.node.keys.manifest().bytes().clone();
    peers::take_manifest(&b.node, &a.node.server, newest)
        .await
        .unwrap();
    rotate(&a).await;
    rotate(&a).await;
    let newest = a.node.keys.manifest().bytes().clone();
    peers::take_manifest(&b.node, &a.node.server, newest)
        .await
        .unwrap();
    assert_eq!(audited(&b, "peer.manifest-refused").await, 0);
    alice.say(&a, ROOM, b"under new keys", 3600).await;
    drain(&mut worker(&b, &a)).await;
    let mut to_b = worker(&a, &b);
    drain(&mut to_b).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
}
