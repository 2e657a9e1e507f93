//! What is asked of the homeserver beside messages.

use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{AbuseReason, Telling};

use super::*;

/// Goal: people are found by the whole handle and by its beginning, a refusal is told, and whoever was not looked
/// for is not believed; by a homeserver that answers each way.
#[tokio::test]
async fn looking_people_up() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let _bob = person(&homeserver, "bob").await;
        let server = homeserver.organisation.server.clone();
        let look_up = async |sought| alice.client.look_up(&server, sought).await;
        let bob = || Sought::Handle("bob".parse().unwrap());
        let found = look_up(bob()).await.unwrap();
        assert_eq!(found.addresses, ["bob@a.example".parse().unwrap()]);
        let found = look_up(Sought::Prefix("ali".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(found.addresses, [alice.client.address()]);
        let nobody = look_up(Sought::Handle("carol".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(nobody, Listing::default());

        homeserver.network().lie_about_people = vec![alice.client.address()];
        assert_eq!(look_up(bob()).await.unwrap_err().code(), "protocol");
        let refusal = Refusal::new(RefusalCode::RateLimited, "try again in 2 hours");
        homeserver.network().refuse_look_ups = Some(refusal.clone());
        assert_eq!(look_up(bob()).await, Err(Error::Refused(refusal)));
    })
    .await;
}

/// Goal: a room that somebody else has made while a device was away is known when the device has caught up, so
/// that nobody makes a second one; by a device that asks at once, each of twenty times.
#[tokio::test]
async fn what_waited_is_known() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let bob = person(&homeserver, "bob").await;
        for rooms in 1..=20 {
            bob.client.disconnect().await;
            let with = [bob.client.address()];
            alice.client.start_conversation(&with).await.unwrap();
            bob.client.connect();
            bob.client.caught_up().await.unwrap();
            assert_eq!(bob.client.rooms().await.unwrap().len(), rooms);
        }
        bob.client.close().await;
        assert_eq!(bob.client.caught_up().await, Err(Error::Closed));
    })
    .await;
}

/// Goal: a report discloses the named messages of one person and nothing else, in the words that were shown and with the
/// hash of what came over the wire; and what can't be reported is refused here. By a conversation of three.
#[tokio::test]
async fn reporting_abuse() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let mut alice = person(&homeserver, "alice").await;
        let bob = person(&homeserver, "bob").await;
        let carol = person(&homeserver, "carol").await;
        let addresses = [bob.client.address(), carol.client.address()];
        let room = alice.client.start_conversation(&addresses).await.unwrap();
        let options = SendOptions::default();
        let say = async |who: &Person, text: &str| {
            while who.client.rooms().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            who.client.send_text(room, text, options).await.unwrap()
        };
        let threat = say(&bob, "you will regret it").await;
        assert_eq!(text(&alice.hear().await), "you will regret it");
        let sent = homeserver.network().messages.last().unwrap().clone();
        let other = say(&carol, "hello").await;
        assert_eq!(text(&alice.hear().await), "hello");
        let own = say(&alice, "stop it").await;
        alice.client.wait_accepted(own).await.unwrap();

        let of = |messages: &[MessageId], person: Option<&Person>| AbuseReport {
            messages: messages.to_vec(),
            person: person.map(|person| person.client.address()),
            reason: AbuseReason::Harassment,
            note: "since Monday".to_owned(),
            tell: Telling::Partner,
        };
        for (what, report) in [
            ("nobody", of(&[], None)),
            ("two people's", of(&[threat, other], None)),
            ("another's", of(&[threat], Some(&carol))),
            ("own", of(&[own], None)),
            ("oneself", of(&[], Some(&alice))),
        ] {
            let error = alice.client.report(room, report).await.unwrap_err();
            assert_eq!(error.code(), "invalid-argument", "{what}: {error}");
        }
        assert_eq!(homeserver.network().reports, []);

        let reported = alice.client.report(room, of(&[threat], None)).await;
        assert_eq!(reported, Ok(bob.client.address()));
        let reports = homeserver.network().reports.clone();
        assert_eq!((reports[0].room, reports[0].tell), (room, Telling::Partner));
        assert_eq!(reports[0].account, bob.client.member().account);
        assert_eq!(reports[0].messages.len(), 1);
        let disclosed = &reports[0].messages[0];
        assert_eq!(disclosed.text, "you will regret it");
        assert_eq!(disclosed.device, bob.client.member().device);
        assert_eq!(disclosed.message_sha256, homeserver_api::Digest::of(&sent));
        let reported = alice.client.report(room, of(&[], Some(&carol))).await;
        assert_eq!(reported, Ok(carol.client.address()));

        let refusal = Refusal::new(RefusalCode::Quota, "enough for today");
        homeserver.network().refuse_reports = Some(refusal.clone());
        let refused = alice.client.report(room, of(&[threat], None)).await;
        assert_eq!(refused, Err(Error::Refused(refusal)));
    })
    .await;
}
