//! Who does what in which round.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use entente_sdk::ids::RoomId;
use entente_sdk::{Error, Role, SendOptions};
use tokio::time::timeout;

use crate::people::Device;
use crate::record::{Landmark, Record};
use crate::say;

/// Devices that write, at most; they are in the room from the beginning.
const WRITERS_MAX: usize = 24;
/// Devices that are added by one commit, at most: a welcome holds the whole tree.
const ADDED_AT_ONCE_MAX: usize = 60;
/// Of ten devices that are added later so many join in the first half of the rounds.
const EARLY_OF_TEN: usize = 8;

/// What is committed in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// The owner adds these devices.
    Add(Vec<usize>),
    /// The owner makes this device's account a moderator.
    Promote(usize),
    /// This device gives the room another name.
    Rename(usize),
}

/// A run's plan.
#[derive(Debug)]
pub(crate) struct Script {
    /// Devices that begin the room, the owner first.
    first: Vec<usize>,
    writers: Vec<usize>,
    /// Of the organisation that is cut off.
    cut_off: BTreeSet<usize>,
    /// What comes after the room's making.
    acts: Vec<Act>,
    messages: u32,
    /// First and last round without that organisation.
    cut: Option<(usize, usize)>,
}

impl Script {
    /// Plans a run for devices of these organisations.
    ///
    /// # Errors
    /// When there are too few devices, or too few rounds for so many, in words.
    pub(crate) fn new(
        organisations: Vec<usize>,
        (commits, messages, cut): (u32, u32, u32),
    ) -> Result<Self, String> {
        let count = organisations.iter().collect::<BTreeSet<_>>().len();
        if count < 2 || organisations.len() < 2 * count {
            return Err("at least two organisations with two devices each are needed".to_owned());
        }
        let last = organisations.iter().copied().max().unwrap_or_default();
        let devices: Vec<usize> = (0..organisations.len()).collect();
        let (writers, others) = devices.split_at(devices.len().min(WRITERS_MAX));
        let heads: Vec<usize> = (0..count)
            .filter_map(|of| {
                organisations
                    .iter()
                    .position(|organisation| *organisation == of)
            })
            .collect();
        let rounds = usize::try_from(commits)
            .map_err(|e| e.to_string())?
            .saturating_sub(1);
        let early = others.len().saturating_mul(EARLY_OF_TEN) / 10;
        let (early, late) = others.split_at(early);
        let adds = |devices: &[usize]| -> Vec<Act> {
            let at_once = devices.len().div_ceil(8).clamp(1, ADDED_AT_ONCE_MAX);
            devices
                .chunks(at_once)
                .map(|some| Act::Add(some.to_vec()))
                .collect()
        };
        let (early, late) = (adds(early), adds(late));
        let cut = usize::try_from(cut).map_err(|e| e.to_string())?;
        let names = rounds.checked_sub(early.len() + late.len() + heads.len() - 1);
        let Some(names) = names.filter(|names| *names >= cut.saturating_mul(2)) else {
            return Err(
                "more rounds are needed for so many devices, or fewer that are cut".to_owned(),
            );
        };
        let promote = heads.iter().skip(1).map(|head| Act::Promote(*head));
        // Everybody who may gives it a name in turn; while one is cut off, the others.
        let renames = |number: usize, cut: bool| -> Act {
            // The last one is cut off.
            let there = if cut { count - 1 } else { count };
            Act::Rename(heads.get(number % there).copied().unwrap_or_default())
        };
        let mut acts: Vec<Act> = promote.chain(early).collect();
        let before = (names - cut) / 2;
        acts.extend((0..before).map(|number| renames(number, false)));
        let cut = (cut > 0).then_some((acts.len(), acts.len() + cut));
        if let Some((from, until)) = cut {
            acts.extend((from..until).map(|number| renames(number, true)));
        }
        acts.extend(late);
        let rest = rounds - acts.len();
        acts.extend((0..rest).map(|number| renames(number, false)));
        let is_last = |device: &usize| organisations.get(*device) == Some(&last);
        Ok(Self {
            first: writers.to_vec(),
            writers: writers.to_vec(),
            cut_off: devices.iter().copied().filter(is_last).collect(),
            acts,
            messages,
            cut,
        })
    }

