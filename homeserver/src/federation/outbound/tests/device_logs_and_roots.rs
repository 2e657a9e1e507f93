//! Device logs while an organisation changes its root: each reader gets heads that lead to the root that it goes by.

use federation_proto::codec::Wire as _;
use federation_proto::device_log::{DeviceHistory, Head};
use federation_proto::ids::AccountId;

use super::device_logs::{faults, known, tell};
use super::keys::change;
use super::roots::{HOUR_MS, announce, consent, prepare, standing, switch, take_over};
use super::*;
use crate::audit;
use crate::delivery::limits::LOG_HEADS_PAUSE_MS;
use crate::delivery::log_heads;
use crate::identity::device_log::Reader;
use crate::organisation::Asked;

/// Alice's organisation changes its root; Bob's and Carol's are its partners.
struct World {
    sides: [Side; 3],
    bob: Person,
    carol: Person,
    alice: AccountId,
    asked: u8,
}

impl World {
    async fn new() -> Self {
        let sides = sides(["a.example", "b.example", "c.example"]);
        let [a, b, c] = &sides;
        peered(a, b).await;
        peered(a, c).await;
        // What is made later begins later: partners take no issuing CA that doesn't.
        sides.iter().for_each(|side| side.clock.advance_ms(HOUR_MS));
        let alice = person(a, "alice").await.of.account;
        let (bob, carol) = (person(b, "bob").await, person(c, "carol").await);
        Self {
            sides,
            bob,
            carol,
            alice,
            asked: 0,
        }
    }

    /// Somebody at a gets a first device; then all of `partners` are told, and hold what they get to what they had.
    async fn goes_on(&mut self, stage: &str, partners: usize) {
        let [a, b, c] = &self.sides;
        for side in &self.sides {
            side.clock.advance_ms(LOG_HEADS_PAUSE_MS);
        }
        self.asked += 1;
        person(a, &format!("person-{}", self.asked)).await;
        let own = a.node.device_log.head(&a.node, Reader::Own, 0);
        let (own, _) = own.await.unwrap();
        let root = Bytes::copy_from_slice(&a.node.keys.root());
        let now_ms = a.node.clock.now_ms();
        let size = own
            .verify(&a.node.server, &root, &[], now_ms)
            .expect(stage)
            .size;
        let readers = [(b, &mut self.bob), (c, &mut self.carol)];
        for (at, reader) in readers.into_iter().take(partners) {
            let before = known(at, a).await;
            tell(a, at).await;
            let told = known(at, a).await.unwrap();
            assert_eq!(told.size, size, "{stage}: {}", at.node.server);
            let request = RequestId::from_bytes([self.asked; 16]);
            let body = SubmissionBody::AskDevices {
                request,
                server: a.node.server.clone(),
                account: self.alice,
                known: before.iter().map(|head| head.size).collect(),
            };
            reader.submit(at, body).await;
            drain(&mut worker(at, a)).await;
            drain(&mut worker(a, at)).await;
            let history = answer(at, reader, request).await;
            holds(&history, self.alice, (at, a), before.as_ref(), stage);
            assert!(faults(at).await.is_empty(), "{stage}");
            let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
                .await
                .unwrap();
            let refused = log.entries.iter().find(|e| e.action.ends_with("refused"));
            assert_eq!(refused, None, "{stage}");
        }
    }
}

async fn answer(at: &Side, reader: &mut Person, request: RequestId) -> DeviceHistory {
    let answers = reader.inbox(at).await;
    let found = answers.into_iter().find_map(|body| match body {
        InboxBody::KeyMaterial {
            request: of,
            result,
        } if of == request => Some(result),
        _ => None,
    });
    DeviceHistory::from_bytes(found.unwrap().unwrap().history).unwrap()
}

/// The history holds by the roots that the reader's homeserver names to its devices.
fn holds(
    history: &DeviceHistory,
    account: AccountId,
    (at, of): (&Side, &Side),
    before: Option<&Head>,
    stage: &str,
) {
    let view = at.node.peers.get(&of.node.server).unwrap();
    let root = Bytes::from(view.root.clone());
    let now_ms = at.node.clock.now_ms();
    let former = view.former_roots();
    let (chain, head) = history
        .verify(&of.node.server, account, &root, &former, now_ms)
        .unwrap_or_else(|error| panic!("{stage}: {}: {error}", at.node.server));
    assert_eq!(chain.serial(), 1, "{stage}");
    if let Some(before) = before {
        let growth = history.growth_from(before.size);
        head.follows(before, growth).expect(stage);
    }
}

/// Goal: what was stated under the former root counts after a change, and the log goes on through every stage of it: own
/// devices and each partner get heads that lead to the root that they go by, and none of them sees a fork. By a partner
/// that consents, one that does not, and devices that come meanwhile.
#[tokio::test]
async fn heads_lead_to_the_readers_root() {
    let mut world = World::new().await;
    world.goes_on("before", 2).await;
    let fingerprint = prepare(&world.sides[0]);
    world.goes_on("there is another root", 2).await;
    {
        let [a, b, c] = &world.sides;
        announce(a).await;
        drain(&mut worker(a, b)).await;
        drain(&mut worker(a, c)).await;
    }
    world.goes_on("announced", 2).await;
    {
        let [a, b, _] = &world.sides;
        consent(b, a, &fingerprint).await.unwrap();
        for side in &world.sides {
            side.clock.advance_ms(LOG_HEADS_PAUSE_MS);
        }
        person(a, "meanwhile").await;
        log_heads::tell(&a.node, &b.node.server).await.unwrap();
        drain(&mut worker(a, b)).await;
        assert_eq!(
            standing(a, b),
            homeserver_api::keys::PartnerRootStanding::Announced,
            "the consent is on its way, and the head is under the former root"
        );
        drain(&mut worker(b, a)).await;
    }
    world.goes_on("one has consented", 2).await;
    {
        let [a, _, c] = &world.sides;
        take_over(a, &switch(&fingerprint, &[c])).await;
    }
    world.goes_on("the new root has taken over", 2).await;
    change(&world.sides[0], Asked::ForgetRoot).await;
    world.goes_on("the former one is forgotten", 1).await;
}
