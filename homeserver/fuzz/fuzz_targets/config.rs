#![no_main]
//! Whatever an operator writes is a configuration, or mistakes that each say where.

use homeserver::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(mistakes) = Config::read_text("fuzz.toml", text) {
        assert!(!mistakes.is_empty());
        assert!(
            mistakes
                .iter()
                .all(|mistake| mistake.at.starts_with("fuzz.toml"))
        );
    }
});
