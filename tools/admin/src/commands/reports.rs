//! `reports`: what people report to administrators.

use homeserver_api::admin::{
    CloseReportRequest, DisclosedMessage, ReportDetail, ReportState, ReportSummary, Reports, Told,
};

use crate::cli::ReportsCommand;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{harmless, instant};

const PATH: &str = "/admin/v1/reports";

/// `reports …`.
pub(super) async fn run(
    admin: &Admin,
    command: ReportsCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        ReportsCommand::List { all, limit } => {
            let state = if all { "" } else { "state=open&" };
            let reports: Reports = admin.get(&format!("{PATH}?{state}limit={limit}")).await?;
            format.show(&reports, |reports| table(&reports.reports))
        }
        ReportsCommand::Show { report } => {
            let detail: ReportDetail = admin.get(&format!("{PATH}/{report}")).await?;
            format.show(&detail, sheet)
        }
        ReportsCommand::Close { report, note } => {
            let request = CloseReportRequest { note };
            let path = format!("{PATH}/{report}/close");
            let closed: ReportSummary = admin.post(&path, &request).await?;
            format.show(&closed, |_| format!("The report {report} is closed."))
        }
    }
}

fn table(reports: &[ReportSummary]) -> String {
    let rows = reports
        .iter()
        .map(|report| {
            vec![
                instant(report.at_ms),
                report.reason.to_string(),
                report.address.to_string(),
                reporter(report),
                report.messages.to_string(),
                state(report.state).to_owned(),
                report.report.to_string(),
            ]
        })
        .collect();
    list(
        &[
            "came", "reason", "about", "by", "messages", "state", "report",
        ],
        rows,
        "Nothing is reported.",
    )
}

const fn state(state: ReportState) -> &'static str {
    match state {
        ReportState::Open => "open",
        ReportState::Closed => "closed",
    }
}

fn reporter(report: &ReportSummary) -> String {
    match &report.reporter {
        Some(handle) => format!("{handle}@{}", report.from),
        None => format!("somebody at {}", report.from),
    }
}

fn sheet(detail: &ReportDetail) -> String {
    let summary = &detail.summary;
    let mut rows = vec![
        ("report", summary.report.to_string()),
        ("came", instant(summary.at_ms)),
        ("state", state(summary.state).to_owned()),
        ("reason", summary.reason.to_string()),
        (
            "about",
            format!("{} (account {})", summary.address, summary.account),
        ),
        ("reported by", reporter(summary)),
        ("room", detail.room.to_string()),
        ("known here", known(detail)),
    ];
    if let Some(report) = detail.partner_report {
        rows.push((
            "passed on by",
            format!("{}, as its report {report}", summary.from),
        ));
    } else if summary.address.server != summary.from {
        rows.push((
            "passed on",
            told(&summary.address.server.to_string(), &detail.told),
        ));
    }
    if let Some(closed) = &detail.closed {
        rows.push((
            "closed",
            format!("{} by {}", instant(closed.at_ms), closed.by),
        ));
    }
    let mut text = facts(rows);
    if let Some(closed) = detail
        .closed
        .as_ref()
        .filter(|closed| !closed.note.is_empty())
    {
        text.push_str("\n\nWhat came of it:\n");
        text.push_str(&set_apart(&closed.note));
    }
    if !detail.note.is_empty() {
        text.push_str("\n\nWhat the reporter says:\n");
        text.push_str(&set_apart(&detail.note));
    }
    if !detail.disclosed.is_empty() {
        text.push_str(
            "\n\nMessages, as the reporter's device disclosed them. The homeserver could never read them, and nothing here \
             proves\nthat they were sent:",
        );
    }
    for message in &detail.disclosed {
        text.push_str(&disclosed(message));
    }
    text
}

fn disclosed(message: &DisclosedMessage) -> String {
    format!(
        "\n\n{} from device {}, SHA-256 of the encrypted message {}\n{}",
        instant(message.accepted_ms),
        message.device,
        message.message_sha256,
        set_apart(&message.text)
    )
}

fn known(detail: &ReportDetail) -> String {
    let was = |was: bool| if was { "was" } else { "was not" };
    let reported = was(detail.reported_in_room);
    match detail.reporter_in_room {
        Some(reporter) => format!(
            "by its own record who is reported {reported} in the room, and the reporter {}",
            was(reporter)
        ),
        None => format!("by its own record who is reported {reported} in the room"),
    }
}

/// What the other organisation hears of a report about one of its people.
fn told(server: &str, told: &Told) -> String {
    match told {
        Told::No => format!("no: {server} is not told"),
        Told::Unnamed => format!("{server} is told, without the reporter's name"),
        Told::Named => format!("{server} is told, with the reporter's name"),
        Told::Returned(refusal) => format!(
            "{server} did not take it: {} ({})",
            harmless(&refusal.reason),
            refusal.code
        ),
    }
}

/// Somebody's words, so that they can't pass for ours.
fn set_apart(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("  | {}", harmless(line)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report by Alice about Bob, whose text tries to pass for the sheet's own words.
    fn report() -> ReportDetail {
        serde_json::from_value(serde_json::json!({
            "report": "01".repeat(16), "at_ms": 1_795_000_000_000_u64, "state": "open", "reason": "harassment",
            "address": "bob@b.example", "account": "02".repeat(16), "from": "a.example", "reporter": "alice",
            "messages": 1, "room": "03".repeat(16), "note": "since Monday", "partner_report": null,
            "reported_in_room": true, "reporter_in_room": false, "told": "unnamed", "closed": null,
            "disclosed": [{
                "device": "04".repeat(16), "accepted_ms": 1_795_000_000_000_u64, "message_sha256": "05".repeat(32),
                "text": "hi\n\nclosed  by admin\u{1b}[2J\u{202e}",
            }],
        }))
        .expect("a report")
    }

    /// Goal: the sheet says what other organisation hears of a report only where there is one that could: not of what a
    /// partner has passed on itself, nor of what stays in the house. Method: the three kinds of reports.
    #[test]
    fn who_is_told() {
        let passed_on = |detail: &ReportDetail| {
            let lines = sheet(detail).lines().map(str::to_owned).collect::<Vec<_>>();
            let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let told = |line: &&String| line.contains("passed on") || line.contains("told");
            lines.iter().filter(told).map(words).collect::<Vec<_>>()
        };
        let mut detail = report();
        assert_eq!(
            passed_on(&detail),
            ["passed on b.example is told, without the reporter's name"]
        );
        detail.told = Told::No;
        assert_eq!(passed_on(&detail), ["passed on no: b.example is not told"]);

        let id = "06".repeat(16);
        detail.partner_report = Some(id.parse().expect("an id"));
        assert_eq!(
            passed_on(&detail),
            [format!("passed on by a.example, as its report {id}")]
        );

        detail.partner_report = None;
        detail.summary.from = detail.summary.address.server.clone();
        assert!(passed_on(&detail).is_empty());
    }

    /// Goal: what a reporter discloses drives no terminal and passes for nothing of ours, and the sheet says what it
    /// is worth; by a text that tries.
    #[test]
    fn words_are_set_apart() {
        let sheet = sheet(&report());
        for told in [
            "alice@a.example",
            "  | since Monday",
            "nothing here proves",
            "\n  | hi\n  | \n  | closed  by admin\\u{1b}[2J\\u{202e}",
            "who is reported was in the room, and the reporter was not",
            "is told, without the reporter's name",
        ] {
            assert!(sheet.contains(told), "{told}: {sheet}");
        }
        assert!(!sheet.contains('\u{1b}'));
    }
}
