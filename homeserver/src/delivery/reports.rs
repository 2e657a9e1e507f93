//! Reports of abuse: taken in from our own people and from partners, kept, shown to administrators, closed.
//!
//! What a report discloses, its reporter's device says. This homeserver could never read the messages: it knows
//! who reports, who was in the room, and nothing of what was said.

use federation_proto::ids::{AccountId, Address, ReportId, RoomId, ServerName};
use federation_proto::limits::{
    REPORT_NOTE_BYTES_MAX, REPORT_TEXT_BYTES_MAX, REPORTED_MESSAGES_MAX,
};
use federation_proto::payload::{AbuseReport, Payload, is_reportable};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{Report, Telling};

use super::batch::{Batch, NotTaken, Times};
use super::envelope::malformed;
use super::limits::{ACCOUNT_REPORTS_MAX, PEER_REPORTS_MAX, REPORT_TTL_MS, REPORTS_MS};
use super::submit::Submitter;
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::policy::Input;
use crate::store::allowance::{Purpose, Whose};
use crate::store::inbox::InboxBody;
use crate::store::report::{self, Closed, Known, Partner, ReportRecord, Reporter};
use crate::store::{Part, PartOutcome, StoreError};

/// How often closing a report is tried when it changes meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// An own device reports.
pub(super) async fn submit(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    said: &Report,
) -> Result<(), NotTaken> {
    // Whatever the account may else: only a suspended one may not report.
    submitter.evaluate(batch, [], &Input::LookUp)?;
    if !is_reportable(&said.note, &said.messages) {
        return Err(NotTaken::refused(
            RefusalCode::TooLarge,
            format!(
                "a report has at most {REPORTED_MESSAGES_MAX} messages, {REPORT_TEXT_BYTES_MAX} bytes of text and \
                 {REPORT_NOTE_BYTES_MAX} bytes of note: report the worst of it"
            ),
        ));
    }
    let of = submitter.device;
    if said.account == of.account {
        return Err(malformed("nobody reports himself"));
    }
    let whose = Whose::Account(of.account);
    within_quota(batch, &whose, ACCOUNT_REPORTS_MAX).await?;
    let server = &said.address.server;
    let is_own = *server == batch.node.server;
    if is_own {
        let account = batch.account(said.account).await?;
        if account.is_none_or(|account| account.handle != said.address.handle) {
            return Err(unknown());
        }
    }
    let tell = if is_own { Telling::OwnOnly } else { said.tell };
    let id = report::id(batch.now_ms, batch.node.random_id()?);
    let record = ReportRecord {
        at_ms: batch.now_ms,
        from: Reporter::Own {
            account: of.account,
            device: of.device,
            handle: submitter.account.handle.clone(),
        },
        account: said.account,
        address: said.address.clone(),
        room: said.room,
        reason: said.reason,
        note: said.note.clone(),
        messages: said.messages.clone(),
        known: known(batch, said.room, server, said.account, Some(of.account)).await?,
        partner: match tell {
            Telling::OwnOnly => Partner::NotTold,
            Telling::Partner => Partner::Sent { named: false },
            Telling::PartnerWithName => Partner::Sent { named: true },
        },
        closed: None,
    };
    if tell != Telling::OwnOnly {
        in_force(batch, server)?;
        let named = tell == Telling::PartnerWithName;
        let payload = Payload::AbuseReport(AbuseReport {
            report: id,
            account: said.account,
            room: said.room,
            reason: said.reason,
            note: said.note.clone(),
            reporter: named.then(|| submitter.account.handle.clone()),
            reported_ms: batch.now_ms,
            messages: said.messages.clone(),
        });
        let times = Times {
            accepted_ms: batch.now_ms,
            expires_ms: batch.now_ms.saturating_add(REPORT_TTL_MS),
        };
        let sender = submitter.sender_ref(said.room, counter);
        batch
            .send(server, None, &payload, times, Some(sender))
            .await?;
    }
    take(batch, id, &record, Actor::Device(of.device), &whose)
}

/// A partner passes on what one of its people reports about one of ours.
pub(super) async fn receive(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    said: AbuseReport,
) -> Result<(), NotTaken> {
    let whose = Whose::Peer(peer.clone());
    within_quota(batch, &whose, PEER_REPORTS_MAX).await?;
    let account = batch.account(said.account).await?.ok_or_else(unknown)?;
    let server = batch.node.server.clone();
    let record = ReportRecord {
        at_ms: batch.now_ms,
        from: Reporter::Peer {
            server: peer.clone(),
            report: said.report,
            handle: said.reporter,
        },
        account: said.account,
        known: known(batch, said.room, &server, said.account, None).await?,
        address: Address {
            handle: account.handle.clone(),
            server,
        },
        room: said.room,
        reason: said.reason,
        note: said.note,
        messages: said.messages,
        partner: Partner::NotTold,
        closed: None,
    };
    let id = report::id(batch.now_ms, batch.node.random_id()?);
    take(batch, id, &record, Actor::Peer(peer.clone()), &whose)
}

/// A report is given up before the partner has taken it: noted, and what the reporter's device is told.
pub(super) async fn given_up(
    batch: &mut Batch<'_>,
    (room, server): (RoomId, &ServerName),
    said: &AbuseReport,
    refusal: &Refusal,
) -> Result<InboxBody, StoreError> {
    if let Some((mut record, read)) = report::get(&batch.node.store, said.report).await? {
        record.partner = Partner::Returned(refusal.clone());
        report::replace(&mut batch.part, said.report, &record, read)?;
    }
    Ok(InboxBody::ReportReturned {
        room,
        server: server.clone(),
        refusal: refusal.clone(),
    })
}

