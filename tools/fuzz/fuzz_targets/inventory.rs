#![no_main]
//! The load generator's inventory: any text is one, or an error.

// The client library's identifiers are the interface's own: the target needs nothing else of it.
extern crate homeserver_api as entente_sdk;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../load/src/inventory.rs"]
mod inventory;

fuzz_target!(|text: &str| {
    let _ = inventory::Inventory::parse(text);
});
