//! Act four: homeservers are killed in mid-traffic and restarted; nothing is lost or shown twice.

use std::collections::HashMap;
use std::time::Duration;

use entente_sdk::{Body, Progress};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Couple, Stage};
use crate::display::Bar;
use crate::failure::{Failure, Result, While};
use crate::homeserver::Homeserver;
use crate::person::{Person, say};
use crate::record::Record;

/// Between two messages of one person.
const PACE: Duration = Duration::from_millis(16);
/// How long a killed homeserver stays down while people go on writing.
const DOWN: Duration = Duration::from_millis(800);
/// So many more messages must be shown before the next kill: traffic flows again.
const BETWEEN_KILLS: u64 = 150;
/// How long nothing may be shown: clients and peers find back to a restarted homeserver by themselves.
const PATIENCE: Duration = Duration::from_secs(40);
/// A second showing would come soon after the last first one.
const SETTLE: Duration = Duration::from_secs(1);

/// Who is killed, in turn.
const VICTIMS: [Victim; 5] = [Victim::A, Victim::B, Victim::A, Victim::B, Victim::Both];

#[derive(Clone, Copy)]
enum Victim {
    A,
    B,
    Both,
}

impl Stage<'_> {
    /// Both write without a pause while homeservers die and come back.
    pub(super) async fn kills(&mut self, couple: &Couple, messages: u64) -> Result {
        self.display
            .act("Homeservers are killed (SIGKILL) while both write without a pause");
        let bar = self.display.messages(messages);
        let (write, _) = watch::channel(true);
        let writers = [(&couple.alice, "Bob"), (&couple.bob, "Alice")].map(|(person, to)| {
            tokio::spawn(writing(person, to, couple, &self.record, write.subscribe()))
        });
        let killed = self.kill_all(&bar, messages).await;
        write.send_replace(false);
        for writer in writers {
            writer.await.while_to("write")??;
        }
        killed?;
        let record = self.record.clone();
        let drained = record.wait("after the last kill", PATIENCE, |standing| {
            bar.set(standing.shown);
            standing.waiting == 0
        });
        let title = format!(
            "every one of {} messages is shown",
            self.record.standing().written
        );
        self.display.step(&title, drained).await
    }

    async fn kill_all(&mut self, bar: &Bar, messages: u64) -> Result {
        for victim in VICTIMS {
            shown_more(&self.record, bar, BETWEEN_KILLS).await?;
            let display = self.display;
            let (title, victims): (_, Vec<&mut Homeserver>) = match victim {
                Victim::A => ("a.example is killed, and restarted", vec![&mut self.a]),
                Victim::B => ("b.example is killed, and restarted", vec![&mut self.b]),
                Victim::Both => (
                    "both are killed at once, and restarted",
                    vec![&mut self.a, &mut self.b],
                ),
            };
            bar.say(title);
            let (kills, under_way) = display
                .step(title, kill_and_restart(victims, &self.record))
                .await?;
            self.kills += kills;
            display.note(&format!("{under_way} messages were under way meanwhile"));
            bar.say("");
        }
        shown_more(&self.record, bar, BETWEEN_KILLS).await?;
        self.record
            .wait("after the last kill", PATIENCE, |standing| {
                bar.set(standing.shown);
                standing.written >= messages
            })
            .await
    }

    /// Both histories hold every message once: what was shown is also what stays.
    pub(super) async fn last_look(&self, couple: &Couple) -> Result {
        let looked = async {
            tokio::time::sleep(SETTLE).await;
            let alice = received(&couple.alice, couple).await?;
            let bob = received(&couple.bob, couple).await?;
            let twice = alice.iter().chain(&bob).find(|(_, times)| **times > 1);
            match twice {
                Some((text, times)) => Err(Failure::new(format!(
                    "`{text}` stands {times} times in a history"
                ))),
                None => Ok(()),
            }
        };
        self.display
            .step("both histories hold each message once", looked)
            .await
    }
}

/// Waits until so many more messages are shown.
async fn shown_more(record: &Record, bar: &Bar, more: u64) -> Result {
    let until = record.standing().shown + more;
    record
        .wait("between two kills", PATIENCE, |standing| {
            bar.set(standing.shown);
            standing.shown >= until
        })
        .await
}

/// Writes until told to stop.
fn writing(
    person: &Person,
    to: &'static str,
    couple: &Couple,
    record: &Record,
    go_on: watch::Receiver<bool>,
) -> impl Future<Output = Result> + Send + 'static {
    let (client, record, room) = (person.client().clone(), record.clone(), couple.room);
    async move {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n: u64 = 0;
        while *go_on.borrow() {
            pace.tick().await;
            n += 1;
            say(
                &client,
                &record,
                room,
                format!("{n} to {to}, between kills"),
                false,
            )
            .await?;
        }
        Ok(())
    }
}

/// How many were killed, and how many messages were written but not shown before the restart.
async fn kill_and_restart(
    mut victims: Vec<&mut Homeserver>,
    record: &Record,
) -> Result<(u64, usize)> {
    let mut kills = 0;
    for victim in &mut victims {
        victim.kill().await?;
        kills += 1;
    }
    tokio::time::sleep(DOWN).await;
    let under_way = record.standing().waiting;
    for victim in &mut victims {
        victim.start().await?;
    }
    if under_way == 0 {
        return Err(Failure::new(
            "nothing was under way: this kill proves nothing",
        ));
    }
    Ok((kills, under_way))
}

/// How often each received text stands in a person's history.
async fn received(person: &Person, couple: &Couple) -> Result<HashMap<String, u64>> {
    let mut texts = HashMap::new();
    for message in person.history(couple.room).await? {
        if let (Body::Text { text }, Progress::Received) = (message.body, message.progress) {
            *texts.entry(text).or_default() += 1;
        }
    }
    Ok(texts)
}
