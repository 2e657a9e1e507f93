//! What the next charter of a consortium makes of an agreement that a former one has made, and what not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use federation_proto::agreement::{
    Active, Agreement, Charter, CharterBody, ConsortiumError, Grants, Operation, Statement, Term,
    Terms, TtlBounds, UserTypes,
};
use federation_proto::hash::Digest;
use federation_proto::ids::ConsortiumId;
use proptest::prelude::*;
use support::{DAY_MS, NOW_MS, Organisation, active, everything, random};

const MINUTE_MS: u64 = 60_000;

fn body(serial: u64, previous: Digest) -> CharterBody {
    CharterBody {
        consortium: ConsortiumId::from_bytes([9; 16]),
        name: "Relief Network".to_owned(),
        serial,
        previous,
        terms: everything(),
        members: Vec::new(),
        made_ms: NOW_MS + serial * MINUTE_MS,
        expires_ms: NOW_MS + serial * 300 * DAY_MS,
    }
}

/// The charter of these members, which those named by their place have signed.
fn charter(body: CharterBody, members: &[&Organisation], signers: &[usize]) -> Charter {
    let introductions: Vec<_> = members.iter().map(|member| member.introduction()).collect();
    let mut charter = Charter::make(body, &introductions).unwrap();
    for by in signers.iter().map(|place| members[*place]) {
        let confirmed = charter.fingerprint();
        charter
            .sign(
                (&by.name, &by.root),
                &confirmed,
                &by.issuing_key,
                &random(),
                NOW_MS,
            )
            .unwrap();
    }
    charter
}

/// Two members, and what their first charter has made of them, at the first one's end.
fn chartered() -> (Organisation, Organisation, Charter, Active) {
    let (a, b) = (
        Organisation::new("a.example", 1),
        Organisation::new("b.example", 2),
    );
    let first = charter(body(1, Digest::ZERO), &[&a, &b], &[0, 1]);
    let agreement = first.pair(&a.name, &b.name, NOW_MS + MINUTE_MS).unwrap();
    (a, b, first, agreement)
}

/// Goal: a charter renews what an earlier one of its consortium has made, once both have signed it and until its last
/// day, whichever charters lie between; and nothing else; by a table of charters.
#[test]
fn what_is_renewed() {
    let (a, b, first, agreement) = chartered();
    let signed = agreement.signed();
    assert_eq!(signed.chartered().as_ref(), Some(first.body()));
    let now_ms = NOW_MS + DAY_MS;
    let of = |body, signers: &[usize]| charter(body, &[&a, &b], signers);
    let second = body(2, first.sha256());
    of(second.clone(), &[0, 1]).renews(signed, now_ms).unwrap();
    let much_later = body(7, Digest::of(b"one that neither has signed"));
    of(much_later, &[0, 1]).renews(signed, now_ms).unwrap();
    let of_a_alone = of(second.clone(), &[0]);
    of_a_alone.would_renew(signed).unwrap();
    assert_eq!(
        of_a_alone.renews(signed, now_ms).unwrap_err(),
        ConsortiumError::NotSigned(b.name.clone())
    );
    let last_ms = second.expires_ms;
    assert_eq!(
        of(second.clone(), &[0, 1])
            .renews(signed, last_ms)
            .unwrap_err(),
        ConsortiumError::Expired
    );
    assert_eq!(
        first.renews(signed, now_ms).unwrap_err(),
        ConsortiumError::NotTheNext
    );
    let foreign = CharterBody {
        consortium: ConsortiumId::from_bytes([8; 16]),
        ..second.clone()
    };
    assert_eq!(
        of(foreign, &[0, 1]).renews(signed, now_ms).unwrap_err(),
        ConsortiumError::OfItsOwn
    );
    let (by_themselves, _) = active(&a, &b);
    assert_eq!(by_themselves.signed().chartered(), None);
    assert_eq!(
        of(second.clone(), &[0, 1])
            .renews(by_themselves.signed(), now_ms)
            .unwrap_err(),
        ConsortiumError::OfItsOwn
    );
    let c = Organisation::new("c.example", 3);
    let without = charter(second.clone(), &[&a, &c], &[0, 1]);
    assert_eq!(
        without.renews(signed, now_ms).unwrap_err(),
        ConsortiumError::NotAMember(b.name.clone())
    );
    // Somebody else under the name of b, whom both have believed.
    let other = Organisation::new("b.example", 4);
    let forged = charter(second, &[&a, &other], &[0, 1]);
    assert_eq!(
        forged.renews(signed, now_ms).unwrap_err(),
        ConsortiumError::OtherRoot(b.name.clone())
    );
}

