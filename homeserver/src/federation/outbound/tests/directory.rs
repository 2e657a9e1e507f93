//! People who look each other up, at home and across an agreement.

use federation_proto::ids::{AccountId, DeviceId};
use federation_proto::payload::{DirectoryAnswer, DirectoryQuery, Found, Payload, Sender, Sought};
use federation_proto::refusal::Refusal;
use homeserver_api::admin::{
    AcceptRequest, AmendRequest, ChangeUserRequest, CountersignRequest, Grant, OfferRequest,
    Operation, Terms,
};
use homeserver_api::policy::{DirectoryListing, ExternalScope, UserTypePolicy};
use homeserver_api::session::Listing;

use super::*;
use crate::delivery::limits::{
    ACCOUNT_LOOK_UP_UNITS_MAX, LOOK_UP_TTL_MS, LOOK_UPS_MS, PEER_LOOK_UP_UNITS_MAX,
};
use crate::identity::{accounts, user_types};
use crate::store::allowance::{self, Purpose, Used, Whose};
use crate::store::look_up;

/// An agreement in which each side states its own terms.
async fn peered_with(a: &Side, b: &Side, of_a: Terms, of_b: Terms) {
    let offer = OfferRequest {
        server: b.node.server.clone(),
        terms: Some(of_a),
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    let offer = peers::offer(&a.node, &admin(), &offer).await.unwrap();
    let seen = peers::inspect(&b.node, &offer).await.unwrap();
    let acceptance = AcceptRequest {
        document: offer,
        fingerprint: seen.fingerprint,
        terms: Some(of_b),
        endpoints: vec!["192.0.2.2:8448".to_owned()],
        contact: String::new(),
    };
    let document = peers::accept(&b.node, &admin(), &acceptance).await.unwrap();
    let seen = peers::inspect(&a.node, &document).await.unwrap();
    let countersign = CountersignRequest {
        document,
        fingerprint: seen.fingerprint,
    };
    let document = peers::countersign(&a.node, &admin(), &countersign)
        .await
        .unwrap();
    peers::take(&b.node, &admin(), &document).await.unwrap();
}

/// Terms that grant everything, but look-ups only to these user types (`None`: not at all), each way.
fn terms(outbound: Option<&[&str]>, inbound: Option<&[&str]>) -> Terms {
    let restrict = |grants: Vec<Grant>, to: Option<&[&str]>| {
        let grants = grants
            .into_iter()
            .filter_map(|grant| match (grant.operation, to) {
                (Operation::Directory, None) => None,
                (Operation::Directory, Some(names)) => Some(Grant {
                    user_types: names.iter().map(ToString::to_string).collect(),
                    ..grant
                }),
                _ => Some(grant),
            });
        grants.collect()
    };
    let all = Terms::default();
    Terms {
        outbound: restrict(all.outbound.clone(), outbound),
        inbound: restrict(all.inbound.clone(), inbound),
        ..all
    }
}

/// An account of a user type of its own name.
async fn typed(side: &Side, name: &str, policy: UserTypePolicy) {
    person(side, name).await;
    user_types::put(&side.node, &admin(), name, policy)
        .await
        .unwrap();
    let change = ChangeUserRequest {
        user_type: Some(name.to_owned()),
        suspended: None,
    };
    accounts::change(&side.node, &admin(), &name.parse().unwrap(), &change)
        .await
        .unwrap();
}

fn found_as(directory: DirectoryListing) -> UserTypePolicy {
    UserTypePolicy {
        directory,
        ..UserTypePolicy::default()
    }
}

fn exactly(handle: &str) -> Sought {
    Sought::Handle(handle.parse().unwrap())
}

fn beginning(text: &str) -> Sought {
    Sought::Prefix(text.parse().unwrap())
}

fn listing(addresses: &[&str]) -> Listing {
    Listing {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        more: false,
    }
}

/// Submits a look-up at `server`'s.
async fn submit(who: &mut Person, at: &Side, server: &Side, n: u8, sought: Sought) -> Outcome {
    let body = SubmissionBody::LookUp {
        request: RequestId::from_bytes([n; 16]),
        server: server.node.server.clone(),
        sought,
    };
    who.submit(at, body).await
}

/// The answer to look-up `n`, if it is there.
async fn answer(who: &Person, at: &Side, n: u8) -> Option<Result<Listing, Refusal>> {
    let inbox = who.inbox(at).await;
    inbox.into_iter().find_map(|body| match body {
        InboxBody::Directory { request, result } if request.as_bytes()[0] == n => Some(result),
        _ => None,
    })
}

/// Looks somebody up, at the own organisation or a peer, and brings the question and its answer.
async fn look_up(
    who: &mut Person,
    at: &Side,
    server: &Side,
    n: u8,
    sought: Sought,
) -> Result<Listing, Refusal> {
    let outcome = submit(who, at, server, n, sought).await;
    if let Outcome::Refused(refusal) = outcome {
        return Err(refusal);
    }
    if at.node.server != server.node.server {
        drain(&mut worker(at, server)).await;
        drain(&mut worker(server, at)).await;
    }
    answer(who, at, n).await.expect("an answer")
}

fn code(result: Result<Listing, Refusal>) -> RefusalCode {
    result.unwrap_err().code
}

/// What becomes of a question that `from` sends whatever is granted.
async fn forced(from: &Side, to: &Side) -> Option<RefusalCode> {
    let payload = Payload::DirectoryQuery(DirectoryQuery {
        request: RequestId::from_bytes([7; 16]),
        requester: Sender {
            account: AccountId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
        },
        sought: exactly("bob"),
    });
    // The answer to the other direction's question is the lane's first.
    let envelope = Outgoing {
        kind: payload.kind(),
        lane: Lane::CONTROL,
        sequence: 2,
        created_ms: now(from),
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    };
    match exchange(from, to, vec![envelope]).await.remove(0) {
        ItemResult::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

async fn used_up(side: &Side, whose: &Whose, units: u32) {
    let mut part = Part::default();
    let used = Used {
        since_ms: now(side),
        units,
    };
    let read = allowance::get(&side.node.store, Purpose::LookUp, whose).await;
    let read = read.unwrap().map(|(_, read)| read);
    allowance::put(&mut part, Purpose::LookUp, whose, used, read).unwrap();
    side.node.store.commit(part).await.unwrap();
}

async fn audited(side: &Side, action: &str) -> usize {
    let page = crate::audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = page.entries.iter();
    entries.filter(|entry| entry.action == action).count()
}

/// Goal: who is there is found as the user type says, at home and by a partner alike; who is hidden, suspended,
/// gone, out of scope or not there gives one answer. By an account of each kind, each looked up in each way.
#[tokio::test]
async fn people_are_found_as_their_types_say() {
    let [a, b] = sides(["a.example", "b.example"]);
    // DIR-002: what b lets in leaves out one user type.
    let named = [
        "standard",
        "bob-hidden",
        "bob-exact",
        "bob-listed",
        "bob-home",
    ];
    let of_b = terms(Some(&[]), Some(&named));
    peered_with(&a, &b, terms(Some(&[]), Some(&[])), of_b).await;
    let mut alice = person(&a, "alice").await;
    let mut carol = person(&b, "carol").await;
    typed(&b, "bob-hidden", found_as(DirectoryListing::Hidden)).await;
    typed(&b, "bob-exact", found_as(DirectoryListing::Exact)).await;
    typed(&b, "bob-listed", found_as(DirectoryListing::Listed)).await;
    typed(&b, "bob-unnamed", found_as(DirectoryListing::Listed)).await;
    let home = UserTypePolicy {
        external: ExternalScope::None,
        ..found_as(DirectoryListing::Listed)
    };
    typed(&b, "bob-home", home).await;
    for name in ["bob-gone", "bob-suspended"] {
        typed(&b, name, found_as(DirectoryListing::Listed)).await;
    }
    accounts::delete(&b.node, &admin(), &"bob-gone".parse().unwrap())
        .await
        .unwrap();
    let suspend = ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    let handle = "bob-suspended".parse().unwrap();
    accounts::change(&b.node, &admin(), &handle, &suspend)
        .await
        .unwrap();

    let everybody = [
        "bob-exact",
        "bob-listed",
        "bob-hidden",
        "bob-unnamed",
        "bob-home",
        "bob-gone",
        "bob-suspended",
        "bob-nobody",
    ];
    let mut n = 0;
    for (who, at, seen, listed) in [
        (
            &mut alice,
            &a,
            &["bob-exact", "bob-listed"][..],
            &["bob-listed@b.example"][..],
        ),
        (
            &mut carol,
            &b,
            &["bob-exact", "bob-listed", "bob-unnamed", "bob-home"][..],
            &[
                "bob-home@b.example",
                "bob-listed@b.example",
                "bob-unnamed@b.example",
            ][..],
        ),
    ] {
        for name in everybody {
            n += 1;
            let address = format!("{name}@b.example");
            let expected = if seen.contains(&name) {
                listing(&[&address])
            } else {
                Listing::default()
            };
            let found = look_up(who, at, &b, n, exactly(name)).await;
            assert_eq!(found, Ok(expected), "{name} by {}", at.node.server);
        }
        n += 1;
        let found = look_up(who, at, &b, n, beginning("bob")).await;
        assert_eq!(found, Ok(listing(listed)), "by {}", at.node.server);
    }
    assert_eq!(waiting(&a, &b).await + waiting(&b, &a).await, 0);
}

/// Goal: each side's statement of each direction and its user types holds, at egress and at ingress (DIR-002); by
/// agreements that leave one thing out, and one that is suspended while the question waits.
#[tokio::test]
async fn both_statements_grant_look_ups() {
    let all = || terms(Some(&[]), Some(&[]));
    for (of_a, of_b, by_type) in [
        (terms(None, Some(&[])), all(), false),
        (terms(Some(&["officer"]), Some(&[])), all(), true),
        (all(), terms(Some(&[]), None), false),
    ] {
        let [a, b] = sides(["a.example", "b.example"]);
        peered_with(&a, &b, of_a, of_b).await;
        let (mut alice, mut bob) = (person(&a, "alice").await, person(&b, "bob").await);
        let refused = look_up(&mut alice, &a, &b, 1, exactly("bob")).await;
        assert_eq!(code(refused), RefusalCode::OutOfScope);
        assert_eq!(audited(&a, "directory.refused").await, 1);
        // The other direction is not touched.
        let found = look_up(&mut bob, &b, &a, 2, exactly("alice")).await;
        assert_eq!(found, Ok(listing(&["alice@a.example"])));
        // The answering side does not rely on the asking one; only that knows its people's user types.
        let refused = (!by_type).then_some(RefusalCode::OutOfScope);
        assert_eq!(forced(&a, &b).await, refused);
    }

    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let stranger = look_up(&mut alice, &a, &c, 1, exactly("carol")).await;
    assert_eq!(code(stranger), RefusalCode::NoAgreement);
    submit(&mut alice, &a, &b, 2, exactly("bob")).await;
    let only_messages = Grant {
        operation: Operation::Message,
        user_types: Vec::new(),
    };
    let tighter = AmendRequest {
        outbound: Some(vec![only_messages]),
        ..AmendRequest::default()
    };
    peers::amend(&a.node, &admin(), &b.node.server, &tighter)
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    let refused = answer(&alice, &a, 2).await.expect("told");
    assert_eq!(code(refused), RefusalCode::OutOfScope);
    assert_eq!(audited(&b, "envelope.refused").await, 0, "it was not sent");
}

/// Goal: nobody copies a directory (DIR-006): an account and a peer have their allowance, are told when to ask again,
/// and others are not touched; by allowances that are all but used up, and a day that passes.
#[tokio::test]
async fn look_ups_are_rationed() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&c, &b).await;
    let (mut alice, mut anna) = (person(&a, "alice").await, person(&a, "anna").await);
    let mut carol = person(&c, "carol").await;
    person(&b, "bob").await;
    let account = Whose::Account(alice.of.account);
    used_up(&a, &account, ACCOUNT_LOOK_UP_UNITS_MAX - 1).await;
    // What is told at home counts as well.
    let found = look_up(&mut alice, &a, &a, 1, exactly("anna")).await;
    assert_eq!(found, Ok(listing(&["anna@a.example"])));
    for server in [&a, &b] {
        let refusal = look_up(&mut alice, &a, server, 2, exactly("bob"))
            .await
            .unwrap_err();
        assert_eq!(refusal.code, RefusalCode::RateLimited);
        assert!(refusal.reason.ends_with("in 1 day"), "{refusal}");
    }
    assert_eq!(audited(&a, "directory.limited").await, 1);

    let peer = Whose::Peer(a.node.server.clone());
    used_up(&b, &peer, PEER_LOOK_UP_UNITS_MAX - 1).await;
    assert!(look_up(&mut anna, &a, &b, 3, exactly("bob")).await.is_ok());
    for side in [&a, &b, &c] {
        side.clock.advance_ms(30 * 60 * 1000);
    }
    let refusal = look_up(&mut anna, &a, &b, 4, exactly("bob"))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::RateLimited);
    assert!(
        refusal.reason.starts_with("b.example says: ") && refusal.reason.ends_with("in 1 day\""),
        "rounded up: {refusal}"
    );
    assert_eq!(audited(&b, "directory.limited").await, 1);
    assert!(look_up(&mut carol, &c, &b, 5, exactly("bob")).await.is_ok());
    for side in [&a, &b] {
        side.clock.advance_ms(LOOK_UPS_MS);
    }
    assert!(look_up(&mut alice, &a, &b, 6, exactly("bob")).await.is_ok());
}

