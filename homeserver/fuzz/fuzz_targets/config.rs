#![no_main]
//! Whatever an operator writes, in a file or in the environment, is a configuration, or mistakes that each say where.

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
    // The same lines as variables: a name and its value.
    let variables = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("ENTENTE_{name}"), value.to_owned()));
    let missing = std::path::Path::new("/nonexistent/fuzz.toml");
    let mistakes = Config::load(missing, variables).unwrap_err();
    assert!(mistakes.iter().all(|mistake| {
        mistake.at.starts_with("environment variable ENTENTE_")
            || mistake.at.starts_with("/nonexistent")
    }));
});
