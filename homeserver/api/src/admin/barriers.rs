//! Segments, the barriers between them, and which rule says what.

use federation_proto::ids::{Address, Handle};
use serde::{Deserialize, Serialize};

use crate::policy::{Barriers, Contact};

/// The segments and rules that hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarriersState {
    /// Grows with each change; 0: there never was one.
    pub serial: u64,
    /// What holds.
    pub barriers: Barriers,
}

/// Other segments and rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarriersRequest {
    /// What is to hold.
    pub barriers: Barriers,
    /// Only when the serial is still this one: what was shown is what is applied.
    #[serde(default)]
    pub follows: Option<u64>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change of segments and rules does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarriersChanged {
    /// The serial: after the change, or, when it was only asked for, the one that it would follow.
    pub serial: u64,
    /// Whether it is in force.
    pub applied: bool,
    /// Who may do from then on what they may not before.
    pub gained: Vec<BarrierChange>,
    /// Who may not do any more what they may before.
    pub lost: Vec<BarrierChange>,
}

/// What changes between two groups of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierChange {
    /// What is gained or lost.
    pub contact: Contact,
    /// Who acts.
    pub from: PeopleOf,
    /// Towards whom.
    pub to: PeopleOf,
    /// How many pairs of two people these are.
    pub pairs: u64,
    /// The rule that decides afterwards.
    pub rule: String,
}

/// People who are in the same segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleOf {
    /// Their segments, after the change.
    pub segments: Vec<String>,
    /// How many they are.
    pub count: u64,
    /// The first of them.
    pub some: Vec<Handle>,
}

/// Asks what a person here may do towards somebody, here or at a partner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Who.
    pub from: Handle,
    /// Towards whom.
    pub to: Address,
}

/// What a person may do towards another one, and which rules say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who.
    pub from: Address,
    /// Towards whom.
    pub to: Address,
    /// Whether he may write to the other one, as far as is known here.
    pub allowed: bool,
    /// Each thing by itself.
    pub contacts: Vec<ExplainedContact>,
    /// What the other organisation says; absent: the other one is of this one.
    #[serde(default)]
    pub partner: Option<PartnerHalf>,
}

/// One thing that somebody does towards somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedContact {
    /// What.
    pub contact: Contact,
    /// Whether he may.
    pub allowed: bool,
    /// The rule that decided.
    pub rule: String,
    /// What he would be told.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The other organisation's half of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerHalf {
    /// How far it is known.
    pub state: PartnerState,
    /// Whether that organisation shows the person to us; absent: not known.
    #[serde(default)]
    pub allowed: Option<bool>,
    /// In words.
    pub reason: String,
    /// Where to ask for it again.
    #[serde(default)]
    pub explanation: Option<String>,
}

/// How far the other organisation's half is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerState {
    /// The agreement does not grant look-ups, so it is not asked.
    NotShared,
    /// It was asked and has not answered.
    Asked,
    /// It has answered.
    Answered,
}