    /// Plays it, and waits until everything has arrived: the room's epoch in the end.
    ///
    /// # Errors
    /// When something was refused or did not come about in time, in words.
    pub(crate) async fn play(
        &self,
        devices: &[Device],
        record: &Arc<Record>,
        patience: Duration,
    ) -> Result<u64, String> {
        let mut listening = Vec::new();
        for (number, device) in devices.iter().enumerate() {
            listening.push(device.listen(number, record));
        }
        for device in devices {
            let connected = timeout(patience, device.client.connected()).await;
            connected.map_err(|_| late("connecting"))?.map_err(words)?;
        }
        let owner = at(devices, self.first.first())?;
        record.adding(0, &self.first);
        let with = self.first.iter().skip(1);
        let with: Vec<_> = with
            .filter_map(|n| devices.get(*n))
            .map(Device::address)
            .collect();
        let room = timeout(patience, owner.client.start_conversation(&with)).await;
        let room = room
            .map_err(|_| late("the room's making"))?
            .map_err(words)?;
        let all = self.first.last().copied().unwrap_or_default();
        record
            .passed(&self.writers, &Landmark::Member(all), patience)
            .await?;

        let mut written = 0;
        let mut crossing = None;
        for (round, act) in self.acts.iter().enumerate() {
            let is_cut = self
                .cut
                .is_some_and(|(from, until)| (from..until).contains(&round));
            if self.cut.is_some_and(|(from, _)| from == round) {
                tell("cut").await?;
                // Somebody who is cut off wants to commit, too.
                let cut_off = self.cut_off.first().and_then(|n| devices.get(*n));
                let client = cut_off.map(|device| device.client.clone());
                crossing = client.map(|client| {
                    tokio::spawn(async move { client.rename(room, "from behind the cut").await })
                });
            }
            if self.cut.is_some_and(|(_, until)| until == round) {
                tell("heal").await?;
                if let Some(crossing) = crossing.take() {
                    let done = timeout(patience, crossing).await;
                    let done = done.map_err(|_| late("a commit from behind the cut"))?;
                    done.map_err(|error| error.to_string())?.map_err(words)?;
                }
            }
            let until = self.written_by(round);
            let some = self.write(devices, record, room, written..until);
            let committed = self.commit(devices, record, room, (round, act), patience);
            let (some, landmark) = tokio::try_join!(some, committed)?;
            written = some;
            if let Some(landmark) = landmark {
                let here = self.writers.iter().copied();
                let here: Vec<usize> = here
                    .filter(|writer| !is_cut || !self.cut_off.contains(writer))
                    .collect();
                record.passed(&here, &landmark, patience).await?;
            }
            if round.is_multiple_of(10) {
                eprintln!("round {round} of {}: {written} messages", self.acts.len());
            }
        }
        record.drained(patience).await;
        let rooms = owner.client.rooms().await.map_err(words)?;
        let epoch = rooms
            .iter()
            .find(|known| known.room == room)
            .map(|known| known.epoch);
        for listening in listening {
            listening.abort();
        }
        epoch.ok_or_else(|| "the owner is not in the room any more".to_owned())
    }

    /// How many messages are written by the end of a round.
    fn written_by(&self, round: usize) -> u32 {
        let rounds = u64::try_from(self.acts.len()).unwrap_or(u64::MAX).max(1);
        let passed = u64::try_from(round).unwrap_or(u64::MAX).saturating_add(1);
        let messages = u64::from(self.messages).saturating_mul(passed) / rounds;
        u32::try_from(messages).unwrap_or(u32::MAX)
    }

    async fn write(
        &self,
        devices: &[Device],
        record: &Record,
        room: RoomId,
        numbers: std::ops::Range<u32>,
    ) -> Result<u32, String> {
        let until = numbers.end;
        for number in numbers {
            let turn = usize::try_from(number).unwrap_or_default() % self.writers.len().max(1);
            let writer = self.writers.get(turn);
            let device = at(devices, writer)?;
            let text = record.writing(writer.copied().unwrap_or_default());
            let sent = device.client.send_text(room, &text, SendOptions::default());
            sent.await.map_err(words)?;
        }
        Ok(until)
    }

