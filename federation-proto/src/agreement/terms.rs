//! What each side states, and what follows from both.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{GRANT_USER_TYPES_MAX, USER_TYPE_BYTES_MAX};
use crate::text::is_unseen;

/// What may be done across organisations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// Exchange messages in a room.
    Message,
    /// Ask for key packages and add people to a room.
    Invite,
    /// Look people up.
    Directory,
    /// Send files.
    Files,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Message, Self::Invite, Self::Directory, Self::Files];

    const fn number(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Invite => 2,
            Self::Directory => 3,
            Self::Files => 4,
        }
    }
}

/// Which way an operation goes, seen from the server that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Our people towards the partner's.
    Outbound,
    /// The partner's people towards ours.
    Inbound,
}

/// Which user types of the stating side a grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserTypes {
    /// All of them, also those made later.
    All,
    /// These; never empty.
    Named(BTreeSet<String>),
}

impl UserTypes {
    /// These user types; none named means all, as on the wire and in the admin API.
    #[must_use]
    pub fn from_names(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<_> = names.into_iter().collect();
        if names.is_empty() {
            Self::All
        } else {
            Self::Named(names)
        }
    }

    /// Whether the user type is covered.
    #[must_use]
    pub fn covers(&self, user_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(user_type),
        }
    }

    /// Whether `wider` covers whatever this covers.
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        match (self, wider) {
            (_, Self::All) => true,
            (Self::All, Self::Named(_)) => false,
            (Self::Named(names), Self::Named(more)) => names.is_subset(more),
        }
    }

    /// The user types that both cover; `None`: no type at all.
    pub(super) fn in_both(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::All, same) | (same, Self::All) => Some(same.clone()),
            (Self::Named(one), Self::Named(other)) => {
                let common: BTreeSet<_> = one.intersection(other).cloned().collect();
                (!common.is_empty()).then_some(Self::Named(common))
            }
        }
    }

    /// The names; empty: all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::All => None,
            Self::Named(names) => Some(names),
        };
        names.into_iter().flatten().map(String::as_str)
    }
}

/// The operations of one direction, each with the user types it is granted to. What is not in it is
/// not granted.
pub type Grants = BTreeMap<Operation, UserTypes>;

/// Bounds of a message's time-to-live, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlBounds {
    /// The least; at least 1.
    pub min_seconds: u32,
    /// The most.
    pub max_seconds: u32,
}

impl TtlBounds {
    /// Whether every time-to-live within these bounds is within `wider`.
    #[must_use]
    pub const fn is_within(self, wider: Self) -> bool {
        wider.min_seconds <= self.min_seconds && self.max_seconds <= wider.max_seconds
    }
}

/// What one side states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What its own people may do towards the partner's.
    pub outbound: Grants,
    /// What the partner's people may do towards its own.
    pub inbound: Grants,
    /// Bounds of a message's time-to-live.
    pub ttl: TtlBounds,
    /// Most bytes that the partner may have waiting here.
    pub waiting_bytes_max: u64,
    /// Largest file, in bytes.
    pub file_bytes_max: u64,
    /// Highest classification label of a message.
    pub label_max: u8,
}

/// Why terms can't be stated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The bounds are not in order.
    #[error(
        "the time-to-live bounds must be at least 1 second, and the minimum at most the maximum"
    )]
    Ttl,
    /// A name that no user type has.
    #[error("`{0}` is not a name of a user type: use 1 to {USER_TYPE_BYTES_MAX} bytes of text")]
    UserType(String),
    /// Too many user types.
    #[error("one grant names at most {GRANT_USER_TYPES_MAX} user types")]
    TooManyUserTypes,
}

impl Terms {
    /// Checks what the partner's decoder would refuse, and says what is wrong.
    ///
    /// # Errors
    /// When something is.
    pub fn check(&self) -> Result<(), TermsError> {
        if !ttl_in_order(self.ttl) {
            return Err(TermsError::Ttl);
        }
        for user_types in self.outbound.values().chain(self.inbound.values()) {
            if user_types.names().count() > GRANT_USER_TYPES_MAX {
                return Err(TermsError::TooManyUserTypes);
            }
            if let Some(name) = user_types.names().find(|name| !is_user_type(name)) {
                return Err(TermsError::UserType(name.to_owned()));
            }
        }
        Ok(())
    }

