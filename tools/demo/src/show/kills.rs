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
const VICTIMS: [Victim; 6] = [
    Victim::A,
    Victim::B,
    Victim::C,
    Victim::A,
    Victim::B,
    Victim::Both,
];

#[derive(Clone, Copy)]
enum Victim {
    A,
    B,
    C,
    Both,
}

impl Stage<'_> {
    /// Two of c.example with a conversation: traffic that the death of c.example can hit.
    pub(super) async fn neighbours(&self) -> Result<Couple> {
        let enrol = |handle| Person::enrol(&self.c, handle, "standard", &self.record);
        let meet = async {
            let (alice, bob) = (enrol("cleo").await?, enrol("carl").await?);
            let room = alice.start_conversation(&bob.address).await?;
            bob.wait_for_room(room).await?;
            Ok(Couple { alice, bob, room })
        };
        self.display
            .step("Cleo and Carl, both of c.example, talk to each other", meet)
            .await
    }

    /// All write without a pause while homeservers die and come back.
    pub(super) async fn kills(&mut self, couples: &[&Couple; 2], messages: u64) -> Result {
        self.display
            .act("Homeservers are killed (SIGKILL) while all write without a pause");
        let bar = self.display.messages(messages);
        let (write, _) = watch::channel(true);
        let [couple, neighbours] = couples;
        let writers = [
            (&couple.alice, "Bob", couple),
            (&couple.bob, "Alice", couple),
            (&neighbours.alice, "Carl", neighbours),
            (&neighbours.bob, "Cleo", neighbours),
        ]
        .map(|(person, to, couple)| {
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
        let mut under_way_at_all = 0;
        for victim in VICTIMS {
            shown_more(&self.record, bar, BETWEEN_KILLS).await?;
            let display = self.display;
            let (title, victims): (_, Vec<&mut Homeserver>) = match victim {
                Victim::A => ("a.example is killed, and restarted", vec![&mut self.a]),
                Victim::B => ("b.example is killed, and restarted", vec![&mut self.b]),
                Victim::C => ("c.example is killed, and restarted", vec![&mut self.c]),
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
            display.note(&format!(
                "{under_way} messages were accepted and not yet shown when it happened"
            ));
            under_way_at_all += under_way;
            bar.say("");
        }
        if under_way_at_all == 0 {
            return Err(Failure::new(
                "no accepted message was under way at any kill: they prove nothing",
            ));
        }
        shown_more(&self.record, bar, BETWEEN_KILLS).await?;
        self.record
            .wait("after the last kill", PATIENCE, |standing| {
                bar.set(standing.shown);
                standing.written >= messages
            })
            .await
    }

    /// Every history holds every message once: what was shown is also what stays.
    pub(super) async fn last_look(&self, couples: &[&Couple]) -> Result {
        let looked = async {
            tokio::time::sleep(SETTLE).await;
            for couple in couples {
                for person in [&couple.alice, &couple.bob] {
                    let texts = received(person, couple).await?;
                    if let Some((text, times)) = texts.iter().find(|(_, times)| **times > 1) {
                        return Err(Failure::new(format!(
                            "`{text}` stands {times} times in a history"
                        )));
                    }
                }
            }
            Ok(())
        };
        self.display
            .step("every history holds each message once", looked)
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

/// How many were killed, and how many messages were accepted but not shown at that instant.
async fn kill_and_restart(
    mut victims: Vec<&mut Homeserver>,
    record: &Record,
) -> Result<(u64, usize)> {
    // Latency is short: the moment to strike is while something is accepted and not yet shown.
    record
        .wait("between two kills", PATIENCE, |standing| standing.held > 0)
        .await?;
    let under_way = record.standing().held;
    let mut kills = 0;
    for victim in &mut victims {
        victim.kill().await?;
        kills += 1;
    }
    tokio::time::sleep(DOWN).await;
    for victim in &mut victims {
        victim.start().await?;
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
