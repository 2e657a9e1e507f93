//! Barriers inside an organisation: who of its people may find, invite and message whom.

use federation_proto::ids::Handle;
use serde::{Deserialize, Serialize};

/// What one person does towards another one of the same organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    /// Looks the other one up.
    Find,
    /// Asks for the other one's keys, or adds the other one to a room.
    Invite,
    /// Writes what the other one gets.
    Message,
}

impl Contact {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Find, Self::Invite, Self::Message];
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// They may.
    #[default]
    Allow,
    /// They may not; this beats every rule that lets them.
    Deny,
}

/// Some of the organisation's people, under a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Everybody of these user types,
    #[serde(default)]
    pub user_types: Vec<String>,
    /// and these people.
    #[serde(default)]
    pub users: Vec<Handle>,
}

/// A rule between two segments, or inside one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarrierRule {
    /// Its name, by which an answer says that it decided.
    pub name: String,
    /// Who acts.
    pub from: String,
    /// Towards whom.
    pub to: String,
    /// Whether it holds in this direction alone.
    #[serde(default)]
    pub one_way: bool,
    /// What it is about; nothing: everything.
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// What it does.
    pub effect: Effect,
}

/// All segments and rules. Of the rules that are about two people a denying one decides, else an allowing one, else the
/// default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Barriers {
    /// What holds between two people about whom no rule is.
    #[serde(default)]
    pub default: Effect,
    /// The segments.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// The rules.
    #[serde(default)]
    pub rules: Vec<BarrierRule>,
}

impl Barriers {
    /// Whether nothing is ever barred.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let denies = |rule: &BarrierRule| rule.effect == Effect::Deny;
        self.default == Effect::Allow && !self.rules.iter().any(denies)
    }
}
