//! The fake peer's side of the ceremony: it offers, reads the acceptance and countersigns.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::failure::{Failure, Result};
use crate::organisation::Organisation;
use crate::transaction::sha256;
use crate::wire::{Decoder, Encoder};

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// Characters in a line of an armored document.
const LINE_CHARACTERS: usize = 64;
/// The operations.
pub(crate) const MESSAGE: u8 = 1;
pub(crate) const DIRECTORY: u8 = 3;
/// Message, invite, directory, files.
pub(crate) const EVERYTHING: [u8; 4] = [MESSAGE, 2, DIRECTORY, 4];

/// What the server under test states in its acceptance, as far as the suite needs it.
#[derive(Debug, Clone)]
pub(crate) struct Acceptance {
    bytes: Vec<u8>,
    /// Its key manifest.
    pub(crate) manifest: Vec<u8>,
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the suite's clock")]
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// An offer of these operations, both ways, signed.
#[expect(clippy::disallowed_methods, reason = "a nonce is drawn here")]
pub(crate) fn offer(
    peer: &Organisation,
    to: &str,
    endpoint: &str,
    operations: &[u8],
) -> Result<Vec<u8>> {
    let now = now_ms();
    let mut nonce = [0; 16];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Failure::Randomness)?;
    let grants = operations
        .iter()
        .fold(Encoder::new(), |grants, operation| {
            grants.u8(*operation).vector(4, &[])
        })
        .finish();
    let body = Encoder::new()
        .u16(1)
        .vector(1, peer.name.as_bytes())
        .vector(1, to.as_bytes())
        .u64(1)
        .fixed(&[0; 32])
        .vector(4, &1_u16.to_be_bytes())
        .vector(2, &peer.root)
        .vector(2, &peer.manifest(now)?)
        .vector(4, &Encoder::new().vector(2, endpoint.as_bytes()).finish())
        .vector(4, &grants)
        .vector(4, &grants)
        .u32(1)
        .u32(2_592_000)
        .u64(1 << 30)
        .u64(100 << 20)
        .u8(u8::MAX)
        .vector(2, b"the conformance suite")
        .fixed(&nonce)
        .u64(now)
        .u64(now.saturating_add(365 * DAY_MS))
        .u64(now.saturating_add(7 * DAY_MS))
        .finish();
    signed(peer, b"entente offer", &body)
}

/// Reads an acceptance of this offer.
pub(crate) fn read_acceptance(text: &str, offer: &[u8]) -> Result<Acceptance> {
    let bytes = unarmored("ACCEPTANCE", text)
        .ok_or_else(|| unreadable("it is not an armored acceptance"))?;
    let (manifest, of) =
        parse_acceptance(&bytes).ok_or_else(|| unreadable("its bytes do not decode"))?;
    if of == sha256(offer) {
        Ok(Acceptance { bytes, manifest })
    } else {
        Err(unreadable("it is of another offer"))
    }
}

const fn unreadable(problem: &'static str) -> Failure {
    Failure::Document {
        document: "acceptance",
        problem,
    }
}

/// The manifest that is stated, and the hash of the offer that is accepted.
pub(crate) fn parse_acceptance(bytes: &[u8]) -> Option<(Vec<u8>, [u8; 32])> {
    let mut input = Decoder::new(bytes);
    if input.u16()? != 1 {
        return None;
    }
    let _from = input.text(1)?;
    let _to = input.text(1)?;
    let _serial = input.u64()?;
    let _previous: [u8; 32] = input.fixed()?;
    let _versions = input.vector(4)?;
    let _root = input.vector(2)?;
    let manifest = input.vector(2)?.to_vec();
    let _endpoints = input.vector(4)?;
    let _outbound = input.vector(4)?;
    let _inbound = input.vector(4)?;
    let _bounds = (input.u32()?, input.u32()?);
    let _limits = (input.u64()?, input.u64()?, input.u8()?);
    let _contact = input.text(2)?;
    let _nonce: [u8; 16] = input.fixed()?;
    let _times = (input.u64()?, input.u64()?);
    let offer = input.fixed()?;
    let _signature = input.vector(1)?;
    input.is_empty().then_some((manifest, offer))
}

/// The countersignature of exactly these two documents.
pub(crate) fn countersignature(
    peer: &Organisation,
    to: &str,
    offer: &[u8],
    acceptance: &Acceptance,
) -> Result<Vec<u8>> {
    let body = Encoder::new()
        .u16(1)
        .vector(1, peer.name.as_bytes())
        .vector(1, to.as_bytes())
        .fixed(&sha256(offer))
        .fixed(&sha256(&acceptance.bytes))
        .u64(now_ms())
        .finish();
    signed(peer, b"entente countersignature", &body)
}

/// What a manifest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerKeys {
    /// The issuing CA's certificate.
    pub(crate) issuing: Vec<u8>,
    /// The envelope keys.
    pub(crate) envelope: Vec<[u8; 32]>,
}

/// The keys that a manifest lists.
pub(crate) fn server_keys(manifest: &[u8]) -> Option<ServerKeys> {
    let mut input = Decoder::new(manifest);
    // The second format says at its end which keys are revoked, the third which roots there were.
    if !matches!(input.u16()?, 1..=3) {
        return None;
    }
    let _server = input.text(1)?;
    let _numbers = (input.u64()?, input.u64()?);
    let issuing = input.vector(2)?.to_vec();
    let mut keys = Decoder::new(input.vector(4)?);
    let mut envelope = Vec::new();
    while !keys.is_empty() {
        envelope.push(keys.fixed()?);
        let _validity = (keys.u64()?, keys.u64()?);
    }
    Some(ServerKeys { issuing, envelope })
}

