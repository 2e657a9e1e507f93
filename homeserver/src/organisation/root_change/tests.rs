use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;
use crate::audit::{self, Actor};
use crate::organisation::{Act, Asked, Keeper, NewOrganisation, create};
use crate::store::Store;
use crate::store::engine::memory::MemoryEngine;

const NOW_MS: u64 = 1_795_000_000_000;
/// Long enough after [`NOW_MS`] for a further issuing CA.
const THEN: u64 = NOW_MS + DAY_MS;

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn organisation(server: &str) -> NewOrganisation {
    create(&server.parse().unwrap(), NOW_MS, &random()).unwrap()
}

/// An organisation whose keys lie in a folder.
struct House {
    _place: tempfile::TempDir,
    folder: KeyFolder,
    keys: Arc<Keys>,
    keeper: Keeper,
    store: Store,
    root_key: Zeroizing<Vec<u8>>,
}

impl House {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let made = organisation("a.example");
        let keys = Arc::new(made.keys);
        KeyFolder::at(&path).create(&keys).unwrap();
        Self {
            keeper: Keeper::new(Arc::clone(&keys), KeyFolder::at(&path)),
            folder: KeyFolder::at(&path),
            store: Store::new(Arc::new(MemoryEngine::default())).unwrap(),
            root_key: made.root_key,
            keys,
            _place: place,
        }
    }

    fn root(&self) -> String {
        pem::encode(CERTIFICATE, &self.keys.root()).to_string()
    }

    fn install(&self, signed: &str) -> Result<Fingerprint, OrganisationError> {
        self.folder.install_root(self.keys.server(), signed, THEN)
    }

    async fn act(&self, act: Act, at_ms: u64) -> bool {
        let random = random();
        let done = self
            .keeper
            .act(&self.store, &Actor::System, &act, at_ms, &random);
        done.await.unwrap()
    }

    /// What the next start would find is what is in use.
    fn check_written(&self, at_ms: u64) {
        let found = self
            .folder
            .load(self.keys.server(), at_ms, &random())
            .unwrap();
        assert_eq!(found.root(), self.keys.root());
        assert_eq!(found.target_root(), self.keys.target_root());
        assert_eq!(found.manifest(), self.keys.manifest());
        assert_eq!(found.tls_identity().chain, self.keys.tls_identity().chain);
        assert_eq!(found.handover(), self.keys.handover());
        for root in [self.keys.root(), self.keys.target_root()] {
            assert_eq!(found.manifest_under(&root), self.keys.manifest_under(&root));
        }
        let [found, in_use] = [&found, &*self.keys].map(|keys| keys.status(at_ms).root_change);
        assert_eq!(found, in_use);
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, OrganisationError>, says: &str) {
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

/// Goal: a new root that both root keys have signed for stands beside the present one, takes over, and the former one is
/// forgotten in time; whatever is in use is what the next start finds; key changes go on meanwhile under both roots, and
/// the issuing CA alone is not renewed. By a folder, with the root keys elsewhere.
#[tokio::test]
async fn the_whole_way() {
    let house = House::new();
    let before = house.keys.root();
    let request = house.folder.request_root(house.keys.server()).unwrap();
    let new = sign(&request, &house.root(), &house.root_key, THEN, &random()).unwrap();
    assert_eq!(house.install(&new.signed).unwrap(), new.fingerprint);
    refused(house.install(&new.signed), "no request that this answers");
    assert!(!house.act(Act::TakeIssuing, THEN).await);
    assert!(house.act(Act::TakeRoot, THEN).await);
    assert!(!house.act(Act::TakeRoot, THEN).await, "once");
    assert_eq!(house.keys.root(), before, "nobody goes by it yet");
    assert_eq!(
        Fingerprint::of_root(&house.keys.target_root()),
        new.fingerprint
    );
    house.check_written(THEN);
    refused(house.folder.request_root(house.keys.server()), "under way");
    let issuing = house.folder.request_issuing(house.keys.server()).unwrap();
    let issuing = issuing::sign(
        &issuing,
        &house.root(),
        &house.root_key,
        THEN + DAY_MS,
        &random(),
    );
    let installed = house
        .folder
        .install_issuing(&issuing.unwrap(), THEN + DAY_MS);
    refused(installed, "under way");

    assert!(
        house
            .act(Act::Asked(Asked::RotateEnvelope { replaces: None }), THEN)
            .await
    );
    let target = house.keys.target_root();
    let [old, next] = [&before, &target].map(|root| house.keys.manifest_under(root).unwrap());
    assert_eq!(old.serial(), next.serial());
    assert_eq!(old.body().envelope_keys, next.body().envelope_keys);
    assert_eq!(old.body().tls_pins, next.body().tls_pins);
    assert_eq!(old.body().former_roots, []);
    assert_eq!(next.body().former_roots[0].root, before.as_ref());
    house.check_written(THEN);

    let to = sha256(&target);
    assert!(house.act(Act::Asked(Asked::SwitchRoot { to }), THEN).await);
    assert_eq!(house.keys.root(), target);
    assert_eq!(house.keys.tls_identity().chain.len(), 5);
    house.check_written(THEN);
    let until_ms = house.keys.former_roots()[0].until_ms;
    assert_eq!(until_ms, THEN + 30 * DAY_MS);
    assert!(
        house
            .act(
                Act::Asked(Asked::RotateEnvelope { replaces: None }),
                THEN + 1
            )
            .await
    );
    assert_eq!(
        house.keys.former_roots()[0].until_ms,
        until_ms,
        "it is not put off"
    );
    assert!(!house.act(Act::Due, until_ms - 1).await);
    assert!(house.act(Act::Due, until_ms).await);
    assert_eq!(house.keys.tls_identity().chain.len(), 3);
    assert_eq!(
        house.keys.former_roots()[0].until_ms,
        until_ms,
        "for what stands in rooms"
    );
    house.check_written(until_ms);
    let log = audit::page(&house.store, &random(), 0, 9).await.unwrap();
    let actions: Vec<_> = log
        .entries
        .iter()
        .map(|entry| entry.action.as_str())
        .collect();
    assert!(actions.contains(&"keys.root-prepared") && actions.contains(&"keys.root-switched"));
    assert!(
        log.entries
            .iter()
            .any(|entry| entry.detail.contains("is forgotten"))
    );

    // And again: two former roots are named, and of three the last two.
    let mut present = (Zeroizing::new(new.root_key.to_vec()), until_ms);
    for round in 1..3_u64 {
        let at = present.1 + DAY_MS;
        let new = prepare_in_memory(&house.keys, &present.0, at, &random()).unwrap();
        let to = sha256(&house.keys.target_root());
        assert!(
            house.act(Act::Asked(Asked::SwitchRoot { to }), at).await,
            "{round}"
        );
        assert_eq!(house.keys.former_roots().len(), 2);
        assert!(house.act(Act::Asked(Asked::ForgetRoot), at).await);
        present = (Zeroizing::new(new.root_key.to_vec()), at);
    }
    let named = house.keys.former_roots();
    assert!(named.iter().all(|former| former.root != before.as_ref()));
}

/// Goal: what both roots of this organisation have not signed, for this request, is not installed, and changes nothing.
/// By a root of another name, another request, another root key, a bundle that lacks a part, whose parts are of two
/// requests, or whose handover is not there, and by noise.
#[tokio::test]
async fn what_is_not_installed() {
    let house = House::new();
    let request = house.folder.request_root(house.keys.server()).unwrap();
    let new = sign(&request, &house.root(), &house.root_key, THEN, &random()).unwrap();
    let other = organisation("b.example");
    let others_root = pem::encode(CERTIFICATE, &other.keys.root());
    let elsewhere = sign(&request, &others_root, &other.root_key, THEN, &random()).unwrap();
    refused(house.install(&elsewhere.signed), "is of b.example");
    refused(
        sign(&request, &house.root(), &other.root_key, THEN, &random()).map(drop),
        "another key than the root key file",
    );
    let twin = organisation("a.example");
    let twins_root = pem::encode(CERTIFICATE, &twin.keys.root());
    let by_twin = sign(&request, &twins_root, &twin.root_key, THEN, &random()).unwrap();
    refused(house.install(&by_twin.signed), "new issuing CA");
    let early = sign(&request, &house.root(), &house.root_key, NOW_MS, &random()).unwrap();
    refused(
        house.install(&early.signed),
        "no later than the present one",
    );
    let house_of_others = House::new();
    let others_request = house_of_others
        .folder
        .request_root(house.keys.server())
        .unwrap();
    let for_others = sign(
        &others_request,
        &house.root(),
        &house.root_key,
        THEN,
        &random(),
    );
    refused(house.install(&for_others.unwrap().signed), "another key");

    let parts = |text: &str| pem::blocks(text).unwrap();
    let joined = |parts: &[(String, Vec<u8>)]| -> String {
        parts
            .iter()
            .map(|(label, der)| pem::encode(label, der).to_string())
            .collect()
    };
    let good = parts(&new.signed);
    let again = parts(
        &sign(&request, &house.root(), &house.root_key, THEN, &random())
            .unwrap()
            .signed,
    );
    let mut mixed = good.clone();
    mixed[2] = again[2].clone();
    refused(house.install(&joined(&mixed)), "has not signed for it");
    mixed = good.clone();
    mixed[1] = again[1].clone();
    refused(house.install(&joined(&mixed)), "new root");
    mixed = good.clone();
    mixed[2] = good[0].clone();
    refused(house.install(&joined(&mixed)), "has not signed for it");
    refused(house.install(&joined(&good[..3])), "`homeserver root sign`");
    refused(house.install("noise"), "`homeserver root sign`");
    assert!(!house.act(Act::TakeRoot, THEN).await);
    house.check_written(THEN);

    house.install(&new.signed).unwrap();
    // A homeserver that was told of it, and died before it forgot what had waited.
    let waits = house.folder.path().join(NEW);
    let kept = house.folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for name in [SIGNED, ISSUING_KEY] {
        std::fs::copy(waits.join(name), kept.join(name)).unwrap();
    }
    assert!(house.act(Act::TakeRoot, THEN).await);
    std::fs::rename(&kept, &waits).unwrap();
    assert!(!house.act(Act::TakeRoot, THEN).await, "it is there already");
    assert!(!waits.exists());
}

/// Goal: a new root that can't be taken up keeps no other from it, and the key that was signed is not requested for again.
/// By one that is damaged as it waits, another that overtakes it, and a crash before the request is gone.
#[tokio::test]
async fn another_overtakes() {
    let house = House::new();
    let server = house.keys.server().clone();
    let (waits, next_key) = (
        house.folder.path().join(NEW),
        house.folder.path().join(NEXT_KEY),
    );
    let signed = || {
        let request = house.folder.request_root(&server).unwrap();
        sign(&request, &house.root(), &house.root_key, THEN, &random()).unwrap()
    };
    house.install(&signed().signed).unwrap();
    std::fs::write(waits.join(SIGNED), "noise").unwrap();
    let tried = house
        .folder
        .waiting_root(&house.keys, THEN, &random())
        .map(drop);
    refused(tried, "`homeserver root sign`");
    let issuing = house.folder.request_issuing(&server).unwrap();
    let issuing = issuing::sign(&issuing, &house.root(), &house.root_key, THEN, &random());
    refused(
        house.folder.install_issuing(&issuing.unwrap(), THEN),
        "not been taken up",
    );
    let second = signed();
    house.install(&second.signed).unwrap();
    assert!(!next_key.exists());
    std::fs::copy(waits.join(ISSUING_KEY), &next_key).unwrap();
    assert!(house.act(Act::TakeRoot, THEN).await);
    assert_eq!(
        Fingerprint::of_root(&house.keys.target_root()),
        second.fingerprint
    );
    assert!(!waits.exists());
    assert!(!next_key.exists(), "it is the key in use");
}

/// Goal: a file of the second root that is damaged, or not the homeserver's, is told and not passed over. By each damage.
#[tokio::test]
async fn a_damaged_second_root_is_told() {
    let house = House::new();
    prepare_in_memory(&house.keys, &house.root_key, THEN, &random()).unwrap();
    assert!(
        house
            .act(Act::Asked(Asked::RotateEnvelope { replaces: None }), THEN)
            .await
    );
    house.check_written(THEN);
    let path = house.folder.path().join(ROOT_CHANGE);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let load = || house.folder.load(house.keys.server(), THEN, &random());
    for (damaged, says) in [
        (text.replace("MANIFEST", "OTHER"), "damaged"),
        (text[..text.len() / 2].to_owned(), "damaged"),
        (format!("{text}{text}"), "damaged"),
        ("x".repeat(70_000), "larger"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let problems = load().err().unwrap();
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string().contains(says)),
            "{problems:?}"
        );
    }
    std::fs::write(&path, "").unwrap();
    assert!(load().is_ok(), "there is none");
}

proptest! {
    /// Goal: any text is what `homeserver root sign` makes, or the file of a second root, or neither. Method: any text,
    /// and any blocks.
    #[test]
    fn any_text(text in any::<String>(), blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
        let joined: String = blocks.iter().map(|der| pem::encode(CERTIFICATE, der).to_string()).collect();
        prop_assert_eq!(is_signed(&joined), blocks.len() == 4);
        let second = format!("{joined}{}", *pem::encode(MANIFEST.1, b"manifest"));
        prop_assert_eq!(second_in(&second).is_some(), blocks.len() == 3);
        prop_assert!(!is_signed(&text));
        prop_assert!(second_in(&text).is_none());
    }
}
