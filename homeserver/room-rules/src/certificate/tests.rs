use rcgen::SanType;

use super::*;
use crate::testing::{Dates, Organisation, leaf};

const KEY: [u8; 32] = [9; 32];
const NOW: u64 = 1_790_000_000;
const DATES: Dates = Dates {
    not_before: NOW - 7200,
    not_after: NOW + 86_400,
};

fn member(server: &str) -> Member {
    Member {
        server: server.parse().unwrap(),
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([2; 16]),
    }
}

fn anchors(organisations: &[&Organisation]) -> AnchorSet {
    let [own, others @ ..] = organisations else {
        panic!("an own organisation");
    };
    let mut anchors = AnchorSet::own(own.server.clone(), own.root.clone());
    anchors.replace_others(
        &own.server,
        others
            .iter()
            .map(|o| (o.server.clone(), o.root.clone().into())),
    );
    anchors
}

fn reason(outcome: Result<DeviceCertificate, Error>) -> String {
    outcome.unwrap_err().to_string()
}

/// Goal: an organisation vouches for its own people: device, address, key and dates are read.
#[test]
fn own_people() {
    let b = Organisation::new("b.example");
    let uri = uri(&member("b.example"));
    let chain = b.sign(leaf(&uri, "bob@b.example", DATES), &KEY);
    let device = anchors(&[&b]).verify(&chain, Validity::At(NOW)).unwrap();
    assert_eq!(device.member, member("b.example"));
    assert_eq!(device.address.to_string(), "bob@b.example");
    assert_eq!(device.uri, uri);
    assert_eq!(device.public_key, KEY);
    assert_eq!(device.not_after, DATES.not_after);
}

/// Goal: A's CA can never vouch for bob@b, though A's root is trusted for A's own people. Method:
/// A signs a perfect certificate for Bob; the same content signed by B is accepted.
#[test]
fn nobody_vouches_for_others() {
    let (a, b) = (
        Organisation::new("a.example"),
        Organisation::new("b.example"),
    );
    let anchors = anchors(&[&a, &b]);
    let bob = || leaf(&uri(&member("b.example")), "bob@b.example", DATES);
    let by_a = anchors.verify(&a.sign(bob(), &KEY), Validity::At(NOW));
    assert!(reason(by_a).contains("does not lead to the root of b.example"));
    assert!(
        anchors
            .verify(&b.sign(bob(), &KEY), Validity::At(NOW))
            .is_ok()
    );
    // Not under an address of another organisation either.
    let mixed = leaf(&uri(&member("a.example")), "bob@b.example", DATES);
    let mixed = anchors.verify(&a.sign(mixed, &KEY), Validity::At(NOW));
    assert!(reason(mixed).contains("two organisations"));
    // And a homeserver can't replace the own root.
    let mut replaced = anchors.clone();
    replaced.replace_others(&a.server, [(a.server.clone(), b.root.clone().into())]);
    let alice = leaf(&uri(&member("a.example")), "alice@a.example", DATES);
    assert!(
        replaced
            .verify(&a.sign(alice, &KEY), Validity::At(NOW))
            .is_ok()
    );
    let unknown = replaced.verify(&b.sign(bob(), &KEY), Validity::At(NOW));
    assert_eq!(unknown, Err(Error::UnknownOrganisation(b.server)));
}

/// Goal: exactly one name, a device's URI in its one spelling, and nothing beside it.
#[test]
fn names() {
    let a = Organisation::new("a.example");
    let anchors = anchors(&[&a]);
    let good = uri(&member("a.example"));
    let verify = |leaf| anchors.verify(&a.sign(leaf, &KEY), Validity::At(NOW));
    let named = |uri: &str| leaf(uri, "alice@a.example", DATES);
    assert!(verify(named(&good)).is_ok());
    for bad in [
        good.replace("entente", "https"),
        good.replace("a.example", "A.example"),
        good.to_uppercase(),
        format!("{good}/"),
        format!("{good}?x"),
        good.replace("/account/", "/accounts/"),
        good.replace("01", "1"),
        good.replacen("entente://", "entente://user@", 1),
        good.replace("a.example", "a.example:443"),
    ] {
        assert!(verify(named(&bad)).is_err(), "{bad}");
    }
    let second = |name: SanType| {
        let mut leaf = named(&good);
        leaf.params.subject_alt_names.push(name);
        leaf
    };
    let other = SanType::URI(uri(&member("b.example")).try_into().unwrap());
    let dns = SanType::DnsName("a.example".try_into().unwrap());
    for name in [other, dns] {
        let refused = verify(second(name));
        assert!(reason(refused).contains("exactly one URI"));
    }
    let mut none = named(&good);
    none.params.subject_alt_names.clear();
    assert!(verify(none).is_err());
    assert!(verify(leaf(&good, "alice", DATES)).is_err());
    let mut server = named(&good);
    server.params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    assert!(verify(server).is_err(), "for TLS servers only");
}