fn signed(peer: &Organisation, label: &[u8], body: &[u8]) -> Result<Vec<u8>> {
    let signature = peer.sign(label, body)?;
    Ok(Encoder::new().fixed(body).vector(1, &signature).finish())
}

/// A document as text.
pub(crate) fn armored(kind: &str, document: &[u8]) -> String {
    let mut text = format!("-----BEGIN ENTENTE {kind}-----\n");
    let encoded = STANDARD.encode(document);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE_CHARACTERS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!(
        "SHA-256: {}\n-----END ENTENTE {kind}-----\n",
        hex::encode(sha256(document))
    ));
    text
}

/// The document in such a text.
pub(crate) fn unarmored(kind: &str, text: &str) -> Option<Vec<u8>> {
    let (_, after) = text.split_once(&format!("-----BEGIN ENTENTE {kind}-----"))?;
    let (inside, _) = after.split_once(&format!("-----END ENTENTE {kind}-----"))?;
    let (encoded, checksum) = inside.split_once("SHA-256:")?;
    let document = STANDARD
        .decode(encoded.split_whitespace().collect::<String>())
        .ok()?;
    (hex::encode(sha256(&document)) == checksum.trim()).then_some(document)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: what is armored is read back, and damage is noticed. Method: one document, one changed digit.
    #[test]
    fn armor_survives_and_notices() {
        let document: Vec<u8> = (0..=255).collect();
        let text = armored("ACCEPTANCE", &document);
        assert_eq!(unarmored("ACCEPTANCE", &text), Some(document));
        assert_eq!(
            unarmored("ACCEPTANCE", &text.replacen("AAEC", "AAED", 1)),
            None
        );
    }

    /// An acceptance with this manifest, of the offer with this hash, field by field.
    fn acceptance(
        texts: &[String; 3],
        numbers: [u64; 8],
        manifest: &[u8],
        offer: &[u8; 32],
    ) -> Vec<u8> {
        let [from, to, contact] = texts;
        let [
            serial,
            inside,
            limit,
            other_limit,
            created,
            expires,
            ttl_min,
            ttl_max,
        ] = numbers;
        let seconds = |number: u64| u32::try_from(number >> 32).unwrap();
        Encoder::new()
            .u16(1)
            .vector(1, from.as_bytes())
            .vector(1, to.as_bytes())
            .u64(serial)
            .fixed(&[0; 32])
            .vector(4, &inside.to_be_bytes())
            .vector(2, b"root")
            .vector(2, manifest)
            .vector(4, b"")
            .vector(4, b"")
            .vector(4, b"")
            .u32(seconds(ttl_min))
            .u32(seconds(ttl_max))
            .u64(limit)
            .u64(other_limit)
            .u8(0)
            .vector(2, contact.as_bytes())
            .fixed(&[0; 16])
            .u64(created)
            .u64(expires)
            .fixed(offer)
            .vector(1, b"signature")
            .finish()
    }

    proptest! {
        /// Goal: any document comes back from its armor, and any text is a document or none. Method: round trip,
        /// and true armor with something in its midst.
        #[test]
        fn any_armor(document: Vec<u8>, text: String, at in any::<prop::sample::Index>()) {
            let good = armored("ACCEPTANCE", &document);
            prop_assert_eq!(unarmored("ACCEPTANCE", &good), Some(document));
            prop_assert_eq!(unarmored("OFFER", &good), None);
            let _ = unarmored("ACCEPTANCE", &text);
            if let Some((before, after)) = good.split_at_checked(at.index(good.len())) {
                let _ = unarmored("ACCEPTANCE", &format!("{before}{text}{after}"));
            }
        }

        /// Goal: an acceptance is read whole, to its last byte. Method: any fields; the bytes cut and lengthened.
        #[test]
        fn acceptances_are_read_whole(
            texts: [String; 3],
            numbers: [u64; 8],
            manifest in prop::collection::vec(any::<u8>(), 0..200),
            offer: [u8; 32],
            cut in any::<prop::sample::Index>(),
        ) {
            prop_assume!(texts.iter().all(|text| text.len() < 256));
            let mut bytes = acceptance(&texts, numbers, &manifest, &offer);
            prop_assert_eq!(parse_acceptance(&bytes), Some((manifest, offer)));
            prop_assert_eq!(parse_acceptance(&bytes[..cut.index(bytes.len())]), None);
            bytes.push(0);
            prop_assert_eq!(parse_acceptance(&bytes), None);
        }

        /// Goal: a manifest's keys are read in their order, and half a list is none. Method: any keys.
        #[test]
        fn manifests_list_their_keys(keys: Vec<[u8; 32]>, format in 1..=3_u16, cut in 1..48_usize) {
            let list = keys.iter().fold(Encoder::new(), |list, key| list.fixed(key).u64(1).u64(2)).finish();
            let manifest = |list: &[u8]| {
                Encoder::new().u16(format).vector(1, b"a.example").u64(1).u64(2).vector(2, b"issuing").vector(4, list).finish()
            };
            let half = list.len().saturating_sub(cut);
            let listed = ServerKeys { issuing: b"issuing".to_vec(), envelope: keys.clone() };
            prop_assert_eq!(server_keys(&manifest(&list)), Some(listed));
            prop_assert!(keys.is_empty() || server_keys(&manifest(&list[..half])).is_none());
        }

        /// Goal: any bytes are a document or none. Method: any bytes.
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse_acceptance(&bytes);
            let _ = server_keys(&bytes);
        }
    }
}
