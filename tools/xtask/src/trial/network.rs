//! The trial `network`: strangers, bounds, SIGKILL under traffic, and a network that fails and is mended.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::checks::{Check, Control, Report};
use super::ground::Ground;
use super::homeserver::read;
use super::namespaces::Trouble;
use super::record::Record;
use super::stage::Stage;
use super::traffic::{Traffic, write_for};
use super::troubles::Scene;
use crate::failure::{Failure, Result};
use crate::process::{self, Run as _};
use crate::workspace::Workspace;

/// Between two messages of one person.
const PACE: Duration = Duration::from_millis(20);
/// How long traffic runs before and between faults.
const BETWEEN: Duration = Duration::from_secs(2);
/// How long a homeserver stays down.
const DOWN: Duration = Duration::from_millis(500);
/// How long the network stays in trouble.
const TROUBLE: Duration = Duration::from_secs(6);
/// First delivery after the network is mended.
const FIRST_AFTER_MENDING_MAX: Duration = Duration::from_secs(5);
/// How long it may take until a partner has heard of a revocation.
const TOLD_MAX: Duration = Duration::from_secs(10);
/// Kills of each homeserver.
const KILLS_EACH: u32 = 3;
/// Fewer messages than this are no traffic to kill in.
const KILLS_WRITTEN_MIN: usize = 600;
/// Fewer messages than this are no traffic to make trouble for.
const TROUBLE_WRITTEN_MIN: usize = 300;

/// The checks of this trial, on their ground.
struct Trial<'a>(&'a Ground<'a>);

/// Runs it; `network_can_be_cut` says why not, where that can't be tried.
pub(super) fn run(
    workspace: &Workspace,
    network_can_be_cut: std::result::Result<(), String>,
) -> Result<Report> {
    Ground::lay(workspace, "n", |ground, report| {
        Trial(ground).checks(network_can_be_cut, report)
    })
}

impl Trial<'_> {
    fn checks(
        &self,
        network_can_be_cut: std::result::Result<(), String>,
        report: &mut Report,
    ) -> Result {
        report
            .checks
            .push(process::step("a stranger", || self.stranger())?);
        report
            .checks
            .push(process::step("time-to-live bounds", || self.bounds())?);
        report
            .checks
            .push(process::step("a revocation", || self.revocation())?);
        report
            .checks
            .push(process::step("SIGKILL under traffic", || self.kills())?);
        match network_can_be_cut {
            Ok(()) => process::step("a network in trouble", || self.troubles(report)),
            Err(reason) => {
                for (id, trouble) in TROUBLES {
                    let must = trouble_must(trouble);
                    report.checks.push(Check::skipped(id, must, &reason));
                }
                Ok(())
            }
        }
    }

    /// A stranger's certificate is refused in the handshake: not a byte of HTTP comes back.
    fn stranger(&self) -> Result<Check> {
        const FAULT: &str = "accept-unknown-peer";
        let with = self.probe(&self.0.stage("s", None, None)?)?;
        let without = self.probe(&self.0.stage("s0", Some(FAULT), None)?)?;
        Ok(Check {
            id: "unknown-peer-refused",
            must: "a certificate of no peer ends the connection before a byte of HTTP is exchanged"
                .to_owned(),
            got: with.to_string(),
            ok: Some(with.holds()),
            control: Some(Control {
                without: FAULT,
                got: without.to_string(),
                ok: without.holds(),
            }),
        })
    }

    fn probe(&self, stage: &Stage) -> Result<Probe> {
        let printed = Command::new(self.0.binaries.join("conformance"))
            .args([
                "probe",
                "--address",
                &stage.a.federation,
                "--server",
                stage.a.name,
            ])
            .captured()?;
        read("conformance probe", &printed)
    }

    /// Whoever ends an agreement tells the partner, who is away at that moment too.
    fn revocation(&self) -> Result<Check> {
        let told = |name: &str, away: bool| -> Result<String> {
            let mut stage = self.0.stage(name, None, None)?;
            if away {
                stage.b.kill()?;
            }
            stage.a.hsctl(&[
                "peer",
                "revoke",
                stage.b.name,
                "--reason",
                "the end",
                "--yes",
            ])?;
            if away {
                stage.b.start()?;
            }
            let began = Instant::now();
            while began.elapsed() < TOLD_MAX {
                let shown = stage.b.hsctl(&["peer", "show", stage.a.name])?;
                let peer: serde_json::Value = read("hsctl peer show", &shown)?;
                if peer.get("state").and_then(serde_json::Value::as_str) == Some("revoked") {
                    return Ok("told".to_owned());
                }
                std::thread::sleep(PACE);
            }
            Ok("not told".to_owned())
        };
        let (present, away) = (told("r", false)?, told("r0", true)?);
        Ok(Check {
            id: "a-revocation-is-told",
            must: format!(
                "a partner shows a revoked agreement within {} s, one that was away after it is back",
                TOLD_MAX.as_secs()
            ),
            got: format!("a partner that was there: {present}, one that was away: {away}"),
            ok: Some(present == "told" && away == "told"),
            control: None,
        })
    }

    /// A lifetime outside the bounds is refused with its reason, and nothing arrives.
    fn bounds(&self) -> Result<Check> {
        const FAULT: &str = "accept-any-ttl";
        let with = self.too_long_a_life("t", None)?;
        let without = self.too_long_a_life("t0", Some(FAULT))?;
        Ok(Check {
            id: "ttl-out-of-bounds-refused",
            must: "a message that is to live for ten years is refused as ttl-out-of-bounds"
                .to_owned(),
            got: with.to_string(),
            ok: Some(matches!(with, Fate::Refused(_))),
            control: Some(without.as_control(FAULT)?),
        })
    }

    fn too_long_a_life(&self, name: &str, fault: Option<&'static str>) -> Result<Fate> {
        let stage = self.0.stage(name, fault, None)?;
        let (alice, bob) = stage.people()?;
        let (taken, printed) = alice.try_to_send(&bob.address, "for ten years", "3650d")?;
        Ok(Fate::of(taken, &printed))
    }

    /// Homeservers die in mid-traffic; whatever they said they have is shown, once and in order.
    fn kills(&self) -> Result<Check> {
        const FAULT: &str = "answer-before-sync";
        let with = self.traffic_with_kills("k", None)?;
        let without = self.traffic_with_kills("k0", Some(FAULT))?;
        Ok(Check {
            id: "kill-loses-nothing",
            must: format!(
                "{} kills under traffic both ways: all of at least {KILLS_WRITTEN_MIN} messages accepted and shown; \
                 lost, duplicated, out of order and returned 0",
                KILLS_EACH.saturating_mul(2)
            ),
            got: with.to_string(),
            ok: Some(with.holds(KILLS_WRITTEN_MIN)),
            control: Some(without.as_control(FAULT, KILLS_WRITTEN_MIN)?),
        })
    }

    fn traffic_with_kills(&self, name: &str, fault: Option<&'static str>) -> Result<Traffic> {
        let mut stage = self.0.stage(name, fault, None)?;
        let (alice, bob) = stage.people()?;
        let record = Arc::new(Record::default());
        let mut pair = [stage.talk(&alice, &bob, &record)?];
        let mut number = 0;
        write_for(BETWEEN, PACE, &mut pair, &mut number)?;
        for kill in 0..KILLS_EACH.saturating_mul(2) {
            let victim = if kill % 2 == 0 {
                &mut stage.a
            } else {
                &mut stage.b
            };
            victim.kill()?;
            write_for(DOWN, PACE, &mut pair, &mut number)?;
            victim.start()?;
            write_for(BETWEEN, PACE, &mut pair, &mut number)?;
        }
        Ok(Traffic::drained(&record))
    }

    /// Two hosts, the network between them in each kind of trouble and mended, under traffic.
    fn troubles(&self, report: &mut Report) -> Result {
        const FAULT: &str = "forget-unanswered";
        let mut with = Scene::set(self.0, "p", None, 1)?;
        let mut without = Scene::set(self.0, "p0", Some(FAULT), 1)?;
        let (mut number, mut number_without) = (0, 0);
        for (id, trouble) in TROUBLES {
            let suffered = with.suffer(trouble, TROUBLE, PACE, &mut number)?;
            let control = match trouble {
                // TCP sends lost packets again before any protection of ours is needed.
                Trouble::Loss => None,
                Trouble::Cut | Trouble::OneWay => {
                    let lost = without.suffer(trouble, TROUBLE, PACE, &mut number_without)?;
                    Some(lost.traffic.as_control(FAULT, TROUBLE_WRITTEN_MIN)?)
                }
            };
            report.checks.push(Check {
                id,
                must: trouble_must(trouble),
                got: suffered.to_string(),
                ok: Some(suffered.holds(TROUBLE_WRITTEN_MIN, FIRST_AFTER_MENDING_MAX)),
                control,
            });
        }
        Ok(())
    }
}

