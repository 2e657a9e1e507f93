//! The last day of an agreement, and the warnings before it.

use std::sync::Arc;

use federation_proto::agreement::Agreement;
use federation_proto::ids::ServerName;

use super::change::{Change, change};
use super::consortium;
use super::directory::PeerView;
use super::error::PeeringError;
use super::standing::{current, moved};
use crate::audit::Actor;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::PeerRecord;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Administrators are warned this many days before the end of an agreement.
const WARNINGS_DAYS: [u16; 3] = [1, 7, 30];

/// How many days before its end the agreement is to be warned of by now; `None`: it is not near.
pub(super) fn due(expires_ms: u64, now_ms: u64) -> Option<u16> {
    let left_ms = expires_ms.saturating_sub(now_ms);
    WARNINGS_DAYS
        .into_iter()
        .find(|days| left_ms <= u64::from(*days) * DAY_MS)
}

/// Warns once of each of the last days of the agreement with `peer`.
pub async fn warn(node: &Arc<Node>, peer: &PeerView) -> Result<(), StoreError> {
    let now_ms = node.clock.now_ms();
    let Some(days) = due(peer.agreement.expires_ms, now_ms) else {
        return Ok(());
    };
    if peer.warned == Some((peer.agreement.expires_ms, days)) {
        return Ok(());
    }
    let prospect = consortium::prospect(node, peer).await?;
    let warned = change(node, &Actor::System, &peer.server, |found| {
        let (record, agreement) = current(found, &peer.server)?;
        let expires_ms = match &agreement {
            Some(stands @ (Agreement::Active(_) | Agreement::Suspended(_))) => stands
                .signed()
                .map(|signed| signed.effective().expires_ms()),
            _ => None,
        };
        let Some((expires_ms, days)) = expires_ms.and_then(|at| Some((at, due(at, now_ms)?)))
        else {
            return Ok(Err(()));
        };
        if record.warned == Some((expires_ms, days)) {
            return Ok(Err(()));
        }
        Ok(Ok(Change {
            record: PeerRecord {
                warned: Some((expires_ms, days)),
                ..record
            },
            action: "peer.expires-soon",
            detail: match (days, &prospect) {
                (1, None) => "within 1 day".to_owned(),
                (1, Some(prospect)) => format!("within 1 day. {prospect}"),
                (days, None) => format!("within {days} days"),
                (days, Some(prospect)) => format!("within {days} days. {prospect}"),
            },
            answer: (),
        }))
    })
    .await;
    match warned {
        Err(PeeringError::Store(error)) => Err(error),
        // It is tried again in the next round.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Notes that the last day of the agreement, or of what is under way, is past.
pub async fn expire(node: &Arc<Node>, server: &ServerName) -> Result<(), StoreError> {
    let now_ms = node.clock.now_ms();
    let expired = change(node, &Actor::System, server, |found| {
        let Some(restored) = found.restored else {
            return Err(PeeringError::UnknownPeer(server.clone()));
        };
        let record = found.record;
        let in_force = matches!(
            restored.current,
            Some(Agreement::Active(_) | Agreement::Suspended(_))
        );
        let current = match restored.current {
            Some(Agreement::Active(active)) => active.expire(now_ms).ok(),
            Some(Agreement::Suspended(suspended)) => suspended.expire(now_ms).ok(),
            _ => None,
        };
        if let Some(expired) = current {
            let after = Agreement::Expired(expired);
            let record = PeerRecord {
                outgoing: Vec::new(),
                ..record
            };
            return Ok(Ok(moved(record, &after, "peer.expired", "")));
        }
        let ceremony = match restored.ceremony {
            Some(Agreement::Offered(offered)) => offered.expire(now_ms).ok(),
            Some(Agreement::Accepted(accepted)) => accepted.expire(now_ms).ok(),
            _ => None,
        };
        let Some(expired) = ceremony else {
            return Ok(Err(()));
        };
        let record = PeerRecord {
            ceremony: None,
            ..record
        };
        let action = "peer.offer-expired";
        Ok(Ok(if in_force {
            Change {
                record,
                action,
                detail: String::new(),
                answer: (),
            }
        } else {
            moved(record, &Agreement::Expired(expired), action, "")
        }))
    })
    .await;
    match expired {
        Err(PeeringError::Store(error)) => Err(error),
        // Nothing else can keep a day from passing; whoever asked will ask again.
        Ok(()) | Err(_) => Ok(()),
    }
}