/// Goal: dates are judged when they are to be judged, and only then.
#[test]
fn dates() {
    let a = Organisation::new("a.example");
    let anchors = anchors(&[&a]);
    let uri = uri(&member("a.example"));
    let chain = a.sign(leaf(&uri, "alice@a.example", DATES), &KEY);
    let late = anchors.verify(&chain, Validity::At(DATES.not_after + 1));
    assert!(reason(late).contains("expired"));
    let early = anchors.verify(&chain, Validity::At(DATES.not_before - 1));
    assert!(reason(early).contains("not valid yet"));
    assert!(anchors.verify(&chain, Validity::NotJudged).is_ok());
}

/// Goal: a chain is two certificates in their order; a device certificate signs nothing.
#[test]
fn chains() {
    let a = Organisation::new("a.example");
    let anchors = anchors(&[&a]);
    let uri = uri(&member("a.example"));
    let chain = a.sign(leaf(&uri, "alice@a.example", DATES), &KEY);
    let verify = |chain: &[Vec<u8>]| anchors.verify(chain, Validity::At(NOW));
    assert!(verify(&chain).is_ok());
    assert!(verify(&chain[..1]).is_err());
    assert!(verify(&[chain[1].clone(), chain[0].clone()]).is_err());
    assert!(verify(&[chain[0].clone(), chain[0].clone()]).is_err());
    assert!(verify(&[chain[0].clone(), a.root.clone()]).is_err());
    let mut longer = chain.clone();
    longer.push(a.root.clone());
    assert!(verify(&longer).is_err());
    let mut changed = chain.clone();
    let last = changed[0].len() - 1;
    changed[0][last] ^= 1;
    assert!(verify(&changed).is_err());
}

/// Goal: a hub is certified by its own organisation alone, for its own name; and no device passes for a hub,
/// nor a hub for a device. Method: certificates with each name by each issuer.
#[test]
fn hubs() {
    let (a, b) = (
        Organisation::new("a.example"),
        Organisation::new("b.example"),
    );
    let anchors = anchors(&[&a, &b]);
    let hub = |server: &str| leaf(&hub_uri(&server.parse().unwrap()), "", DATES);
    let own = anchors.verify_hub(&a.sign(hub("a.example"), &KEY)).unwrap();
    assert_eq!(
        (own.server.as_str(), &own.public_key[..]),
        ("a.example", &KEY[..])
    );
    assert!(anchors.verify_hub(&a.sign(hub("b.example"), &KEY)).is_err());
    assert!(anchors.verify_hub(&b.sign(hub("b.example"), &KEY)).is_ok());
    let device = leaf(&uri(&member("a.example")), "alice@a.example", DATES);
    assert!(anchors.verify_hub(&a.sign(device, &KEY)).is_err());
    let as_device = anchors.verify(&a.sign(hub("a.example"), &KEY), Validity::NotJudged);
    assert!(as_device.is_err());
    for bad in [
        "entente://a.example/hub/",
        "entente://A.example/hub",
        "entente://a.example",
        "https://a.example/hub",
    ] {
        assert!(parse_hub_uri(bad).is_err(), "{bad}");
    }
}

fn roots(organisation: &Organisation, former: &[(&Organisation, u64)]) -> Roots {
    let former = former
        .iter()
        .map(|(of, until)| (of.root.clone(), until * 1000));
    Roots::new(organisation.root.clone(), former)
}