    /// Whether these terms allow nothing that `wider` does not: an amendment to them only tightens.
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        grants_within(&self.outbound, &wider.outbound)
            && grants_within(&self.inbound, &wider.inbound)
            && self.ttl.is_within(wider.ttl)
            && self.waiting_bytes_max <= wider.waiting_bytes_max
            && self.file_bytes_max <= wider.file_bytes_max
            && self.label_max <= wider.label_max
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        if self.check().is_err() {
            writer.fail("terms", GRANT_USER_TYPES_MAX);
        }
        write_grants(writer, &self.outbound);
        write_grants(writer, &self.inbound);
        writer.u32(self.ttl.min_seconds);
        writer.u32(self.ttl.max_seconds);
        writer.u64(self.waiting_bytes_max);
        writer.u64(self.file_bytes_max);
        writer.u8(self.label_max);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let terms = Self {
            outbound: read_grants(reader)?,
            inbound: read_grants(reader)?,
            ttl: TtlBounds {
                min_seconds: reader.u32("least time-to-live")?,
                max_seconds: reader.u32("most time-to-live")?,
            },
            waiting_bytes_max: reader.u64("most waiting bytes")?,
            file_bytes_max: reader.u64("largest file")?,
            label_max: reader.u8("highest label")?,
        };
        if ttl_in_order(terms.ttl) {
            Ok(terms)
        } else {
            Err(DecodeError::Invalid("time-to-live bounds"))
        }
    }
}

fn grants_within(grants: &Grants, wider: &Grants) -> bool {
    grants.iter().all(|(operation, user_types)| {
        wider
            .get(operation)
            .is_some_and(|more| user_types.is_within(more))
    })
}

const fn ttl_in_order(ttl: TtlBounds) -> bool {
    1 <= ttl.min_seconds && ttl.min_seconds <= ttl.max_seconds
}

fn is_user_type(name: &str) -> bool {
    !name.is_empty() && name.len() <= USER_TYPE_BYTES_MAX && !name.chars().any(is_unseen)
}

fn write_grants(writer: &mut Writer, grants: &Grants) {
    let grants: Vec<_> = grants.iter().collect();
    writer.list("grants", Operation::ALL.len(), &grants, write_grant);
}

fn write_grant(writer: &mut Writer, (operation, user_types): &(&Operation, &UserTypes)) {
    writer.u8(operation.number());
    let names: Vec<_> = user_types.names().collect();
    writer.list(
        "user types",
        GRANT_USER_TYPES_MAX,
        &names,
        |writer, name| {
            writer.opaque8("user type", USER_TYPE_BYTES_MAX, name.as_bytes());
        },
    );
}

fn read_grants(reader: &mut Reader) -> Result<Grants, DecodeError> {
    let grants = reader.list("grants", Operation::ALL.len(), read_grant)?;
    if !grants.is_sorted_by(|(left, _), (right, _)| left < right) {
        return Err(DecodeError::NotAscending("grants"));
    }
    Ok(grants.into_iter().collect())
}

fn read_grant(reader: &mut Reader) -> Result<(Operation, UserTypes), DecodeError> {
    let number = reader.u8("operation")?;
    let operation = Operation::ALL
        .into_iter()
        .find(|operation| operation.number() == number)
        .ok_or(DecodeError::UnknownValue {
            what: "operation",
            value: number.into(),
        })?;
    let names = reader.ascending_list("user types", GRANT_USER_TYPES_MAX, |reader| {
        let name = reader.text8("user type", USER_TYPE_BYTES_MAX)?;
        if name.is_empty() {
            return Err(DecodeError::Empty("user type"));
        }
        Ok(name)
    })?;
    Ok((operation, UserTypes::from_names(names)))
}

/// What both statements together allow, seen from one side.
///
/// A grant names user types of the side that states it, and each side knows its own people only:
/// so each checks its own people's types here, and trusts the partner to check the partner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveTerms {
    outbound: Grants,
    inbound: Grants,
    ttl: Option<TtlBounds>,
    inbound_waiting_bytes_max: u64,
    outbound_waiting_bytes_max: u64,
    file_bytes_max: u64,
    label_max: u8,
    expires_ms: u64,
}

impl EffectiveTerms {
    /// The intersection of our statement, valid until `our_expiry_ms`, and the partner's.
    #[must_use]
    pub fn intersection(
        ours: &Terms,
        our_expiry_ms: u64,
        theirs: &Terms,
        their_expiry_ms: u64,
    ) -> Self {
        let ttl = TtlBounds {
            min_seconds: ours.ttl.min_seconds.max(theirs.ttl.min_seconds),
            max_seconds: ours.ttl.max_seconds.min(theirs.ttl.max_seconds),
        };
        Self {
            outbound: common(&ours.outbound, &theirs.inbound),
            inbound: common(&ours.inbound, &theirs.outbound),
            ttl: ttl_in_order(ttl).then_some(ttl),
            inbound_waiting_bytes_max: ours.waiting_bytes_max,
            outbound_waiting_bytes_max: theirs.waiting_bytes_max,
            file_bytes_max: ours.file_bytes_max.min(theirs.file_bytes_max),
            label_max: ours.label_max.min(theirs.label_max),
            expires_ms: our_expiry_ms.min(their_expiry_ms),
        }
    }

    /// Whether people of our user type may do this (outbound), or have it done to them (inbound).
    #[must_use]
    pub fn allows(&self, direction: Direction, operation: Operation, our_user_type: &str) -> bool {
        self.grants(direction)
            .get(&operation)
            .is_some_and(|user_types| user_types.covers(our_user_type))
    }

