//! What a trial found, check by check.

use std::fmt::Write as _;

use serde::Serialize;

use crate::failure::{Failure, Result};

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// Its stable name.
    pub(super) id: &'static str,
    /// What must hold.
    pub(super) must: String,
    /// What was found; the reason when it was skipped.
    pub(super) got: String,
    /// Whether it held and its control, if it has one, did not; null when it was skipped.
    pub(super) ok: Option<bool>,
    /// The same steps with the protection off.
    pub(super) control: Option<Control>,
}

/// A negative control.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Control {
    /// What was switched off.
    pub(super) without: &'static str,
    /// What was found then.
    pub(super) got: String,
    /// Whether the check would have passed: it must not.
    pub(super) ok: bool,
}

impl Check {
    /// One that this machine can't run.
    pub(super) fn skipped(id: &'static str, must: String, reason: &str) -> Self {
        Self {
            id,
            must,
            got: reason.to_owned(),
            ok: None,
            control: None,
        }
    }

    /// Whether the check held and its control did not.
    pub(super) fn holds(&self) -> Option<bool> {
        self.ok
            .map(|ok| ok && self.control.as_ref().is_none_or(|control| !control.ok))
    }
}

/// A trial's checks.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Passed, failed, skipped.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let mut counts = (0_u64, 0_u64, 0_u64);
        for check in &self.checks {
            let one = match check.holds() {
                Some(true) => &mut counts.0,
                Some(false) => &mut counts.1,
                None => &mut counts.2,
            };
            *one = one.saturating_add(1);
        }
        counts
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let word = match check.holds() {
                Some(true) => "ok     ",
                Some(false) => "FAILED ",
                None => "skipped",
            };
            // Writing to a string can't fail.
            let _ = writeln!(text, "{word} {}: {}", check.id, check.must);
            let _ = writeln!(text, "        {}", check.got);
            if let Some(control) = &check.control {
                let noticed = if control.ok { "NOT noticed" } else { "noticed" };
                let _ = writeln!(
                    text,
                    "        without {} ({noticed}): {}",
                    control.without, control.got
                );
            }
        }
        text
    }

    /// For programs: one object.
    pub(super) fn json(&self) -> Result<String> {
        let mut judged = self.clone();
        for check in &mut judged.checks {
            check.ok = check.holds();
        }
        serde_json::to_string(&judged).map_err(|error| Failure::Unexpected {
            program: "xtask".to_owned(),
            what: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ok: Option<bool>, control_ok: Option<bool>) -> Check {
        Check {
            id: "x",
            must: String::new(),
            got: String::new(),
            ok,
            control: control_ok.map(|ok| Control {
                without: "y",
                got: String::new(),
                ok,
            }),
        }
    }

    /// Goal: a check whose control passes counts as failed. Method: every combination.
    #[test]
    fn a_control_that_passes_fails_the_check() {
        assert_eq!(check(Some(true), None).holds(), Some(true));
        assert_eq!(check(Some(true), Some(false)).holds(), Some(true));
        assert_eq!(check(Some(true), Some(true)).holds(), Some(false));
        assert_eq!(check(Some(false), Some(false)).holds(), Some(false));
        assert_eq!(check(None, None).holds(), None);
    }

    /// Goal: programs read the whole verdict in `ok`, and null for a skip. Method: one of each.
    #[test]
    fn json_has_the_whole_verdict() {
        let report = Report {
            checks: vec![check(Some(true), Some(true)), check(None, None)],
        };
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["checks"][0]["ok"], false);
        assert!(json["checks"][1]["ok"].is_null());
    }
}
