//! What a run came to, for programs (JSON) and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::latency::{LatencySummary, float};
use crate::tally::Tally;

/// A run's result: one JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing was lost, duplicated, refused or left unrecognised.
    pub(crate) ok: bool,
    /// The work, in words.
    pub(crate) work: String,
    /// Pairs that exchanged messages; 0 when there was no such phase.
    pub(crate) pairs: usize,
    /// Length of the MLS PrivateMessage that carried 1 KiB of text, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<IdleReport>,
    pub(crate) phases: Vec<PhaseReport>,
}

/// Idle connections.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    /// Sessions that were open at once.
    pub(crate) connections: usize,
    pub(crate) processes: Vec<IdleProcess>,
}

/// A watched process beside idle connections.
#[derive(Debug, Serialize)]
pub(crate) struct IdleProcess {
    pub(crate) name: String,
    pub(crate) resident_before_kib: u64,
    pub(crate) resident_after_kib: u64,
    /// The difference, for each connection.
    pub(crate) kib_per_connection: f64,
}

/// One phase.
#[derive(Debug, Serialize)]
pub(crate) struct PhaseReport {
    /// `closed` or `open`.
    pub(crate) kind: &'static str,
    /// Messages in flight per pair, closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<u64>,
    /// Messages a second asked for, open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<u64>,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    /// Within the measured seconds.
    pub(crate) delivered_per_s: f64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) deferred: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) returned: BTreeMap<String, u64>,
    pub(crate) decrypted: u64,
    pub(crate) unrecognised: u64,
    /// From due to received.
    pub(crate) delivery: LatencySummary,
    /// From due to accepted by the own homeserver.
    pub(crate) acceptance: LatencySummary,
    /// Watched processes and this one, over the measured seconds.
    pub(crate) processes: Vec<ProcessReport>,
    /// All watched processes together.
    pub(crate) watched_cpu_seconds_per_10k: f64,
    pub(crate) failures: Vec<String>,
}

/// What a process used during a phase.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessReport {
    pub(crate) name: String,
    pub(crate) watched: bool,
    pub(crate) cpu_seconds: f64,
    pub(crate) cpu_seconds_per_10k: f64,
    pub(crate) resident_kib: u64,
}

/// CPU seconds for each 10,000 messages.
pub(crate) fn per_10k(cpu_ns: u64, messages: u64) -> f64 {
    if messages == 0 {
        return 0.0;
    }
    float(cpu_ns) / 1e9 / float(messages) * 10_000.0
}

impl PhaseReport {
    /// Takes over a phase's counts; kind, times and processes are the caller's.
    pub(crate) fn counts(tally: Tally, seconds: f64, warm_up_seconds: f64) -> Self {
        Self {
            kind: "",
            window: None,
            rate: None,
            warm_up_seconds,
            seconds,
            sent: tally.sent,
            accepted: tally.accepted,
            delivered: tally.delivered,
            delivered_per_s: float(tally.delivered_in_window) / seconds,
            lost: tally.faults.lost,
            duplicated: tally.faults.duplicated,
            out_of_order: tally.faults.out_of_order,
            deferred: tally.deferred,
            refused: tally.refused,
            returned: tally.returned,
            decrypted: tally.decrypted,
            unrecognised: tally.unrecognised,
            delivery: tally.delivery.summary(),
            acceptance: tally.acceptance.summary(),
            processes: Vec::new(),
            watched_cpu_seconds_per_10k: 0.0,
            failures: tally.failures,
        }
    }

    /// Whether everything sent arrived once, in order, and was what it should be.
    pub(crate) fn ok(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.unrecognised == 0
            && self.refused.is_empty()
            && self.returned.is_empty()
            && self.failures.is_empty()
    }
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}\n", self.work);
        if let Some(idle) = &self.idle {
            for process in &idle.processes {
                // Writing to a string can't fail; so for every line below.
                let _ = writeln!(
                    out,
                    "{} idle connections: {} grew from {:.1} to {:.1} MiB, {:.1} KiB each",
                    idle.connections,
                    process.name,
                    float(process.resident_before_kib) / 1024.0,
                    float(process.resident_after_kib) / 1024.0,
                    process.kib_per_connection,
                );
            }
        }
        for phase in &self.phases {
            phase.write_text(&mut out);
        }
        out
    }
}

impl PhaseReport {
    fn write_text(&self, out: &mut String) {
        let load = match (self.window, self.rate) {
            (Some(window), _) => format!("closed loop, window {window}"),
            (_, Some(rate)) => format!("open loop, {rate}/s"),
            _ => self.kind.to_owned(),
        };
        let _ = writeln!(
            out,
            "\n{load}, {:.0} s after {:.0} s of warm-up",
            self.seconds, self.warm_up_seconds
        );
        let _ = writeln!(out, "  delivered  {:>10.0}/s", self.delivered_per_s);
        for (name, latency) in [
            ("delivery", &self.delivery),
            ("acceptance", &self.acceptance),
        ] {
            let _ = writeln!(
                out,
                "  {name:<10} p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} (of {})",
                latency.p50_ms,
                latency.p90_ms,
                latency.p99_ms,
                latency.p999_ms,
                latency.max_ms,
                latency.count,
            );
        }
        for process in &self.processes {
            let _ = writeln!(
                out,
                "  {:<10} {:.3} s of CPU for each 10,000 messages, {:.1} MiB resident",
                process.name,
                process.cpu_seconds_per_10k,
                float(process.resident_kib) / 1024.0,
            );
        }
        let _ = writeln!(
            out,
            "  {} sent, {} delivered, {} lost, {} duplicated, {} out of order, {} decrypted live",
            self.sent,
            self.delivered,
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.decrypted,
        );
        for (what, by_code) in [("refused", &self.refused), ("returned", &self.returned)] {
            for (code, count) in by_code {
                let _ = writeln!(out, "  {count} {what}: {code}");
            }
        }
        if self.unrecognised > 0 {
            let _ = writeln!(out, "  {} unrecognised", self.unrecognised);
        }
        for failure in &self.failures {
            let _ = writeln!(out, "  {failure}");
        }
    }
}
