//! The client API: HTTP + JSON, and a device's WebSocket session.
//!
//! Deliberately absent: decisions. Handlers read a request, call `identity`, `delivery` or `policy`,
//! and write the answer; every error is problem+json (RFC 9457).

mod access;
mod account;
mod anchors;
mod certificate;
mod contacts;
mod device_log;
mod devices;
mod error;
mod extract;
mod files;
mod key_packages;
mod limits;
mod server;
mod session;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};

use self::access::{Access, AccessState};
use self::extract::BodyLimit;
use self::limits::{REQUESTS_BURST, REQUESTS_PER_SECOND};
use crate::identity::RateLimit;
use crate::node::Node;

const NONE: usize = 0;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Every route of the client API. Each request carries [`crate::identity::Remote`] as an extension.
#[rustfmt::skip]
pub fn router(node: Arc<Node>) -> Router {
    use Access::{Device, Known, Public};
    let routes = Routes::new(node);
    routes
        //   path                            access  body      methods and handlers
        .add("/v1/server",                   Public, NONE,     get(server::show))
        .add("/v1/devices",                  Public, 16 * KIB, post(devices::enrol))
        // A device that waits has a token that is none of a device's yet.
        .add("/v1/devices/waiting",          Public, NONE,     post(devices::poll))
        .add("/v1/devices/waiting/{device}", Device, 4 * KIB,  post(devices::approve).merge(delete(devices::decline)))
        .add("/v1/devices/{device}",         Known,  NONE,     delete(devices::remove))
        .add("/v1/account",                  Known,  NONE,     get(account::show))
        .add("/v1/account/sign-in",          Known,  4 * KIB,  post(account::sign_in_again))
        .add("/v1/account/banner",           Known,  4 * KIB,  post(account::agree))
        .add("/v1/account/rules",            Device, 4 * KIB,  put(account::set_rules))
        .add("/v1/account/password",         Device, 4 * KIB,  post(account::change_password))
        .add("/v1/certificate",              Device, 16 * KIB, post(certificate::renew))
        .add("/v1/key-packages",             Device, 2 * MIB,  get(key_packages::count).merge(put(key_packages::publish)))
        .add("/v1/contacts",                 Device, NONE,     get(contacts::list))
        .add("/v1/contacts/{address}",       Device, 4 * KIB,  put(contacts::act).merge(delete(contacts::remove)))
        .add("/v1/anchors",                  Device, NONE,     get(anchors::list))
        .add("/v1/room-certificate",         Device, NONE,     get(certificate::room))
        .add("/v1/device-log/head/{from}",   Device, NONE,     get(device_log::head))
        .add("/v1/device-log/accounts/{account}/{known}", Device, NONE, get(device_log::account))
        .add("/v1/device-log/statements/{after}", Device, NONE, get(device_log::statements))
        // An upload is held to policy and quota as it streams in.
        .add("/v1/files",                    Device, NONE,     post(files::upload))
        .add("/v1/files/{server}/{file}",    Device, NONE,     get(files::download))
        .add("/v1/session",                  Device, NONE,     get(session::open))
        .finish()
}

struct Routes {
    node: Arc<Node>,
    limit: Arc<RateLimit>,
    router: Router<Arc<Node>>,
}

impl Routes {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            limit: Arc::new(RateLimit::new(REQUESTS_BURST, REQUESTS_PER_SECOND)),
            router: Router::new(),
        }
    }

    fn add(
        mut self,
        path: &str,
        access: Access,
        body_bytes_max: usize,
        methods: MethodRouter<Arc<Node>>,
    ) -> Self {
        let state = AccessState {
            node: Arc::clone(&self.node),
            limit: Arc::clone(&self.limit),
            access,
        };
        let methods = methods
            .fallback(access::method_not_allowed)
            .layer::<_, Infallible>(axum::Extension(BodyLimit(body_bytes_max)))
            // What reads a body does so through `extract`, by the limit above.
            .layer::<_, Infallible>(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(state, access::check));
        self.router = self.router.route(path, methods);
        self
    }

    /// What no route above takes is told so, as every other mistake is.
    fn finish(self) -> Router {
        self.router
            .fallback(access::no_such_path)
            .with_state(self.node)
    }
}