/// Goal: either side's half is what it states as the charter has it, by its own keys, and the other's server takes it
/// as covered; whatever is more than the charter says, or changes the root, is not. By a narrowed statement, and one
/// change too many at a time.
#[test]
fn what_the_charter_covers() {
    let (a, b, first, agreement) = chartered();
    let second = charter(body(2, first.sha256()), &[&a, &b], &[0, 1]);
    let mut at_a = Agreement::Active(agreement);
    let mut narrowed = at_a.signed().unwrap().theirs().clone();
    narrowed.terms.file_bytes_max = 1;
    narrowed.made_ms = NOW_MS + 3 * MINUTE_MS;
    narrowed.endpoints = Vec::new();
    let at_b = first.pair(&b.name, &a.name, NOW_MS + MINUTE_MS).unwrap();
    let amendment = at_b
        .signed()
        .amendment(narrowed, &b.issuing_key, &random())
        .unwrap();
    at_a = at_a
        .change(|signed| signed.amend(amendment, NOW_MS))
        .unwrap()
        .0;
    let signed = at_a.signed().unwrap();

    let half = second.renewed(signed.theirs()).unwrap();
    assert_eq!(half.terms, everything());
    assert_eq!(half.expires_ms, second.body().expires_ms);
    assert_eq!(half.root, b.root);
    assert_eq!(half.endpoints, signed.theirs().endpoints, "stated since");
    let ours = second.renewed(signed.ours()).unwrap();
    assert_eq!(ours.endpoints, a.introduction().endpoints);
    assert!(second.covers(signed, &half));
    let less = |change: &dyn Fn(&mut Statement)| {
        let mut statement = half.clone();
        change(&mut statement);
        second.covers(signed, &statement)
    };
    assert!(less(&|half| half.terms.label_max = 1));
    assert!(less(&|half| half.expires_ms -= 1));
    assert!(less(&|half| half.endpoints = b.introduction().endpoints));
    assert!(!less(&|half| half.terms.file_bytes_max += 1));
    assert!(!less(&|half| half.terms.ttl.max_seconds += 1));
    assert!(!less(&|half| half.expires_ms += 1));
    assert!(!less(&|half| half.root = a.root.clone()));
    assert!(!less(&|half| half.from = a.name.clone()));
    assert!(!less(
        &|half| half.endpoints = vec!["elsewhere.example:1".parse().unwrap()]
    ));
}

fn user_types() -> impl Strategy<Value = UserTypes> {
    prop::collection::btree_set("[a-c]", 0..=2).prop_map(UserTypes::from_names)
}

fn grants() -> impl Strategy<Value = Grants> {
    let operation = prop::sample::select(Operation::ALL.to_vec());
    prop::collection::btree_map(operation, user_types(), 0..=4)
}

fn terms() -> impl Strategy<Value = Terms> {
    let bounds = (1..50_u32, 0..50_u32);
    let most = (0..4_u64, 0..4_u64, 0..4_u8);
    (grants(), grants(), bounds, most).prop_map(|(outbound, inbound, (min, more), most)| Terms {
        outbound,
        inbound,
        ttl: TtlBounds {
            min_seconds: min,
            max_seconds: min + more,
        },
        waiting_bytes_max: most.0,
        file_bytes_max: most.1,
        label_max: most.2,
    })
}

/// A statement of these terms and this end.
fn stating((terms, expires_ms): (Terms, u64)) -> Statement {
    let by = Organisation::new("a.example", 1);
    Statement {
        terms,
        expires_ms,
        ..by.statement(&"b.example".parse().unwrap())
    }
}

/// Whether the term of this statement lets the act pass: a user type, a time-to-live or time, and a size.
fn allows(statement: &Statement, term: Term, act: &(String, u32, u64)) -> bool {
    let (user_type, time, size) = act;
    let terms = &statement.terms;
    let granted = |grants: &Grants, operation| {
        let types: Option<&UserTypes> = grants.get(&operation);
        types.is_some_and(|types| types.covers(user_type))
    };
    match term {
        Term::Outbound(operation) => granted(&terms.outbound, operation),
        Term::Inbound(operation) => granted(&terms.inbound, operation),
        Term::Ttl => (terms.ttl.min_seconds..=terms.ttl.max_seconds).contains(time),
        Term::Waiting => *size <= terms.waiting_bytes_max,
        Term::Files => *size <= terms.file_bytes_max,
        Term::Label => *size <= terms.label_max.into(),
        Term::End => u64::from(*time) < statement.expires_ms,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Goal: in the terms that were narrowed exactly what both statements allow is left, and in the others exactly what
    /// the wider one does; and a term counts as narrowed when an act in it is lost. By any two statements, terms and
    /// acts.
    #[test]
    fn what_was_narrowed_stays(
        one in (terms(), 0..100_u64).prop_map(stating),
        other in (terms(), 0..100_u64).prop_map(stating),
        narrowed in prop::collection::btree_set(prop::sample::select(Term::all().collect::<Vec<_>>()), 0..6),
        act in ("[a-d]", 1..100_u32, 0..4_u64),
    ) {
        match one.clone().no_wider_in(&narrowed, &other) {
            Some(left) => {
                prop_assert!(one.only_tightens_to(&left));
                prop_assert_eq!(left.terms.check(), Ok(()));
                for term in Term::all() {
                    let bound = !narrowed.contains(&term) || allows(&other, term, &act);
                    prop_assert_eq!(allows(&left, term, &act), bound && allows(&one, term, &act), "{:?}", term);
                }
            }
            None => prop_assert!(!(allows(&one, Term::Ttl, &act) && allows(&other, Term::Ttl, &act))),
        }
        let lost = one.narrowed_in(&other);
        for term in Term::all() {
            if allows(&one, term, &act) && !allows(&other, term, &act) {
                prop_assert!(lost.contains(&term), "{:?}", term);
            }
        }
        prop_assert!(one.narrowed_in(&one).is_empty());
        let same_keys = Statement { root: one.root.clone(), ..other };
        prop_assert_eq!(lost.is_empty(), same_keys.only_tightens_to(&one));
    }
}
