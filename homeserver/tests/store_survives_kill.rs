//! The embedded engine, with its commit log and without, against SIGKILL: what was answered is there, in order, nothing twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking, and its child reports on standard output"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use homeserver::store::engine::open_embedded;
use homeserver::store::{Key, Order, Part, Range, Store, Value};

/// Where the child's store lies; set in the child alone.
const FOLDER: &str = "ENTENTE_TEST_STORE";
/// Commits that a child is killed after: during the first, and in mid-stream.
const KILLED_AFTER: [usize; 4] = [1, 50, 200, 400];

/// Goal: no commit that was answered is lost by SIGKILL, and numbers go on without a hole; by killing a
/// child that reports each answered commit, several times over one store.
#[test]
fn answered_commits_survive_sigkill() {
    survive_sigkill("answered_commits_survive_sigkill", false);
}

/// Goal: the same with a commit log before the index; by the same way.
#[test]
fn answered_commits_in_the_log_survive_sigkill() {
    survive_sigkill("answered_commits_in_the_log_survive_sigkill", true);
}

fn survive_sigkill(test: &str, log: bool) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_for_ever(Path::new(&folder), log);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut answered: u64 = 0;
    for kill_after in KILLED_AFTER {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let reports = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers =
            reports.filter_map(|line| line.unwrap().strip_prefix("answered ")?.parse().ok());
        for number in numbers.take(kill_after) {
            let number: u64 = number;
            assert!(number > answered, "{number} after {answered}");
            answered = number;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let numbers = stored(folder.path(), log);
        let expected: Vec<u64> = (1..=u64::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, expected, "a hole");
        assert!(numbers.len() >= usize::try_from(answered).unwrap(), "lost");
        // What was durable but not reported goes on from there.
        answered = u64::try_from(numbers.len()).unwrap();
    }
}

fn entry(number: u64) -> Part {
    let mut part = Part::default();
    let value = Value::copy_from_slice(&number.to_be_bytes());
    part.append(Key::from_static(b"tail"), Key::from_static(b"entry"), value);
    part
}

/// The child: commits one entry after the other and reports each once it is answered.
fn write_for_ever(folder: &Path, log: bool) -> ! {
    let store = Store::new(open_embedded(folder, log).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut number = u64::try_from(stored_in(&store).await.len()).unwrap();
        loop {
            // Several at once, so that a batch holds more than one.
            let mut pending = Vec::new();
            for step in 1..=3 {
                pending.push(store.enqueue(entry(number + step)).await);
            }
            for pending in pending {
                pending.wait().await.unwrap();
                number += 1;
                println!("answered {number}");
                std::io::stdout().flush().unwrap();
            }
        }
    })
}

/// What a child has left, read without a writer: the folder is free again when this returns.
fn stored(folder: &Path, log: bool) -> Vec<u64> {
    let engine = open_embedded(folder, log).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let entries = runtime.block_on(engine.range(Range {
        from: b"entry",
        to: b"entrz",
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order: Order::Ascending,
    }));
    entries.unwrap().iter().map(number).collect()
}

async fn stored_in(store: &Store) -> Vec<u64> {
    let entries = store.range(b"entry", b"entrz", usize::MAX, Order::Ascending);
    entries.await.unwrap().iter().map(number).collect()
}

fn number((_, value): &(Key, Value)) -> u64 {
    u64::from_be_bytes(value.as_ref().try_into().unwrap())
}
