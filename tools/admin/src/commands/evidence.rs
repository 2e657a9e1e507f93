//! `evidence`: who was cut off, and what shows it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use homeserver_api::armor;
use homeserver_api::codec::Wire as _;
use homeserver_api::deprovisioning::{Judged, Pages, SignedEvidence};
use homeserver_api::evidence::{
    CutReason, EvidenceDetail, EvidenceList, EvidencePage, EvidenceRoom, EvidenceState,
    EvidenceStepKind, EvidenceSummary,
};
use homeserver_api::ids::{EvidenceId, RoomId};
use serde::Serialize;

use super::document_file::Destination;
use crate::cli::{ConnectionArguments, EvidenceCommand};
use crate::connection::{Admin, root_from_file};
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{harmless, instant, now_ms};

const PATH: &str = "/admin/v1/evidence";
/// Largest document that is verified: some thousand rooms with the words of their hubs.
const DOCUMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// `evidence …`.
pub(super) async fn run(
    connection: &ConnectionArguments,
    command: EvidenceCommand,
    format: Format,
) -> Result<(), Failure> {
    let admin = || Admin::open(connection);
    match command {
        EvidenceCommand::List { waiting, limit } => {
            let state = if waiting { "state=waiting&" } else { "" };
            let path = format!("{PATH}?{state}limit={limit}");
            let found: EvidenceList = admin()?.get(&path).await?;
            format.show(&found, |found| table(&found.evidence))
        }
        EvidenceCommand::Show { evidence } => {
            let detail = whole(&admin()?, evidence).await?;
            format.show(&detail, sheet)
        }
        EvidenceCommand::Export { evidence, file } => {
            let destination = Destination::at(file.as_deref())?;
            let exported = export(&admin()?, evidence).await?;
            destination.write_text(&exported.document, &exported, format, &told(&exported))
        }
        EvidenceCommand::Verify { file, complete } => verify(connection, &file, complete, format),
    }
}

/// The evidence with all of its rooms.
async fn whole(admin: &Admin, evidence: EvidenceId) -> Result<EvidenceDetail, Failure> {
    let mut detail: EvidenceDetail = admin.get(&format!("{PATH}/{evidence}")).await?;
    while let Some(after) = detail.next_after {
        let path = format!("{PATH}/{evidence}?after={after}");
        let next: EvidenceDetail = admin.get(&path).await?;
        detail.rooms.extend(next.rooms);
        detail.next_after = next.next_after;
    }
    Ok(detail)
}

/// What `export` has written.
#[derive(Serialize)]
struct Exported {
    document: String,
    pages: usize,
    rooms: usize,
}

async fn export(admin: &Admin, evidence: EvidenceId) -> Result<Exported, Failure> {
    let mut exported = Exported {
        document: String::new(),
        pages: 0,
        rooms: 0,
    };
    let mut after: Option<RoomId> = None;
    loop {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let path = format!("{PATH}/{evidence}/document{query}");
        let page: EvidencePage = admin.get(&path).await?;
        exported.document.push_str(page.document.trim_end());
        exported.document.push('\n');
        exported.pages = exported.pages.saturating_add(1);
        exported.rooms = exported.rooms.saturating_add(page.rooms);
        match page.next_after {
            Some(next) => after = Some(next),
            None => return Ok(exported),
        }
    }
}

fn told(exported: &Exported) -> String {
    format!(
        "{} rooms. Whoever has the organisation's root certificate checks it with `hsctl --root FILE evidence verify`.",
        exported.rooms
    )
}

/// What `verify` has found.
#[derive(Serialize)]
struct Verified {
    verified: bool,
    evidence: EvidenceId,
    server: String,
    handle: String,
    cut_ms: u64,
    complete: bool,
    pages: usize,
    rooms: usize,
    rooms_of_partners: usize,
    rooms_waiting: usize,
    words_of_partners_signed: usize,
    words_of_partners_unsigned: usize,
}

fn verify(
    connection: &ConnectionArguments,
    file: &Path,
    complete: bool,
    format: Format,
) -> Result<(), Failure> {
    let root = connection.root.as_deref().ok_or_else(|| {
        Failure::Usage(
            "give the root certificate of the organisation whose evidence it is: --root FILE"
                .to_owned(),
        )
    })?;
    let root = root_from_file(root)?;
    let refused = |why: String| Failure::Other(format!("{} does not hold: {why}", file.display()));
    let (found, judged) = judged(&read(file)?, root, now_ms()).map_err(refused)?;
    if complete && !judged.complete {
        return Err(refused(format!(
            "it is not complete: {} rooms are waited for",
            judged.waiting
        )));
    }
    format.show(&found, |found| shown(found, &judged))
}

