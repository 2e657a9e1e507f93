//! Consent to be contacted from outside: asked for, given, taken back, and what it keeps away.

use federation_proto::codec::Wire as _;
use federation_proto::ids::{AccountId, Address};
use federation_proto::limits::CONTACT_ASK_MS_MAX;
use federation_proto::payload::{Contact, ContactAct as Said, Payload};
use federation_proto::refusal::Refusal;
use homeserver_api::admin::{Grant, Operation};
use homeserver_api::client::EnrolRequest;
use homeserver_api::contacts::{
    ContactAct, ContactChange, ContactInfo, ContactRequest, ContactStanding,
};
use homeserver_api::policy::{OutsideContacts, UserTypePolicy};
use homeserver_api::session::KeyMaterial;

use super::*;
use crate::delivery::limits::{ACCOUNT_CONTACT_ASKS_MAX, CONTACT_ASKS_MS, PEER_CONTACT_ASKS_MAX};
use crate::delivery::{NotTaken, contacts, expiry};
use crate::identity::enrolment::{self, Enrolled};
use crate::identity::{key_packages, user_types};
use crate::store;
use crate::store::allowance::{self, Purpose, Whose};
use crate::store::device::DeviceOf;

mod barred;

/// Alice at `a`, Bob at `b`, with an agreement, key packages, and this setting on both sides.
async fn strangers(a: &Side, b: &Side, setting: OutsideContacts) -> (Person, Person) {
    peered(a, b).await;
    let (alice, bob) = (person(a, "alice").await, person(b, "bob").await);
    for (side, person) in [(a, &alice), (b, &bob)] {
        set(side, setting).await;
        publish(side, person).await;
    }
    (alice, bob)
}

async fn set(side: &Side, outside_contacts: OutsideContacts) {
    let policy = UserTypePolicy {
        outside_contacts,
        ..UserTypePolicy::default()
    };
    user_types::put(&side.node, &admin(), "standard", policy)
        .await
        .unwrap();
}

