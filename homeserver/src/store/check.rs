//! `homeserver store check`: reads everything, so that damage shows now and not when it is needed.

use std::collections::BTreeMap;

use federation_proto::ids::ServerName;

use super::everything::{Everything, Sum, Summing};
use super::recount::Counted;
use super::tally::Tally;
use super::{Store, StoreError, room, schema, tally};

/// What the records are whose keys begin with a letter. No letter is two families' own.
const FAMILIES: &[(u8, &str)] = &[
    (b'1', "keys of contents"),
    (b'2', "leases of nodes"),
    (b'3', "nodes"),
    (b'4', "notices between nodes"),
    (b'5', "keys that nodes share"),
    (b'A', "accounts"),
    (b'B', "device log"),
    (b'C', "who waits for a shared payload"),
    (b'D', "devices"),
    (b'E', "expiry times"),
    (b'F', "files"),
    (b'G', "peers"),
    (b'H', "handles"),
    (b'I', "positions of links"),
    (b'J', "heads of logs"),
    (b'K', "key packages"),
    (b'L', "last-resort key packages"),
    (b'M', "administrators and their sessions"),
    (b'N', "group infos"),
    (b'O', "outbox"),
    (b'P', "shared payloads"),
    (b'Q', "inboxes"),
    (b'R', "rooms"),
    (b'S', "submissions"),
    (b'T', "ends of inboxes"),
    (b'U', "user types"),
    (b'V', "audit log"),
    (b'W', "audit events without a number"),
    (b'X', "dead letters"),
    (b'Y', "reports"),
    (b'Z', "quarantine"),
    (b'a', "allowances used up"),
    (b'b', "where lanes begin"),
    (b'c', "contacts"),
    (b'd', "accounts of devices"),
    (b'e', "leaves for resets"),
    (b'f', "bytes of files"),
    (b'g', "serials of agreements"),
    (b'h', "devices that wait for approval"),
    (b'i', "lanes of links"),
    (b'j', "key packages given to peers"),
    (b'k', "tokens of devices"),
    (b'l', "look-ups under way"),
    (
        b'm',
        "versions of the store and of its policy, barriers between segments, and what a restore has left to do",
    ),
    (b'n', "rooms to leave"),
    (b'o', "ends of the outbox"),
    (b'p', "evidence of deprovisioning"),
    (b'q', "requests to peers under way"),
    (b'r', "serial of the quarantine"),
    (b's', "earlier results of submissions"),
    (b't', "tokens of devices that wait"),
    (b'u', "file space in use"),
    (b'v', "end of the audit log"),
    (b'w', "how much waits, and of rooms"),
    (b'x', "proofs of exchanges"),
    (b'y', "relays by hubs"),
    (b'z', "consortia"),
];

/// What a key that begins so belongs to.
fn family_of(letter: u8) -> &'static str {
    FAMILIES
        .iter()
        .find(|(known, _)| *known == letter)
        .map_or("unknown to this version", |(_, name)| *name)
}

/// What a store holds: entries and bytes by what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// By the name of the family.
    pub families: BTreeMap<&'static str, (u64, u64)>,
    /// All of them together.
    pub sum: Sum,
}

