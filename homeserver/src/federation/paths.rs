//! The paths of the federation API, the same on both sides of a link.

/// `POST`: a transaction; the answer is its receipt.
pub const TRANSACTIONS: &str = "/federation/v1/transactions";
/// `GET`: the key manifest.
pub const MANIFEST: &str = "/federation/v1/manifest";
/// `POST`: a countersignature.
pub const COUNTERSIGNATURE: &str = "/federation/v1/countersignature";
/// `POST`: an amendment.
pub const AMENDMENT: &str = "/federation/v1/amendment";
/// `POST`: a consent to an amendment.
pub const CONSENT: &str = "/federation/v1/consent";
/// `POST`: what the peer has decided about the agreement.
pub const DECLARATION: &str = "/federation/v1/declaration";
/// `POST`, on the listener for strangers: an offer or an acceptance, armored.
pub const OFFERS: &str = "/federation/v1/offers";
/// `GET`: the protocol versions spoken.
pub const PROBE: &str = "/federation/v1/probe";
/// `GET`, followed by a file's id: the file.
pub const FILES: &str = "/federation/v1/files/";
/// [`FILES`] as a route.
pub const FILE: &str = "/federation/v1/files/{file}";
/// When a file expires, milliseconds since the Unix epoch: a header of the answer that carries it.
pub const EXPIRES_HEADER: &str = "entente-expires-ms";