/// Goal: a former root vouches for certificates that end by its end, also long afterwards where dates are not
/// judged, and for none that ends later; the new root vouches at once. Hubs likewise. Method: a peer that changes its
/// root.
#[test]
fn former_roots() {
    let (a, b) = (
        Organisation::new("a.example"),
        Organisation::new("b.example"),
    );
    let (next, _) = b.successor();
    let mut anchors = anchors(&[&a]);
    let until = DATES.not_after;
    let named = roots(&next, &[(&b, until)]);
    anchors.replace_others(&a.server, [(b.server.clone(), named)]);
    let uri = uri(&member("b.example"));
    let chain = |by: &Organisation, dates| by.sign(leaf(&uri, "bob@b.example", dates), &KEY);
    let later = Dates {
        not_after: until + 1,
        ..DATES
    };
    for (by, dates, good) in [(&b, DATES, true), (&b, later, false), (&next, later, true)] {
        let judged = anchors.verify(&chain(by, dates), Validity::At(NOW));
        assert_eq!(judged.is_ok(), good, "{judged:?}");
        let imported = anchors.verify(&chain(by, dates), Validity::NotJudged);
        assert_eq!(imported.is_ok(), good, "{imported:?}");
        let hub = anchors.verify_hub(&by.sign(leaf(&hub_uri(&b.server), "", dates), &KEY));
        let unknown = Err(Error::UnknownRoot(b.server.clone()));
        assert_eq!(
            hub.map(|hub| hub.not_after),
            if good { Ok(dates.not_after) } else { unknown }
        );
    }
    let stranger = Organisation::new("b.example");
    let refused = anchors.verify(&chain(&stranger, DATES), Validity::At(NOW));
    assert_eq!(refused, Err(Error::UnknownRoot(b.server.clone())));
    let ended = anchors.verify(&chain(&b, DATES), Validity::At(until + 1));
    assert!(reason(ended).contains("expired"), "not: of an unknown root");
}

/// Goal: the own root gives way to one that it has signed for, and to no other. Method: a handover to it, none, one
/// by another root, one for another key, one for another organisation, one of another time, and damaged ones.
#[test]
fn the_own_root_follows_a_handover() {
    let a = Organisation::new("a.example");
    let (next, handover) = a.successor();
    let former = [(&a, NOW)];
    let take = |next: &Organisation, handover: &[u8], at| {
        let mut anchors = anchors(&[&a]);
        let before = anchors.clone();
        let taken = anchors.take_own(&a.server, roots(next, &former), handover, at * 1000);
        assert_eq!(anchors == before, taken.is_err());
        taken
    };
    assert_eq!(take(&next, &handover, NOW), Ok(true));
    assert_eq!(take(&a, &[], NOW), Ok(false), "the same root");
    let refused = Err(Error::Handover);
    assert_eq!(take(&next, &[], NOW), refused, "none");
    let other = Organisation::new("a.example");
    let (others_next, by_other) = other.successor();
    let (elsewhere, for_b) = a.successor_named("b.example");
    for (next, handover, at, why) in [
        (&next, &by_other, NOW, "another key"),
        (&others_next, &by_other, NOW, "another root's"),
        (&other, &handover, NOW, "for another root"),
        (&next, &handover, 1_600_000_000, "too early"),
        (&next, &handover, 2_100_000_000, "too late"),
        (&elsewhere, &for_b, NOW, "another organisation's"),
    ] {
        assert_eq!(take(next, handover, at), refused, "{why}");
    }
    // Of what is not signed the parser minds neither by which tag the algorithm's name goes, nor how many bits of the
    // signature are none.
    let name = [0x30, 0x0a, 0x06, 0x08];
    let copy = handover.windows(name.len()).rposition(|at| at == name);
    let unminded = copy.map(|copy| [copy + 2, copy + 14]).unwrap();
    for at in (0..handover.len()).filter(|at| !unminded.contains(at)) {
        let mut damaged = handover.clone();
        damaged[at] ^= 1;
        assert!(take(&next, &damaged, NOW).is_err(), "byte {at}");
    }
}

proptest::proptest! {
    /// Goal: no bytes make a handover. Method: any, beside a true root.
    #[test]
    fn any_handover(bytes in proptest::collection::vec(0_u8.., 0..600)) {
        let a = Organisation::new("a.example");
        proptest::prop_assert!(check_handover(&a.root, &a.root, &bytes, NOW).is_err());
        proptest::prop_assert!(check_handover(&bytes, &a.root, &a.root, NOW).is_err());
    }
}

proptest::proptest! {
    /// Goal: no bytes make the readers panic.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(0_u8.., 0..600), text in ".{0,120}") {
        let _ = (read(&bytes), read_hub(&bytes), parse_hub_uri(&text));
        let _ = read_not_before(&bytes);
        let _ = parse_uri(&text);
        let _ = parse_uri(&format!("entente://{text}"));
    }
}
