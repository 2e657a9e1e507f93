//! Whole organisations by chance: every decision of policy in them is held to a model that only enumerates.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::super::checks::{Check, Control};
use super::super::ground::Ground;
use crate::failure::{Failure, Result};
use crate::process::{self, Run as _};

/// Organisations that are made.
const MATRICES: u64 = 10_000;
/// The example of the homeserver that makes them, and decides.
const PROGRAM: &str = "policy_matrices";
/// What the control switches off.
const FAULT: &str = "ignore-barriers";

/// How many decisions agree with the model, or the first that does not.
type Decided = std::result::Result<u64, String>;

#[derive(Deserialize)]
struct Printed {
    decisions: u64,
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    process::step("build policy_matrices", || {
        let build = [
            "build",
            "-p",
            "homeserver",
            "--example",
            PROGRAM,
            "--features",
            "faults",
            "--profile",
            "measured",
        ];
        ground.cargo(build).shown()
    })?;
    let seed = RandomState::new().build_hasher().finish();
    let held = decide(ground, seed, None)?;
    let control = decide(ground, seed, Some(FAULT))?;
    let ok = held.as_ref().is_ok_and(|decisions| *decisions > 0);
    Ok(Check {
        id: "policy-decides-as-its-model",
        must: format!(
            "in {MATRICES} organisations made by chance every decision, between people and towards partners, is what a model \
             without any code of the policy says"
        ),
        got: match held {
            Ok(decisions) => {
                format!("seed {seed}: {decisions} decisions, all as the model has them")
            }
            Err(differs) => differs,
        },
        ok: Some(ok),
        control: Some(Control {
            without: "barriers between segments",
            ok: control.is_ok(),
            got: match control {
                Ok(decisions) => format!("{decisions} decisions, all as the model has them"),
                // What follows is the whole organisation.
                Err(differs) => differs.split(';').next().unwrap_or_default().to_owned(),
            },
        }),
    })
}

fn decide(ground: &Ground<'_>, seed: u64, fault: Option<&str>) -> Result<Decided> {
    let output = Command::new(ground.binaries.join("examples").join(PROGRAM))
        .args([MATRICES.to_string(), seed.to_string()])
        .env("ENTENTE_FAULT", fault.unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Failure::Start {
            program: PROGRAM.to_owned(),
            source,
        })?;
    let (printed, told) = (&output.stdout, &output.stderr);
    decided(
        output.status.code(),
        &String::from_utf8_lossy(printed),
        &String::from_utf8_lossy(told),
    )
}

/// What a run of the program has found.
fn decided(code: Option<i32>, printed: &str, told: &str) -> Result<Decided> {
    let unexpected = |what: String| Failure::Unexpected {
        program: PROGRAM.to_owned(),
        what,
    };
    match code {
        Some(0) => serde_json::from_str(printed)
            .map(|printed: Printed| Ok(printed.decisions))
            .map_err(|error| unexpected(format!("{error}: {printed}"))),
        Some(1) => Ok(Err(told.trim().to_owned())),
        _ => Err(unexpected(told.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a program that fails for another reason does not pass for one that has found a difference. Method: each way it ends.
    #[test]
    fn only_a_difference_is_one() {
        let line = r#"{"matrices":1,"seed":2,"decisions":3}"#;
        assert_eq!(decided(Some(0), line, "").unwrap(), Ok(3));
        let differs = decided(Some(1), "", "matrix 0 of seed 2: no\n").unwrap();
        assert_eq!(differs, Err("matrix 0 of seed 2: no".to_owned()));
        for (code, printed) in [(Some(0), ""), (Some(2), line), (Some(101), ""), (None, "")] {
            assert!(decided(code, printed, "").is_err(), "{code:?}");
        }
    }
}
