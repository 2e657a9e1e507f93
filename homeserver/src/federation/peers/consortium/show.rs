//! Charters and consortia as administrators see them.

use federation_proto::agreement::Charter;
use federation_proto::fingerprint::Fingerprint;
use homeserver_api::consortium::{CharterMember, CharterSummary, Consortia, Consortium};

use super::super::error::PeeringError;
use super::restored;
use crate::node::Node;
use crate::store::{StoreError, consortium};

/// A charter in plain language; changes nothing.
pub fn inspect(node: &Node, text: &str) -> Result<CharterSummary, PeeringError> {
    let charter = Charter::from_armor(text, node.clock.now_ms())?;
    Ok(summary(node, &charter))
}

/// The consortia whose charters were signed here.
pub async fn consortia(node: &Node) -> Result<Consortia, StoreError> {
    let records = consortium::all(&node.store).await?;
    let consortia = records.iter().map(|record| {
        Ok(Consortium {
            charter: summary(node, &restored(record)?),
            signed_ms: record.signed_ms,
        })
    });
    Ok(Consortia {
        consortia: consortia.collect::<Result<_, StoreError>>()?,
    })
}

fn summary(node: &Node, charter: &Charter) -> CharterSummary {
    let body = charter.body();
    let members = charter.introductions().map(|introduction| {
        let server = &introduction.server;
        CharterMember {
            server: server.clone(),
            fingerprint: Fingerprint::of_root(&introduction.root).to_string(),
            signed: charter.is_signed_by(server),
            peer: node.peers.get(server).map(|view| view.state),
            lines: introduction.summary(),
        }
    });
    CharterSummary {
        consortium: body.consortium,
        name: body.name.clone(),
        serial: body.serial,
        fingerprint: charter.fingerprint().to_string(),
        words: charter.fingerprint().words().join(" "),
        expires_ms: body.expires_ms,
        members: members.collect(),
        lines: charter.summary(),
    }
}
