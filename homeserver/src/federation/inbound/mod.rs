//! What peers may ask of this homeserver, over HTTP/2 with mutual TLS.
//!
//! Who asks is known from the TLS handshake before a byte of a request is read; whether the agreement
//! lets it ask is judged before a byte of the request's body is read.

mod amendment;
mod consent;
mod countersignature;
mod declaration;
mod documents;
mod error;
mod files;
mod gate;
mod manifest;
mod probe;
mod strangers;
mod transactions;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::federation::paths;
use crate::identity::RateLimit;
use crate::node::Node;

use gate::Gates;

/// Every route of the federation API. Each request carries [`crate::tls::Peer`] as an extension: the
/// peer that the TLS handshake authenticated. Which state an agreement must be in, and how large a
/// body may be, stands at the top of each handler.
#[rustfmt::skip]
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(paths::TRANSACTIONS, post(transactions::handle))
        .route(paths::MANIFEST, get(manifest::handle))
        .route(paths::COUNTERSIGNATURE, post(countersignature::handle))
        .route(paths::AMENDMENT, post(amendment::handle))
        .route(paths::CONSENT, post(consent::handle))
        .route(paths::DECLARATION, post(declaration::handle))
        .route(paths::PROBE, get(probe::handle))
        .route(paths::FILE, get(files::handle))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_path)
        .layer(Extension(Arc::new(Gates::default())))
        .with_state(node)
}

/// Documents of one address: at once, and then per second.
const STRANGER_DOCUMENTS_BURST: u64 = 8;
const STRANGER_DOCUMENTS_PER_SECOND: u64 = 1;

/// What the listener for strangers takes. Each request carries [`crate::identity::Remote`] as an extension.
pub fn strangers(node: Arc<Node>) -> Router {
    let limit = RateLimit::new(STRANGER_DOCUMENTS_BURST, STRANGER_DOCUMENTS_PER_SECOND);
    Router::new()
        .route(paths::OFFERS, post(strangers::handle))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_path)
        .layer(Extension(Arc::new(limit)))
        .with_state(node)
}
