//! What this homeserver signs with: the envelope key in use, and the manifest that names it.

use bytes::Bytes;
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::manifest::{self, EnvelopeKeyEntry, Manifest, ManifestBody};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::OrganisationError;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long an envelope key may be used.
const ENVELOPE_KEY_VALIDITY_MS: u64 = 90 * DAY_MS;
/// The next key takes over when the current one has this much left: until then both are listed, so
/// that mail signed on the last day still verifies where it arrives weeks later.
const ENVELOPE_KEY_OVERLAP_MS: u64 = 30 * DAY_MS;
/// How far back a key's validity starts, for peers whose clocks are behind.
const CLOCK_BEHIND_MS: u64 = 2 * 60 * 60 * 1000;
/// What precedes the seed in an Ed25519 private key (RFC 8410, PKCS#8 version 0).
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The private half of an envelope key.
#[derive(Clone)]
pub(super) struct EnvelopeSeed(Zeroizing<[u8; 32]>);

impl EnvelopeSeed {
    pub(super) fn draw(random: &dyn SecureRandom) -> Result<Self, OrganisationError> {
        let mut seed = Zeroizing::new([0; 32]);
        random
            .fill(&mut *seed)
            .map_err(|_| OrganisationError::Crypto("no randomness".to_owned()))?;
        Ok(Self(seed))
    }

    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&ED25519_PKCS8_PREFIX[..], &self.0[..]].concat())
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let seed = der.strip_prefix(&ED25519_PKCS8_PREFIX)?;
        Some(Self(Zeroizing::new(seed.try_into().ok()?)))
    }

    pub(super) fn key(&self) -> Result<EnvelopeKey, OrganisationError> {
        EnvelopeKey::from_seed(&self.0).map_err(crypto)
    }
}

/// What a manifest is made of and signed with.
pub(super) struct Signer<'a> {
    pub(super) server: &'a ServerName,
    pub(super) root: Bytes,
    pub(super) issuing: Bytes,
    pub(super) issuing_key: &'a IssuingKey,
    pub(super) tls_pins: [[u8; 32]; 2],
}

impl Signer<'_> {
    /// The manifest after `former` that lists `key` beside every key whose time is not over.
    pub(super) fn manifest(
        &self,
        former: Option<&Manifest>,
        key: &EnvelopeKey,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Manifest, OrganisationError> {
        let mut envelope_keys: Vec<_> = former
            .map(|former| former.body().envelope_keys.clone())
            .unwrap_or_default();
        envelope_keys.retain(|entry| entry.not_after_ms > now_ms && entry.public != *key.public());
        envelope_keys.push(EnvelopeKeyEntry {
            public: *key.public(),
            not_before_ms: now_ms.saturating_sub(CLOCK_BEHIND_MS),
            not_after_ms: now_ms.saturating_add(ENVELOPE_KEY_VALIDITY_MS),
        });
        let body = ManifestBody {
            server: self.server.clone(),
            // Of the clock, so that one made again after a crash or from a backup is never a second one
            // with a known number.
            serial: former.map_or(now_ms, |former| {
                former.serial().saturating_add(1).max(now_ms)
            }),
            issued_ms: now_ms,
            issuing_certificate: self.issuing.clone(),
            envelope_keys,
            tls_pins: self.tls_pins.map(Digest::from_bytes).to_vec(),
        };
        let bytes = body.sign(self.issuing_key, random).map_err(crypto)?;
        self.verify(bytes, now_ms)
    }

    /// The manifest in these bytes, when it is ours and holds.
    pub(super) fn verify(&self, bytes: Bytes, now_ms: u64) -> Result<Manifest, OrganisationError> {
        manifest::decode(bytes)
            .map_err(crypto)?
            .verify(self.server, &self.root, None, now_ms)
            .map_err(crypto)
    }

    /// Whether `manifest` no longer says what is: the key's end is near, or certificates or pins are
    /// others.
    pub(super) fn is_due(&self, manifest: &Manifest, key: &EnvelopeKey, now_ms: u64) -> Due {
        let listed = manifest.envelope_key(key.id());
        match listed {
            Some(entry) if entry.not_after_ms <= now_ms.saturating_add(ENVELOPE_KEY_OVERLAP_MS) => {
                Due::Key
            }
            Some(_)
                if manifest.body().issuing_certificate == self.issuing
                    && self
                        .tls_pins
                        .iter()
                        .all(|pin| manifest.has_tls_pin(&Digest::from_bytes(*pin))) =>
            {
                Due::Nothing
            }
            Some(_) | None => Due::Manifest,
        }
    }
}

/// What has to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// The manifest, for the same key.
    Manifest,
    /// The key, and the manifest with it.
    Key,
}

fn crypto(error: impl std::fmt::Display) -> OrganisationError {
    OrganisationError::Crypto(error.to_string())
}