async fn publish(side: &Side, person: &Person) {
    let single = (0..20_u8).map(|n| Bytes::from(vec![n; 3])).collect();
    key_packages::publish(&side.node, person.of.device, single, None)
        .await
        .unwrap();
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

async fn act(
    side: &Side,
    person: &Person,
    to: &str,
    act: ContactAct,
) -> Result<ContactInfo, Refusal> {
    act_with(side, person, to, act, None, None).await
}

async fn act_with(
    side: &Side,
    person: &Person,
    to: &str,
    act: ContactAct,
    text: Option<&str>,
    account: Option<AccountId>,
) -> Result<ContactInfo, Refusal> {
    let request = ContactRequest {
        act,
        text: text.map(str::to_owned),
        account,
    };
    refused(contacts::act(&side.node, person.of, &address(to), &request).await)
}

async fn remove(side: &Side, person: &Person, whom: &str) -> Result<(), Refusal> {
    refused(contacts::remove(&side.node, person.of, &address(whom)).await)
}

fn refused<T>(done: Result<T, NotTaken>) -> Result<T, Refusal> {
    done.map_err(|error| match error {
        NotTaken::Refused(refusal) => refusal,
        other => panic!("{other}"),
    })
}

/// Everything that waits either way arrives.
async fn post_goes(a: &Side, b: &Side) {
    for _ in 0..2 {
        drain(&mut worker(a, b)).await;
        drain(&mut worker(b, a)).await;
    }
}

/// What `who` at `from` is answered who claims the keys of `whom` at `at`.
async fn claim(
    who: &mut Person,
    (from, at): (&Side, &Side),
    whom: &str,
    number: u8,
) -> Result<KeyMaterial, Refusal> {
    let request = RequestId::from_bytes([number; 16]);
    let address = address(whom);
    let asked = who
        .submit(
            from,
            SubmissionBody::ClaimKeys {
                request,
                address,
                known: Vec::new(),
            },
        )
        .await;
    assert!(matches!(asked, Outcome::Accepted { .. }), "{asked:?}");
    post_goes(from, at).await;
    let inbox = who.inbox(from).await;
    let answer = inbox.into_iter().find_map(|body| match body {
        InboxBody::KeyMaterial {
            request: of,
            result,
        } if of == request => Some(result),
        _ => None,
    });
    answer.unwrap()
}

/// What the person's device was told of contacts.
async fn told(person: &Person, side: &Side) -> Vec<(String, ContactChange, String)> {
    let inbox = person.inbox(side).await.into_iter();
    inbox
        .filter_map(|body| match body {
            InboxBody::Contact {
                address,
                change,
                text,
            } => Some((address.to_string(), change, text)),
            _ => None,
        })
        .collect()
}

async fn changes(person: &Person, side: &Side) -> Vec<ContactChange> {
    let told = told(person, side).await.into_iter();
    told.map(|(_, change, _)| change).collect()
}

async fn standings(person: &Person, side: &Side) -> Vec<(String, ContactStanding, bool)> {
    let list = contacts::list(&side.node, person.of.account).await.unwrap();
    list.into_iter()
        .map(|contact| {
            let address = contact.address.to_string();
            (address, contact.standing, contact.allows_you)
        })
        .collect()
}

fn code<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> RefusalCode {
    answer.unwrap_err().code
}

async fn welcomed(person: &Person, side: &Side) -> usize {
    let inbox = person.inbox(side).await;
    let welcomes = inbox
        .iter()
        .filter(|body| matches!(body, InboxBody::Welcome { .. }));
    welcomes.count()
}

async fn audited(side: &Side, action: &str) -> usize {
    let page = crate::audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let of_action = page.entries.iter().filter(|entry| entry.action == action);
    of_action.count()
}

/// The log's entries about contacts name a side's own person by its account, not by its handle.
async fn audited_by_account(side: &Side, own: &Person, handle: &str) {
    let page = crate::audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let account = format!("account {}", own.of.account);
    for entry in page.entries {
        let by_account = entry.detail.ends_with(&account) && !entry.detail.contains(handle);
        assert!(by_account || !entry.action.starts_with("contact."));
    }
}

/// A second device of whoever has this handle.
async fn second_device(side: &Side, handle: &str) -> DeviceOf {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let request = EnrolRequest {
        handle: handle.parse().unwrap(),
        password: "a long password".into(),
        csr: homeserver_api::Base64(csr.der().to_vec()),
        device_name: "telephone".to_owned(),
        reset: true,
    };
    let enrolled = enrolment::enrol(&side.node, request).await.unwrap();
    let Enrolled::Now(enrolled) = enrolled else {
        panic!("a reset does not wait");
    };
    DeviceOf {
        account: enrolled.account,
        device: enrolled.device,
    }
}

/// What a server may let know in its people's name, as an envelope.
fn envelope(sequence: u64, at_ms: u64, said: &Contact) -> Outgoing {
    let payload = Payload::Contact(said.clone());
    Outgoing {
        kind: payload.kind(),
        lane: Lane::CONTROL,
        sequence,
        created_ms: at_ms,
        expires_ms: at_ms + CONTACT_ASK_MS_MAX,
        payload: HashedPayload::new(said.to_bytes().unwrap()),
    }
}

fn said(act: Said, from: &str, to: &str) -> Contact {
    Contact {
        act,
        account: AccountId::from_bytes([9; 16]),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        text: String::new(),
    }
}

/// Goal: who has not consented is not found by strangers but asked first; the ask with its words reaches every
/// device, the answer too, and then the room starts; by asking, allowing and starting.
#[tokio::test]
async fn asked_and_allowed() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    let mut telephone = Person::at(&b, second_device(&b, "bob").await);
    let refusal = claim(&mut alice, (&a, &b), "bob@b.example", 1)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ConsentRequired);
    assert!(refusal.reason.contains("chat contact ask bob@b.example"));

    let text = Some("We met at the fair");
    let asked = act_with(&a, &alice, "bob@b.example", ContactAct::Ask, text, None)
        .await
        .unwrap();
    assert_eq!(asked.standing, ContactStanding::Asked);
    post_goes(&a, &b).await;
    let expected = (
        "alice@a.example".to_owned(),
        ContactChange::AsksYou,
        "We met at the fair".to_owned(),
    );
    assert_eq!(told(&bob, &b).await, std::slice::from_ref(&expected));
    assert_eq!(told(&telephone, &b).await, [expected]);
    let list = contacts::list(&b.node, bob.of.account).await.unwrap();
    assert_eq!(list[0].text, "We met at the fair");
    assert_eq!(
        code(claim(&mut alice, (&a, &b), "bob@b.example", 2).await),
        RefusalCode::ConsentRequired
    );

    let allowed = act(&b, &bob, "alice@a.example", ContactAct::Allow)
        .await
        .unwrap();
    assert_eq!(allowed.standing, ContactStanding::Allowed);
    assert_eq!(
        changes(&telephone, &b).await,
        [ContactChange::AsksYou, ContactChange::Allowed]
    );
    assert_eq!(
        changes(&bob, &b).await,
        [ContactChange::AsksYou],
        "it knows"
    );
    post_goes(&a, &b).await;
    assert_eq!(changes(&alice, &a).await, [ContactChange::AllowsYou]);
    let both = |address: &str| [(address.to_owned(), ContactStanding::Allowed, true)];
    assert_eq!(standings(&alice, &a).await, both("bob@b.example"));
    assert_eq!(standings(&bob, &b).await, both("alice@a.example"));
    claim(&mut alice, (&a, &b), "bob@b.example", 3)
        .await
        .unwrap();
    let created = alice.create_room(&a, ROOM, &[&bob]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    post_goes(&a, &b).await;
    assert_eq!(welcomed(&bob, &b).await, 1);
    // Who asked may be contacted in turn.
    claim(&mut telephone, (&b, &a), "alice@a.example", 4)
        .await
        .unwrap();
    assert_eq!(audited(&a, "contact.asked").await, 1);
    assert_eq!(audited(&a, "contact.granted").await, 1);
    assert_eq!(audited(&b, "contact.ask-received").await, 1);
    assert_eq!(audited(&b, "contact.allowed").await, 1);
    audited_by_account(&a, &alice, "alice").await;
    audited_by_account(&b, &bob, "bob").await;
}

