//! Introductions and charters before anybody has signed; none of this changes anything here.

use std::collections::BTreeMap;

use federation_proto::agreement::{Charter, CharterBody, ConsortiumError, Introduction};
use federation_proto::hash::Digest;
use federation_proto::ids::{ConsortiumId, ServerName};
use federation_proto::version::VersionSet;
use homeserver_api::admin::Terms;
use homeserver_api::consortium::{CharterRequest, IntroductionRequest, MergeRequest};

use super::super::error::PeeringError;
use super::super::statement::{after_days, parse_endpoints, proto_terms};
use super::known;
use crate::node::Node;

/// Introduces this homeserver to a consortium, as text.
pub fn introduce(node: &Node, request: &IntroductionRequest) -> Result<String, PeeringError> {
    Ok(introduction(node, &request.endpoints, &request.contact)?.to_armor()?)
}

/// Makes a charter that nobody has signed yet, as text.
pub fn charter(node: &Node, request: &CharterRequest) -> Result<String, PeeringError> {
    let now_ms = node.clock.now_ms();
    let former = request.former.as_deref();
    let former = former
        .map(|text| Charter::from_armor(text, now_ms))
        .transpose()?;
    let members = members(node, request, former.as_ref())?;
    let default = Terms::default();
    let asked = request.terms.as_ref().unwrap_or(&default);
    let body = CharterBody {
        consortium: consortium_id(node, former.as_ref())?,
        name: name(request, former.as_ref())?,
        serial: former
            .as_ref()
            .map_or(1, |former| former.body().serial.saturating_add(1)),
        previous: former.as_ref().map_or(Digest::ZERO, Charter::sha256),
        terms: match (&former, &request.terms) {
            (Some(former), None) => former.body().terms.clone(),
            _ => proto_terms(asked),
        },
        members: Vec::new(),
        made_ms: now_ms,
        expires_ms: after_days(now_ms, asked.valid_days)?,
    };
    let introductions: Vec<_> = members.into_values().collect();
    Ok(Charter::make(body, &introductions)?.to_armor()?)
}

/// Puts the signatures of several files of one charter into one, those known here too.
pub async fn merge(node: &Node, request: &MergeRequest) -> Result<String, PeeringError> {
    let now_ms = node.clock.now_ms();
    let mut files = request.documents.iter();
    let first = files.next().ok_or_else(|| {
        PeeringError::Statement("there is nothing to merge: pass one charter or more".to_owned())
    })?;
    let mut merged = Charter::from_armor(first, now_ms)?;
    for text in files {
        merged.merge(&Charter::from_armor(text, now_ms)?)?;
    }
    if let Some(known) = known(node, merged.body().consortium).await?
        && known.charter.sha256() == merged.sha256()
    {
        merged.merge(&known.charter)?;
    }
    Ok(merged.to_armor()?)
}

fn introduction(
    node: &Node,
    endpoints: &[String],
    contact: &str,
) -> Result<Introduction, PeeringError> {
    Ok(Introduction {
        server: node.server.clone(),
        versions: VersionSet::ours(),
        root: super::own_root(node),
        manifest: node.keys.manifest().bytes().clone(),
        endpoints: parse_endpoints(node, endpoints)?,
        contact: contact.to_owned(),
    })
}

fn members(
    node: &Node,
    request: &CharterRequest,
    former: Option<&Charter>,
) -> Result<BTreeMap<ServerName, Introduction>, PeeringError> {
    let before = former.into_iter().flat_map(Charter::introductions);
    let mut members: BTreeMap<_, _> = before
        .map(|introduction| (introduction.server.clone(), introduction.clone()))
        .collect();
    for server in &request.without {
        if members.remove(server).is_none() || *server == node.server {
            return Err(PeeringError::Statement(format!(
                "{server} can't be left out: it is no member of the former charter, or this homeserver, \
                 which makes the new one"
            )));
        }
    }
    let mut introduced = BTreeMap::new();
    for text in &request.introductions {
        let introduction = Introduction::from_armor(text)?;
        let server = introduction.server.clone();
        if introduced.insert(server.clone(), introduction).is_some() {
            return Err(ConsortiumError::Twice(server).into());
        }
    }
    // The former charter may have the root of ours before a change.
    let stranger = introduced
        .get(&node.server)
        .filter(|listed| listed.root != super::own_root(node));
    if stranger.is_some() {
        return Err(ConsortiumError::ForeignRoot(node.server.clone()).into());
    }
    members.extend(introduced);
    let ours = introduction(node, &request.endpoints, &request.contact)?;
    members.insert(node.server.clone(), ours);
    Ok(members)
}

fn name(request: &CharterRequest, former: Option<&Charter>) -> Result<String, PeeringError> {
    match (&request.name, former) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(former)) => Ok(former.body().name.clone()),
        (None, None) => Err(PeeringError::Statement(
            "a new consortium needs a `name`".to_owned(),
        )),
    }
}

fn consortium_id(node: &Node, former: Option<&Charter>) -> Result<ConsortiumId, PeeringError> {
    if let Some(former) = former {
        return Ok(former.body().consortium);
    }
    let mut id = [0; 16];
    node.random
        .fill(&mut id)
        .map_err(|_| PeeringError::Internal("no randomness".to_owned()))?;
    Ok(ConsortiumId::from_bytes(id))
}