/// Reads every entry of `store`; damage makes the engine's checksums fail. Rooms and what waits for peers are held to what is
/// counted of them, and where the store has keys every content is opened, and every key has its content.
pub async fn check(store: &Store) -> Result<Contents, StoreError> {
    schema::check(store).await?;
    // Of one moment: other nodes may write meanwhile.
    let mut all = Everything::of(store).await?;
    let mut contents = Contents::default();
    let mut summing = Summing::default();
    let (mut counted, mut rooms) = (BTreeMap::new(), BTreeMap::new());
    let (mut counted_rows, mut rows) = (BTreeMap::new(), Counted::default());
    loop {
        let chunk = all.next().await?;
        if chunk.is_empty() {
            compare(&counted, &rooms)?;
            rows.compare(&counted_rows)?;
            contents.sum = summing.sum();
            return Ok(contents);
        }
        for (key, value) in &chunk {
            summing.add(key, value);
            let family = family_of(key.first().copied().unwrap_or_default());
            let (entries, bytes) = contents.families.entry(family).or_default();
            *entries += 1;
            *bytes += u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
            let held = match store.seals() {
                Some(seals) => {
                    let entry = (key.as_ref(), value);
                    seals.check(all.moment(), entry, family).await?
                }
                None => value.clone(),
            };
            rows.add(key, &held)?;
            if tally::is_of_outbox(key) {
                counted_rows.insert(key.clone(), Tally::read(Some(value))?);
            }
            if let Some(hub) = tally::hub_of_rooms(key)? {
                counted.insert(hub, Tally::read(Some(value))?);
            }
            if room::is_room(key) {
                let of_hub: &mut Tally = rooms.entry(room::hub_of(value)?).or_default();
                *of_hub = of_hub.with(u64::try_from(value.len()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// Holds what is counted of each hub's rooms to what is there.
fn compare(
    counted: &BTreeMap<ServerName, Tally>,
    found: &BTreeMap<ServerName, Tally>,
) -> Result<(), StoreError> {
    let of =
        |tallies: &BTreeMap<ServerName, Tally>, hub| tallies.get(hub).copied().unwrap_or_default();
    for hub in counted.keys().chain(found.keys()) {
        let (counted, found) = (of(counted, hub), of(found, hub));
        if counted != found {
            return Err(StoreError::Miscounted {
                hub: hub.clone(),
                counted: counted.entries,
                counted_bytes: counted.bytes,
                found: found.entries,
                found_bytes: found.bytes,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use federation_proto::ids::{AccountId, DeviceId, Member, RoomId};

    use super::*;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::payload::{self, PayloadId};
    use crate::store::room::{Going, RoomRecord};
    use crate::store::{Key, Part};

    /// Goal: what is counted of a hub's rooms is what there is of them, whatever becomes of the rooms, and is told when it is not.
    /// Method: rooms that are written, grow and are deleted; then one that is counted and not there.
    #[tokio::test]
    async fn rooms_are_what_is_counted() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let hub = |name: &str| -> ServerName { name.parse().unwrap() };
        let room = |hub: ServerName, proposal: &'static [u8]| RoomRecord {
            going: vec![Going {
                member: Member {
                    server: hub.clone(),
                    account: AccountId::from_bytes([1; 16]),
                    device: DeviceId::from_bytes([2; 16]),
                },
                account: false,
                since_ms: 3,
                proposal: Bytes::from_static(proposal),
            }],
            ..RoomRecord::new(hub, 4, 5, Vec::new())
        };
        let (a, b) = (hub("a.example"), hub("b.example"));
        let id = |n| RoomId::from_bytes([n; 16]);
        let mut part = Part::default();
        schema::put(&mut part);
        for (n, hub) in [(1, &a), (2, &a), (3, &b)] {
            room::put(&mut part, id(n), None, &room(hub.clone(), b"short")).unwrap();
        }
        store.commit(part).await.unwrap();
        check(&store).await.unwrap();
        let mut part = Part::default();
        room::put(
            &mut part,
            id(1),
            Some(&a),
            &room(a.clone(), b"longer by far"),
        )
        .unwrap();
        // Another hub's, under the same name.
        room::put(&mut part, id(2), Some(&a), &room(b.clone(), b"short")).unwrap();
        room::delete(&mut part, id(3), &b);
        store.commit(part).await.unwrap();
        let contents = check(&store).await.unwrap();
        assert_eq!(contents.families["rooms"].0, 2);
        for hub in [&a, &b] {
            let counted = tally::get(&store, &tally::rooms(hub)).await.unwrap();
            assert_eq!(counted.entries, 1, "{hub}");
        }

        let mut part = Part::default();
        part.count(tally::rooms(&b), 1);
        store.commit(part).await.unwrap();
        let error = check(&store).await.unwrap_err();
        assert!(
            error.to_string().contains("2 rooms of b.example"),
            "{error}"
        );
    }

    /// Goal: a content whose key is lost, one that was changed on the disk, and a key that was left behind are told. Method:
    /// each in a store that is right otherwise, by what lies behind the store.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    async fn contents_and_keys_belong_together() {
        let payload = |n| PayloadId([n; 16]);
        let key = |family: &[u8], n: u8| -> Key { [family, &[n; 16]].concat().into() };
        let random = Arc::new(ring::rand::SystemRandom::new());
        let store = Store::sealed_in_memory(random).unwrap();
        let mut part = Part::default();
        schema::put(&mut part);
        for n in 1..=3 {
            payload::put(&mut part, payload(n), None, &Bytes::from_static(b"words"));
        }
        store.commit(part).await.unwrap();
        let contents = check(&store).await.unwrap();
        // Besides them, which generation is in use.
        assert_eq!(contents.families["keys of contents"].0, 4);
        assert_eq!(contents.families["shared payloads"].0, 3);

        // The store itself has no way to do such things.
        let behind = Store {
            seals: None,
            ..store.clone()
        };
        let refused = async |change: &dyn Fn(&mut Part)| {
            let mut part = Part::default();
            change(&mut part);
            behind.commit(part).await.unwrap();
            check(&store).await.unwrap_err().to_string()
        };
        let changed = refused(&|part: &mut Part| {
            part.put(
                key(b"P", 3),
                Bytes::from_static(b"\x01other words, of any length"),
            );
        })
        .await;
        assert!(changed.contains("shared payloads"));
        let lost = refused(&|part: &mut Part| {
            part.delete(key(b"P", 3)).delete(key(b"1P", 3));
            part.delete(key(b"1P", 2));
        })
        .await;
        assert!(lost.contains("shared payloads"));
        let left = refused(&|part: &mut Part| {
            part.delete(key(b"P", 2)).delete(key(b"P", 1));
        })
        .await;
        assert!(left.contains("keys of contents"));
    }

    /// Goal: `docs/store.md` describes every family, each under its name. Method: a row of a table begins with each letter,
    /// and no other row does.
    #[test]
    fn every_family_is_described() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/store.md");
        let text = std::fs::read_to_string(document).unwrap();
        let is_of_family = |cell: &str| cell.starts_with('`') && cell.get(2..4) == Some("` ");
        let described: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
            .filter(|cell| is_of_family(cell))
            .map(str::to_owned)
            .collect();
        let families = FAMILIES.iter();
        let families: BTreeSet<String> = families
            .map(|(letter, name)| format!("`{}` {name}", char::from(*letter)))
            .collect();
        assert_eq!(described, families);
    }

    /// Goal: every family has a name of its own, and no name is of a family that is gone. Method: the letters that the
    /// first line of each record's module explains.
    #[test]
    fn every_family_has_a_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let mut letters = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let Ok(text) = std::fs::read_to_string(path) else {
                continue;
            };
            let about: Vec<&str> = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .collect();
            let about = about.join(" ");
            for quoted in about.split('`').skip(1).step_by(2) {
                let (letter, rest) = quoted.split_at(1);
                if rest.is_empty() || rest.starts_with('|') {
                    letters.extend(letter.bytes());
                }
            }
        }
        let named: BTreeSet<u8> = FAMILIES.iter().map(|(letter, _)| *letter).collect();
        assert_eq!(named, letters);
        let names: BTreeSet<&str> = FAMILIES.iter().map(|(_, name)| *name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        assert_eq!(family_of(b'?'), "unknown to this version");
    }
}
