//! The paths of the federation API, the same on both sides of a link.

use federation_proto::ids::{RoomId, ServerName};

/// `POST`: a transaction; the answer is its receipt.
pub const TRANSACTIONS: &str = "/federation/v1/transactions";
/// `GET`: the key manifest.
pub const MANIFEST: &str = "/federation/v1/manifest";
/// `GET`: the newest key manifest known here of another server in a room of this hub.
pub const ROOM_MANIFEST: &str = "/federation/v1/rooms/{room}/manifests/{server}";
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
/// The serial of the newest key manifest of whoever sends it: a header of requests and answers.
pub const MANIFEST_SERIAL_HEADER: &str = "entente-manifest-serial";
/// The serial of the newest manifest that the sender knows of whom it talks to, likewise.
pub const MANIFEST_KNOWN_HEADER: &str = "entente-manifest-known";
/// When a file expires, milliseconds since the Unix epoch: a header of the answer that carries it.
pub const EXPIRES_HEADER: &str = "entente-expires-ms";

/// The path where a room's hub is asked for the manifest of `server`.
pub fn room_manifest(room: RoomId, server: &ServerName) -> String {
    format!("/federation/v1/rooms/{room}/manifests/{server}")
}
