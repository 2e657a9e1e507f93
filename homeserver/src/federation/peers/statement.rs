//! From what an administrator asks for to what this side states in a document.

use std::collections::BTreeSet;

use bytes::Bytes;
use federation_proto::agreement::{self, Endpoint, Grants, Statement, TtlBounds, UserTypes};
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::version::VersionSet;
use homeserver_api::admin::{AmendRequest, Grant, Operation, Terms};

use super::error::PeeringError;
use crate::node::Node;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest agreement.
const VALID_DAYS_MAX: u32 = 10 * 366;

/// What this homeserver states to `to`.
pub(super) fn statement(
    node: &Node,
    to: &ServerName,
    terms: Option<&Terms>,
    endpoints: &[String],
    contact: &str,
) -> Result<Statement, PeeringError> {
    let default = Terms::default();
    let terms = terms.unwrap_or(&default);
    let made_ms = node.clock.now_ms();
    // Who goes by one of our roots already is offered nothing under another.
    let known = node.peers.get(to).and_then(|peer| peer.our_root.clone());
    let root = known
        .filter(|root| node.keys.manifest_under(root).is_some())
        .unwrap_or_else(|| node.keys.root().to_vec().into());
    let manifest = node
        .keys
        .manifest_under(&root)
        .unwrap_or_else(|| node.keys.manifest());
    Ok(Statement {
        from: node.server.clone(),
        to: to.clone(),
        serial: 1,
        previous: Digest::ZERO,
        versions: VersionSet::ours(),
        root,
        manifest: manifest.bytes().clone(),
        endpoints: parse_endpoints(node, endpoints)?,
        terms: proto_terms(terms),
        contact: contact.to_owned(),
        nonce: nonce(node)?,
        made_ms,
        expires_ms: after_days(made_ms, terms.valid_days)?,
    })
}

/// `before`, stated anew under one of our roots, with the keys of today.
pub(super) fn under(
    node: &Node,
    root: &Bytes,
    before: &Statement,
) -> Result<Statement, PeeringError> {
    let manifest = node.keys.manifest_under(root).ok_or_else(|| {
        PeeringError::Internal("a statement under a root that is not ours".to_owned())
    })?;
    Ok(Statement {
        versions: VersionSet::ours(),
        root: root.clone(),
        manifest: manifest.bytes().clone(),
        nonce: nonce(node)?,
        made_ms: node.clock.now_ms(),
        ..before.clone()
    })
}

/// `before`, stated anew with what is asked for, under one of our roots, with the keys of today.
pub(super) fn restated(
    node: &Node,
    root: &Bytes,
    before: &Statement,
    request: &AmendRequest,
) -> Result<Statement, PeeringError> {
    let mut statement = under(node, root, before)?;
    let made_ms = statement.made_ms;
    let terms = &mut statement.terms;
    if let Some(grants) = &request.outbound {
        terms.outbound = proto_grants(grants);
    }
    if let Some(grants) = &request.inbound {
        terms.inbound = proto_grants(grants);
    }
    let ttl = &mut terms.ttl;
    ttl.min_seconds = request.ttl_min_seconds.unwrap_or(ttl.min_seconds);
    ttl.max_seconds = request.ttl_max_seconds.unwrap_or(ttl.max_seconds);
    let waiting = &mut terms.waiting_bytes_max;
    *waiting = request.waiting_bytes_max.unwrap_or(*waiting);
    terms.file_bytes_max = request.file_bytes_max.unwrap_or(terms.file_bytes_max);
    terms.label_max = request.label_max.unwrap_or(terms.label_max);
    if let Some(days) = request.valid_days {
        statement.expires_ms = after_days(made_ms, days)?;
    }
    if let Some(endpoints) = &request.endpoints {
        statement.endpoints = parse_endpoints(node, endpoints)?;
    }
    if let Some(contact) = &request.contact {
        statement.contact.clone_from(contact);
    }
    Ok(statement)
}

fn nonce(node: &Node) -> Result<[u8; 16], PeeringError> {
    let mut nonce = [0; 16];
    node.random
        .fill(&mut nonce)
        .map_err(|_| PeeringError::Internal("no randomness".to_owned()))?;
    Ok(nonce)
}

/// When what is stated at `made_ms` for so many days ends.
pub(super) fn after_days(made_ms: u64, days: u32) -> Result<u64, PeeringError> {
    if !(1..=VALID_DAYS_MAX).contains(&days) {
        return Err(PeeringError::Statement(format!(
            "`valid_days` must be between 1 and {VALID_DAYS_MAX}"
        )));
    }
    Ok(made_ms.saturating_add(u64::from(days).saturating_mul(DAY_MS)))
}

pub(super) fn parse_endpoints(
    node: &Node,
    asked: &[String],
) -> Result<Vec<Endpoint>, PeeringError> {
    let stated = if asked.is_empty() {
        &node.config.federation.endpoints
    } else {
        asked
    };
    if stated.is_empty() {
        return Err(PeeringError::Statement(
            "the partner has to know where it reaches this homeserver: pass `endpoints` \
             (host:port), or set `endpoints` under [federation] in the configuration"
                .to_owned(),
        ));
    }
    stated
        .iter()
        .map(|text| {
            text.parse().map_err(|error: agreement::EndpointError| {
                PeeringError::Statement(error.to_string())
            })
        })
        .collect()
}

pub(super) fn proto_terms(terms: &Terms) -> agreement::Terms {
    agreement::Terms {
        outbound: proto_grants(&terms.outbound),
        inbound: proto_grants(&terms.inbound),
        ttl: TtlBounds {
            min_seconds: terms.ttl.min_seconds,
            max_seconds: terms.ttl.max_seconds,
        },
        waiting_bytes_max: terms.waiting_bytes_max,
        file_bytes_max: terms.file_bytes_max,
        label_max: terms.label_max,
    }
}

/// An operation that is granted twice is granted to the user types of both.
fn proto_grants(grants: &[Grant]) -> Grants {
    let mut merged = Grants::new();
    for grant in grants {
        let operation = match grant.operation {
            Operation::Message => agreement::Operation::Message,
            Operation::Invite => agreement::Operation::Invite,
            Operation::Directory => agreement::Operation::Directory,
            Operation::Files => agreement::Operation::Files,
        };
        let granted = UserTypes::from_names(grant.user_types.iter().cloned());
        let both = match (merged.remove(&operation), granted) {
            (None, granted) => granted,
            (Some(UserTypes::All), _) | (Some(_), UserTypes::All) => UserTypes::All,
            (Some(UserTypes::Named(before)), UserTypes::Named(more)) => {
                UserTypes::Named(before.union(&more).cloned().collect::<BTreeSet<_>>())
            }
        };
        merged.insert(operation, both);
    }
    merged
}
