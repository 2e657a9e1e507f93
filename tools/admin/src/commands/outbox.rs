//! `outbox` and `dead-letters`.

use std::num::NonZeroU32;

use homeserver_api::admin::{
    DeadCount, DeadLetter, DeadLetters, Outbox, OutboxState, ReceiptDirection, ReceiptState,
    Receipts,
};

use super::confirm;
use crate::cli::OutboxCommand;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, list};
use crate::values::{distance, instant, now_ms, size};

/// `outbox …`.
pub(super) async fn run(
    admin: &Admin,
    command: OutboxCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        OutboxCommand::List => {
            let outbox: Outbox = admin.get("/admin/v1/outbox").await?;
            format.show(&outbox, |outbox| outbox_list(&outbox.destinations))
        }
        OutboxCommand::Retry { server } => {
            admin
                .post_nothing(&format!("/admin/v1/outbox/{server}/retry"))
                .await?;
            format.done(&format!("{server} is being tried now."))
        }
        OutboxCommand::Receipts { server } => {
            let receipts: Receipts = admin
                .get(&format!("/admin/v1/outbox/{server}/receipts"))
                .await?;
            format.show(&receipts, |receipts| receipt_list(&receipts.receipts))
        }
        OutboxCommand::Renumber { server, yes } => {
            if !yes {
                confirm(
                    &format!(
                        "Number anew what waits for {server}? What had arrived there unanswered arrives again."
                    ),
                    "--yes",
                )?;
            }
            admin
                .post_nothing(&format!("/admin/v1/outbox/{server}/renumber"))
                .await?;
            format.done(&format!(
                "What waits for {server} is numbered anew and sent."
            ))
        }
    }
}

/// `GET /admin/v1/dead-letters`.
pub(super) async fn dead_letters(
    admin: &Admin,
    limit: NonZeroU32,
    format: Format,
) -> Result<(), Failure> {
    let letters: DeadLetters = admin
        .get(&format!("/admin/v1/dead-letters?limit={limit}"))
        .await?;
    format.show(&letters, |letters| {
        let listed = dead_letter_list(&letters.dead_letters);
        match letters.counted.as_slice() {
            [] => listed,
            counted => format!("{listed}\n\n{}", dead_count_list(counted)),
        }
    })
}

fn outbox_list(destinations: &[OutboxState]) -> String {
    let now_ms = now_ms();
    let rows = destinations
        .iter()
        .map(|destination| {
            let when = |ms: Option<u64>| ms.map_or_else(String::new, |ms| distance(ms, now_ms));
            vec![
                destination.server.to_string(),
                destination.waiting.to_string(),
                size(destination.waiting_bytes),
                when(destination.oldest_ms),
                when(destination.next_attempt_ms),
                destination.held_lanes.to_string(),
                destination.acknowledged.to_string(),
                destination.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let held = destinations
        .iter()
        .filter(|destination| destination.held_lanes > 0);
    let hints = held.map(|destination| {
        format!(
            "\n! {server} has positions that this homeserver never gave out: this one may have been restored from \
             an old copy. `hsctl outbox renumber {server}` sends what is held.",
            server = destination.server
        )
    });
    let hints: String = hints.collect();
    let table = list(
        &[
            "peer",
            "waiting",
            "size",
            "oldest",
            "next try",
            "held lanes",
            "acknowledged",
            "last error",
        ],
        rows,
        "Nothing waits, and there is no peer it could wait for.",
    );
    format!("{table}{hints}")
}

fn receipt_list(receipts: &[ReceiptState]) -> String {
    let rows = receipts
        .iter()
        .map(|receipt| {
            let signed_by = match receipt.direction {
                ReceiptDirection::Given => "the peer",
                ReceiptDirection::Signed => "this server",
            };
            vec![
                instant(receipt.at_ms),
                signed_by.to_owned(),
                receipt.taken.to_string(),
                receipt.refused.to_string(),
                receipt.deferred.to_string(),
                receipt.transaction.clone(),
            ]
        })
        .collect();
    list(
        &[
            "when",
            "signed by",
            "taken",
            "refused",
            "put off",
            "transaction",
        ],
        rows,
        "Nothing was exchanged yet.",
    )
}

fn dead_letter_list(letters: &[DeadLetter]) -> String {
    let rows = letters
        .iter()
        .map(|letter| {
            vec![
                instant(letter.at_ms),
                letter.server.to_string(),
                letter.refusal.code.to_string(),
                letter.refusal.reason.clone(),
            ]
        })
        .collect();
    list(
        &["when", "for", "code", "why"],
        rows,
        "Nothing was given up.",
    )
}

fn dead_count_list(counted: &[DeadCount]) -> String {
    let rows = counted
        .iter()
        .map(|counted| {
            vec![
                instant(counted.day_ms),
                counted.server.to_string(),
                counted.code.to_string(),
                counted.count.to_string(),
            ]
        })
        .collect();
    list(&["day from", "for", "code", "not of people here"], rows, "")
}