/// Goal: what was asked is taken back, and consent too, the other side hears of both, and is let in no more; by
/// removing both.
#[tokio::test]
async fn withdrawn_and_revoked() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    remove(&a, &alice, "bob@b.example").await.unwrap();
    post_goes(&a, &b).await;
    assert_eq!(
        changes(&bob, &b).await,
        [ContactChange::AsksYou, ContactChange::Withdrawn]
    );
    assert_eq!(standings(&bob, &b).await, []);
    assert_eq!(
        code(remove(&a, &alice, "bob@b.example").await),
        RefusalCode::UnknownRecipient
    );

    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    act(&b, &bob, "alice@a.example", ContactAct::Allow)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    claim(&mut alice, (&a, &b), "bob@b.example", 1)
        .await
        .unwrap();
    remove(&b, &bob, "alice@a.example").await.unwrap();
    post_goes(&a, &b).await;
    assert_eq!(
        changes(&alice, &a).await,
        [ContactChange::AllowsYou, ContactChange::Revoked]
    );
    assert_eq!(
        code(claim(&mut alice, (&a, &b), "bob@b.example", 2).await),
        RefusalCode::ConsentRequired
    );
    let once = ("bob@b.example".to_owned(), ContactStanding::Allowed, false);
    assert_eq!(
        standings(&alice, &a).await,
        [once],
        "who asked has consented"
    );
}

/// Goal: two who ask each other at once both consent, and who starts a conversation with somebody that has asked
/// lets him in by that; by asks that cross, and a claim of keys.
#[tokio::test]
async fn asking_back_is_consent() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    act(&b, &bob, "alice@a.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    for (person, side) in [(&alice, &a), (&bob, &b)] {
        assert_eq!(changes(person, side).await, [ContactChange::AllowsYou]);
        let [(_, standing, allows)] = &standings(person, side).await[..] else {
            panic!("one contact");
        };
        assert_eq!((*standing, *allows), (ContactStanding::Allowed, true));
    }
    assert_eq!(waiting(&a, &b).await + waiting(&b, &a).await, 0);
    claim(&mut alice, (&a, &b), "bob@b.example", 1)
        .await
        .unwrap();

    let carol = person(&a, "carol").await;
    publish(&a, &carol).await;
    act(&a, &carol, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    claim(&mut bob, (&b, &a), "carol@a.example", 2)
        .await
        .unwrap();
    assert_eq!(changes(&carol, &a).await, [ContactChange::AllowsYou]);
}

