use homeserver_api::contacts::{ContactAct, ContactStanding};

use super::*;

/// Goal: what a person asks and decides reaches the homeserver, a block with the account that a shared room tells, and
/// with none where there is none. Method: each act, against a homeserver that notes what it is sent.
#[tokio::test]
async fn asked_and_decided() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let bob = person(&homeserver, "bob").await;
        let (address, client) = (bob.client.address(), &alice.client);
        let asked = client.ask_contact(&address, "We met").await.unwrap();
        assert_eq!(asked.standing, ContactStanding::Asked);
        client.allow_contact(&address).await.unwrap();
        client.block_contact(&address).await.unwrap();
        client
            .start_conversation(std::slice::from_ref(&address))
            .await
            .unwrap();
        client.block_contact(&address).await.unwrap();
        client.remove_contact(&address).await.unwrap();
        let listed = client.contacts().await.unwrap();
        assert_eq!(listed[0].address, address);

        let known = Some(bob.client.member().account);
        let sent = homeserver.contacts.lock().unwrap().clone();
        let sent: Vec<_> = sent
            .into_iter()
            .map(|(of, request)| {
                assert_eq!(of, address);
                (request.act, request.text, request.account)
            })
            .collect();
        assert_eq!(
            sent,
            [
                (ContactAct::Ask, Some("We met".to_owned()), None),
                (ContactAct::Allow, None, None),
                (ContactAct::Block, None, None),
                (ContactAct::Block, None, known),
            ]
        );
    })
    .await;
}
