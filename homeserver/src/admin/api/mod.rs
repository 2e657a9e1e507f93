//! The admin API, on the local socket and on the client listener.
//!
//! A request through the local socket carries [`crate::audit::Actor`] as an extension: whoever may
//! open the socket is the operator. Every other request but the sign-in needs a bearer token. Each
//! act is in the audit log under the name of who did it, written with the act itself.
//!
//! One endpoint, one file; the table below is all of them.

mod audit;
mod authentication;
mod backups;
mod consortia;
mod error;
mod evidence;
mod explanations;
mod extract;
mod keys;
mod password;
mod peers;
mod quarantine;
mod records;
mod reports;
mod restored;
mod segments;
mod server_status;
mod sign_in;
mod sign_out;
#[cfg(test)]
mod tests;
mod user_types;
mod users;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};
use axum::{Extension, Router};

use crate::identity::RateLimit;
use crate::node::Node;

/// Largest body of a request: a peering document with its certificates is the largest thing sent.
const BODY_BYTES_MAX: usize = 128 * 1024;
/// Largest body of a request about consortia: the files of one charter as its members have signed them.
const CHARTERS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest body of a request about segments: they may list every person by name.
const SEGMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A body arrives within this time: the sign-in is open to everyone.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Sign-ins of one address: in a burst, and then per second.
const SIGN_INS_BURST: u64 = 20;
const SIGN_INS_PER_SECOND: u64 = 1;

/// Of a route that takes larger bodies than the others: the limit to name in a refusal.
#[derive(Clone, Copy)]
struct BodyMax(usize);

