//! The paths of the federation API, the same on both sides of a link.

use federation_proto::ids::{RoomId, ServerName};
use http::HeaderMap;

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

/// A whole number that stands in a header.
pub fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    // A sign is no digit.
    text.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: a header holds a whole number or none. Method: round trip, any bytes, and a sign.
        #[test]
        fn any_header(value: u64, any: Vec<u8>) {
            let read = |bytes: &[u8]| {
                let mut headers = HeaderMap::new();
                headers.insert(EXPIRES_HEADER, HeaderValue::from_bytes(bytes).ok()?);
                number(&headers, EXPIRES_HEADER)
            };
            prop_assert_eq!(read(value.to_string().as_bytes()), Some(value));
            let digits = !any.is_empty() && any.iter().all(u8::is_ascii_digit);
            prop_assert!(digits || read(&any).is_none());
            prop_assert_eq!(read(format!("+{value}").as_bytes()), None);
        }
    }
}
