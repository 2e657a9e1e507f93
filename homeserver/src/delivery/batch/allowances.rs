//! What somebody may still do within a time: look-ups, reports, asks for consent.

use super::Batch;
use super::undo::Undo;
use crate::store::StoreError;
use crate::store::allowance::{self, Purpose, Used, Whose};

impl Batch<'_> {
    /// Whether `whose` has some of its allowance left, `units_max` within `within_ms`; if not, how long until it
    /// has, milliseconds.
    pub(in crate::delivery) async fn allows(
        &mut self,
        purpose: Purpose,
        whose: &Whose,
        units_max: u32,
        within_ms: u64,
    ) -> Result<Result<(), u64>, StoreError> {
        let place = (purpose, whose.clone());
        if !self.allowances.contains_key(&place) {
            let stored = allowance::get(&self.node.store, purpose, whose).await?;
            let (used, read) = stored.unzip();
            let counting =
                used.filter(|used| self.now_ms < used.since_ms.saturating_add(within_ms));
            let used = counting.unwrap_or(Used {
                since_ms: self.now_ms,
                units: 0,
            });
            self.allowances.insert(place.clone(), (read, used, false));
        }
        Ok(match self.allowances.get(&place) {
            Some((_, used, _)) if used.units >= units_max => {
                let ends_ms = used.since_ms.saturating_add(within_ms);
                Err(ends_ms.saturating_sub(self.now_ms))
            }
            Some(_) | None => Ok(()),
        })
    }

    /// Uses up some of an allowance; whether that was the last of it. Ask [`Batch::allows`] before.
    pub(in crate::delivery) fn use_up(
        &mut self,
        purpose: Purpose,
        whose: &Whose,
        units: u32,
        units_max: u32,
    ) -> bool {
        let place = (purpose, whose.clone());
        let Some((_, used, changed)) = self.allowances.get_mut(&place) else {
            return false;
        };
        self.undo.push(Undo::Allowance {
            place,
            used: *used,
            changed: *changed,
        });
        let before = used.units;
        used.units = before.saturating_add(units);
        *changed = true;
        before < units_max && used.units >= units_max
    }

    /// Uses up one unit of an allowance, if there is one left.
    pub(in crate::delivery) async fn take_one(
        &mut self,
        purpose: Purpose,
        whose: &Whose,
        units_max: u32,
        within_ms: u64,
    ) -> Result<bool, StoreError> {
        let left = self.allows(purpose, whose, units_max, within_ms).await?;
        if left.is_ok() {
            self.use_up(purpose, whose, 1, units_max);
        }
        Ok(left.is_ok())
    }
}
