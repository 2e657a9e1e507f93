//! What is asked of the homeserver beside messages.

use homeserver_api::refusal::{Refusal, RefusalCode};

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
