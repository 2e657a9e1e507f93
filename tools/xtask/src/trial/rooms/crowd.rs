//! Hundreds of devices of three organisations in one room, while people commit and write and one organisation is cut off.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::checks::Check;
use super::super::faulty::Wire;
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan, read};
use super::super::stage::agree_at;
use crate::failure::{self, Failure, Result};
use crate::ports::free_address;

const ID: &str = "crowd-sees-the-same";
/// Commits and messages, interleaved.
const COMMITS: u64 = 100;
const MESSAGES: u64 = 1_000;
/// Rounds for which an organisation is cut off; each has one commit. Fewer than the epochs that rooms retain.
const CUT_ROUNDS: u64 = 20;
/// Seconds that a round, or the end, may take: hundreds of clients share the machine.
const PATIENCE_SECONDS: u64 = 7_200;
/// Open files of the one process with all the clients: a store and a connection each.
const FILES: usize = 16_384;
/// Where stores are kept when it is there: a file system in memory.
const IN_MEMORY: &str = "/dev/shm";
const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

/// What `crowd` prints at the end.
#[derive(Debug, Deserialize)]
struct Printed {
    devices: u64,
    organisations: u64,
    epochs: u64,
    seconds: u64,
    written: u64,
    shown: u64,
    joined: u64,
    joined_late: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    from_before_joining: u64,
    told_missing: u64,
    told_forked: u64,
    told_out_of_step: u64,
    told_unreadable: u64,
    told_not_sent: u64,
    example: Option<String>,
}

impl Printed {
    fn holds(&self, devices: u64) -> bool {
        let faults = [
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.from_before_joining,
            self.told_missing,
            self.told_forked,
            // Nobody here is hostile, and the cut is shorter than what rooms retain: every commit can be followed, every message
            // read, and none has to be given up.
            self.told_out_of_step,
            self.told_unreadable,
            self.told_not_sent,
        ];
        (self.devices, self.joined, self.organisations) == (devices, devices, 3)
            && self.epochs >= COMMITS
            && self.written >= MESSAGES
            && self.shown > self.written
            && faults.iter().all(|count| *count == 0)
    }
}

impl std::fmt::Display for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} devices, {} joined while people wrote; epoch {}; {} messages, shown {} times; lost {}, twice {}, out of order {}, \
             from before joining {}; told: missing or late {}, forked {}, out of step {}, unreadable {}, not sent {}; {} s",
            self.joined,
            self.joined_late,
            self.epochs,
            self.written,
            self.shown,
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.from_before_joining,
            self.told_missing,
            self.told_forked,
            self.told_out_of_step,
            self.told_unreadable,
            self.told_not_sent,
            self.seconds
        )?;
        match &self.example {
            Some(example) => write!(f, "; one of what was told: {example}"),
            None => Ok(()),
        }
    }
}

fn must(devices: usize) -> String {
    format!(
        "three organisations, {devices} devices in one room, {COMMITS} commits and {MESSAGES} messages interleaved, one organisation cut off for \
         {CUT_ROUNDS} rounds and let in again: every device is shown the same messages in the same order of each sender; lost, twice, out of \
         order, from before it joined: 0, and no device tells of anything missing, forked, out of step, unreadable or not sent"
    )
}

pub(super) fn check(ground: &Ground<'_>, devices: usize) -> Result<Check> {
    let folder = ground.folder("crowd")?;
    let servers = servers(ground, &folder)?;
    let mut wires = agreed(ground, &servers, &folder)?;
    let inventory = inventory(&servers, devices, &folder)?;
    let stores = stores(&folder)?;
    let printed = play(ground, &inventory, stores.path(), &mut wires)?;
    let expected = u64::try_from(devices).unwrap_or(u64::MAX);
    Ok(Check {
        id: ID,
        must: must(devices),
        got: printed.to_string(),
        ok: Some(printed.holds(expected)),
        control: None,
    })
}

fn servers(ground: &Ground<'_>, folder: &Path) -> Result<Vec<Homeserver>> {
    NAMES
        .into_iter()
        .map(|name| {
            Homeserver::start_new(Plan {
                name,
                binaries: &ground.binaries,
                program: &ground.homeserver(None),
                fault: None,
                namespace: None,
                client: free_address()?.to_string(),
                federation: free_address()?.to_string(),
                // Short names: the path of a Unix socket has at most 107 bytes.
                folder: folder.join(name.split('.').next().unwrap_or(name)),
            })
        })
        .collect()
}