/// Goal: an answer has at most the limit, in order, and says that there is more; by one more than that.
#[tokio::test]
async fn long_answers_are_cut() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    for n in 0..21 {
        crate::identity::testing::device(&b.node, &format!("bob{n:02}")).await;
    }
    let listed = found_as(DirectoryListing::Listed);
    user_types::put(&b.node, &admin(), "standard", listed)
        .await
        .unwrap();
    let found = look_up(&mut alice, &a, &b, 1, beginning("bob"))
        .await
        .unwrap();
    assert_eq!((found.addresses.len(), found.more), (20, true));
    assert_eq!(found.addresses[0].handle.as_str(), "bob00");
    let found = look_up(&mut alice, &a, &b, 2, beginning("bob1"))
        .await
        .unwrap();
    assert_eq!((found.addresses.len(), found.more), (10, false));
}

/// Goal: a server takes no answer to what nobody asked, from somebody else, twice, or with people who were not looked
/// for (DIR-003); by such answers.
#[tokio::test]
async fn answers_fit_their_questions() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&a, &c).await;
    let mut alice = person(&a, "alice").await;
    submit(&mut alice, &a, &b, 1, exactly("bob")).await;
    let envelope = |side: &Side, sequence, n: u8, handles: &[&str]| {
        let payload = Payload::DirectoryAnswer(DirectoryAnswer {
            request: RequestId::from_bytes([n; 16]),
            device: alice.of.device,
            result: Ok(Found {
                handles: handles
                    .iter()
                    .map(|handle| handle.parse().unwrap())
                    .collect(),
                more: false,
            }),
        });
        Outgoing {
            kind: payload.kind(),
            lane: Lane::CONTROL,
            sequence,
            created_ms: now(side),
            expires_ms: 0,
            payload: HashedPayload::new(payload.encode().unwrap()),
        }
    };
    let from_b = vec![
        envelope(&b, 1, 9, &["bob"]),
        envelope(&b, 2, 1, &["bob", "bobby"]),
    ];
    let mut results = exchange(&b, &a, from_b).await;
    results.extend(exchange(&c, &a, vec![envelope(&c, 1, 1, &["bob"])]).await);
    let right = vec![envelope(&b, 3, 1, &["bob"]), envelope(&b, 4, 1, &["bob"])];
    results.extend(exchange(&b, &a, right).await);
    let refused = |result: &ItemResult| match result {
        ItemResult::Refused(refusal) => Some(refusal.code),
        _ => None,
    };
    let malformed = Some(RefusalCode::Malformed);
    let codes: Vec<_> = results.iter().map(refused).collect();
    assert_eq!(codes, [malformed, malformed, malformed, None, malformed]);
    let answers = alice.inbox(&a).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(
        answer(&alice, &a, 1).await,
        Some(Ok(listing(&["bob@b.example"])))
    );
}

/// Goal: a question that its peer does not take in time is given up, its device told, and nothing is left of it; and
/// one that is taken and never answered is forgotten. By a peer that is away, and by one whose answer is.
#[tokio::test]
async fn unanswered_look_ups_end() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    a.network.set_down(true);
    submit(&mut alice, &a, &b, 1, exactly("bob")).await;
    let mut to_b = worker(&a, &b);
    drain(&mut to_b).await;
    for side in [&a, &b] {
        side.clock.advance_ms(LOOK_UP_TTL_MS);
    }
    a.network.set_down(false);
    drain(&mut to_b).await;
    let told = answer(&alice, &a, 1).await.expect("told");
    assert_eq!(code(told), RefusalCode::Expired);

    submit(&mut alice, &a, &b, 2, exactly("bob")).await;
    drain(&mut to_b).await;
    let open = async || {
        let request = RequestId::from_bytes([2; 16]);
        let found = look_up::get(&a.node.store, alice.of.device, request).await;
        found.unwrap().is_some()
    };
    assert!(open().await);
    a.clock.advance_ms(2 * LOOK_UP_TTL_MS);
    crate::delivery::expiry::sweep(&a.node).await.unwrap();
    assert!(!open().await);
}
