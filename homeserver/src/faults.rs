//! Protections that a trial switches off one at a time, to see that it notices.
//!
//! Compiled only with the feature `faults`, which no released build has. `ENTENTE_FAULT` holds the
//! names, separated by commas, read once when the process first asks.

use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Where the names come from.
const VARIABLE: &str = "ENTENTE_FAULT";

/// Whether the fault `name` is on.
pub fn is_on(name: &str) -> bool {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES
        .get_or_init(|| {
            std::env::var(VARIABLE)
                .unwrap_or_default()
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        })
        .contains(name)
}
