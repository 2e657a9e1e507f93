//! Several homeservers of one organisation over one PostgreSQL database with a standby: a node is killed, one is stopped and
//! wakes when others have taken over what it did, the primary is killed and its standby promoted.
//!
//! Everything is real: homeservers, clients, the database's servers. A load balancer of a few lines leads devices and the
//! partner to nodes that serve. The record of what was accepted and shown lies here, out of the reach of all that is done.

mod database;
mod front;
mod organisation;
mod scene;

use std::fmt;
use std::time::Duration;

use self::organisation::NODES;
use self::scene::{BACK_MAX, Outcome, Scene, WRITTEN_MIN};
use super::judged;
use crate::failure::Result;
use crate::trial::checks::{Check, Control};
use crate::trial::ground::Ground;

/// How long a node is stopped: longer than others wait before they take over.
const STOPPED: Duration = Duration::from_secs(20);
/// How long texts are written once it has woken.
const AWAKE: Duration = Duration::from_secs(3);
/// How long the primary goes on without its standby, where it does.
const CUT_OFF_FOR: Duration = Duration::from_millis(1_500);
/// Under which the store keeps which node sends to the partner.
const LEASE: &str = "outbound/b.example";
/// What the control of a promotion is without.
const WAITING: &str = "commits that wait for the standby";

/// What happens to the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NodeKilled,
    Zombie,
    PrimaryKilled,
}

impl Fault {
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::NodeKilled => "cluster-node-killed",
            Self::Zombie => "cluster-zombie",
            Self::PrimaryKilled => "cluster-primary-killed",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::NodeKilled => "nodes of a cluster killed",
            Self::Zombie => "nodes of a cluster that stop and wake",
            Self::PrimaryKilled => "a database's primary killed",
        }
    }

    pub(super) fn check(self, ground: &Ground<'_>) -> Result<Check> {
        match self {
            Self::NodeKilled => {
                let outcome = nodes_killed(ground);
                let control = outcome.as_ref().ok().map(Outcome::spoilt);
                let (got, ok) = judged(outcome, Outcome::holds)?;
                Ok(self.verdict(got, ok, control))
            }
            Self::Zombie => {
                let woken = zombies(ground);
                let control = woken.as_ref().ok().map(|woken| woken.outcome.spoilt());
                let (got, ok) = judged(woken, Woken::hold)?;
                Ok(self.verdict(got, ok, control))
            }
            Self::PrimaryKilled => {
                let (got, ok) = judged(promotions(ground), Promotions::hold)?;
                let without = promotion(ground, "cr", WITHOUT_WAITING)?;
                let control = without.traffic.as_control(WAITING, WRITTEN_MIN)?;
                Ok(self.verdict(got, ok, Some(control)))
            }
        }
    }

    fn verdict(self, got: String, ok: bool, control: Option<Control>) -> Check {
        Check {
            id: self.id(),
            must: format!(
                "{}: all of at least {WRITTEN_MIN} texts within the organisation and between it and a partner accepted and shown; \
                 lost, shown twice, out of order and returned 0; each person's first text after it accepted and shown within \
                 {} s",
                self.what(),
                BACK_MAX.as_secs()
            ),
            got,
            ok: Some(ok),
            control,
        }
    }

    fn what(self) -> String {
        let nodes = NODES.len();
        match self {
            Self::NodeKilled => format!("each of {nodes} nodes killed in turn"),
            Self::Zombie => format!(
                "each of {nodes} nodes stopped in turn for {} s and woken, one of which held the lease to send to the partner",
                STOPPED.as_secs()
            ),
            Self::PrimaryKilled => "the database's primary killed and its standby promoted, while that follows and when nothing \
                 has reached it for a while"
                .to_owned(),
        }
    }
}

/// Each node is killed, and started again when all are served without it.
fn nodes_killed(ground: &Ground<'_>) -> Result<Outcome> {
    let mut scene = Scene::set(ground, "ck", None, true)?;
    for victim in 0..NODES.len() {
        scene.suffer(|organisation| organisation.node(victim)?.kill())?;
        scene.organisation.node(victim)?.start()?;
        scene.organisation.wait_serving()?;
    }
    scene.end()
}

/// Each node is stopped, so that others take over what it does, and wakes in the belief that it still does it.
fn zombies(ground: &Ground<'_>) -> Result<Woken> {
    let mut scene = Scene::set(ground, "cz", None, true)?;
    let mut passed_on = 0_usize;
    for victim in 0..NODES.len() {
        let lease = scene.organisation.database.value(LEASE)?;
        let stopped = scene.suffer(|organisation| organisation.node(victim)?.signal("STOP"))?;
        scene.write_for(STOPPED.saturating_sub(stopped.elapsed()))?;
        let has_passed_on = scene.organisation.database.value(LEASE)? != lease;
        passed_on = passed_on.saturating_add(usize::from(has_passed_on));
        // That it wakes is to disturb nobody either.
        scene.suffer(|organisation| organisation.node(victim)?.signal("CONT"))?;
        scene.write_for(AWAKE)?;
        scene.organisation.wait_serving()?;
    }
    Ok(Woken {
        outcome: scene.end()?,
        passed_on,
    })
}

/// What came of nodes that were stopped and woke.
struct Woken {
    outcome: Outcome,
    /// How often a node that was stopped had sent to the partner, and another one did when it woke.
    passed_on: usize,
}

impl Woken {
    fn hold(&self) -> bool {
        // One of the nodes has it: else nothing was tried.
        self.passed_on > 0 && self.outcome.holds()
    }
}

impl fmt::Display for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcome, passed_on } = self;
        write!(
            f,
            "{outcome}; the lease to send to the partner had passed on {passed_on} times when its owner woke"
        )
    }
}

/// The database that a standby is promoted of.
#[derive(Debug, Clone, Copy)]
struct Standby {
    /// Commits are confirmed when it has them.
    is_waited_for: bool,
    /// Nothing reaches it for a while before the primary is killed.
    is_cut_off: bool,
}

const FOLLOWING: Standby = Standby {
    is_waited_for: true,
    is_cut_off: false,
};
const CUT_OFF: Standby = Standby {
    is_waited_for: true,
    is_cut_off: true,
};
const WITHOUT_WAITING: Standby = Standby {
    is_waited_for: false,
    is_cut_off: true,
};

/// The primary is killed, and its standby takes its place.
fn promotion(ground: &Ground<'_>, name: &str, standby: Standby) -> Result<Outcome> {
    let mut scene = Scene::set(ground, name, None, standby.is_waited_for)?;
    if standby.is_cut_off {
        scene.organisation.database.cut_off_standby()?;
        scene.write_for(CUT_OFF_FOR)?;
    }
    scene.suffer(|organisation| {
        organisation.database.kill_primary()?;
        organisation.database.promote()
    })?;
    scene.end()
}

fn promotions(ground: &Ground<'_>) -> Result<Promotions> {
    Ok(Promotions {
        following: promotion(ground, "cp", FOLLOWING)?,
        cut_off: promotion(ground, "cq", CUT_OFF)?,
    })
}

/// What came of both.
struct Promotions {
    following: Outcome,
    cut_off: Outcome,
}

impl Promotions {
    fn hold(&self) -> bool {
        self.following.holds() && self.cut_off.holds()
    }
}

impl fmt::Display for Promotions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { following, cut_off } = self;
        write!(
            f,
            "{following}. When nothing had reached the standby: {cut_off}"
        )
    }
}
