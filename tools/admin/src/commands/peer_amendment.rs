//! `peer amend`, `peer consent`, `peer refuse`: changes to an agreement that stands, read before they are
//! signed.

use std::io::{self, Write as _};

use homeserver_api::admin::{
    AmendRequest, Amended, AmendmentEffect, ConsentRequest, PeerDetail, PeeringDocument, Proposal,
    RefuseAmendmentRequest,
};
use homeserver_api::ids::ServerName;

use super::confirm;
use super::document_file::Destination;
use super::peer::path;
use super::peering_document::confirm_fingerprint;
use crate::cli::{ConfirmArguments, DocumentOutput};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::Format;
use crate::values::instant;

/// Shows what would change.
pub(super) async fn preview(
    admin: &Admin,
    server: &ServerName,
    request: AmendRequest,
    format: Format,
) -> Result<(), Failure> {
    let seen = considered(admin, server, request).await?;
    format.show(&seen, sheet)
}

/// Shows what changes, asks, and signs exactly that.
pub(super) async fn amend(
    admin: &Admin,
    server: &ServerName,
    request: AmendRequest,
    yes: bool,
    output: &DocumentOutput,
    format: Format,
) -> Result<(), Failure> {
    let destination = Destination::open(output)?;
    let seen = considered(admin, server, request.clone()).await?;
    if !yes {
        say(&sheet(&seen))?;
        confirm(&format!("Sign this change and tell {server}?"), "--yes")?;
    }
    let request = AmendRequest {
        follows: Some(seen.follows),
        ..request
    };
    let made: Amended = admin.post(&amendments(server), &request).await?;
    let next = match made.effect {
        AmendmentEffect::InForce => format!("It is in force here, and {server} is told online."),
        AmendmentEffect::Proposed => format!(
            "{server} is told online; it is in force when its administrator has run `hsctl peer consent`."
        ),
    };
    if output.file.is_some()
        && let Some(document) = made.document.clone()
    {
        let document = PeeringDocument {
            document,
            warnings: made.warnings.clone(),
        };
        return destination.write(&document, format, &next);
    }
    format.show(&made, |made| format!("{}\n\n{next}", sheet(made)))
}

/// Which proposal was read, and whether that needs no question.
pub(super) struct Read {
    pub(super) amendment: Option<String>,
    pub(super) yes: bool,
}

/// Shows what the partner proposes, asks, and consents to exactly that.
pub(super) async fn consent(
    admin: &Admin,
    server: &ServerName,
    read: Read,
    arguments: &ConfirmArguments,
    output: &DocumentOutput,
    format: Format,
) -> Result<(), Failure> {
    let destination = Destination::open(output)?;
    let proposal = proposed(admin, server).await?;
    if read
        .amendment
        .is_some_and(|amendment| amendment != proposal.amendment)
    {
        return Err(Failure::Other(format!(
            "{server} proposes another amendment, of SHA-256 {}: read it with `hsctl peer show {server}`",
            proposal.amendment
        )));
    }
    say(&proposal_sheet(&format!("{server} proposes"), &proposal))?;
    let fingerprint = match (&proposal.new_fingerprint, &proposal.new_words) {
        (Some(new), words) => {
            let shown = [new.as_str(), words.as_deref().unwrap_or_default()];
            Some(confirm_fingerprint("amendment", server, shown, arguments)?)
        }
        (None, _) => None,
    };
    if !read.yes {
        confirm("Consent to this?", "--yes")?;
    }
    let request = ConsentRequest {
        amendment: proposal.amendment,
        fingerprint,
    };
    let made: PeeringDocument = admin
        .post(&format!("{}/consents", path(server)), &request)
        .await?;
    let next = format!(
        "It is in force here, and {server} is told online; should it not be reached, send this document for \
         `hsctl peer take`."
    );
    destination.write(&made, format, &next)
}

/// Shows what the partner proposes, asks, and refuses exactly that.
pub(super) async fn refuse(
    admin: &Admin,
    server: &ServerName,
    reason: String,
    yes: bool,
) -> Result<PeerDetail, Failure> {
    let proposal = proposed(admin, server).await?;
    if !yes {
        say(&proposal_sheet(&format!("{server} proposes"), &proposal))?;
        confirm("Refuse this?", "--yes")?;
    }
    let request = RefuseAmendmentRequest {
        amendment: proposal.amendment,
        reason,
    };
    let path = format!("{}/amendment-refusals", path(server));
    admin.post(&path, &request).await
}

/// A proposal in plain language.
pub(super) fn proposal_sheet(title: &str, proposal: &Proposal) -> String {
    let mut text = format!(
        "{title} (made {}, SHA-256 {}):",
        instant(proposal.made_ms),
        proposal.amendment
    );
    for line in &proposal.changes {
        text.push_str("\n- ");
        text.push_str(line);
    }
    if let Some(words) = &proposal.new_words {
        text.push_str(&format!("\nThe new root, to read aloud: {words}"));
    }
    text
}

fn amendments(server: &ServerName) -> String {
    format!("{}/amendments", path(server))
}

async fn considered(
    admin: &Admin,
    server: &ServerName,
    request: AmendRequest,
) -> Result<Amended, Failure> {
    let request = AmendRequest {
        dry_run: true,
        ..request
    };
    admin.post(&amendments(server), &request).await
}

async fn proposed(admin: &Admin, server: &ServerName) -> Result<Proposal, Failure> {
    let peer: PeerDetail = admin.get(&path(server)).await?;
    peer.proposal.ok_or_else(|| {
        Failure::Other(format!(
            "{server} proposes nothing that waits for an answer"
        ))
    })
}

fn sheet(amended: &Amended) -> String {
    let mut text = match amended.effect {
        AmendmentEffect::InForce => "This only tightens, and is in force at once:".to_owned(),
        AmendmentEffect::Proposed => "This is in force when the partner has consented:".to_owned(),
    };
    if amended.changes.is_empty() {
        text.push_str("\n- what was proposed is taken back");
    }
    for line in &amended.changes {
        text.push_str("\n- ");
        text.push_str(line);
    }
    for warning in &amended.warnings {
        text.push_str("\n! ");
        text.push_str(warning);
    }
    text
}

/// On standard error: standard output carries the answer.
fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stderr().lock(), "{text}\n")
        .map_err(|error| Failure::Other(format!("the terminal does not answer: {error}")))
}