/// Every route of the admin API. Each request carries [`crate::audit::Actor`] (local socket) or
/// [`crate::identity::Remote`] (client listener) as an extension.
#[rustfmt::skip]
pub fn router(node: Arc<Node>) -> Router {
    let limit = Arc::new(RateLimit::new(SIGN_INS_BURST, SIGN_INS_PER_SECOND));
    let without_token = Router::new()
        .route("/admin/v1/sessions", post(sign_in::handle))
        .layer(Extension(limit));
    let consortia = Router::new()
        .route("/admin/v1/consortia", get(consortia::list::handle))
        .route("/admin/v1/consortia/introductions", post(consortia::introduce::handle))
        .route("/admin/v1/consortia/charters", post(consortia::charter::handle))
        .route("/admin/v1/consortia/inspections", post(consortia::inspect::handle))
        .route("/admin/v1/consortia/merges", post(consortia::merge::handle))
        .route("/admin/v1/consortia/signatures", post(consortia::sign::handle))
        .route("/admin/v1/consortia/peers", post(consortia::join::handle))
        .layer(Extension(BodyMax(CHARTERS_BYTES_MAX)))
        .layer(DefaultBodyLimit::max(CHARTERS_BYTES_MAX));
    let segments = Router::new()
        .route("/admin/v1/segments", get(segments::show::handle))
        .route("/admin/v1/segments", put(segments::put::handle))
        .layer(Extension(BodyMax(SEGMENTS_BYTES_MAX)))
        .layer(DefaultBodyLimit::max(SEGMENTS_BYTES_MAX));
    let with_token = Router::new()
        .route("/admin/v1/sessions", delete(sign_out::handle))
        .route("/admin/v1/password", post(password::handle))
        .route("/admin/v1/server", get(server_status::handle))
        .route("/admin/v1/user-types", get(user_types::list::handle))
        .route("/admin/v1/user-types/{name}", put(user_types::put::handle))
        .route("/admin/v1/user-types/{name}", delete(user_types::delete::handle))
        .route("/admin/v1/users", get(users::list::handle))
        .route("/admin/v1/users", post(users::create::handle))
        .route("/admin/v1/users/{handle}", get(users::show::handle))
        .route("/admin/v1/users/{handle}", patch(users::change::handle))
        .route("/admin/v1/users/{handle}", delete(users::delete::handle))
        .route("/admin/v1/users/{handle}/password", post(users::reset_password::handle))
        .route("/admin/v1/users/{handle}/device-reset", post(users::allow_reset::handle))
        .route("/admin/v1/users/{handle}/devices/{device}", delete(users::remove_device::handle))
        .route("/admin/v1/peers", get(peers::list::handle))
        .route("/admin/v1/peers/{server}", get(peers::show::handle))
        .route("/admin/v1/peers/offers", post(peers::offer::handle))
        .route("/admin/v1/peers/inspections", post(peers::inspect::handle))
        .route("/admin/v1/peers/acceptances", post(peers::accept::handle))
        .route("/admin/v1/peers/countersignatures", post(peers::countersign::handle))
        .route("/admin/v1/peers/activations", post(peers::activate::handle))
        .route("/admin/v1/peers/{server}/amendments", post(peers::amend::handle))
        .route("/admin/v1/peers/{server}/consents", post(peers::consent::handle))
        .route("/admin/v1/peers/{server}/amendment-refusals", post(peers::refuse_amendment::handle))
        .route("/admin/v1/peers/{server}/suspend", post(peers::suspend::handle))
        .route("/admin/v1/peers/{server}/resume", post(peers::resume::handle))
        .route("/admin/v1/peers/{server}/revoke", post(peers::revoke::handle))
        .merge(consortia)
        .merge(segments)
        .route("/admin/v1/explanations", post(explanations::ask::handle))
        .route("/admin/v1/explanations/{explanation}", get(explanations::partner::handle))
        .route("/admin/v1/keys", get(keys::show::handle))
        .route("/admin/v1/keys/envelope/rotate", post(keys::rotate_envelope::handle))
        .route("/admin/v1/keys/envelope/revoke", post(keys::revoke_envelope::handle))
        .route("/admin/v1/keys/tls/rotate", post(keys::rotate_tls::handle))
        .route("/admin/v1/keys/tls/revoke", post(keys::revoke_tls::handle))
        .route("/admin/v1/keys/root", get(keys::root_show::handle))
        .route("/admin/v1/keys/root/announce", post(keys::root_announce::handle))
        .route("/admin/v1/keys/root/switch", post(keys::root_switch::handle))
        .route("/admin/v1/keys/root/cancel", post(keys::root_cancel::handle))
        .route("/admin/v1/keys/root/forget", post(keys::root_forget::handle))
        .route("/admin/v1/quarantine", get(quarantine::list::handle))
        .route("/admin/v1/quarantine/{document}", get(quarantine::show::handle))
        .route("/admin/v1/quarantine/{document}", delete(quarantine::discard::handle))
        .route("/admin/v1/quarantine/{document}/take", post(quarantine::take::handle))
        .route("/admin/v1/backups", post(backups::handle))
        .route("/admin/v1/restored", get(restored::show::handle))
        .route("/admin/v1/restored/confirm", post(restored::confirm::handle))
        .route("/admin/v1/outbox", get(records::outbox::handle))
        .route("/admin/v1/outbox/{server}/retry", post(records::retry::handle))
        .route("/admin/v1/outbox/{server}/renumber", post(records::renumber::handle))
        .route("/admin/v1/outbox/{server}/receipts", get(records::receipts::handle))
        .route("/admin/v1/dead-letters", get(records::dead_letters::handle))
        .route("/admin/v1/reports", get(reports::list::handle))
        .route("/admin/v1/reports/{report}", get(reports::show::handle))
        .route("/admin/v1/reports/{report}/close", post(reports::close::handle))
        .route("/admin/v1/evidence", get(evidence::list::handle))
        .route("/admin/v1/evidence/{evidence}", get(evidence::show::handle))
        .route("/admin/v1/evidence/{evidence}/document", get(evidence::document::handle))
        .route("/admin/v1/audit", get(audit::page::handle))
        .route("/admin/v1/audit/head", get(audit::head::handle))
        .route("/admin/v1/audit/entries/{number}", get(audit::proof::handle))
        .route("/admin/v1/audit/growth/{from}", get(audit::growth::handle))
        .route("/admin/v1/audit/witnesses", get(audit::witnesses::handle))
        .route("/admin/v1/audit/witnesses/{server}/settle", post(audit::settle::handle))
        .route("/admin/v1/audit/erasures", post(audit::erase::handle))
        .route_layer(from_fn_with_state(Arc::clone(&node), authentication::require_administrator));
    without_token
        .merge(with_token)
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}
