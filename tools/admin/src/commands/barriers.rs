//! `policy`.

use std::path::Path;
use std::time::Duration;

use homeserver_api::admin::{
    BarrierChange, BarriersChanged, BarriersRequest, BarriersState, ExplainRequest, Explanation,
    PartnerHalf, PartnerState, PeopleOf,
};
use homeserver_api::policy::{BarrierRule, Barriers, Contact, Effect};

use super::{confirm, read_file};
use crate::cli::PolicyCommand;
use crate::connection::{Admin, segment};
use crate::failure::Failure;
use crate::output::{Format, list, print};
use crate::values::harmless;

const SEGMENTS: &str = "/admin/v1/segments";
const EXPLANATIONS: &str = "/admin/v1/explanations";
/// How often a partner's answer is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// `policy …`.
pub(super) async fn run(
    admin: &Admin,
    command: PolicyCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        PolicyCommand::Show => {
            let state: BarriersState = admin.get(SEGMENTS).await?;
            format.show(&state.barriers, document)
        }
        PolicyCommand::Diff { file } => {
            let changed = dry_run(admin, read(&file)?).await?;
            format.show(&changed, changes)
        }
        PolicyCommand::Apply { file, yes } => apply(admin, &file, yes, format).await,
        PolicyCommand::Explain { from, to, wait } => {
            let request = ExplainRequest { from, to };
            let mut explanation: Explanation = admin.post(EXPLANATIONS, &request).await?;
            if let Some(half) = explanation.partner.take() {
                let half = partner(admin, half, Duration::from_secs(wait.into())).await?;
                explanation.allowed &= half.allowed != Some(false);
                explanation.partner = Some(half);
            }
            format.show(&explanation, sheet)
        }
    }
}

fn read(file: &Path) -> Result<Barriers, Failure> {
    serde_json::from_str(&read_file(file)?).map_err(|error| {
        Failure::Configuration(format!(
            "{} does not hold segments and rules: {error}",
            file.display()
        ))
    })
}

async fn dry_run(admin: &Admin, barriers: Barriers) -> Result<BarriersChanged, Failure> {
    let request = BarriersRequest {
        barriers,
        follows: None,
        dry_run: true,
    };
    admin.put(SEGMENTS, &request).await
}

/// Shows what the file changes, and applies just that: when something else has changed meanwhile, nothing happens.
async fn apply(admin: &Admin, file: &Path, yes: bool, format: Format) -> Result<(), Failure> {
    let barriers = read(file)?;
    let would = dry_run(admin, barriers.clone()).await?;
    if !yes {
        if format == Format::Human {
            print(changes(&would).trim_end())?;
        }
        confirm("Apply this?", "--yes")?;
    }
    let request = BarriersRequest {
        barriers,
        follows: Some(would.serial),
        dry_run: false,
    };
    let changed: BarriersChanged = admin.put(SEGMENTS, &request).await?;
    format.show(&changed, |changed| {
        format!("{}\nThis is in force now.", changes(changed).trim_end())
    })
}

/// Waits for the partner, as long as there is something to wait for.
async fn partner(
    admin: &Admin,
    mut half: PartnerHalf,
    patience: Duration,
) -> Result<PartnerHalf, Failure> {
    let mut waited = Duration::ZERO;
    while let (PartnerState::Asked, Some(explanation)) = (half.state, &half.explanation)
        && waited < patience
    {
        tokio::time::sleep(LOOK_INTERVAL).await;
        waited = waited.saturating_add(LOOK_INTERVAL);
        let path = format!("{EXPLANATIONS}/{}", segment(explanation));
        half = admin.get(&path).await?;
    }
    Ok(half)
}

const fn words(contact: Contact) -> &'static str {
    match contact {
        Contact::Find => "find",
        Contact::Invite => "invite",
        Contact::Message => "message",
    }
}

const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn document(barriers: &Barriers) -> String {
    let segments = barriers.segments.iter().map(|segment| {
        let users: Vec<&str> = segment.users.iter().map(|user| user.as_str()).collect();
        vec![
            segment.name.clone(),
            segment.user_types.join(", "),
            users.join(", "),
        ]
    });
    let rules = barriers.rules.iter().map(|rule| {
        let arrow = if rule.one_way { "to" } else { "and" };
        vec![
            rule.name.clone(),
            format!("{} {arrow} {}", rule.from, rule.to),
            about(rule),
            effect(rule.effect).to_owned(),
        ]
    });
    let segments = list(
        &["segment", "user types", "people"],
        segments.collect(),
        "No segments.",
    );
    let rules = list(
        &["rule", "between", "about", "does"],
        rules.collect(),
        "No rules.",
    );
    let default = effect(barriers.default);
    format!("{segments}\n\n{rules}\n\nWhere no rule is: {default}")
}

