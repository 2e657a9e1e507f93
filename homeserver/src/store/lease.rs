//! `2|duty`: which of several nodes does what only one may do at a time.
//!
//! A lease says who and under which token, and changes only when it passes on: each time the token rises. Whether its
//! owner is still there shows in the owner's own row (`node_row`), so nothing has to be renewed here. Whoever acts on
//! a lease makes it a precondition: after it has passed on, nothing of the former owner is written any more, however
//! late he wakes.

use std::collections::BTreeMap;

use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::node_row::Incarnation;
use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "lease";
const VERSION: u8 = 1;
const LEASE: u8 = b'2';
/// Most leases that are read: one for each peer, and one more.
const LEASES_MAX: usize = 100_000;
const TASKS: &str = "tasks";
/// No server name has a stroke in it.
const OUTBOUND: &str = "outbound/";

/// What only one node may do at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// What is to be done by the clock: sweeping, leaving rooms, ending agreements.
    Tasks,
    /// Sending what waits for this peer.
    Outbound(ServerName),
}

impl Duty {
    /// Its name, also for administrators.
    pub fn name(&self) -> String {
        match self {
            Self::Tasks => TASKS.to_owned(),
            Self::Outbound(server) => format!("{OUTBOUND}{server}"),
        }
    }

    fn read(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        match name.strip_prefix(OUTBOUND) {
            Some(server) => Some(Self::Outbound(server.parse().ok()?)),
            None => (name == TASKS).then_some(Self::Tasks),
        }
    }
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The process; `None`: it was given back.
    pub owner: Option<Incarnation>,
    /// Counts its owners.
    pub token: u64,
}

/// All leases, each with its stored form.
pub async fn all(store: &Store) -> Result<BTreeMap<Duty, (Lease, Value)>, StoreError> {
    let end = prefix_end(&[LEASE]);
    let rows = store
        .range(&[LEASE], &end, LEASES_MAX, Order::Ascending)
        .await?;
    let mut leases = BTreeMap::new();
    for (key, value) in rows {
        let duty = key.get(1..).and_then(Duty::read);
        let duty = duty.ok_or(StoreError::Corrupt { family: FAMILY })?;
        leases.insert(duty, (decode(FAMILY, VERSION, &value)?, value));
    }
    Ok(leases)
}

/// Writes the lease, unless somebody else has since `read`; how it is stored.
pub fn put(
    part: &mut Part,
    duty: &Duty,
    lease: &Lease,
    read: Option<Value>,
) -> Result<Value, StoreError> {
    let value = encode(FAMILY, VERSION, lease)?;
    part.require(Precondition::unchanged(key(duty), read));
    part.put(key(duty), value.clone());
    Ok(value)
}

/// That the lease is still what it was when it was stored so.
pub fn is_still(duty: &Duty, stored: Value) -> Precondition {
    Precondition::Equals(key(duty), stored)
}

fn key(duty: &Duty) -> Key {
    [&[LEASE], duty.name().as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a duty is found under its own name, and no other text is one; the stored form never changes unseen.
    /// Method: names there and back, and fixed bytes.
    #[test]
    fn stored_form() {
        let peer = Duty::Outbound("b.example".parse().unwrap());
        assert_eq!(peer.name(), "outbound/b.example");
        for duty in [Duty::Tasks, peer] {
            assert_eq!(Duty::read(duty.name().as_bytes()), Some(duty));
        }
        for name in ["", "task", "outbound/", "outbound/B", "b.example"] {
            assert_eq!(Duty::read(name.as_bytes()), None, "{name}");
        }
        let lease = Lease {
            owner: Some(Incarnation([7; 16])),
            token: 300,
        };
        let value = encode(FAMILY, VERSION, &lease).unwrap();
        let expected = [&[1, 1][..], &[7; 16], &[0xac, 2]].concat();
        assert_eq!(value.as_ref(), expected);
        assert_eq!(decode::<Lease>(FAMILY, VERSION, &value).unwrap(), lease);
    }
}