/// Goal: who has consented beforehand is not asked; consent that nobody asked for, and that of a made-up account
/// under a known handle, change nothing; by what a homeserver may say unasked.
#[tokio::test]
async fn consent_beforehand_and_unasked() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, _) = strangers(&a, &b, OutsideContacts::Ask).await;
    let granted = exchange(
        &b,
        &a,
        vec![
            envelope(1, now(&b), &said(Said::Grant, "bob", "alice")),
            envelope(2, now(&b), &said(Said::Revoke, "bob", "alice")),
        ],
    )
    .await;
    assert_eq!(granted, [ItemResult::Accepted, ItemResult::Accepted]);
    assert_eq!(standings(&alice, &a).await, []);
    assert_eq!(changes(&alice, &a).await, []);

    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    act(&b, &bob, "alice@a.example", ContactAct::Allow)
        .await
        .unwrap();
    assert_eq!(waiting(&b, &a).await, 0, "she learns it when she asks");
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    assert_eq!(changes(&alice, &a).await, [ContactChange::AllowsYou]);
    let before = standings(&bob, &b).await;
    peered(&c, &b).await;
    for (from, sequence) in [(&c, 1), (&a, 2)] {
        let forged = envelope(sequence, now(from), &said(Said::Revoke, "alice", "bob"));
        assert_eq!(
            exchange(from, &b, vec![forged]).await,
            [ItemResult::Accepted]
        );
        assert_eq!(standings(&bob, &b).await, before, "not of his alice");
    }
}

/// Goal: asks are bounded for each account and for each peer, and a day later there are new ones; what the peer refuses
/// comes back, and is asked no more; by asking too often.
#[tokio::test]
async fn asks_are_bounded() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    for number in 0..ACCOUNT_CONTACT_ASKS_MAX {
        let whom = format!("p{number}@b.example");
        act(&a, &alice, &whom, ContactAct::Ask).await.unwrap();
    }
    let late = act(&a, &alice, "bob@b.example", ContactAct::Ask).await;
    assert_eq!(code(late), RefusalCode::RateLimited);
    assert_eq!(
        standings(&alice, &a).await.len(),
        usize::try_from(ACCOUNT_CONTACT_ASKS_MAX).unwrap()
    );
    post_goes(&a, &b).await;

    let (asks, whose) = (Purpose::Ask, Whose::Peer(a.node.server.clone()));
    let (mut used, read) = allowance::get(&b.node.store, asks, &whose)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(used.units, ACCOUNT_CONTACT_ASKS_MAX, "whoever was asked");
    used.units = PEER_CONTACT_ASKS_MAX;
    let mut part = Part::default();
    allowance::put(&mut part, asks, &whose, used, Some(read)).unwrap();
    b.node.store.commit(part).await.unwrap();
    let carol = person(&a, "carol").await;
    act(&a, &carol, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    let told = told(&carol, &a).await;
    assert_eq!(told[0].1, ContactChange::Undelivered);
    assert!(told[0].2.contains("tomorrow"), "{told:?}");
    assert_eq!(standings(&carol, &a).await, []);
    assert_eq!(standings(&bob, &b).await, []);

    for side in [&a, &b] {
        side.clock.advance_ms(CONTACT_ASKS_MS);
    }
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    assert_eq!(changes(&bob, &b).await, [ContactChange::AsksYou]);
}

