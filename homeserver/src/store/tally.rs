//! `w`: how much waits here, by peer: in the outbox for it, and in inboxes from it; in all outboxes by the account here that
//! has sent it; and the rooms that are kept here, by the homeserver that orders them. Dead letters that nobody here wrote are
//! counted the same way, under their own keys.
//!
//! A tally is changed in the part that adds or removes what it counts, by the writer alone
//! ([`super::Write::Count`], [`super::Write::Uncount`]): parts that count at the same time don't
//! contend for it, and it is exact whenever the store is read.

use federation_proto::ids::{AccountId, ServerName};

use super::record::prefix_end;
use super::{Key, Store, StoreError, Value};

const FAMILY: &str = "tally";
const TALLY: u8 = b'w';
const ROOMS: &[u8] = b"wr";

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Entries.
    pub entries: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Tally {
    /// The tally in `value`; none is zero.
    pub(super) fn read(value: Option<&Value>) -> Result<Self, StoreError> {
        let Some(value) = value else {
            return Ok(Self::default());
        };
        let corrupt = || StoreError::Corrupt { family: FAMILY };
        let (entries, bytes) = value.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let bytes = bytes.try_into().map_err(|_| corrupt())?;
        Ok(Self {
            entries: u64::from_be_bytes(*entries),
            bytes: u64::from_be_bytes(bytes),
        })
    }

    /// The stored form; `None`: nothing is counted, and nothing stored.
    pub(super) fn value(self) -> Option<Value> {
        let (entries, bytes) = (self.entries.to_be_bytes(), self.bytes.to_be_bytes());
        (self.entries > 0).then(|| [entries, bytes].concat().into())
    }

    /// With one more entry.
    #[must_use]
    pub const fn with(self, bytes: u64) -> Self {
        Self {
            entries: self.entries.saturating_add(1),
            bytes: self.bytes.saturating_add(bytes),
        }
    }

    /// With one entry less.
    #[must_use]
    pub const fn without(self, bytes: u64) -> Self {
        Self {
            entries: self.entries.saturating_sub(1),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

/// Where lies what waits in the outbox for `peer`.
pub fn outbound(peer: &ServerName) -> Key {
    [&[TALLY, b'o'], peer.as_str().as_bytes()].concat().into()
}

/// Where lies what waits in inboxes here, brought by `peer`.
pub fn inbound(peer: &ServerName) -> Key {
    [&[TALLY, b'i'], peer.as_str().as_bytes()].concat().into()
}

/// Where lies what an account here has sent and waits in the outbox.
pub fn sent(account: AccountId) -> Key {
    [&[TALLY, b'a'][..], account.as_bytes()].concat().into()
}

/// Where lies what the rooms are and take that `hub` orders.
pub fn rooms(hub: &ServerName) -> Key {
    [ROOMS, hub.as_str().as_bytes()].concat().into()
}

/// Where lies what all accounts here have sent and waits: from one key to before another.
pub(super) fn all_sent() -> (Key, Key) {
    (Key::from_static(&[TALLY, b'a']), prefix_end(&[TALLY, b'a']))
}

/// Whether what an account here has sent and waits is counted at `key`.
pub(super) fn is_sent(key: &[u8]) -> bool {
    key.starts_with(&[TALLY, b'a'])
}

/// Whether rows of the outbox are counted at `key`.
pub(super) fn is_of_outbox(key: &[u8]) -> bool {
    is_sent(key) || key.starts_with(&[TALLY, b'o'])
}

/// Whose rows of the outbox are counted at `key`, for people.
pub(super) fn whose(key: &[u8]) -> String {
    let name = key.get(2..).unwrap_or_default();
    match is_sent(key) {
        true => format!("from the account {}", hex::encode(name)),
        false => format!("for {}", String::from_utf8_lossy(name)),
    }
}

/// Whose rooms are counted at `key`, if rooms are.
pub(super) fn hub_of_rooms(key: &[u8]) -> Result<Option<ServerName>, StoreError> {
    let Some(hub) = key.strip_prefix(ROOMS) else {
        return Ok(None);
    };
    let hub = std::str::from_utf8(hub)
        .ok()
        .and_then(|hub| hub.parse().ok());
    hub.map(Some).ok_or(StoreError::Corrupt { family: FAMILY })
}

/// The tally at `key`.
pub async fn get(store: &Store, key: &Key) -> Result<Tally, StoreError> {
    Tally::read(store.get(key).await?.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a stored tally comes back the same, its form never changes unseen, and what is no tally is
    /// told; by fixed bytes, cut and lengthened.
    #[test]
    fn stored_form() {
        let tally = Tally::default().with(5).with(258);
        let value = tally.value().unwrap();
        let expected = [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 7];
        assert_eq!(value.as_ref(), expected);
        assert_eq!(Tally::read(Some(&value)).unwrap(), tally);
        assert!(Tally::read(Some(&value.slice(1..))).is_err());
        assert!(Tally::read(Some(&[&value[..], &[0]].concat().into())).is_err());
        assert_eq!(tally.without(5).without(258).value(), None);
    }
}
