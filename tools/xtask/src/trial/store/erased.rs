//! Whether anything on the disk opens what was deleted, once a rotation of keys has gone by.
//!
//! The program writes into a data folder, deletes every second content, and reads every byte of the folder before and after, by code
//! that has nothing of the store's. What can be read before is the control: a scan that finds nothing then shows nothing.

use std::fmt;

use super::process::{numbers_of, unexpected};
use super::{Case, judged};
use crate::failure::Result;
use crate::trial::checks::Check;

/// What was found; see `tools/torture/src/erase.rs`.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    written: u64,
    deleted: u64,
    readable_before: u64,
    readable_after: u64,
    bare_keys: u64,
    bare_contents: u64,
    kept: u64,
    copies: u64,
}

impl Outcome {
    fn holds(&self) -> bool {
        let left = self.written.saturating_sub(self.deleted);
        self.deleted > 0
            && left > 0
            && is_most(self.readable_before, self.deleted)
            && is_most(self.kept, left)
            && self.readable_after == 0
            && self.bare_keys == 0
            && self.bare_contents == 0
    }
}

/// An engine may compress what it writes, and a few then lie there otherwise than they are looked for.
const fn is_most(found: u64, of: u64) -> bool {
    found.saturating_mul(10) >= of.saturating_mul(9)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} contents {} were deleted; of these {} could be read from the disk before (the control) and {} afterwards, when {} \
             were there still, sealed; keys of theirs on the disk {}, contents as they were written {}; {} others can be read",
            self.written,
            self.deleted,
            self.readable_before,
            self.readable_after,
            self.copies,
            self.bare_keys,
            self.bare_contents,
            self.kept
        )
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(erase(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: "every second content is deleted and one rotation of keys goes by: no generation on the disk opens a key of \
               theirs, no key of theirs and no destroyed generation lies on it, nor any content as it was written; before, \
               nine of ten could be read with what was there, and afterwards nine of ten of the others can"
            .to_owned(),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn erase(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let place = case.place(&logs, logs.join("data"), None);
    match numbers_of(&mut place.command_alone("erase"), "erased ")?.as_slice() {
        [
            written,
            deleted,
            before,
            after,
            keys,
            contents,
            kept,
            copies,
        ] => Ok(Outcome {
            written: *written,
            deleted: *deleted,
            readable_before: *before,
            readable_after: *after,
            bare_keys: *keys,
            bare_contents: *contents,
            kept: *kept,
            copies: *copies,
        }),
        _ => Err(unexpected("other numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one content that can be read, one key and one content that lie bare, and a scan that finds nothing fail the check.
    /// Method: spoil a good outcome.
    #[test]
    fn each_number_counts() {
        let good = Outcome {
            written: 400,
            deleted: 200,
            readable_before: 180,
            readable_after: 0,
            bare_keys: 0,
            bare_contents: 0,
            kept: 180,
            copies: 0,
        };
        assert!(good.holds());
        let bad = [
            Outcome {
                readable_before: 179,
                ..good
            },
            Outcome {
                readable_after: 1,
                ..good
            },
            Outcome {
                bare_keys: 1,
                ..good
            },
            Outcome {
                bare_contents: 1,
                ..good
            },
            Outcome { kept: 179, ..good },
            Outcome {
                deleted: 0,
                readable_before: 0,
                ..good
            },
        ];
        for outcome in bad {
            assert!(!outcome.holds(), "{outcome}");
        }
    }
}
