//! The verdict: what was counted, and whether all of it held.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::{Failure, Result, While};
use crate::record::Tally;

/// Fewer messages than this prove too little.
const SENT_MIN: u64 = 2_000;
/// Fewer kills than this prove too little.
const KILLS_MIN: u64 = 4;
/// What must be refused.
pub(crate) const REFUSALS: [&str; 4] = [
    "no-agreement",
    "ttl-out-of-bounds",
    "external-scope",
    "agreement-suspended",
];

/// What `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    sent: u64,
    delivered: u64,
    lost: usize,
    duplicated: usize,
    /// By stable code.
    refused: BTreeMap<String, u64>,
    kills: u64,
    /// While all homeservers were up, from the call to send until shown.
    p50_ms: f64,
    /// As `p50_ms`.
    p99_ms: f64,
    #[serde(skip)]
    wrong: Vec<String>,
    #[serde(skip)]
    timed: usize,
}

impl Summary {
    /// Draws the conclusions.
    pub(crate) fn new(tally: &Tally, refused: BTreeMap<String, u64>, kills: u64) -> Result<Self> {
        let mut latencies = Histogram::<u64>::new(3).while_to("count latencies")?;
        for latency in &tally.latencies {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            latencies.record(micros).while_to("count latencies")?;
        }
        let quantile = |quantile| milliseconds(latencies.value_at_quantile(quantile));
        Ok(Self {
            sent: tally.sent,
            delivered: tally.delivered,
            lost: tally.lost.len(),
            duplicated: tally.duplicated.len(),
            wrong: wrong(tally, &refused, kills),
            refused,
            kills,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            timed: tally.latencies.len(),
        })
    }

    /// The verdict in words.
    pub(crate) fn in_words(&self) -> String {
        let mut text = format!(
            "{} messages sent, {} delivered, {} lost, {} shown twice\n\
             {} times a homeserver was killed in mid-traffic and restarted\n\
             {:.1} ms from one screen to the other for half of {} messages, {:.1} ms for 99 in 100\n\
             refused, as they must be:",
            self.sent,
            self.delivered,
            self.lost,
            self.duplicated,
            self.kills,
            self.p50_ms,
            self.timed,
            self.p99_ms
        );
        for (code, number) in &self.refused {
            // Writing to a string can't fail.
            let _ = write!(text, " {code} ({number})");
        }
        text
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string(self).while_to("write the summary")
    }

    /// Fails when anything did not hold.
    pub(crate) fn verdict(&self) -> Result {
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(self.wrong.join("; ")))
        }
    }
}

fn wrong(tally: &Tally, refused: &BTreeMap<String, u64>, kills: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            wrong.push(otherwise);
        }
    };
    let named = |texts: &[String]| texts.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    must(
        tally.sent >= SENT_MIN,
        format!("only {} messages were sent, not {SENT_MIN}", tally.sent),
    );
    must(
        tally.accepted == tally.sent,
        format!(
            "{} messages were never accepted",
            tally.sent - tally.accepted
        ),
    );
    must(
        tally.lost.is_empty(),
        format!(
            "{} messages were lost: {}",
            tally.lost.len(),
            named(&tally.lost)
        ),
    );
    must(
        tally.duplicated.is_empty(),
        format!(
            "{} messages were shown again: {}",
            tally.duplicated.len(),
            named(&tally.duplicated)
        ),
    );
    must(
        tally.uninvited.is_empty(),
        format!(
            "{} messages were shown that nobody may have sent: {}",
            tally.uninvited.len(),
            named(&tally.uninvited)
        ),
    );
    must(
        tally.returned.is_empty(),
        format!(
            "{} messages were returned: {}",
            tally.returned.len(),
            named(&tally.returned)
        ),
    );
    must(
        kills >= KILLS_MIN,
        format!("only {kills} kills, not {KILLS_MIN}"),
    );
    for code in REFUSALS {
        must(
            refused.get(code).is_some_and(|number| *number > 0),
            format!("nothing was refused with {code}"),
        );
    }
    wrong
}

/// To a tenth.
fn milliseconds(micros: u64) -> f64 {
    (Duration::from_micros(micros).as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> BTreeMap<String, u64> {
        REFUSALS
            .iter()
            .map(|code| ((*code).to_owned(), 1))
            .collect()
    }

    fn good() -> Tally {
        Tally {
            sent: 2_400,
            accepted: 2_400,
            delivered: 2_400,
            latencies: vec![Duration::from_millis(20); 400],
            ..Tally::default()
        }
    }

    /// Goal: what holds passes, and the JSON has the promised members and no others.
    #[test]
    fn good_run() {
        let summary = Summary::new(&good(), refused(), 4).expect("counts");
        assert!(summary.verdict().is_ok());
        let json: serde_json::Value =
            serde_json::from_str(&summary.json().expect("json")).expect("json");
        let members: Vec<&str> = json
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            [
                "delivered",
                "duplicated",
                "kills",
                "lost",
                "p50_ms",
                "p99_ms",
                "refused",
                "sent"
            ]
        );
        assert_eq!(json["lost"], 0);
        assert!((summary.p50_ms - 20.0).abs() < 0.1, "{}", summary.p50_ms);
    }

    /// Goal: each promise that does not hold fails the run by itself; by breaking one at a time.
    #[test]
    fn each_promise_counts() {
        let text = || vec!["message 7".to_owned()];
        let tallies = [
            Tally {
                sent: 1_999,
                accepted: 1_999,
                ..good()
            },
            Tally {
                accepted: 2_399,
                ..good()
            },
            Tally {
                lost: text(),
                ..good()
            },
            Tally {
                duplicated: text(),
                ..good()
            },
            Tally {
                uninvited: text(),
                ..good()
            },
            Tally {
                returned: text(),
                ..good()
            },
        ];
        for tally in tallies {
            let summary = Summary::new(&tally, refused(), 4).expect("counts");
            assert_eq!(summary.wrong.len(), 1, "{:?}", summary.wrong);
        }
        assert!(
            Summary::new(&good(), refused(), 3)
                .expect("counts")
                .verdict()
                .is_err()
        );
        for code in REFUSALS {
            let mut refused = refused();
            refused.remove(code);
            assert!(
                Summary::new(&good(), refused, 4)
                    .expect("counts")
                    .verdict()
                    .is_err(),
                "{code}"
            );
        }
    }
}
