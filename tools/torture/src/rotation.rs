//! What a rotation costs with what waits in the store.

use std::time::{Duration, Instant};

use homeserver::store::{Part, PartOutcome, Store};

use crate::message::acknowledge;
use crate::sender::People;
use crate::{inbox, keys};

/// After this the log has handed over to the index what came before, and the index is done with it.
const INDEXED: Duration = Duration::from_secs(20);
/// What the kernel counts a process's time in.
const TICK_MS: u64 = 10;

/// Acknowledges one message, and lets a rotation go by: how many wait, how many milliseconds of processor time that took, with
/// what follows in the background, and how long until what was deleted was unreadable.
pub(crate) async fn run(store: &Store, people: People) -> Result<String, String> {
    let first = inbox::read(store, 0, 0, 1).await?;
    let (number, label) = first.first().ok_or_else(|| "nothing waits".to_owned())?;
    let mut part = Part::default();
    acknowledge(&mut part, 0, *number, label);
    let outcome = store.commit(part).await;
    if outcome.map_err(|error| error.to_string())? == PartOutcome::Conflict {
        return Err("an acknowledgement was refused".to_owned());
    }
    let waiting = inbox::waiting(store, people).await?;
    let (before, begun) = (processor_ms()?, Instant::now());
    keys::rotate(store).await?;
    let took = begun.elapsed().as_millis();
    tokio::time::sleep(INDEXED).await;
    let cost = processor_ms()?.saturating_sub(before);
    Ok(format!("rotated {waiting} {cost} {took}\n"))
}

/// Processor time of this process so far.
fn processor_ms() -> Result<u64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    ticks(&stat)
        .map(|ticks| ticks.saturating_mul(TICK_MS))
        .ok_or_else(|| format!("/proc/self/stat says: {stat}"))
}

/// Of what the kernel says of a process: its own time and the kernel's.
fn ticks(stat: &str) -> Option<u64> {
    // The name stands in brackets and may have some in it.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the right two numbers are read, whatever the program is called. Method: a line of the kernel's.
    #[test]
    fn ticks_of_a_process() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 500 0 3 0 120 34 0 0 20 0 4 0 99 1 2";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("7 (a"), None);
    }
}
