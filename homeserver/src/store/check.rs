//! `homeserver store check`: reads everything, so that damage shows now and not when it is needed.

use std::collections::BTreeMap;

use super::{Order, Store, StoreError, schema};

/// Entries read at once.
const CHUNK: usize = 1000;

/// What a store holds: entries and bytes by the first byte of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// By family.
    pub families: BTreeMap<char, (u64, u64)>,
}

/// Reads every entry of `store`; damage makes the engine's checksums fail.
pub async fn check(store: &Store) -> Result<Contents, StoreError> {
    schema::check(store).await?;
    let mut contents = Contents::default();
    let mut from = vec![1];
    loop {
        let chunk = store.range(&from, b"\xff", CHUNK, Order::Ascending).await?;
        let Some((last, _)) = chunk.last() else {
            return Ok(contents);
        };
        from = [last.as_ref(), &[0]].concat();
        for (key, value) in &chunk {
            let family = key.first().copied().map_or('?', char::from);
            let (entries, bytes) = contents.families.entry(family).or_default();
            *entries += 1;
            *bytes += u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        }
    }
}