    /// Whether this is allowed for anybody at all.
    #[must_use]
    pub fn allows_any(&self, direction: Direction, operation: Operation) -> bool {
        self.grants(direction).contains_key(&operation)
    }

    /// The grants of one direction, with our user types.
    #[must_use]
    pub const fn grants(&self, direction: Direction) -> &Grants {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }

    /// The bounds of a message's time-to-live; `None`: the statements have none in common.
    #[must_use]
    pub const fn ttl(&self) -> Option<TtlBounds> {
        self.ttl
    }

    /// Whether a message may have this time-to-live.
    #[must_use]
    pub fn allows_ttl(&self, seconds: u32) -> bool {
        self.ttl
            .is_some_and(|ttl| (ttl.min_seconds..=ttl.max_seconds).contains(&seconds))
    }

    /// Most bytes that may wait at the receiving side of a direction.
    #[must_use]
    pub const fn waiting_bytes_max(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Outbound => self.outbound_waiting_bytes_max,
            Direction::Inbound => self.inbound_waiting_bytes_max,
        }
    }

    /// Largest file, in bytes.
    #[must_use]
    pub const fn file_bytes_max(&self) -> u64 {
        self.file_bytes_max
    }

    /// Highest classification label of a message.
    #[must_use]
    pub const fn label_max(&self) -> u8 {
        self.label_max
    }

    /// When the agreement expires, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Whether there is anything at all that the agreement allows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ttl.is_none() || (self.outbound.is_empty() && self.inbound.is_empty())
    }
}

/// Of our grants, those whose operation the other side grants too.
fn common(ours: &Grants, theirs: &Grants) -> Grants {
    ours.iter()
        .filter(|(operation, _)| theirs.contains_key(operation))
        .map(|(operation, user_types)| (*operation, user_types.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(outbound: &[(Operation, &[&str])], inbound: &[(Operation, &[&str])]) -> Terms {
        let grants = |list: &[(Operation, &[&str])]| {
            list.iter()
                .map(|(operation, names)| {
                    let names = names.iter().map(|name| (*name).to_owned());
                    (*operation, UserTypes::from_names(names))
                })
                .collect()
        };
        Terms {
            outbound: grants(outbound),
            inbound: grants(inbound),
            ttl: TtlBounds {
                min_seconds: 10,
                max_seconds: 1000,
            },
            waiting_bytes_max: 5,
            file_bytes_max: 7,
            label_max: 3,
        }
    }

    /// Goal: an operation is allowed exactly when both sides state it, for our own user types only,
    /// and the two directions are independent; by a pair of statements that differ in each.
    #[test]
    fn what_both_state_is_allowed() {
        use Direction::{Inbound, Outbound};
        use Operation::{Files, Invite, Message};
        let ours = terms(
            &[(Message, &["staff"]), (Files, &[])],
            &[(Message, &[]), (Invite, &["sales"])],
        );
        let theirs = terms(&[(Invite, &["vip"])], &[(Message, &["desk"])]);
        let effective = EffectiveTerms::intersection(&ours, 100, &theirs, 90);
        assert!(effective.allows(Outbound, Message, "staff"));
        assert!(!effective.allows(Outbound, Message, "guest"));
        assert!(!effective.allows(Outbound, Message, "desk"));
        assert!(!effective.allows(Outbound, Files, "staff"));
        assert!(!effective.allows(Outbound, Invite, "sales"));
        assert!(effective.allows(Inbound, Invite, "sales"));
        assert!(!effective.allows(Inbound, Message, "staff"));
        assert!(!effective.allows_any(Inbound, Files));
        assert_eq!(effective.expires_ms(), 90);
    }

    /// Goal: bounds and limits are the narrower of both; a quota is that of the side where the
    /// mail waits; and bounds without overlap allow nothing; by statements with other numbers.
    #[test]
    fn limits_are_the_narrower() {
        let all: &[(Operation, &[&str])] = &[(Operation::Message, &[])];
        let ours = terms(all, all);
        let mut theirs = terms(all, all);
        theirs.ttl = TtlBounds {
            min_seconds: 60,
            max_seconds: 5000,
        };
        theirs.waiting_bytes_max = 6;
        theirs.file_bytes_max = 8;
        theirs.label_max = 2;
        let effective = EffectiveTerms::intersection(&ours, 1, &theirs, 2);
        assert!(!effective.allows_ttl(59) && effective.allows_ttl(60));
        assert!(effective.allows_ttl(1000) && !effective.allows_ttl(1001));
        assert_eq!(effective.waiting_bytes_max(Direction::Inbound), 5);
        assert_eq!(effective.waiting_bytes_max(Direction::Outbound), 6);
        assert_eq!(effective.file_bytes_max(), 7);
        assert_eq!(effective.label_max(), 2);
        theirs.ttl.min_seconds = 1001;
        let nothing = EffectiveTerms::intersection(&ours, 1, &theirs, 2);
        assert!(nothing.is_empty() && !nothing.allows_ttl(1001));
    }
}
