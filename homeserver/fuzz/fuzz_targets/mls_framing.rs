#![no_main]
//! Whatever claims to be an MLS message is read or refused, never trusted with a length.

use homeserver::rooms::mls_framing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = mls_framing::application(bytes);
    let _ = mls_framing::commit(bytes);
    let _ = mls_framing::welcome(bytes);
    let _ = mls_framing::group_info(bytes);
    if let Ok(commit) = mls_framing::external_commit(bytes) {
        assert!(mls_framing::comes_from_outside(bytes) && mls_framing::commit(bytes).is_err());
        let _ = commit.signed_content(bytes);
    }
    if let Ok(tree) = mls_framing::tree_of(bytes) {
        let _ = (tree.leaf(0), tree.leaf(u32::MAX));
    }
});
