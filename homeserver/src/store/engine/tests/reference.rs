//! Any batches, given to the engines and to the plainest possible one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::Write;

/// The plainest possible engine: a copy of the map for each part.
#[derive(Default)]
struct Reference(BTreeMap<Key, Value>);

impl Reference {
    fn apply(&mut self, part: &Part) -> PartOutcome {
        let holds = part.preconditions.iter().all(|precondition| {
            let value = self.0.get(precondition.key());
            match precondition {
                Precondition::Absent(_) => value.is_none(),
                Precondition::Present(_) => value.is_some(),
                Precondition::Equals(_, expected) => value == Some(expected),
                Precondition::Within(_, bytes) => tally(value).1 <= *bytes,
                Precondition::WithinEntries(_, entries) => tally(value).0 <= *entries,
            }
        });
        if !holds {
            return PartOutcome::Conflict;
        }
        for write in &part.writes {
            match write {
                Write::Put(key, value) => drop(self.0.insert(key.clone(), value.clone())),
                Write::Delete(key) => drop(self.0.remove(key)),
                Write::Append {
                    tail,
                    prefix,
                    value,
                    beside,
                } => {
                    let last = self.0.get(tail).map_or(0, |value| {
                        u64::from_be_bytes(value.as_ref().try_into().unwrap())
                    });
                    let number = (last + 1).to_be_bytes();
                    self.0.insert(tail.clone(), Bytes::copy_from_slice(&number));
                    let entries = [Some((prefix, value)), beside.as_ref().map(|(p, v)| (p, v))];
                    for (prefix, value) in entries.into_iter().flatten() {
                        let entry = [prefix.as_ref(), &number].concat();
                        self.0.insert(entry.into(), value.clone());
                    }
                }
                Write::Count { tally: key, bytes } => {
                    let (entries, sum) = tally(self.0.get(key));
                    self.set_tally(key, (entries + 1, sum + bytes));
                }
                Write::Uncount {
                    tally: key,
                    entry,
                    uncounted,
                } => {
                    if let Some(value) = self.0.get(entry) {
                        let bytes = u64::try_from(value.len()).unwrap();
                        let bytes = bytes.saturating_sub(*uncounted);
                        let (entries, sum) = tally(self.0.get(key));
                        self.set_tally(key, (entries.saturating_sub(1), sum.saturating_sub(bytes)));
                    }
                }
            }
        }
        PartOutcome::Committed
    }
}

impl Reference {
    fn set_tally(&mut self, key: &Key, (entries, bytes): (u64, u64)) {
        if entries == 0 {
            self.0.remove(key);
        } else {
            let value = [entries.to_be_bytes(), bytes.to_be_bytes()].concat();
            self.0.insert(key.clone(), value.into());
        }
    }
}

/// Entries and bytes.
fn tally(value: Option<&Value>) -> (u64, u64) {
    let number = |at: usize| {
        value.map_or(0, |value| {
            u64::from_be_bytes(value[at..at + 8].try_into().unwrap())
        })
    };
    (number(0), number(8))
}

pub(in crate::store::engine) fn any_part() -> impl Strategy<Value = Part> {
    // Few keys and values, so that parts meet.
    let name = || (0_u8..6).prop_map(|n| Key::copy_from_slice(&[b'k', n]));
    let value = || (0_u8..3).prop_map(|n| Value::copy_from_slice(&[n]));
    let counted = || (0_u8..2).prop_map(|n| Key::copy_from_slice(&[b'w', n]));
    let precondition = prop_oneof![
        (counted(), 0_u64..4).prop_map(|(tally, bytes)| Precondition::Within(tally, bytes)),
        (counted(), 0_u64..2).prop_map(|(tally, n)| Precondition::WithinEntries(tally, n)),
        name().prop_map(Precondition::Absent),
        name().prop_map(Precondition::Present),
        (name(), value()).prop_map(|(name, value)| Precondition::Equals(name, value)),
    ];
    let write = prop_oneof![
        (name(), value()).prop_map(|(name, value)| Write::Put(name, value)),
        name().prop_map(Write::Delete),
        (0_u8..2, value(), any::<bool>()).prop_map(|(n, value, is_pair)| Write::Append {
            tail: Key::copy_from_slice(&[b't', n]),
            prefix: Key::copy_from_slice(&[b'e', n]),
            beside: is_pair.then(|| (Key::copy_from_slice(&[b'f', n]), value.clone())),
            value,
        }),
        (counted(), 0_u64..3).prop_map(|(tally, bytes)| Write::Count { tally, bytes }),
        (counted(), name(), 0_u64..2).prop_map(|(tally, entry, uncounted)| Write::Uncount {
            tally,
            entry,
            uncounted,
        }),
    ];
    let preconditions = proptest::collection::vec(precondition, 0..2);
    (preconditions, proptest::collection::vec(write, 0..4)).prop_map(|(preconditions, writes)| {
        Part {
            preconditions,
            writes,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: engines agree with the plainest possible one on any batches, also after reopening.
    #[test]
    fn engines_agree_with_the_reference(
        batches in proptest::collection::vec(proptest::collection::vec(any_part(), 0..8), 1..6)
    ) {
        agree_with_the_reference(&[&in_memory(), &in_folder(), &in_log()], &batches)?;
        #[cfg(feature = "sled")]
        agree_with_the_reference(&[&in_sled()], &batches)?;
    }
}

proptest! {
    // A database is made for each case.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Goal: as above, for the engine that has to say beforehand which keys it reads.
    #[test]
    fn postgresql_agrees_with_the_reference(
        batches in proptest::collection::vec(proptest::collection::vec(any_part(), 0..8), 1..6)
    ) {
        agree_with_the_reference(&[&InDatabase::new()], &batches)?;
    }
}

fn agree_with_the_reference(
    places: &[&dyn Place],
    batches: &[Vec<Part>],
) -> Result<(), TestCaseError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    for place in places {
        runtime.block_on(agrees_with_the_reference(*place, batches))?;
    }
    Ok(())
}

async fn agrees_with_the_reference(
    place: &dyn Place,
    batches: &[Vec<Part>],
) -> Result<(), TestCaseError> {
    let mut reference = Reference::default();
    let engine = place.open().await.unwrap();
    for parts in batches {
        let expected: Vec<_> = parts.iter().map(|part| reference.apply(part)).collect();
        prop_assert_eq!(engine.apply(parts).await.unwrap(), expected);
    }
    drop(engine);
    let expected: Vec<_> = reference.0.into_iter().collect();
    prop_assert_eq!(everything(&*place.open().await.unwrap()).await, expected);
    Ok(())
}
