//! What administrators use: the API.

pub mod api;
mod sessions;

pub use api::router;
pub use sessions::create as create_administrator;
