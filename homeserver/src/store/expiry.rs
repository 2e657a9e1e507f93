//! `E`: when to look where for what has expired.
//!
//! An inbox has one entry for each span of time in which any of its items expire, not one for each
//! item: spans are short for short times-to-live and at most some two minutes long. An item is never
//! delivered once it has expired, swept or not.

use federation_proto::envelope::Lane;
use federation_proto::ids::{AccountId, DeviceId, FileId, RequestId, ServerName};

use super::payload::PayloadId;
use super::record::prefix_end;
use super::{Key, Order, Part, Store, StoreError};

const EXPIRY: u8 = b'E';
const SPAN_MS_MIN: u64 = 1_000;
const SPAN_MS_MAX: u64 = 2 * 60 * 1_000;
/// Something is due for the sweeper no later than this after its end: what has expired is to be unreadable soon (see
/// [`super::sealed::rotation`]).
pub const SWEPT_AFTER_MS_MAX: u64 = SPAN_MS_MAX.next_power_of_two();
/// A span is this fraction of the time-to-live.
const SPANS_IN_TTL: u64 = 64;

/// Where something expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Among the items of an inbox.
    Inbox(DeviceId),
    /// A payload that several devices wait for, and which peer brought it.
    Payload(PayloadId, Option<ServerName>),
    /// A file.
    File(FileId),
    /// The positions of a peer's lanes, of which some may be of a former link epoch.
    Lanes(ServerName),
    /// What is remembered of the lanes of a peer whose agreement has ended, from this one on.
    Remembered(ServerName, Lane),
    /// A device's request for keys or a group info, without an answer so far.
    KeyRequest(DeviceId, RequestId),
    /// A device's look-up at a peer, without an answer so far.
    LookUp(DeviceId, RequestId),
    /// Among the contacts of an account.
    Contacts(AccountId),
}

/// The end of the span in which something accepted now expires: when its inbox is swept.
pub fn sweep_ms(now_ms: u64, expires_ms: u64) -> u64 {
    let ttl = expires_ms.saturating_sub(now_ms);
    let span = (ttl / SPANS_IN_TTL).clamp(SPAN_MS_MIN, SPAN_MS_MAX);
    // A power of two, so that items with slightly different times share their spans.
    let span = span.next_power_of_two();
    expires_ms.div_ceil(span).saturating_mul(span)
}

/// Has `place` looked at from `at_ms` on.
pub fn put(part: &mut Part, at_ms: u64, place: Place) {
    part.put(key(at_ms, &place), Key::from_static(&[1]));
}

/// Forgets one entry.
pub fn delete(part: &mut Part, at_ms: u64, place: &Place) {
    part.delete(key(at_ms, place));
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// Since when, and where.
    pub entries: Vec<(u64, Place)>,
    /// Keys of entries that name no place: nothing is found by them.
    pub damaged: Vec<Key>,
}

/// Up to `limit` entries due at `now_ms`, earliest first.
pub async fn due(store: &Store, now_ms: u64, limit: usize) -> Result<Due, StoreError> {
    let end = [&[EXPIRY][..], &now_ms.saturating_add(1).to_be_bytes()].concat();
    let range = store.range(&[EXPIRY], &end, limit, Order::Ascending);
    let mut due = Due::default();
    for (key, _) in range.await? {
        match parse(&key) {
            Some(entry) => due.entries.push(entry),
            None => due.damaged.push(key),
        }
    }
    Ok(due)
}

/// Payloads, each with its source.
pub type Payloads = Vec<(PayloadId, Option<ServerName>)>;

/// The payloads among up to `limit` entries behind `after` (`None`: from the start), and the last of these entries; `None`: there
/// is no further one.
pub async fn payloads(
    store: &Store,
    after: Option<&Key>,
    limit: usize,
) -> Result<(Payloads, Option<Key>), StoreError> {
    let from = after.map_or_else(|| vec![EXPIRY], |last| [last.as_ref(), &[0]].concat());
    let end = prefix_end(&[EXPIRY]);
    let keys = store.keys(&from, &end, limit, Order::Ascending).await?;
    let places = keys.iter().filter_map(parse);
    let payloads = places.filter_map(|(_, place)| match place {
        Place::Payload(id, source) => Some((id, source)),
        _ => None,
    });
    Ok((payloads.collect(), keys.last().cloned()))
}

/// When the earliest entry is due.
pub async fn next_ms(store: &Store) -> Result<Option<u64>, StoreError> {
    let found = store
        .range(&[EXPIRY], &prefix_end(&[EXPIRY]), 1, Order::Ascending)
        .await?;
    // One that says no time is looked at at once.
    Ok(found
        .first()
        .map(|(key, _)| split(key).map_or(0, |(at_ms, _)| at_ms)))
}