/// Every two agree. The last one and each other reach one another by wires of their own, which are returned.
fn agreed(ground: &Ground<'_>, servers: &[Homeserver], folder: &Path) -> Result<Vec<Wire>> {
    let mut wires = Vec::new();
    let [a, b, c] = servers else {
        return Ok(wires);
    };
    agree_at(a, b, folder, None, None)?;
    for other in [a, b] {
        let to_other = Wire::lay(&ground.binaries, &other.federation)?;
        let to_c = Wire::lay(&ground.binaries, &c.federation)?;
        agree_at(
            other,
            c,
            folder,
            Some(&to_other.address),
            Some(&to_c.address),
        )?;
        wires.extend([to_other, to_c]);
    }
    Ok(wires)
}

/// An account for each device, at each homeserver in turn.
fn inventory(servers: &[Homeserver], devices: usize, folder: &Path) -> Result<PathBuf> {
    let mut organisations = Vec::new();
    for (place, server) in servers.iter().enumerate() {
        let of_it = (0..devices).filter(|number| number % servers.len() == place);
        let accounts = of_it
            .map(|number| {
                let account = server.account(&format!("p{number}"))?;
                Ok(json!({"address": account.address, "password": account.password}))
            })
            .collect::<Result<Vec<Value>>>()?;
        organisations.push(json!({
            "endpoint": server.client,
            "root_sha256": server.root_sha256,
            "accounts": accounts,
        }));
    }
    let path = folder.join("inventory.json");
    let text = json!({"organisations": organisations}).to_string();
    fs::write(&path, text).map_err(failure::at(&path))?;
    Ok(path)
}

/// Where the devices keep what they know: in memory, when that can be had.
fn stores(folder: &Path) -> Result<tempfile::TempDir> {
    let in_memory = Path::new(IN_MEMORY);
    let parent = if in_memory.is_dir() {
        in_memory
    } else {
        folder
    };
    tempfile::Builder::new()
        .prefix("entente-crowd-")
        .tempdir_in(parent)
        .map_err(failure::at(parent))
}

/// Runs the clients, cuts the wires and mends them when they say so.
fn play(
    ground: &Ground<'_>,
    inventory: &Path,
    stores: &Path,
    wires: &mut [Wire],
) -> Result<Printed> {
    // The shell's own limit of open files is for one device.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(FILES.to_string())
        .arg(ground.binaries.join("crowd"))
        .arg("--inventory")
        .arg(inventory)
        .arg("--folder")
        .arg(stores)
        .args(["--commits", &COMMITS.to_string()])
        .args(["--messages", &MESSAGES.to_string()])
        .args(["--cut", &CUT_ROUNDS.to_string()])
        .args(["--patience", &PATIENCE_SECONDS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Failure::Start {
            program: "crowd".to_owned(),
            source,
        })?;
    let outcome = (|| {
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unexpected("no pipe"));
        };
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| unexpected(&error.to_string()))?;
            let commands: &[&str] = match line.as_str() {
                // What is under way is lost, and what is begun anew gets nowhere.
                "cut" => &["both stall", "cut"],
                "heal" => &["both pass"],
                printed => return read("crowd", printed),
            };
            for wire in wires.iter_mut() {
                for command in commands {
                    wire.command(command)?;
                }
            }
            writeln!(input, "ok")
                .and_then(|()| input.flush())
                .map_err(|error| unexpected(&error.to_string()))?;
        }
        Err(unexpected("it ended without a report"))
    })();
    if outcome.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let _ = child.wait();
    outcome
}

fn unexpected(what: &str) -> Failure {
    Failure::Unexpected {
        program: "crowd".to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each fault fails the check, also too few devices, commits and messages. Method: spoil a good report in one place.
    #[test]
    fn faults_fail_the_check() {
        let good = json!({
            "devices": 500, "organisations": 3, "epochs": 100, "seconds": 9, "written": 1000, "shown": 400_000, "joined": 500,
            "joined_late": 476, "lost": 0, "duplicated": 0, "out_of_order": 0, "from_before_joining": 0, "told_missing": 0,
            "told_forked": 0, "told_out_of_step": 0, "told_unreadable": 0, "told_not_sent": 0, "example": null,
        });
        let printed = |value: &Value| -> Printed { serde_json::from_value(value.clone()).unwrap() };
        assert!(printed(&good).holds(500));
        for (field, bad) in [
            ("devices", 499),
            ("joined", 499),
            ("organisations", 2),
            ("epochs", 99),
            ("written", 999),
            ("shown", 1000),
            ("lost", 1),
            ("duplicated", 1),
            ("out_of_order", 1),
            ("from_before_joining", 1),
            ("told_missing", 1),
            ("told_forked", 1),
            ("told_out_of_step", 1),
            ("told_unreadable", 1),
            ("told_not_sent", 1),
        ] {
            let mut spoilt = good.clone();
            spoilt[field] = bad.into();
            assert!(!printed(&spoilt).holds(500), "{field}");
        }
    }
}