/// What all pages in this text show together; the error says why they are not to be believed.
fn judged(text: &str, root: Vec<u8>, now_ms: u64) -> Result<(Verified, Judged), String> {
    let root = root.into();
    let documents =
        armor::read_all(armor::Kind::Evidence, text).map_err(|error| error.to_string())?;
    let (mut pages, count) = (Pages::default(), documents.len());
    for document in documents {
        let page = SignedEvidence::from_bytes(document).map_err(|error| error.to_string())?;
        let taken = pages.take(&page, &root, now_ms);
        taken.map_err(|error| harmless(&error.to_string()))?;
    }
    let (cut, judged) = pages.finish().map_err(|error| error.to_string())?;
    let found = Verified {
        verified: true,
        evidence: cut.evidence,
        server: cut.server.to_string(),
        handle: cut.handle.to_string(),
        cut_ms: cut.cut_ms,
        complete: judged.complete,
        pages: count,
        rooms: judged.rooms,
        rooms_of_partners: judged.foreign,
        rooms_waiting: judged.waiting,
        words_of_partners_signed: judged.proved,
        words_of_partners_unsigned: judged.unproved,
    };
    Ok((found, judged))
}

fn shown(found: &Verified, judged: &Judged) -> String {
    let state = match judged.complete {
        true => "nothing is left to wait for".to_owned(),
        false => format!("{} rooms are waited for", judged.waiting),
    };
    let rows = vec![
        ("evidence", format!("{}: it holds", found.evidence)),
        ("whose", format!("{}@{}", found.handle, found.server)),
        ("cut off", instant(found.cut_ms)),
        ("state", state),
        (
            "rooms",
            format!(
                "{}, {} of them ordered by partners",
                judged.rooms, judged.foreign
            ),
        ),
        (
            "partners' words",
            format!(
                "{} with their signatures, {} without",
                judged.proved, judged.unproved
            ),
        ),
    ];
    facts(rows)
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::Configuration(format!("{} can't be read: {error}", file.display()))
    };
    let mut text = String::new();
    let opened = File::open(file).map_err(unreadable)?;
    let read = opened
        .take(DOCUMENT_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if u64::try_from(read).is_ok_and(|read| read == DOCUMENT_BYTES_MAX) {
        return Err(Failure::Configuration(format!(
            "{} is larger than {DOCUMENT_BYTES_MAX} bytes",
            file.display()
        )));
    }
    Ok(text)
}

fn table(found: &[EvidenceSummary]) -> String {
    let rows = found
        .iter()
        .map(|summary| {
            vec![
                instant(summary.cut_ms),
                reason(summary.reason).to_owned(),
                summary.address.to_string(),
                summary.devices.to_string(),
                state(summary),
                harmless(&summary.by),
                summary.evidence.to_string(),
            ]
        })
        .collect();
    list(
        &["cut", "what", "whose", "devices", "state", "by", "evidence"],
        rows,
        "Nobody was cut off.",
    )
}

const fn reason(reason: CutReason) -> &'static str {
    match reason {
        CutReason::UserDeleted => "user deleted",
        CutReason::UserSuspended => "user suspended",
        CutReason::DeviceRemoved => "device removed",
    }
}

fn state(summary: &EvidenceSummary) -> String {
    match summary.state {
        EvidenceState::Complete => "complete".to_owned(),
        EvidenceState::Waiting if summary.listed_ms.is_none() => "looks for rooms".to_owned(),
        EvidenceState::Waiting => format!("waits for {} rooms", summary.waiting),
    }
}

fn sheet(detail: &EvidenceDetail) -> String {
    let summary = &detail.summary;
    let sessions = match (summary.sessions, summary.sessions_ended_ms) {
        (Some(count), Some(ended_ms)) => format!(
            "{count} open then; cut after {} ms",
            ended_ms.saturating_sub(summary.cut_ms)
        ),
        (Some(count), None) => format!("{count} open then; not all have ended"),
        (None, _) => "not known yet".to_owned(),
    };
    let done = detail.rooms.iter();
    let done = done.filter(|room| room.state == EvidenceState::Complete);
    let mut rows = vec![
        ("evidence", summary.evidence.to_string()),
        ("what", reason(summary.reason).to_owned()),
        (
            "whose",
            format!("{} (account {})", summary.address, summary.account),
        ),
        ("by", harmless(&summary.by)),
        ("cut", instant(summary.cut_ms)),
        ("sessions", sessions),
        ("state", state(summary)),
        (
            "rooms",
            format!("{}, {} of them done", detail.rooms.len(), done.count()),
        ),
    ];
    if let Some(completed_ms) = summary.completed_ms {
        rows.push(("complete", instant(completed_ms)));
    }
    for device in &detail.device_list {
        rows.push((
            "device",
            format!(
                "{}, SHA-256 of its key {}",
                device.device,
                harmless(&device.key_sha256)
            ),
        ));
    }
    let rooms = detail.rooms.iter().map(room_row).collect();
    let rooms = list(
        &[
            "room", "hub", "devices", "asked", "accepted", "ordered", "removed", "state",
        ],
        rooms,
        "The devices were in no rooms.",
    );
    format!("{}\n\n{rooms}", facts(rows))
}

