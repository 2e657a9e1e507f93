//! `consortium`.

use std::io::{self, Write};
use std::path::Path;

use homeserver_api::admin::{PeeringDocument, Terms};
use homeserver_api::consortium::{
    CharterMember, CharterRequest, CharterSummary, Consortia, IntroductionRequest, JoinOutcome,
    Joined, MergeRequest, SignCharterRequest,
};

use super::document_file::Destination;
use super::peer::{state, terms};
use super::{confirm, read_file};
use crate::cli::{ConsortiumCommand, StatementArguments};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{distance, instant_and_distance, now_ms};

/// `consortium …`.
pub(super) async fn run(
    admin: &Admin,
    command: ConsortiumCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        ConsortiumCommand::List => {
            let consortia: Consortia = admin.get("/admin/v1/consortia").await?;
            format.show(&consortia, consortium_list)
        }
        ConsortiumCommand::Introduce {
            endpoints,
            contact,
            output,
        } => {
            let destination = Destination::open(&output)?;
            let request = IntroductionRequest { endpoints, contact };
            let document = admin
                .post("/admin/v1/consortia/introductions", &request)
                .await?;
            let next = "Send it to whoever makes the charter with `hsctl consortium new`.";
            destination.write(&document, format, next)
        }
        ConsortiumCommand::New {
            name,
            members,
            former,
            without,
            statement,
            output,
        } => {
            let request = CharterRequest {
                name,
                terms: stated(&statement, former.is_some())?,
                introductions: members
                    .iter()
                    .map(|file| read_file(file))
                    .collect::<Result<_, _>>()?,
                former: former.as_deref().map(read_file).transpose()?,
                without,
                endpoints: statement.endpoints,
                contact: statement.contact,
            };
            let destination = Destination::open(&output)?;
            let charter = admin.post("/admin/v1/consortia/charters", &request).await?;
            let next = "Send it to every member, compare its fingerprint with all of them, and run \
                        `hsctl consortium sign` on it.";
            destination.write(&charter, format, next)
        }
        ConsortiumCommand::Show { document } => {
            let (_, summary) = inspect(admin, &document).await?;
            format.show(&summary, sheet)
        }
        ConsortiumCommand::Sign {
            document,
            fingerprint,
            output,
        } => {
            let destination = Destination::open(&output)?;
            let (document, summary) = inspect(admin, &document).await?;
            let request = SignCharterRequest {
                document,
                fingerprint: match fingerprint {
                    Some(read) => read,
                    None => ask(&summary)?,
                },
            };
            let signed = admin
                .post("/admin/v1/consortia/signatures", &request)
                .await?;
            let next = "Send it to whoever merges the signatures; when all have signed, run \
                        `hsctl consortium join` on the merged charter.";
            destination.write(&signed, format, next)
        }
        ConsortiumCommand::Merge { documents, output } => {
            let documents = documents.iter().map(|file| read_file(file));
            let request = MergeRequest {
                documents: documents.collect::<Result<_, _>>()?,
            };
            let destination = Destination::open(&output)?;
            let merged = admin.post("/admin/v1/consortia/merges", &request).await?;
            let next = "Send it to every member, who runs `hsctl consortium join` on it.";
            destination.write(&merged, format, next)
        }
        ConsortiumCommand::Join { document } => {
            let request = PeeringDocument::new(read_file(&document)?);
            let joined: Joined = admin.post("/admin/v1/consortia/peers", &request).await?;
            format.show(&joined, pairs)
        }
    }
}

/// The terms of a charter: those of the former one unless a flag states something else.
fn stated(statement: &StatementArguments, follows: bool) -> Result<Option<Terms>, Failure> {
    let terms = terms(statement)?;
    let nothing = statement.terms.is_none() && terms == Terms::default();
    Ok((!(follows && nothing)).then_some(terms))
}

async fn inspect(admin: &Admin, file: &Path) -> Result<(String, CharterSummary), Failure> {
    let document = read_file(file)?;
    let request = PeeringDocument::new(document.clone());
    let summary = admin
        .post("/admin/v1/consortia/inspections", &request)
        .await?;
    Ok((document, summary))
}

/// Shows the charter on the terminal and asks; returns the fingerprint that was confirmed.
fn ask(summary: &CharterSummary) -> Result<String, Failure> {
    // On standard error: standard output carries the signed charter.
    writeln!(io::stderr().lock(), "{}\n", sheet(summary))
        .map_err(|error| Failure::Other(format!("the terminal does not answer: {error}")))?;
    let question = format!(
        "Have you heard these words from the administrators of all {} other members: {}?",
        summary.members.len().saturating_sub(1),
        summary.words
    );
    confirm(&question, "--fingerprint with what they read")?;
    Ok(summary.fingerprint.clone())
}

/// A charter in plain language.
fn sheet(summary: &CharterSummary) -> String {
    let mut text = facts(vec![
        ("consortium", format!("{:?}", summary.name)),
        ("charter", summary.serial.to_string()),
        ("fingerprint", summary.fingerprint.clone()),
        ("read aloud", summary.words.clone()),
        ("expires", instant_and_distance(summary.expires_ms)),
    ]);
    text.push('\n');
    for line in &summary.lines {
        text.push_str("\n- ");
        text.push_str(line);
    }
    text.push_str("\n\nMembers:");
    for member in &summary.members {
        text.push_str(&format!("\n- {}: {}", member.server, standing(member)));
        for line in &member.lines {
            text.push_str("\n    ");
            text.push_str(line);
        }
        if !member.changes.is_empty() {
            text.push_str("\n    It goes on with our agreement, and changes in it:");
        }
        for change in &member.changes {
            text.push_str("\n      ");
            text.push_str(change);
        }
    }
    for left_out in &summary.left_out {
        text.push_str(&format!(
            "\n\n{} is no member any more: our agreement with it ends {}, unless you amend it.",
            left_out.server,
            instant_and_distance(left_out.expires_ms)
        ));
    }
    text
}

fn standing(member: &CharterMember) -> String {
    let signed = if member.signed {
        "has signed"
    } else {
        "has not signed"
    };
    match member.peer {
        Some(peer) => format!("{signed}; our agreement with it is {}", state(peer)),
        None => signed.to_owned(),
    }
}

fn pairs(joined: &Joined) -> String {
    let rows = joined.pairs.iter().map(|pair| {
        let outcome = match pair.outcome {
            JoinOutcome::Made => "made",
            JoinOutcome::Known => "known",
            JoinOutcome::Renewed => "renewed",
            JoinOutcome::Renewing => "renewing",
            JoinOutcome::Kept => "kept",
            JoinOutcome::NotSigned => "not signed",
            JoinOutcome::Left => "left",
            JoinOutcome::Refused => "refused",
        };
        vec![
            pair.server.to_string(),
            outcome.to_owned(),
            pair.detail.clone(),
        ]
    });
    list(
        &["member", "agreement", "what that means"],
        rows.collect(),
        "No other members.",
    )
}

fn consortium_list(consortia: &Consortia) -> String {
    let now_ms = now_ms();
    let rows = consortia.consortia.iter().map(|consortium| {
        let charter = &consortium.charter;
        let signed = charter.members.iter().filter(|member| member.signed);
        vec![
            format!("{:?}", charter.name),
            charter.serial.to_string(),
            format!("{} of {}", signed.count(), charter.members.len()),
            distance(charter.expires_ms, now_ms),
        ]
    });
    list(
        &["consortium", "charter", "signed", "expires"],
        rows.collect(),
        "No consortium yet: introduce this homeserver to one with `hsctl consortium introduce`.",
    )
}
