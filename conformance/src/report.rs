//! What the suite found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// How binding a requirement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    Must,
    Should,
}

/// What a case found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether the requirement is met.
    pub(crate) ok: bool,
    /// What was seen.
    pub(crate) got: String,
}

impl Finding {
    /// Met when `ok`; in any case this was seen.
    pub(crate) fn new(ok: bool, got: impl Into<String>) -> Self {
        Self {
            ok,
            got: got.into(),
        }
    }
}

/// A case and what it found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// The case's stable id.
    pub(crate) id: &'static str,
    /// The requirement that it cites.
    pub(crate) requirement: &'static str,
    pub(crate) level: Level,
    /// What must hold.
    pub(crate) must: &'static str,
    #[serde(flatten)]
    pub(crate) finding: Finding,
    /// What to look at when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<&'static str>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) cases: Vec<Outcome>,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) warned: usize,
}

impl Report {
    /// Counts: a SHOULD that is not met warns.
    pub(crate) fn new(server: &str, cases: Vec<Outcome>) -> Self {
        let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(case)).count();
        Self {
            server: server.to_owned(),
            passed: count(|case| case.finding.ok),
            failed: count(|case| !case.finding.ok && case.level == Level::Must),
            warned: count(|case| !case.finding.ok && case.level == Level::Should),
            cases,
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for case in &self.cases {
            let word = match (case.finding.ok, case.level) {
                (true, _) => "ok  ",
                (false, Level::Must) => "FAIL",
                (false, Level::Should) => "warn",
            };
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "{word} {} [{}] {}",
                case.id, case.requirement, case.must
            );
            if !case.finding.ok {
                let _ = writeln!(text, "     got: {}", case.finding.got);
                if let Some(hint) = case.hint {
                    let _ = writeln!(text, "     hint: {hint}");
                }
            }
        }
        let _ = writeln!(
            text,
            "{} passed, {} failed, {} warned",
            self.passed, self.failed, self.warned
        );
        text
    }
}
