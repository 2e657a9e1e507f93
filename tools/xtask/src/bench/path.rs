//! `--only path`: how long messages take at a steady rate, with the store's commit log and without it.
//!
//! Two pairs of homeservers, one of each kind. One pair is loaded while the other rests, in turn.

use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::messages::Pair;
use super::rounds::{median, median_of, ratios, rounded, series};
use super::{Findings, Ground, Options, at};
use crate::failure::Result;
use crate::process;

/// Unless the options say otherwise.
const ROUNDS: u32 = 2;
const SECONDS: u64 = 60;
/// Between two runs: what the one has left young has gone to the index when the other begins.
const REST: Duration = Duration::from_secs(10);
/// What has to arrive, of what was due, for a rate to count as kept up.
const KEPT_UP: f64 = 0.99;

/// The one phase in a report of the load generator.
const DELIVERED: &str = "/phases/0/delivered_per_s";
const P99: &str = "/phases/0/delivery/p99_ms";

/// A pair of homeservers, and what the load generator reports of each round.
struct Variant {
    name: &'static str,
    pair: Pair,
    reports: Vec<Value>,
}

impl Variant {
    fn start(name: &'static str, commit_log: bool, ground: &Ground<'_>) -> Result<Self> {
        Ok(Self {
            name,
            pair: Pair::start(ground.binaries, &ground.folder.join(name), commit_log)?,
            reports: Vec::new(),
        })
    }
}

/// Measures both, round by round.
pub(super) fn measure(options: &Options, ground: &Ground<'_>, findings: &mut Findings) -> Result {
    let (with_log, without_log) = process::step(
        "start two pairs of homeservers, with a commit log and without",
        || {
            let with_log = Variant::start("with_log", true, ground)?;
            Ok((with_log, Variant::start("without_log", false, ground)?))
        },
    )?;
    let mut variants = [with_log, without_log];
    let seconds = options.seconds.unwrap_or(SECONDS);
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let pairs = usize::from(options.pairs);
    let arguments = [
        "--pairs".to_owned(),
        options.pairs.to_string(),
        "--rate".to_owned(),
        format!("{}@{seconds}", options.rate),
    ];
    for round in 1..=rounds {
        for variant in &mut variants {
            thread::sleep(REST);
            let step = format!("path {}, round {round} of {rounds}", variant.name);
            let run = format!("path-{round}");
            let report = process::step(&step, || variant.pair.load(&run, pairs, &arguments))?;
            variant.reports.push(report);
        }
        // Whichever came second comes first now.
        variants.reverse();
    }
    variants.sort_by_key(|variant| variant.name);
    let [with_log, without_log] = variants;
    let details = json!({
        "rate": options.rate,
        "rounds": rounds,
        "seconds": seconds,
        "with_log": details(&with_log.reports, options.rate),
        "without_log": details(&without_log.reports, options.rate),
    });
    findings.details.insert("path".to_owned(), details);
    let compared = (&with_log.reports[..], &without_log.reports[..]);
    figures(compared, options.rate, &mut findings.figures);
    findings.runs.extend(with_log.reports);
    findings.runs.extend(without_log.reports);
    Ok(())
}

/// Whether so many messages a second arrived in each round; none: nobody can tell.
fn kept_up(reports: &[Value], rate: u32) -> Option<bool> {
    let delivered = series(reports, DELIVERED)?;
    let enough = f64::from(rate) * KEPT_UP;
    Some(delivered.iter().all(|delivered| *delivered >= enough))
}

fn figures((with, without): (&[Value], &[Value]), rate: u32, figures: &mut Map<String, Value>) {
    figures.insert("path_msg_per_s_asked".to_owned(), json!(rate));
    for (reports, which) in [(with, "with_log"), (without, "without_log")] {
        let delivered = median_of(reports, DELIVERED);
        let of_which = [
            ("msg_per_s", json!(delivered.map(f64::round))),
            ("kept_up", json!(kept_up(reports, rate))),
            ("p99_ms", rounded(median_of(reports, P99))),
        ];
        for (what, value) in of_which {
            figures.insert(format!("path_{what}_{which}"), value);
        }
    }
    let ratio = ratios(without, with, P99).and_then(median);
    figures.insert(
        "path_p99_without_log_to_with_log".to_owned(),
        rounded(ratio),
    );
}

/// Medians of the rounds, and the 99th percentile of each.
fn details(reports: &[Value], rate: u32) -> Value {
    let median = |pointer| rounded(median_of(reports, pointer));
    let of_each: Vec<&Value> = reports.iter().map(|report| at(report, P99)).collect();
    json!({
        "kept_up": kept_up(reports, rate),
        "delivered_per_s": median(DELIVERED),
        "p50_ms": median("/phases/0/delivery/p50_ms"),
        "p99_ms": median(P99),
        "p999_ms": median("/phases/0/delivery/p999_ms"),
        "max_ms": median("/phases/0/delivery/max_ms"),
        "accepted_p99_ms": median("/phases/0/acceptance/p99_ms"),
        "server_cpu_s_per_10k": median("/phases/0/watched_cpu_seconds_per_10k"),
        "p99_ms_by_round": of_each,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(of_rounds: &[(f64, f64)]) -> Vec<Value> {
        let phase = |(delivered, p99): &(f64, f64)| {
            let phase = json!({"delivered_per_s": delivered, "delivery": {"p99_ms": p99}});
            json!({ "phases": [phase] })
        };
        of_rounds.iter().map(phase).collect()
    }

    /// Goal: the figures are medians of the rounds, the ratio that of each round, and a rate that was not reached in one round was
    /// not kept up. Method: made-up reports of two rounds.
    #[test]
    fn figures_of_two_rounds() {
        let with = reports(&[(12_000.0, 2.0), (11_990.0, 4.0)]);
        let without = reports(&[(11_995.0, 20.0), (11_500.0, 80.0)]);
        let mut found = Map::new();
        figures((&with[..], &without[..]), 12_000, &mut found);
        assert_eq!(found["path_msg_per_s_asked"], 12_000);
        assert_eq!(found["path_msg_per_s_with_log"], 11_995.0);
        assert_eq!(found["path_kept_up_with_log"], json!(true));
        assert_eq!(found["path_kept_up_without_log"], json!(false));
        assert_eq!(found["path_p99_ms_with_log"], 3.0);
        assert_eq!(found["path_p99_ms_without_log"], 50.0);
        assert_eq!(found["path_p99_without_log_to_with_log"], 15.0);
        assert_eq!(details(&with, 12_000)["p99_ms_by_round"], json!([2.0, 4.0]));
    }

    /// Goal: a figure that the load generator does not report is missing, never made up. Method: a report without phases.
    #[test]
    fn what_is_not_reported_is_missing() {
        let mut found = Map::new();
        let (with, without) = (reports(&[(1.0, 1.0)]), vec![json!({})]);
        figures((&with[..], &without[..]), 1, &mut found);
        let mut missing = super::super::missing(&found);
        missing.sort_unstable();
        let expected = [
            "path_kept_up_without_log",
            "path_msg_per_s_without_log",
            "path_p99_ms_without_log",
            "path_p99_without_log_to_with_log",
        ];
        assert_eq!(missing, expected);
    }
}