fn key(at_ms: u64, place: &Place) -> Key {
    let (kind, id) = match place {
        Place::Inbox(device) => (b'Q', device.as_bytes().to_vec()),
        Place::Payload(PayloadId(id), source) => {
            let source = source.as_ref().map_or("", |source| source.as_str());
            (b'P', [id.as_slice(), source.as_bytes()].concat())
        }
        Place::File(file) => (b'F', file.as_bytes().to_vec()),
        Place::Lanes(server) => (b'L', server.as_str().as_bytes().to_vec()),
        Place::Remembered(server, lane) => {
            let name = server.as_str().as_bytes();
            (b'R', [name, lane.as_bytes()].concat())
        }
        Place::KeyRequest(device, request) => {
            (b'K', [*device.as_bytes(), *request.as_bytes()].concat())
        }
        Place::LookUp(device, request) => {
            (b'D', [*device.as_bytes(), *request.as_bytes()].concat())
        }
        Place::Contacts(account) => (b'C', account.as_bytes().to_vec()),
    };
    [&[EXPIRY][..], &at_ms.to_be_bytes(), &[kind], &id]
        .concat()
        .into()
}

/// The time of an entry, and what follows it.
fn split(key: &Key) -> Option<(u64, &[u8])> {
    let (at, rest) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*at), rest))
}

fn parse(key: &Key) -> Option<(u64, Place)> {
    let (at_ms, rest) = split(key)?;
    let (kind, id) = rest.split_first()?;
    Some((at_ms, place(*kind, id)?))
}

fn device_and_request(id: &[u8]) -> Option<(DeviceId, RequestId)> {
    let (device, request) = id.split_first_chunk::<16>()?;
    let request = RequestId::from_bytes(request.try_into().ok()?);
    Some((DeviceId::from_bytes(*device), request))
}

fn server(name: &[u8]) -> Option<ServerName> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn place(kind: u8, id: &[u8]) -> Option<Place> {
    Some(match kind {
        b'Q' => Place::Inbox(DeviceId::from_bytes(id.try_into().ok()?)),
        b'P' => {
            let (id, source) = id.split_first_chunk::<16>()?;
            let source = match source {
                [] => None,
                name => Some(server(name)?),
            };
            Place::Payload(PayloadId(*id), source)
        }
        b'F' => Place::File(FileId::from_bytes(id.try_into().ok()?)),
        b'L' => Place::Lanes(server(id)?),
        b'R' => {
            let (name, lane) = id.split_last_chunk::<16>()?;
            Place::Remembered(server(name)?, Lane::from_bytes(*lane))
        }
        b'K' => {
            let (device, request) = device_and_request(id)?;
            Place::KeyRequest(device, request)
        }
        b'D' => {
            let (device, request) = device_and_request(id)?;
            Place::LookUp(device, request)
        }
        b'C' => Place::Contacts(AccountId::from_bytes(id.try_into().ok()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an entry's key says where to look, and whose payload it is; by reading back what is written.
    #[test]
    fn places_come_back() {
        let server: ServerName = "a.example".parse().unwrap();
        for place in [
            Place::Payload(PayloadId([7; 16]), None),
            Place::Payload(PayloadId([7; 16]), Some(server.clone())),
            Place::Lanes(server.clone()),
            Place::Remembered(server, Lane::from_bytes([3; 16])),
            Place::KeyRequest(
                DeviceId::from_bytes([1; 16]),
                RequestId::from_bytes([2; 16]),
            ),
            Place::LookUp(
                DeviceId::from_bytes([1; 16]),
                RequestId::from_bytes([2; 16]),
            ),
            Place::Contacts(AccountId::from_bytes([7; 16])),
        ] {
            assert_eq!(parse(&key(5, &place)), Some((5, place)));
        }
    }

    /// Goal: a sweep comes after the expiry, and soon; by trying many times-to-live.
    #[test]
    fn sweeps_follow_expiry() {
        let now = 1_795_000_000_000;
        for ttl_ms in [1, 999, 60_000, 3_600_000, 30 * 24 * 3_600_000] {
            let expires = now + ttl_ms;
            let sweep = sweep_ms(now, expires);
            assert!(sweep >= expires);
            assert!(sweep - expires < 2 * (ttl_ms / SPANS_IN_TTL).clamp(SPAN_MS_MIN, SPAN_MS_MAX));
        }
    }
}
