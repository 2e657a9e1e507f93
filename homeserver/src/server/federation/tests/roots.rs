//! A partner changes its root: both ends hear of it at different times.

use federation_proto::agreement::Agreement;
use federation_proto::padding;
use homeserver_api::admin::ConsentRequest;
use http::Method;

use super::*;
use crate::node::Node;
use crate::organisation::root_change;
use crate::store::Part;
use crate::store::peer::{self, PeerRecord};

/// The agreement with `of` as `node` keeps it, changed.
async fn change_record(node: &Node, of: &ServerName, change: impl FnOnce(Agreement) -> Agreement) {
    let (record, read) = peer::get(&node.store, of).await.unwrap().unwrap();
    let agreement = Agreement::restore(record.current.as_ref().unwrap()).unwrap();
    let mut part = Part::default();
    let record = PeerRecord {
        current: Some(change(agreement).record()),
        ..record
    };
    peer::put(&mut part, of, record, Some(read)).unwrap();
    node.store.commit(part).await.unwrap();
    node.peers.refresh(node).await.unwrap();
}

/// `renewed` gets the keys that `of` has after a change of its root, and `at` has heard of the issuing CA that is new with
/// it, as far as the present root has certified that; `of` itself goes on with those of before.
async fn change_root(of: &Side, renewed: &Side, at: &Side) {
    let place = tempfile::tempdir().unwrap();
    let folder = KeyFolder::at(place.path().join("keys"));
    folder.create(&of.node.keys).unwrap();
    let (now_ms, random) = (of.node.clock.now_ms(), of.node.random.as_ref());
    let keys = folder.load(&of.node.server, now_ms, random).unwrap();
    let new = root_change::prepare_in_memory(&keys, &of.root_key, now_ms, random).unwrap();
    let present = Bytes::from(keys.root().to_vec());
    let newest = keys.manifest_under(&present).unwrap().bytes().clone();
    peers::take_manifest(&at.node, &of.node.server, newest)
        .await
        .unwrap();
    let to = *new.fingerprint.digest().as_bytes();
    for asked in [Asked::SwitchRoot { to }, Asked::ForgetRoot] {
        let changed = keys.asked(&asked, now_ms, random).unwrap().unwrap();
        keys.take(&changed);
        renewed.node.keys.take(&changed);
    }
}

/// Goal: from its consent to a new root until that has arrived, a side takes the proposer's chains to
/// either root, both ways, so that the proposer can be told, and from then on the new root alone, on open
/// connections too (PEER-055). Method: a proposer that runs on its old keys, another listener with its
/// new ones, and the consent delivered over real TLS.
#[tokio::test]
async fn a_new_root_counts_beside_the_old_one_until_the_proposer_knows() {
    let [a, b] = sides(["a.example", "b.example"]);
    let [renewed] = sides(["b.example"]);
    peered(&a, &b).await;
    let (us, them) = (&a.node.server, &b.node.server);
    // Of two issuing CAs the later one counts.
    for side in [&a, &b, &renewed] {
        side.clock.advance_ms(60 * 60 * 1000);
    }
    change_root(&b, &renewed, &a).await;
    let (old, new, own) = (
        serving(&b).await,
        serving(&renewed).await,
        serving(&a).await,
    );
    // The listener with the new keys knows a, as b does.
    let anchor = b.node.peer_roots.get(us).unwrap();
    renewed
        .node
        .peer_roots
        .replace([(us.clone(), anchor)].into());
    let asks = |endpoint: &str| {
        let (network, endpoint) = (network(&a.node.keys, &a), endpoint.to_owned());
        async move { ask(&network, them, &endpoint).await.is_ok() }
    };
    let calls_a = |keys: &Arc<Keys>| {
        let (network, endpoint) = (network(keys, &b), own.clone());
        async move { ask(&network, us, &endpoint).await.is_ok() }
    };

    let (keys, random) = (&renewed.node.keys, renewed.node.random.as_ref());
    let (record, _) = peer::get(&b.node.store, us).await.unwrap().unwrap();
    let at_b = Agreement::restore(&record.current.unwrap()).unwrap();
    let signed = at_b.signed().unwrap();
    let mut statement = signed.ours().clone();
    statement.root = keys.root().to_vec().into();
    statement.manifest = keys.manifest().bytes().clone();
    statement.made_ms = b.node.clock.now_ms();
    let amendment = signed
        .amendment(statement, &keys.issuing_key(), random)
        .unwrap();
    change_record(&b.node, us, |agreement| {
        let made = amendment.clone();
        let amended = agreement.change(|signed| signed.amend(made, b.node.clock.now_ms()));
        amended.unwrap().0
    })
    .await;
    peers::amendment_from(&a.node, them, amendment.bytes().clone())
        .await
        .unwrap();
    assert!(asks(&old).await && !asks(&new).await, "proposed alone");
    assert!(calls_a(&b.node.keys).await && !calls_a(keys).await);

    let open = network(&b.node.keys, &b);
    assert!(ask(&open, us, &own).await.is_ok());
    let proposal = peers::detail(&a.node, them).await.unwrap().proposal;
    let proposal = proposal.unwrap();
    let request = ConsentRequest {
        amendment: proposal.amendment,
        fingerprint: proposal.new_fingerprint,
    };
    peers::consent(&a.node, &admin(), them, &request)
        .await
        .unwrap();
    assert!(asks(&old).await && asks(&new).await, "consented");
    assert!(calls_a(&b.node.keys).await && calls_a(keys).await);

    let outgoing = a.node.peers.get(them).unwrap().outgoing[0].clone();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{them}{}", paths::CONSENT))
        .body(padding::pad(&outgoing.bytes))
        .unwrap();
    let towards_b = network(&a.node.keys, &a);
    let within = Duration::from_secs(30);
    let answer = towards_b
        .send(them, std::slice::from_ref(&old), request, within)
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    peers::document_settled(&a.node, them, &outgoing, None)
        .await
        .unwrap();
    assert!(!asks(&old).await && asks(&new).await, "arrived");
    assert!(!calls_a(&b.node.keys).await && calls_a(keys).await);
    assert!(ask(&open, us, &own).await.is_err(), "it was open");
    let known = a.node.peers.get(them).unwrap().manifest.clone().unwrap();
    assert_eq!(known.bytes(), keys.manifest().bytes());
}
