//! Offers and acceptances of strangers: dropped here by anybody, without any effect until an administrator
//! takes one out and does with it what he would with a document from the mail.
//!
//! Everything is bounded, for anybody may fill it: how many documents there are, how many of one network,
//! how large each is and how long it stays.

use std::net::IpAddr;
use std::sync::Arc;

use federation_proto::agreement::{Acceptance, Agreement, Offer};
use federation_proto::armor::{self, Kind};
use federation_proto::hash::Digest;
use homeserver_api::admin::{PeeringDocument, Quarantined, QuarantinedDetail};

use super::peers::{self, PeeringError};
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::quarantine::{self, QuarantinedRecord};
use crate::store::{Part, PartOutcome, StoreError, peer};

/// Documents at a time,
const DOCUMENTS_MAX: usize = 64;
/// and of one network.
const NETWORK_DOCUMENTS_MAX: usize = 4;
/// How long a document stays.
const KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1000;
/// How often the documents are counted anew because others came meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// Why a stranger's document is not kept.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// It is not what it should be.
    #[error("{0}")]
    Document(String),
    /// There is no room.
    #[error("as many documents wait here as may: send yours to the administrator another way")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a stranger's document; one that is kept already is kept once.
pub async fn receive(node: &Arc<Node>, network: IpAddr, text: &str) -> Result<(), QuarantineError> {
    let (kind, from, text) = checked(node, text, node.clock.now_ms()).await?;
    let network = network.to_string();
    for _ in 0..ATTEMPTS_MAX {
        let record = QuarantinedRecord {
            text: text.clone(),
            received_ms: node.clock.now_ms(),
            network: network.clone(),
        };
        let said = format!("{kind} in the name of {from}, from {network}");
        let Some(part) = keeping(node, record, said).await? else {
            return Ok(());
        };
        // In a conflict another document has come meanwhile, and this has to be asked again.
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(QuarantineError::Full)
}

/// What keeps a document if there is room for it as of now, and fails when another one has come by the time that it is
/// committed; `None`: it is kept already.
async fn keeping(
    node: &Node,
    record: QuarantinedRecord,
    said: String,
) -> Result<Option<Part>, QuarantineError> {
    let now_ms = record.received_ms;
    let id = Digest::of(record.text.as_bytes());
    let mut part = Part::default();
    let (mut all, mut of_network) = (0, 0);
    // What comes after this is read makes the part fail.
    let serial = quarantine::serial(&node.store).await?;
    for (known, other) in quarantine::all(&node.store, 2 * DOCUMENTS_MAX).await? {
        if !is_kept(&other, now_ms) {
            quarantine::delete(&mut part, &known);
        } else if known == *id.as_bytes() {
            return Ok(None);
        } else {
            all += 1;
            of_network += usize::from(other.network == record.network);
        }
    }
    if all >= DOCUMENTS_MAX || of_network >= NETWORK_DOCUMENTS_MAX {
        return Err(QuarantineError::Full);
    }
    let event = Event {
        at_ms: now_ms,
        actor: Actor::System,
        action: "quarantine.received",
        subject: id.to_string(),
        detail: said,
    };
    quarantine::put(&mut part, id.as_bytes(), &record, serial)?;
    audit::record(&mut part, &event);
    Ok(Some(part))
}

/// An offer to us, or an acceptance of the offer that we have made: its kind, in whose name, and nothing of
/// what stood around it.
async fn checked(
    node: &Node,
    text: &str,
    now_ms: u64,
) -> Result<(Kind, String, String), QuarantineError> {
    let wrong = |error: &dyn std::fmt::Display| QuarantineError::Document(error.to_string());
    let for_us = |to: &federation_proto::ids::ServerName| {
        if *to == node.server {
            Ok(())
        } else {
            Err(QuarantineError::Document(format!(
                "it is for {to}, and this is {}",
                node.server
            )))
        }
    };
    match armor::detect(text).map_err(|error| wrong(&error))? {
        Kind::Offer => {
            let offer = Offer::from_armor(text, now_ms).map_err(|error| wrong(&error))?;
            for_us(&offer.statement().to)?;
            if offer.body().answer_by_ms < now_ms {
                return Err(wrong(&"the offer's last day is past"));
            }
            let from = offer.statement().from.to_string();
            Ok((Kind::Offer, from, offer.to_armor()))
        }
        Kind::Acceptance => {
            let acceptance = Acceptance::from_armor(text, now_ms).map_err(|error| wrong(&error))?;
            for_us(&acceptance.statement().to)?;
            let from = &acceptance.statement().from;
            let record = peer::get(&node.store, from).await?;
            let ceremony = record.and_then(|(record, _)| record.ceremony);
            let offered = ceremony.and_then(|ceremony| Agreement::restore(&ceremony).ok());
            match offered {
                Some(Agreement::Offered(offered))
                    if offered.offer().sha256() == acceptance.body().offer_sha256 =>
                {
                    Ok((Kind::Acceptance, from.to_string(), acceptance.to_armor()))
                }
                _ => Err(wrong(&"it accepts no offer that was made here and waits")),
            }
        }
        other => Err(wrong(&format!(
            "only offers and acceptances are taken here, and this is of kind {other}"
        ))),
    }
}

fn is_kept(record: &QuarantinedRecord, now_ms: u64) -> bool {
    now_ms < record.received_ms.saturating_add(KEPT_MS)
}

/// What waits, oldest first.
pub async fn list(node: &Node) -> Result<Vec<Quarantined>, StoreError> {
    let now_ms = node.clock.now_ms();
    let mut documents: Vec<_> = quarantine::all(&node.store, 2 * DOCUMENTS_MAX)
        .await?
        .into_iter()
        .filter(|(_, record)| is_kept(record, now_ms))
        .map(|(id, record)| entry(&id, &record))
        .collect();
    documents.sort_by_key(|document| document.received_ms);
    Ok(documents)
}

fn entry(id: &[u8; 32], record: &QuarantinedRecord) -> Quarantined {
    Quarantined {
        document: Digest::from_bytes(*id).to_string(),
        kind: armor::detect(&record.text).map_or_else(|_| String::new(), |kind| kind.to_string()),
        received_ms: record.received_ms,
        network: record.network.clone(),
    }
}

/// One document in plain language; changes nothing.
pub async fn show(node: &Node, id: &str) -> Result<QuarantinedDetail, PeeringError> {
    let (hash, record) = find(node, id).await?;
    Ok(QuarantinedDetail {
        entry: entry(&hash, &record),
        summary: peers::inspect(node, &record.text).await?,
    })
}

/// Takes a document out, for an administrator to do with it what the ceremony says.
pub async fn take(node: &Node, actor: &Actor, id: &str) -> Result<PeeringDocument, PeeringError> {
    let document = remove(node, actor, id, "quarantine.taken").await?;
    Ok(PeeringDocument::new(document))
}

/// Throws a document away.
pub async fn discard(node: &Node, actor: &Actor, id: &str) -> Result<(), PeeringError> {
    remove(node, actor, id, "quarantine.dropped")
        .await
        .map(|_| ())
}

async fn remove(
    node: &Node,
    actor: &Actor,
    id: &str,
    action: &'static str,
) -> Result<String, PeeringError> {
    let (hash, record) = find(node, id).await?;
    let mut part = Part::default();
    quarantine::delete(&mut part, &hash);
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action,
        subject: id.to_owned(),
        detail: format!("from {}", record.network),
    };
    audit::record(&mut part, &event);
    match node.store.commit(part).await? {
        PartOutcome::Committed => Ok(record.text),
        _ => Err(unknown(id)),
    }
}

