#![no_main]
//! A root key file is read up to the passphrase: deriving a key from each input would take too long.

use homeserver::organisation::root_key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    root_key::is_well_formed(text);
});