fn about(rule: &BarrierRule) -> String {
    if rule.contacts.is_empty() {
        return "everything".to_owned();
    }
    let contacts: Vec<&str> = rule
        .contacts
        .iter()
        .map(|contact| words(*contact))
        .collect();
    contacts.join(", ")
}

fn changes(changed: &BarriersChanged) -> String {
    let row = |does: &str, change: &BarrierChange| {
        vec![
            does.to_owned(),
            words(change.contact).to_owned(),
            people(&change.from),
            people(&change.to),
            change.pairs.to_string(),
            change.rule.clone(),
        ]
    };
    let gained = changed.gained.iter().map(|change| row("may now", change));
    let lost = changed.lost.iter().map(|change| row("no longer", change));
    list(
        &["change", "what", "who", "whom", "pairs", "by"],
        gained.chain(lost).collect(),
        "Nobody gains or loses anybody.",
    )
}

fn people(of: &PeopleOf) -> String {
    let some: Vec<&str> = of.some.iter().map(|handle| handle.as_str()).collect();
    let named = u64::try_from(some.len()).unwrap_or(u64::MAX);
    let mut text = some.join(", ");
    if of.count > named {
        text.push_str(&format!(" and {} more", of.count.saturating_sub(named)));
    }
    if !of.segments.is_empty() {
        text.push_str(&format!(" ({})", of.segments.join(", ")));
    }
    text
}

fn sheet(explanation: &Explanation) -> String {
    let rows = explanation.contacts.iter().map(|one| {
        vec![
            words(one.contact).to_owned(),
            if one.allowed { "allowed" } else { "denied" }.to_owned(),
            one.rule.clone(),
            one.reason.clone().unwrap_or_default(),
        ]
    });
    let verdict = if explanation.allowed {
        "may"
    } else {
        "may not"
    };
    let mut text = format!(
        "{} {verdict} write to {}.\n\n{}",
        explanation.from,
        explanation.to,
        list(&["what", "answer", "rule", "reason"], rows.collect(), "")
    );
    if let Some(half) = &explanation.partner {
        text.push_str(&format!("\n\nPartner: {}", harmless(&half.reason)));
    }
    text
}

#[cfg(test)]
mod tests {
    use homeserver_api::admin::ExplainedContact;

    use super::*;

    /// Goal: a difference reads as who loses whom by which rule, with those counted who are not named. Method: one loss.
    #[test]
    fn a_difference_in_words() {
        let of = |segment: &str, handle: &str, count| PeopleOf {
            segments: vec![segment.to_owned()],
            count,
            some: vec![handle.parse().expect("a handle")],
        };
        let changed = BarriersChanged {
            serial: 1,
            applied: false,
            gained: Vec::new(),
            lost: vec![BarrierChange {
                contact: Contact::Message,
                from: of("research", "anna", 3),
                to: of("trading", "tom", 1),
                pairs: 3,
                rule: "segments, rule wall".to_owned(),
            }],
        };
        let text = changes(&changed);
        for part in [
            "no longer",
            "anna and 2 more (research)",
            "tom (trading)",
            "rule wall",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let nothing = BarriersChanged {
            lost: Vec::new(),
            ..changed
        };
        assert_eq!(changes(&nothing), "Nobody gains or loses anybody.");
    }

    /// Goal: an explanation says at once whether the person may write, and which rule decided. Method: one that is denied.
    #[test]
    fn an_explanation_in_words() {
        let explanation = Explanation {
            from: "alice@a.example".parse().expect("an address"),
            to: "bob@b.example".parse().expect("an address"),
            allowed: false,
            contacts: vec![ExplainedContact {
                contact: Contact::Message,
                allowed: false,
                rule: "user type standard, external".to_owned(),
                reason: Some("external-scope: no".to_owned()),
            }],
            partner: Some(PartnerHalf {
                state: PartnerState::NotShared,
                allowed: None,
                reason: "it is not asked".to_owned(),
                explanation: None,
            }),
        };
        let text = sheet(&explanation);
        assert!(text.starts_with("alice@a.example may not write to bob@b.example."));
        for part in [
            "denied",
            "user type standard, external",
            "Partner: it is not asked",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