/// Goal: an ask that nobody answers ends, its words are deleted, and it may be asked anew; by moving the clocks.
#[tokio::test]
async fn asks_end() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    let stored = |side: &Side, account| {
        let store = side.node.store.clone();
        async move { store::contacts::get(&store, account, 0).await.unwrap().1 }
    };
    assert!(stored(&b, bob.of.account).await.is_some());
    for side in [&a, &b] {
        side.clock.advance_ms(CONTACT_ASK_MS_MAX);
        expiry::sweep(&side.node).await.unwrap();
    }
    assert_eq!(standings(&alice, &a).await, []);
    assert_eq!(standings(&bob, &b).await, []);
    assert_eq!(stored(&a, alice.of.account).await, None);
    assert_eq!(stored(&b, bob.of.account).await, None);
    let again = act(&a, &alice, "bob@b.example", ContactAct::Ask).await;
    assert_eq!(again.unwrap().standing, ContactStanding::Asked);
}

/// Goal: what can't be asked is refused with words that help; by one of each.
#[tokio::test]
async fn mistakes_of_the_asker() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, _) = strangers(&a, &b, OutsideContacts::Open).await;
    let long = "x".repeat(281);
    for (whom, does, text, expected) in [
        (
            "carol@a.example",
            ContactAct::Ask,
            None,
            RefusalCode::Malformed,
        ),
        (
            "carol@c.example",
            ContactAct::Ask,
            None,
            RefusalCode::NoAgreement,
        ),
        (
            "bob@b.example",
            ContactAct::Ask,
            Some(long.as_str()),
            RefusalCode::Malformed,
        ),
        (
            "bob@b.example",
            ContactAct::Ask,
            Some("two\nlines"),
            RefusalCode::Malformed,
        ),
        (
            "bob@b.example",
            ContactAct::Allow,
            Some("hello"),
            RefusalCode::Malformed,
        ),
    ] {
        let refusal = act_with(&a, &alice, whom, does, text, None)
            .await
            .unwrap_err();
        assert_eq!(refusal.code, expected, "{refusal}");
    }
    // Whom there is no agreement with may be blocked all the same.
    act(&a, &alice, "carol@c.example", ContactAct::Block)
        .await
        .unwrap();
    let blocked = act(&a, &alice, "carol@c.example", ContactAct::Ask).await;
    assert_eq!(code(blocked), RefusalCode::NoAgreement);
}

/// Goal: an ask that waits is judged again when it is sent: once invitations are no longer granted it comes back, and
/// consent that was given goes all the same; by an agreement that is tightened with both waiting.
#[tokio::test]
async fn waiting_asks_are_judged_again() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    let carol = person(&b, "carol").await;
    act(&b, &carol, "alice@a.example", ContactAct::Ask)
        .await
        .unwrap();
    drain(&mut worker(&b, &a)).await;
    act(&a, &alice, "carol@b.example", ContactAct::Allow)
        .await
        .unwrap();
    act(&a, &alice, "bob@b.example", ContactAct::Ask)
        .await
        .unwrap();
    let only_messages = homeserver_api::admin::AmendRequest {
        outbound: Some(vec![Grant {
            operation: Operation::Message,
            user_types: Vec::new(),
        }]),
        ..Default::default()
    };
    peers::amend(&a.node, &admin(), &b.node.server, &only_messages)
        .await
        .unwrap();
    post_goes(&a, &b).await;
    let undelivered = told(&alice, &a).await.pop().unwrap();
    assert_eq!(undelivered.0, "bob@b.example");
    assert_eq!(undelivered.1, ContactChange::Undelivered);
    assert!(undelivered.2.contains("out-of-scope"), "{undelivered:?}");
    // Our own homeserver's words: the other one would name a.example.
    assert!(undelivered.2.contains("with b.example"), "{undelivered:?}");
    assert_eq!(standings(&bob, &b).await, []);
    let [(address, standing, _)] = &standings(&alice, &a).await[..] else {
        panic!("carol alone");
    };
    assert_eq!(address, "carol@b.example");
    assert_eq!(*standing, ContactStanding::Allowed);
    assert_eq!(changes(&carol, &b).await, [ContactChange::AllowsYou]);
    let again = act(&a, &alice, "bob@b.example", ContactAct::Ask).await;
    assert_eq!(code(again), RefusalCode::OutOfScope);
}
