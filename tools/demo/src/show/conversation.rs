//! Act two: Alice and Bob, with Bob offline first, then live, then with files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Couple, Stage};
use crate::failure::{Failure, Result, While};
use crate::person::{PATIENCE, Person};

/// Messages to Bob while he is away.
const AWAY: u64 = 50;
/// Messages each way while both are there.
const LIVE: u64 = 250;
/// Between two messages of one person.
const LIVE_PACE: Duration = Duration::from_millis(20);
/// Length of a file: many chunks and a rest.
const FILE_BYTES: usize = 3 * 1024 * 1024 + 17;

impl Stage<'_> {
    /// Two people, one conversation.
    pub(super) async fn conversation(&self) -> Result<Couple> {
        self.display.act("Alice of a.example and Bob of b.example");
        let enrol = |server, handle| Person::enrol(server, handle, "standard", &self.record);
        let alice = self
            .display
            .step(
                "Alice gets an account and enrols a device",
                enrol(&self.a, "alice"),
            )
            .await?;
        let mut bob = self
            .display
            .step(
                "Bob gets an account and enrols a device",
                enrol(&self.b, "bob"),
            )
            .await?;
        bob.switch_off().await;
        let started = async {
            let room = alice.start_conversation(&bob.address).await?;
            for n in 1..=AWAY {
                alice
                    .say(room, format!("{n} to Bob, who is away"), false)
                    .await?;
            }
            Ok(room)
        };
        let title = format!("Bob is away; Alice starts a conversation and writes {AWAY} messages");
        let room = self.display.step(&title, started).await?;
        let returned = async {
            bob.switch_on().await?;
            bob.wait_for_room(room).await?;
            self.all_shown("Bob is back").await
        };
        self.display
            .step("Bob comes back and reads all of them", returned)
            .await?;
        let couple = Couple { alice, bob, room };
        let title = format!("both write, {LIVE} messages each way");
        self.display.step(&title, self.live(&couple)).await?;
        self.display
            .step(
                "a file from Alice to Bob, byte for byte",
                self.file(&couple.alice, &couple.bob, &couple),
            )
            .await?;
        self.display
            .step(
                "a file from Bob to Alice, byte for byte",
                self.file(&couple.bob, &couple.alice, &couple),
            )
            .await?;
        Ok(couple)
    }

    async fn live(&self, couple: &Couple) -> Result {
        let bar = self.display.messages(AWAY + 2 * LIVE);
        let write = |person: &Person, to: &'static str| {
            let (client, record, room) =
                (person.client().clone(), self.record.clone(), couple.room);
            async move {
                let mut pace = tokio::time::interval(LIVE_PACE);
                for n in 1..=LIVE {
                    pace.tick().await;
                    crate::person::say(&client, &record, room, format!("{n} to {to}, live"), true)
                        .await?;
                }
                Ok(())
            }
        };
        tokio::try_join!(
            write(&couple.alice, "Bob"),
            write(&couple.bob, "Alice"),
            self.record.wait("writing live", PATIENCE, |standing| {
                bar.set(standing.shown);
                standing.shown >= AWAY + 2 * LIVE
            })
        )?;
        self.all_shown("writing live").await
    }

    /// Waits until every message on record was shown.
    pub(super) async fn all_shown(&self, what: &str) -> Result {
        self.record
            .wait(what, PATIENCE, |standing| standing.waiting == 0)
            .await
    }

    async fn file(&self, from: &Person, to: &Person, couple: &Couple) -> Result {
        let name = format!("from-{}.bin", from.address.handle);
        let sent: PathBuf = self.folder.join(&name);
        let saved = self.folder.join(format!("saved-{name}"));
        let bytes = unlike_itself(from.address.handle.as_str());
        std::fs::write(&sent, &bytes).while_to(format!("write {}", sent.display()))?;
        from.send_file(couple.room, &sent).await?;
        to.receive_file(&name, &saved).await?;
        let got = std::fs::read(&saved).while_to(format!("read {}", saved.display()))?;
        if got == bytes {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{} got another file than {} sent",
                to.address, from.address
            )))
        }
    }
}

/// Bytes without a period, so that a chunk in the wrong place is noticed.
fn unlike_itself(seed: &str) -> Vec<u8> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(FILE_BYTES + 8);
    while bytes.len() < FILE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(FILE_BYTES);
    bytes
}