fn room_row(room: &EvidenceRoom) -> Vec<String> {
    let last = |kind| {
        let mut steps = room.steps.iter().rev();
        steps.find(|step| step.what == kind)
    };
    let time = |kind| last(kind).map_or_else(|| "-".to_owned(), |step| instant(step.at_ms));
    let said = |kind| match last(kind) {
        Some(step) => {
            let epoch = step
                .epoch
                .map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
            let signed = if step.signed { ", signed" } else { "" };
            format!("{}{epoch}{signed}", instant(step.at_ms))
        }
        None => "-".to_owned(),
    };
    let is_over = last(EvidenceStepKind::Ended).is_some();
    vec![
        room.room.to_string(),
        room.hub.to_string(),
        room.devices.len().to_string(),
        time(EvidenceStepKind::Asked),
        time(EvidenceStepKind::Accepted),
        said(EvidenceStepKind::Ordered),
        said(EvidenceStepKind::Removed),
        match room.state {
            EvidenceState::Complete if is_over => "done: the room is over".to_owned(),
            EvidenceState::Complete => "done".to_owned(),
            EvidenceState::Waiting => "waiting".to_owned(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evidence of two rooms, of which one waits for its hub.
    fn detail() -> EvidenceDetail {
        let step = |what: &str, epoch: Option<u64>, signed: bool| {
            serde_json::json!({
                "what": what, "at_ms": 1_795_000_000_000_u64, "devices": 1, "epoch": epoch,
                "stamp_ms": epoch.map(|_| 1_795_000_000_000_u64), "signed": signed,
            })
        };
        serde_json::from_value(serde_json::json!({
            "evidence": "01".repeat(16), "cut_ms": 1_795_000_000_000_u64, "state": "waiting", "reason": "user-deleted",
            "address": "bob@a.example", "account": "02".repeat(16), "by": "admin:root", "devices": 1, "sessions": 1,
            "sessions_ended_ms": 1_795_000_000_012_u64, "listed_ms": 1_795_000_000_020_u64, "waiting": 1,
            "completed_ms": null, "device_list": [{"device": "03".repeat(16), "key_sha256": "04".repeat(32)}],
            "rooms": [
                {"room": "05".repeat(16), "hub": "b.example", "devices": ["03".repeat(16)], "state": "complete",
                 "steps": [step("asked", None, false), step("ordered", Some(7), true), step("removed", Some(8), true)]},
                {"room": "06".repeat(16), "hub": "c.example", "devices": ["03".repeat(16)], "state": "waiting",
                 "steps": [step("asked", None, false)]},
            ],
            "next_after": null,
        }))
        .expect("evidence")
    }

    /// Goal: a document holds under the root of its organisation, with whatever stands around it, and says what it shows; it does not hold
    /// under another root, with a page twice, cut short, changed, or from the future. Method: the golden vector of the protocol.
    #[test]
    fn documents_are_judged() {
        const DOCUMENT: &str = include_str!("../../../../federation-proto/testdata/evidence.txt");
        const ROOTS: [&[u8]; 2] = [
            include_bytes!("../../../../federation-proto/testdata/a-root.der"),
            include_bytes!("../../../../federation-proto/testdata/b-root.der"),
        ];
        const NOW_MS: u64 = 1_795_342_500_000;
        let judge = |text: &str, root: &[u8], now_ms| {
            let found = judged(text, root.to_vec(), now_ms);
            found.map(|(found, _)| (found.rooms, found.rooms_of_partners, found.complete))
        };
        let around = format!("> see here\n\n{DOCUMENT}\nregards\n");
        assert_eq!(judge(&around, ROOTS[0], NOW_MS), Ok((2, 1, true)));
        let middle = DOCUMENT.len() / 2;
        let twice = format!("{DOCUMENT}{DOCUMENT}");
        for (text, root, now_ms) in [
            (DOCUMENT, ROOTS[1], NOW_MS),
            (DOCUMENT, ROOTS[0], NOW_MS - 3_600_000),
            (twice.as_str(), ROOTS[0], NOW_MS),
            (&DOCUMENT[..middle], ROOTS[0], NOW_MS),
            ("nothing", ROOTS[0], NOW_MS),
        ] {
            assert!(judge(text, root, now_ms).is_err());
        }
    }

    /// Goal: the sheet shows what is waited for and of whom, and which words are signed; by one room that is done and one whose
    /// hub does not answer.
    #[test]
    fn what_waits_is_seen() {
        let sheet = sheet(&detail());
        let lines: Vec<String> = sheet
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let has = |part: &str| lines.iter().any(|line| line.contains(part));
        assert!(has("sessions 1 open then; cut after 12 ms"), "{sheet}");
        assert!(has("state waits for 1 rooms"), "{sheet}");
        assert!(has("rooms 2, 1 of them done"), "{sheet}");
        let done = lines
            .iter()
            .find(|line| line.contains("b.example"))
            .expect("a room");
        assert!(
            done.contains("epoch 7, signed") && done.ends_with("done"),
            "{done}"
        );
        let waits = lines
            .iter()
            .find(|line| line.contains("c.example"))
            .expect("a room");
        assert!(waits.ends_with("- - - waiting"), "{waits}");
        let listed = table(&[detail().summary]);
        assert!(listed.contains("waits for 1 rooms"), "{listed}");
    }
}