/// Up to `limit` reports before `before`, newest first; `open`: those alone that are (not) closed.
pub async fn list(
    node: &Node,
    before: Option<ReportId>,
    open: Option<bool>,
    limit: usize,
) -> Result<Vec<(ReportId, ReportRecord)>, StoreError> {
    /// Reports hold much text.
    const PAGE: usize = 64;
    let mut found = Vec::new();
    let mut before = before;
    while found.len() < limit {
        let page = report::before(&node.store, before, PAGE).await?;
        let full = page.len() == PAGE;
        before = page.last().map(|(id, _)| *id);
        found.extend(
            page.into_iter()
                .filter(|(_, record)| open.is_none_or(|open| record.closed.is_none() == open)),
        );
        if !full {
            break;
        }
        tokio::task::yield_now().await;
    }
    found.truncate(limit);
    Ok(found)
}

/// One report; that it was read is in the audit log, for it holds what was said in confidence.
pub async fn read(
    node: &Node,
    actor: &Actor,
    id: ReportId,
) -> Result<Option<ReportRecord>, StoreError> {
    let Some((record, _)) = report::get(&node.store, id).await? else {
        return Ok(None);
    };
    let mut part = Part::default();
    note(
        node,
        &mut part,
        actor,
        "report.read",
        id,
        record.address.to_string(),
    );
    node.store.commit(part).await?;
    Ok(Some(record))
}

/// Notes that somebody has dealt with a report, and what came of it.
pub async fn close(
    node: &Node,
    actor: &Actor,
    id: ReportId,
    outcome: &str,
) -> Result<Option<ReportRecord>, CloseError> {
    if outcome.len() > REPORT_NOTE_BYTES_MAX {
        return Err(CloseError::NoteTooLong);
    }
    for _ in 0..ATTEMPTS_MAX {
        let Some((mut record, read)) = report::get(&node.store, id).await? else {
            return Ok(None);
        };
        if record.closed.is_some() {
            return Err(CloseError::Closed);
        }
        let mut part = Part::default();
        record.closed = Some(Closed {
            at_ms: node.clock.now_ms(),
            by: actor.to_string(),
            note: outcome.to_owned(),
        });
        report::replace(&mut part, id, &record, read)?;
        note(
            node,
            &mut part,
            actor,
            "report.closed",
            id,
            outcome.to_owned(),
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(Some(record));
        }
    }
    Err(CloseError::Busy)
}

/// Why a report was not closed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CloseError {
    /// It is closed already.
    #[error("the report is closed already: `hsctl reports show` says by whom")]
    Closed,
    /// The note is too long.
    #[error("a note has at most {REPORT_NOTE_BYTES_MAX} bytes")]
    NoteTooLong,
    /// It changed again and again.
    #[error("others change the report just now: try again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn note(
    node: &Node,
    part: &mut Part,
    actor: &Actor,
    action: &'static str,
    id: ReportId,
    detail: String,
) {
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action,
        subject: id.to_string(),
        detail,
    };
    audit::record(part, &event);
}

/// Keeps a report, in the part that counts and audits it.
fn take(
    batch: &mut Batch<'_>,
    id: ReportId,
    record: &ReportRecord,
    actor: Actor,
    whose: &Whose,
) -> Result<(), NotTaken> {
    let detail = format!(
        "{}: account {} of {} in room {}; messages disclosed: {}{}",
        record.reason,
        record.account,
        record.address.server,
        record.room,
        record.messages.len(),
        match record.partner {
            Partner::Sent { named: true } => "; its organisation is told, with the reporter's name",
            Partner::Sent { named: false } => "; its organisation is told",
            Partner::NotTold | Partner::Returned(_) => "",
        }
    );
    report::create(&mut batch.part, id, record)?;
    batch.use_up(Purpose::Report, whose, 1, u32::MAX);
    batch.audit(actor, "report.received", id, detail);
    Ok(())
}

async fn within_quota(
    batch: &mut Batch<'_>,
    whose: &Whose,
    reports_max: u32,
) -> Result<(), NotTaken> {
    let left = batch
        .allows(Purpose::Report, whose, reports_max, REPORTS_MS)
        .await?;
    left.map_err(|_| {
        NotTaken::refused(
            RefusalCode::Quota,
            format!("{reports_max} reports within a day are the most: speak to the administrators"),
        )
    })
}

/// What this homeserver's record of the room says of the reported account, and of an own reporter.
async fn known(
    batch: &mut Batch<'_>,
    room: RoomId,
    server: &ServerName,
    reported: AccountId,
    reporter: Option<AccountId>,
) -> Result<Known, StoreError> {
    let own = batch.node.server.clone();
    let Some(room) = batch.room(room).await? else {
        return Ok(Known::default());
    };
    let has = |server: &ServerName, account: AccountId| {
        room.members_of(server)
            .any(|member| member.account == account)
    };
    Ok(Known {
        reported_in_room: has(server, reported),
        reporter_in_room: reporter.is_some_and(|reporter| has(&own, reporter)),
    })
}

fn in_force(batch: &mut Batch<'_>, server: &ServerName) -> Result<(), Refusal> {
    let with_advice = |refusal: Refusal| {
        let reason = format!(
            "{}; or report to your own organisation alone",
            refusal.reason
        );
        Refusal::new(refusal.code, reason)
    };
    let view = batch.peer(server).ok_or_else(|| {
        with_advice(Refusal::new(
            RefusalCode::NoAgreement,
            format!("there is no agreement with {server}"),
        ))
    })?;
    view.in_force(batch.now_ms).map_err(with_advice)
}

fn unknown() -> NotTaken {
    NotTaken::refused(
        RefusalCode::UnknownRecipient,
        "there is no such account here: who is reported is gone, or was never here",
    )
}