    /// Commits what the round has for it; what shows a device that it has taken that in.
    async fn commit(
        &self,
        devices: &[Device],
        record: &Record,
        room: RoomId,
        (round, act): (usize, &Act),
        patience: Duration,
    ) -> Result<Option<Landmark>, String> {
        let work = async {
            match act {
                Act::Add(added) => {
                    let turn = u32::try_from(round).unwrap_or(u32::MAX).saturating_add(1);
                    record.adding(turn, added);
                    let addresses = added.iter().filter_map(|number| devices.get(*number));
                    let addresses: Vec<_> = addresses.map(Device::address).collect();
                    let owner = at(devices, self.first.first())?;
                    owner
                        .client
                        .add_members(room, &addresses)
                        .await
                        .map_err(words)?;
                    Ok(added.last().map(|last| Landmark::Member(*last)))
                }
                Act::Promote(device) => {
                    let owner = at(devices, self.first.first())?;
                    let address = at(devices, Some(device))?.address();
                    let promoted = owner.client.set_role(room, &address, Role::Moderator);
                    promoted.await.map_err(words)?;
                    Ok(None)
                }
                Act::Rename(device) => {
                    let name = format!("round {round}");
                    let by = at(devices, Some(device))?;
                    by.client.rename(room, &name).await.map_err(words)?;
                    Ok(Some(Landmark::Name(name)))
                }
            }
        };
        let done = timeout(patience, work).await;
        done.map_err(|_| late(&format!("round {round}")))?
            .map_err(|error: String| format!("round {round}: {error}"))
    }
}

fn at<'a>(devices: &'a [Device], number: Option<&usize>) -> Result<&'a Device, String> {
    let device = number.and_then(|number| devices.get(*number));
    device.ok_or_else(|| "the plan names a device that is not there".to_owned())
}

/// Has who started this program do something, and waits for it.
async fn tell(what: &str) -> Result<(), String> {
    say(what);
    let answered = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let answered = answered.await.map_err(|error| error.to_string())?;
    let line = answered.map_err(|error| error.to_string())?;
    match line.trim() {
        "ok" => Ok(()),
        other => Err(format!("`{what}` was answered `{other}`")),
    }
}

fn late(what: &str) -> String {
    format!("{what} took too long")
}

fn words(error: Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(devices: usize, commits: u32, cut: u32) -> Result<Script, String> {
        let organisations = (0..devices).map(|number| number % 3).collect();
        Script::new(organisations, (commits, 1000, cut))
    }

    /// Goal: each device is added once, there are as many commits and messages as asked for, somebody joins late, and while an
    /// organisation is cut off none of its own commits. Method: the plan for 500, and for a few.
    #[test]
    fn the_plan_holds() {
        for (devices, commits, cut) in [(500, 100, 20), (30, 40, 5), (12, 30, 0)] {
            let script = script(devices, commits, cut).unwrap();
            assert_eq!(script.acts.len() + 1, usize::try_from(commits).unwrap());
            let mut there = script.first.clone();
            for act in &script.acts {
                if let Act::Add(some) = act {
                    assert!(some.len() <= ADDED_AT_ONCE_MAX);
                    there.extend(some);
                }
            }
            there.sort_unstable();
            assert_eq!(there, (0..devices).collect::<Vec<_>>());
            assert_eq!(script.written_by(script.acts.len() - 1), 1000);
            if let Some((from, until)) = script.cut {
                assert_eq!(until - from, usize::try_from(cut).unwrap());
                for act in &script.acts[from..until] {
                    assert!(matches!(act, Act::Rename(by) if !script.cut_off.contains(by)));
                }
                let late = script.acts[until..].iter();
                assert!(
                    late.clone().any(|act| matches!(act, Act::Add(_))) || devices < WRITERS_MAX
                );
                assert!(late.clone().any(|act| matches!(act, Act::Rename(2))));
            }
        }
    }

    /// Goal: what can't be planned is said. Method: too few devices, too few rounds.
    #[test]
    fn impossible_plans_are_refused() {
        assert!(script(3, 100, 20).is_err());
        assert!(script(500, 20, 20).is_err());
    }
}
