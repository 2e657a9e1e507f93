//! The load: senders with several commits under way each, and a reader for each inbox, who acknowledges the oldest.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use homeserver::store::{Part, PartOutcome, Pending, Store, StoreError};
use tokio::task::JoinSet;

use crate::message::{Entry, Label, acknowledge, payload_bytes, payload_key};
use crate::sender::{People, Sender};
use crate::{hex, inbox, say};

/// Most messages that one commit acknowledges.
const ACKNOWLEDGED_MAX: usize = 64;
/// Between two looks into an inbox with nothing to acknowledge.
const IDLE: Duration = Duration::from_millis(5);
/// Commits that a sender tries after one has failed: none of them may be answered.
const TRIED_AFTER_FAILURE: usize = 3;

/// How fast, and for how long.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Pace {
    /// Messages that stay in each inbox: older ones are acknowledged. Without, none is.
    #[arg(long, value_name = "N")]
    waiting: Option<usize>,
    /// Milliseconds that each sender waits after each answer.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pause: u64,
    /// Ends after so many seconds; without, when the store fails.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Sends and acknowledges until the time is over or the store fails.
pub(crate) async fn run(store: &Store, people: People, pace: Pace) -> Result<(), String> {
    let end = pace
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let pause = Duration::from_millis(pace.pause);
    let over = Arc::new(AtomicBool::new(false));
    let (mut senders, mut readers) = (JoinSet::new(), JoinSet::new());
    for number in 0..people.senders {
        senders.spawn(send(store.clone(), people, number, pause, end));
    }
    if let Some(waiting) = pace.waiting {
        for number in 0..people.inboxes {
            readers.spawn(read(store.clone(), number, waiting, Arc::clone(&over)));
        }
    }
    let sent = all(senders).await;
    over.store(true, Ordering::Relaxed);
    let read = all(readers).await;
    sent.and(read)
}

/// Waits for all of them; the first failure among theirs.
async fn all(mut tasks: JoinSet<Result<(), String>>) -> Result<(), String> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        outcome = outcome.and(ended.unwrap_or_else(|error| Err(error.to_string())));
    }
    outcome
}

async fn send(
    store: Store,
    people: People,
    number: u32,
    pause: Duration,
    end: Option<Instant>,
) -> Result<(), String> {
    let mut sender = Sender::resume(&store, people, number).await?;
    let mut under_way: VecDeque<(u64, Pending)> = VecDeque::new();
    loop {
        let is_over = end.is_some_and(|end| Instant::now() >= end);
        while !is_over && under_way.len() < people.window.max(1) {
            let (sequence, part) = sender.next(payload_bytes);
            say(&format!("s {number} {sequence}\n"));
            under_way.push_back((sequence, store.enqueue(part).await));
        }
        let Some((sequence, pending)) = under_way.pop_front() else {
            return Ok(());
        };
        match pending.wait().await {
            Ok(PartOutcome::Committed) => say(&format!("a {number} {sequence}\n")),
            Ok(PartOutcome::Conflict) => {
                say(&format!("x {number} {sequence}\n"));
                return Err(format!("a commit of sender {number} was refused"));
            }
            Err(error) => {
                failed(&error);
                try_on(&store, people, number).await?;
                return Err(error.to_string());
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Goes on as if nothing had happened, from where the store says that the sender is.
async fn try_on(store: &Store, people: People, number: u32) -> Result<(), String> {
    for _ in 0..TRIED_AFTER_FAILURE {
        let mut sender = Sender::resume(store, people, number).await?;
        let (sequence, part) = sender.next(payload_bytes);
        say(&format!("s {number} {sequence}\n"));
        if let Ok(PartOutcome::Committed) = store.commit(part).await {
            say(&format!("a {number} {sequence}\n"));
        }
    }
    Ok(())
}

/// Reads an inbox from its beginning on, payloads too, and acknowledges what more than `waiting` follow.
async fn read(
    store: Store,
    number: u32,
    waiting: usize,
    over: Arc<AtomicBool>,
) -> Result<(), String> {
    let mut from = 0;
    loop {
        let limit = waiting.saturating_add(ACKNOWLEDGED_MAX);
        let found = inbox::read(&store, number, from, limit).await?;
        let surplus = found.len().saturating_sub(waiting);
        if surplus == 0 {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let mut part = Part::default();
        let (mut begun, mut answered) = (String::new(), String::new());
        for (item, label) in found.iter().take(surplus) {
            look_at_payload(&store, label).await?;
            acknowledge(&mut part, number, *item, label);
            from = item.saturating_add(1);
            // Writing to a string can't fail.
            let _ = writeln!(begun, "d {} {}", label.sender, label.sequence);
            let _ = writeln!(answered, "r {} {}", label.sender, label.sequence);
        }
        say(&begun);
        match store.commit(part).await {
            Ok(PartOutcome::Committed) => say(&answered),
            Ok(PartOutcome::Conflict) => return Err("an acknowledgement was refused".to_owned()),
            Err(error) => {
                failed(&error);
                return Err(error.to_string());
            }
        }
    }
}

/// What waits has a payload, as it was sent.
async fn look_at_payload(store: &Store, label: &Label) -> Result<(), String> {
    let at = payload_key(label);
    let value = store.get(&at).await.map_err(|error| error.to_string())?;
    match value.map(|value| Entry::of(&at, &value)) {
        None => say(&format!("h {} {}\n", label.sender, label.sequence)),
        Some(Entry::Payload(found)) if found == *label => {}
        Some(_) => say(&format!("w {}\n", hex(&at))),
    }
    Ok(())
}

fn failed(error: &StoreError) {
    say(&format!("e {}\n", error.to_string().replace('\n', " ")));
}
