//! Great numbers of messages: sent, and acknowledged.

use std::collections::VecDeque;

use homeserver::store::{Part, PartOutcome, Pending, Store};
use tokio::task::JoinSet;

use crate::inbox;
use crate::message::acknowledge;
use crate::sender::{People, Sender};

/// Length of a payload.
const PAYLOAD_BYTES: usize = 1024;
/// Messages that one commit acknowledges.
const ACKNOWLEDGED_MAX: usize = 256;

/// Sends so many messages, which wait from then on.
pub(crate) async fn fill(store: &Store, people: People, messages: u64) -> Result<(), String> {
    let senders = u64::from(people.senders);
    let each = messages.checked_div(senders).unwrap_or(0);
    let rest = messages.checked_rem(senders).unwrap_or(0);
    let mut tasks = JoinSet::new();
    for number in 0..people.senders {
        let own = each.saturating_add(u64::from(u64::from(number) < rest));
        tasks.spawn(send(store.clone(), people, number, own));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(())
}

async fn send(store: Store, people: People, number: u32, messages: u64) -> Result<(), String> {
    let mut sender = Sender::resume(&store, people, number).await?;
    let mut under_way = VecDeque::new();
    for _ in 0..messages {
        if under_way.len() >= people.window.max(1) {
            answered(under_way.pop_front()).await?;
        }
        let (_, part) = sender.next(|_| PAYLOAD_BYTES);
        under_way.push_back(store.enqueue(part).await);
    }
    while let Some(pending) = under_way.pop_front() {
        answered(Some(pending)).await?;
    }
    Ok(())
}

async fn answered(pending: Option<Pending>) -> Result<(), String> {
    let Some(pending) = pending else {
        return Ok(());
    };
    match pending.wait().await.map_err(|error| error.to_string())? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err("a commit was refused".to_owned()),
    }
}

/// Acknowledges all that waits, and tells how much that was.
pub(crate) async fn drain(store: &Store, people: People) -> Result<u64, String> {
    let mut tasks = JoinSet::new();
    for number in 0..people.inboxes {
        tasks.spawn(empty(store.clone(), number));
    }
    let mut acknowledged = 0_u64;
    while let Some(ended) = tasks.join_next().await {
        let one = ended.map_err(|error| error.to_string())??;
        acknowledged = acknowledged.saturating_add(one);
    }
    Ok(acknowledged)
}

async fn empty(store: Store, number: u32) -> Result<u64, String> {
    let (mut from, mut acknowledged) = (0, 0_u64);
    loop {
        let found = inbox::read(&store, number, from, ACKNOWLEDGED_MAX).await?;
        let Some((last, _)) = found.last() else {
            return Ok(acknowledged);
        };
        from = last.saturating_add(1);
        let mut part = Part::default();
        for (item, label) in &found {
            acknowledge(&mut part, number, *item, label);
            acknowledged = acknowledged.saturating_add(1);
        }
        answered(Some(store.enqueue(part).await)).await?;
    }
}

/// Waits until whoever started this program closes its standard input.
pub(crate) async fn wait_for_end() -> Result<(), String> {
    let read = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let ended = tokio::task::spawn_blocking(read).await;
    let read = ended.map_err(|error| error.to_string())?;
    read.map(drop).map_err(|error| error.to_string())
}