async fn find(node: &Node, id: &str) -> Result<([u8; 32], QuarantinedRecord), PeeringError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(id, &mut hash).map_err(|_| unknown(id))?;
    let record = quarantine::get(&node.store, &hash).await?;
    let now_ms = node.clock.now_ms();
    let kept = record.filter(|record| is_kept(record, now_ms));
    Ok((hash, kept.ok_or_else(|| unknown(id))?))
}

fn unknown(id: &str) -> PeeringError {
    let short: String = id.chars().take(64).collect();
    PeeringError::NotInQuarantine(short)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use homeserver_api::admin::{AcceptRequest, OfferRequest, PeerState};
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;
    use crate::federation::inbound;
    use crate::federation::testing::{Side, accepted, admin, sides};
    use crate::identity::Remote;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    async fn offer(by: &Side, to: &Side) -> String {
        let request = OfferRequest {
            server: to.node.server.clone(),
            terms: None,
            endpoints: vec!["192.0.2.1:8448".to_owned()],
            contact: String::new(),
        };
        peers::offer(&by.node, &admin(), &request).await.unwrap()
    }

    fn network(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// Goal: what a stranger drops is seen and has no effect, once however often it is dropped, until it is
    /// taken, and then the ceremony goes on with it as ever; by an offer and the acceptance of it.
    #[tokio::test]
    async fn what_is_dropped_waits_without_effect() {
        let [a, b] = sides(["a.example", "b.example"]);
        let text = offer(&a, &b).await;
        for _ in 0..2 {
            let mailed = format!("> {}", text.replace('\n', "\n> "));
            receive(&b.node, network(1), &mailed).await.unwrap();
        }
        let waiting = list(&b.node).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].kind, "offer");
        assert!(b.node.peers.get(&a.node.server).is_none());
        let id = &waiting[0].document;
        let seen = show(&b.node, id).await.unwrap().summary;
        assert_eq!(seen.from, a.node.server);
        let taken = take(&b.node, &admin(), id).await.unwrap();
        assert_eq!(list(&b.node).await.unwrap(), []);
        let again = take(&b.node, &admin(), id).await.unwrap_err();
        assert!(matches!(again, PeeringError::NotInQuarantine(_)), "{again}");

        let request = AcceptRequest {
            document: taken.document,
            fingerprint: seen.fingerprint,
            terms: None,
            endpoints: vec!["192.0.2.2:8448".to_owned()],
            contact: String::new(),
        };
        let acceptance = peers::accept(&b.node, &admin(), &request).await.unwrap();
        receive(&a.node, network(1), &acceptance).await.unwrap();
        let view = a.node.peers.get(&b.node.server).unwrap();
        assert_eq!(view.state, PeerState::Offered);
        let id = list(&a.node).await.unwrap()[0].document.clone();
        discard(&a.node, &admin(), &id).await.unwrap();
        assert_eq!(list(&a.node).await.unwrap(), []);
        let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
            .await
            .unwrap();
        let acts: Vec<_> = log.entries.iter().map(|entry| &*entry.action).collect();
        assert!(
            acts.ends_with(&["quarantine.received", "quarantine.dropped"]),
            "{acts:?}"
        );
    }

    /// Goal: nothing but offers to us and acceptances of our offers takes up room; by everything else.
    #[tokio::test]
    async fn other_documents_are_refused() {
        let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
        let elsewhere = offer(&a, &c).await;
        let stranger = accepted(&a, &c, None).await;
        let own = offer(&a, &b).await;
        let late = own.clone();
        for text in ["", "noise", &elsewhere, &stranger, &own.replace('A', "B")] {
            let refused = receive(&b.node, network(1), text).await;
            assert!(
                matches!(refused, Err(QuarantineError::Document(_))),
                "{text}"
            );
        }
        // An acceptance of an offer that was made again since.
        let acceptance = accepted(&a, &b, None).await;
        offer(&a, &b).await;
        let refused = receive(&a.node, network(1), &acceptance).await;
        assert!(matches!(refused, Err(QuarantineError::Document(_))));
        b.clock.advance_ms(31 * DAY_MS);
        let refused = receive(&b.node, network(1), &late).await;
        assert!(matches!(refused, Err(QuarantineError::Document(_))));
        assert_eq!(list(&b.node).await.unwrap(), []);
    }

    /// Goal: nobody fills the quarantine for everybody with one network, nor the disk with many, and what
    /// nobody takes goes after a while; by more offers than may wait.
    #[tokio::test]
    async fn the_quarantine_is_bounded() {
        let [a, b] = sides(["a.example", "b.example"]);
        let mut taken = 0;
        for n in 0..=16_u8 {
            for _ in 0..=NETWORK_DOCUMENTS_MAX {
                let text = offer(&a, &b).await;
                taken += usize::from(receive(&b.node, network(n), &text).await.is_ok());
            }
            let expected = (usize::from(n) + 1) * NETWORK_DOCUMENTS_MAX;
            assert_eq!(taken, expected.min(DOCUMENTS_MAX));
        }
        assert_eq!(list(&b.node).await.unwrap().len(), DOCUMENTS_MAX);
        b.clock.advance_ms(KEPT_MS);
        assert_eq!(list(&b.node).await.unwrap(), []);
        let text = offer(&a, &b).await;
        receive(&b.node, network(1), &text).await.unwrap();
        let stored = quarantine::all(&b.node.store, 1000).await.unwrap();
        assert_eq!(stored.len(), 1, "the old ones are gone for good");
    }

    /// Goal: those who drop at once get no more room than those who drop one after the other. Method: a dozen at a time,
    /// from one network and then, with little room left, from many.
    #[tokio::test]
    async fn the_bounds_hold_for_a_crowd() {
        let [a, b] = sides(["a.example", "b.example"]);
        let drop_at_once = async |networks: Vec<u8>| {
            let mut texts = Vec::new();
            for n in networks {
                texts.push((network(n), offer(&a, &b).await));
            }
            let dropping = texts
                .iter()
                .map(|(network, text)| receive(&b.node, *network, text));
            let kept = futures_util::future::join_all(dropping).await;
            kept.iter().filter(|kept| kept.is_ok()).count()
        };
        assert_eq!(drop_at_once(vec![1; 12]).await, NETWORK_DOCUMENTS_MAX);
        for n in 2..=15 {
            assert_eq!(
                drop_at_once(vec![n; NETWORK_DOCUMENTS_MAX]).await,
                NETWORK_DOCUMENTS_MAX
            );
        }
        assert_eq!(drop_at_once((20..32).collect()).await, 4);
        assert_eq!(list(&b.node).await.unwrap().len(), DOCUMENTS_MAX);
    }

    /// Goal: one place is taken once: of two documents that were both judged while it was free, one is kept, and the other
    /// is judged anew. By the last place of a network and two that come at once.
    #[tokio::test]
    async fn a_place_is_taken_once() {
        let [a, b] = sides(["a.example", "b.example"]);
        for _ in 1..NETWORK_DOCUMENTS_MAX {
            let text = offer(&a, &b).await;
            receive(&b.node, network(1), &text).await.unwrap();
        }
        let texts = [offer(&a, &b).await, offer(&a, &b).await];
        let judged = async |text: &str| {
            let record = QuarantinedRecord {
                text: text.to_owned(),
                received_ms: b.node.clock.now_ms(),
                network: network(1).to_string(),
            };
            let part = keeping(&b.node, record, String::new()).await;
            part.unwrap().unwrap()
        };
        let parts = [judged(&texts[0]).await, judged(&texts[1]).await];
        let mut outcomes = Vec::new();
        for part in parts {
            outcomes.push(b.node.store.commit(part).await.unwrap());
        }
        assert_eq!(outcomes[0], PartOutcome::Committed);
        assert_eq!(outcomes[1], PartOutcome::Conflict);
        let again = receive(&b.node, network(1), &texts[1]).await;
        assert!(matches!(again, Err(QuarantineError::Full)), "{again:?}");
    }

    /// Goal: the listener for strangers takes documents and nothing else, and nobody comes too often; by
    /// requests to its router.
    #[tokio::test]
    async fn strangers_reach_nothing_else() {
        let [a, b] = sides(["a.example", "b.example"]);
        let text = offer(&a, &b).await;
        let router = inbound::strangers(Arc::clone(&b.node));
        let ask = |method: &str, path: &str, body: String| {
            let request = Request::builder().method(method).uri(path);
            let mut request = request.body(Body::from(body)).unwrap();
            let remote = Remote((network(1), 1).into());
            request.extensions_mut().insert(remote);
            let router = router.clone();
            async move { router.oneshot(request).await.unwrap().status() }
        };
        let offers = crate::federation::paths::OFFERS;
        assert_eq!(ask("POST", offers, text).await, StatusCode::ACCEPTED);
        let large = "x".repeat(1 << 18);
        assert_eq!(
            ask("POST", offers, large).await,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        let got = ask("GET", offers, String::new()).await;
        assert_eq!(got, StatusCode::METHOD_NOT_ALLOWED);
        for (method, path) in [
            ("POST", crate::federation::paths::TRANSACTIONS),
            ("GET", crate::federation::paths::MANIFEST),
            ("GET", "/admin/v1/peers"),
        ] {
            let status = ask(method, path, String::new()).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        }
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(ask("POST", offers, "noise".to_owned()).await);
        }
        assert_eq!(statuses[0], StatusCode::BAD_REQUEST);
        assert_eq!(statuses[7], StatusCode::TOO_MANY_REQUESTS);
    }
}
