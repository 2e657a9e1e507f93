//! Idle connections: what an open session that says nothing costs the homeserver.

use std::time::Duration;

use entente_sdk::session::Session;
use tokio::task::JoinSet;

use crate::latency::float;
use crate::prepare::Device;
use crate::process::{self, Watched};
use crate::report::{IdleProcess, IdleReport};

/// Sessions opened at once.
const AT_ONCE: usize = 16;
/// Between opening the last session and reading the memory.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens a session for each device, holds them for `hold`, and compares the watched processes'
/// memory before and after; calls `done` after each session.
///
/// # Errors
/// When a session can't be opened or ends by itself, in words.
pub(crate) async fn measure(
    devices: Vec<Device>,
    watched: &[Watched],
    hold: Duration,
    done: impl Fn(),
) -> Result<IdleReport, String> {
    let before = resident(watched)?;
    let connections = devices.len();
    let mut open = Vec::with_capacity(connections);
    let mut opening = JoinSet::new();
    let mut waiting = devices.into_iter();
    loop {
        while opening.len() < AT_ONCE {
            let Some(device) = waiting.next() else { break };
            opening.spawn(async move { Session::open(&device.endpoint, &device.token).await });
        }
        let Some(outcome) = opening.join_next().await else {
            break;
        };
        let session = outcome
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("an idle session can't be opened: {error}"))?;
        open.push(session.0);
        done();
    }
    let mut held = JoinSet::new();
    for mut session in open {
        // Reading keeps the session alive: pings are answered while the next frame is awaited.
        held.spawn(async move { while let Ok(Some(_)) = session.next().await {} });
    }
    tokio::select! {
        () = tokio::time::sleep(hold.max(SETTLE)) => {}
        Some(_) = held.join_next() => {
            return Err("a session that only listened was ended by the homeserver".to_owned());
        }
    }
    let after = resident(watched)?;
    let processes = watched
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(watched, (before, after))| IdleProcess {
            name: watched.name.clone(),
            resident_before_kib: *before,
            resident_after_kib: *after,
            kib_per_connection: (float(*after) - float(*before))
                / float(u64::try_from(connections).unwrap_or(u64::MAX)),
        })
        .collect();
    Ok(IdleReport {
        connections,
        processes,
    })
}

fn resident(watched: &[Watched]) -> Result<Vec<u64>, String> {
    watched
        .iter()
        .map(|watched| {
            process::read(watched.pid)
                .map(|used| used.resident_kib)
                .map_err(|error| error.to_string())
        })
        .collect()
}
