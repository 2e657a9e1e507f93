#![no_main]
//! Whatever a client or an administrator posts as JSON is a request or an error.

use homeserver_api::{admin, client, policy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<client::EnrolRequest>(bytes);
    let _ = serde_json::from_slice::<client::KeyPackages>(bytes);
    let _ = serde_json::from_slice::<admin::OfferRequest>(bytes);
    let _ = serde_json::from_slice::<admin::AcceptRequest>(bytes);
    let _ = serde_json::from_slice::<admin::CreateUserRequest>(bytes);
    let _ = serde_json::from_slice::<policy::UserTypePolicy>(bytes);
});
