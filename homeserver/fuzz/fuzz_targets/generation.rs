#![no_main]
//! Whatever lies in the folder of generations is a generation in its one form, or none; whatever is handed over as a
//! master key is one that comes back from its text, or none.

use homeserver::store::sealed::MasterKey;
use homeserver::store::sealed::generations::GenerationFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(file) = GenerationFile::decode(bytes) {
        assert_eq!(file.encode(), bytes);
    }
    let key = std::str::from_utf8(bytes).ok().and_then(MasterKey::parse);
    if let Some(key) = key {
        let again = MasterKey::parse(&key.text()).map(|key| key.text());
        assert_eq!(again, Some(key.text()));
    }
});
