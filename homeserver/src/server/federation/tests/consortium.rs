//! An agreement of a consortium goes on by its next charter, over the real network.

use federation_proto::agreement::Agreement;
use federation_proto::hash::Digest;
use homeserver_api::admin::Terms;
use homeserver_api::consortium::{
    CharterRequest, IntroductionRequest, MergeRequest, SignCharterRequest,
};

use super::*;
use crate::federation::outbound;
use crate::federation::peers::consortium;
use crate::store::peer;

/// Longest that a test waits for what another task does.
const WAIT_MAX: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A charter of both for so many days, where each is reached at its endpoint, signed by both and joined by both.
async fn charter(
    sides: &[Side; 2],
    endpoints: &[String; 2],
    days: u32,
    former: Option<&str>,
) -> String {
    let introduction = IntroductionRequest {
        endpoints: vec![endpoints[1].clone()],
        contact: String::new(),
    };
    let request = CharterRequest {
        name: former.is_none().then(|| "Relief Network".to_owned()),
        terms: Some(Terms {
            valid_days: days,
            ..Terms::default()
        }),
        introductions: vec![consortium::introduce(&sides[1].node, &introduction).unwrap()],
        former: former.map(str::to_owned),
        endpoints: vec![endpoints[0].clone()],
        ..CharterRequest::default()
    };
    let unsigned = consortium::charter(&sides[0].node, &request).unwrap();
    let mut documents = Vec::new();
    for side in sides {
        let shown = consortium::inspect(&side.node, &unsigned).await.unwrap();
        let request = SignCharterRequest {
            document: unsigned.clone(),
            fingerprint: shown.words,
        };
        let signed = consortium::sign(&side.node, &admin(), &request).await;
        documents.push(signed.unwrap());
    }
    let merge = MergeRequest { documents };
    let merged = consortium::merge(&sides[0].node, &merge).await.unwrap();
    for side in sides {
        consortium::join(&side.node, &admin(), &merged)
            .await
            .unwrap();
    }
    merged
}

/// What `at` has of its agreement with `of`: name, both statements, and the end.
async fn agreed(at: &Side, of: &Side) -> ([Digest; 3], u64) {
    use federation_proto::agreement::Side::{Accepter, Offerer};
    let stored = peer::get(&at.node.store, &of.node.server).await.unwrap();
    let agreement = Agreement::restore(&stored.unwrap().0.current.unwrap()).unwrap();
    let signed = agreement.signed().unwrap();
    let statements = [Offerer, Accepter].map(|side| signed.document_sha256(side));
    let [first, second] = statements;
    (
        [signed.sha256(), first, second],
        signed.effective().expires_ms(),
    )
}

/// Goal: what both have signed reaches the agreement by itself over mutual TLS at the endpoints that the charter
/// names: the same agreement and the same statements at both ends, with the new end. By two homeservers that run.
#[tokio::test]
async fn the_next_charter_over_mutual_tls() {
    let all = sides(["a.example", "b.example"]);
    let [a, b] = &all;
    let endpoints = [serving(a).await, serving(b).await];
    let first = charter(&all, &endpoints, 40, None).await;
    let (named, former_ms) = agreed(a, b).await;
    for side in &all {
        side.clock.advance_ms(20 * DAY_MS);
    }
    charter(&all, &endpoints, 365, Some(&first)).await;
    assert_eq!(agreed(a, b).await.1, former_ms, "nothing has been told yet");
    let mut hints = [a.node.hints(), b.node.hints()];
    let running = all.each_ref().map(|side| {
        let towards: Arc<dyn Network> = network(&side.node.keys, side);
        tokio::spawn(outbound::run(Arc::clone(&side.node), towards))
    });
    let end_ms = a.node.clock.now_ms() + 365 * DAY_MS;
    for (side, (at, of)) in [(a, b), (b, a)].into_iter().enumerate() {
        let renewed = async {
            while agreed(at, of).await.1 != end_ms {
                hints[side].recv().await.unwrap();
            }
        };
        tokio::time::timeout(WAIT_MAX, renewed).await.unwrap();
    }
    let at_both = [agreed(a, b).await, agreed(b, a).await];
    assert_eq!(at_both[0], at_both[1]);
    assert_eq!(at_both[0].0[0], named[0]);
    let network = network(&a.node.keys, a);
    let status = ask(&network, &b.node.server, &endpoints[1]).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    running.iter().for_each(tokio::task::JoinHandle::abort);
}