const TROUBLES: [(&str, Trouble); 3] = [
    ("partition-loses-nothing", Trouble::Cut),
    ("one-way-loss-loses-nothing", Trouble::OneWay),
    ("packet-loss-loses-nothing", Trouble::Loss),
];

fn trouble_must(trouble: Trouble) -> String {
    format!(
        "two hosts, between them for {} s under traffic {trouble}: all of at least {TROUBLE_WRITTEN_MIN} messages accepted and \
         shown; lost, duplicated, out of order and returned 0, first delivery at most {} s after it is mended",
        TROUBLE.as_secs(),
        FIRST_AFTER_MENDING_MAX.as_secs()
    )
}

/// What became of a message that was to live too long.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The homeserver has it.
    Taken,
    /// It was refused for its time-to-live.
    Refused(String),
    /// Something else happened.
    Other(String),
}

impl Fate {
    fn of(taken: bool, printed: &str) -> Self {
        let said = printed.lines().last().unwrap_or_default().to_owned();
        if taken {
            Self::Taken
        } else if printed.contains("ttl-out-of-bounds") {
            Self::Refused(said)
        } else {
            Self::Other(said)
        }
    }

    /// Without the bounds it must be taken; whatever else goes wrong then says nothing about them.
    fn as_control(&self, without: &'static str) -> Result<Control> {
        if let Self::Other(said) = self {
            return Err(Failure::DidNotHold(format!(
                "the control without {without} did not come to its point: {said}"
            )));
        }
        Ok(Control {
            without,
            got: self.to_string(),
            ok: *self != Self::Taken,
        })
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken => f.write_str("it was taken"),
            Self::Refused(said) | Self::Other(said) => f.write_str(said),
        }
    }
}

/// What a stranger saw.
#[derive(Deserialize)]
struct Probe {
    application_bytes: u64,
    ended: bool,
    how: String,
}

impl Probe {
    const fn holds(&self) -> bool {
        self.application_bytes == 0 && self.ended
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes of HTTP came back: {}",
            self.application_bytes, self.how
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a control is noticed for its own reason alone. Method: each way to fail.
    #[test]
    fn a_control_fails_for_its_own_reason() {
        assert!(!Fate::of(true, "").as_control("x").unwrap().ok);
        let refused = Fate::of(false, "error: ttl-out-of-bounds");
        assert!(refused.as_control("x").unwrap().ok);
        assert!(Fate::of(false, "no answer").as_control("x").is_err());
    }
}
