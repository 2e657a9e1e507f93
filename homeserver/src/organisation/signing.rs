//! What this homeserver signs with: the envelope key in use and the next one, and the manifest that lists
//! both beside every former key whose mail may still be on its way.

use bytes::Bytes;
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, IssuingKey, KeyId};
use federation_proto::limits::{ENVELOPE_KEYS_MAX, TLS_PINS_MAX};
use federation_proto::manifest::{self, EnvelopeKeyEntry, FormerRoot, Manifest, ManifestBody};
use ring::rand::SecureRandom;
use room_rules::RoomKey;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::OrganisationError;

const _: () = assert!(TLS_FORMER_MAX + 2 <= TLS_PINS_MAX);

pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long an envelope key may be used.
pub(super) const ENVELOPE_KEY_VALIDITY_MS: u64 = 90 * DAY_MS;
/// The next key takes over when the current one has this much left, and a former key stays listed for as
/// long: mail signed on the last day still verifies where it arrives weeks later.
pub(super) const ENVELOPE_KEY_OVERLAP_MS: u64 = 30 * DAY_MS;
/// Pins of former TLS keys stay listed for this long after the last change of keys,
const TLS_FORMER_MS: u64 = DAY_MS;
/// and no more of them than this: connections that show a key end when its pin is listed no longer.
pub(super) const TLS_FORMER_MAX: usize = 4;
/// How far back a key's validity starts, for peers whose clocks are behind.
const CLOCK_BEHIND_MS: u64 = 2 * 60 * 60 * 1000;
/// What precedes the seed in an Ed25519 private key (RFC 8410, PKCS#8 version 0).
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The private half of an envelope key, or of the room key.
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

    /// The key of this seed for proposing in rooms.
    pub(super) fn room_key(&self) -> Result<RoomKey, OrganisationError> {
        RoomKey::from_seed(&self.0).map_err(crypto)
    }

    pub(super) fn key(&self) -> Result<EnvelopeKey, OrganisationError> {
        EnvelopeKey::from_seed(&self.0).map_err(crypto)
    }
}

/// What a manifest lists, and who signs it.
pub(super) struct Listing<'a> {
    pub(super) server: &'a ServerName,
    pub(super) root: &'a Bytes,
    /// The issuing CA's certificate under that root.
    pub(super) issuing_certificate: &'a CertificateDer<'static>,
    pub(super) issuing_key: &'a IssuingKey,
    pub(super) envelope: &'a EnvelopeKey,
    pub(super) envelope_next: &'a EnvelopeKey,
    pub(super) tls_pins: Vec<[u8; 32]>,
    pub(super) former_roots: Vec<FormerRoot>,
}

impl Listing<'_> {
    /// The manifest after `former`. Keys of that one stay listed until their time is over; `revoked` are
    /// revoked from now on, each since its time.
    pub(super) fn manifest(
        &self,
        former: Option<&Manifest>,
        revoked: &[(KeyId, u64)],
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Manifest, OrganisationError> {
        let body = ManifestBody {
            server: self.server.clone(),
            // Of the clock, so that one made again after a crash or from a backup is never a second one
            // with a known number.
            serial: former.map_or(now_ms, |former| {
                former.serial().saturating_add(1).max(now_ms)
            }),
            issued_ms: now_ms,
            issuing_certificate: self.issuing_certificate(),
            envelope_keys: self.envelope_keys(former, revoked, now_ms),
            tls_pins: self.pins(),
            former_roots: self.former_roots.clone(),
        };
        let bytes = body.sign(self.issuing_key, random).map_err(crypto)?;
        self.verify(bytes, now_ms)
    }

    /// The manifest in these bytes, when it is ours and holds.
    pub(super) fn verify(&self, bytes: Bytes, now_ms: u64) -> Result<Manifest, OrganisationError> {
        manifest::decode(bytes)
            .map_err(crypto)?
            .verify(self.server, self.root, None, now_ms)
            .map_err(crypto)
    }

    fn envelope_keys(
        &self,
        former: Option<&Manifest>,
        revoked: &[(KeyId, u64)],
        now_ms: u64,
    ) -> Vec<EnvelopeKeyEntry> {
        let known = former.map_or(&[][..], |former| &former.body().envelope_keys);
        let in_use = [self.envelope, self.envelope_next];
        let mut rest: Vec<_> = known
            .iter()
            .filter(|entry| in_use.iter().all(|key| *key.public() != entry.public))
            .map(|entry| EnvelopeKeyEntry {
                not_after_ms: entry
                    .not_after_ms
                    .min(now_ms.saturating_add(ENVELOPE_KEY_OVERLAP_MS)),
                ..*entry
            })
            .filter(|entry| entry.not_after_ms > now_ms)
            .collect();
        // However often keys were changed, the newest ones stay: those that end last.
        rest.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.not_after_ms));
        rest.truncate(ENVELOPE_KEYS_MAX - in_use.len());
        let mut entries: Vec<_> = in_use
            .into_iter()
            .map(|key| in_use_entry(known, key, now_ms))
            .chain(rest)
            .collect();
        for (id, since_ms) in revoked {
            for entry in entries.iter_mut().filter(|entry| entry.id() == *id) {
                let known_ms = entry.revoked_ms.unwrap_or(u64::MAX);
                entry.revoked_ms = Some(known_ms.min(*since_ms));
            }
        }
        entries
    }

    /// Whether `manifest` no longer says what is: the current key's end is near, or certificates, keys or
    /// pins are others.
    pub(super) fn is_due(&self, manifest: &Manifest, now_ms: u64) -> Due {
        let body = manifest.body();
        let near_ms = now_ms.saturating_add(ENVELOPE_KEY_OVERLAP_MS);
        let in_time = |key: &EnvelopeKey| {
            let entry = manifest.envelope_key(key.id());
            entry.map(|entry| entry.not_after_ms > near_ms)
        };
        let former_only = body.tls_pins.len() > 2;
        let aged = now_ms >= body.issued_ms.saturating_add(TLS_FORMER_MS);
        match (in_time(self.envelope), in_time(self.envelope_next)) {
            (Some(false), _) => Due::Key,
            _ if former_only && aged => Due::Pins,
            (Some(true), Some(true))
                if body.issuing_certificate == self.issuing_certificate()
                    && body.tls_pins == self.pins() =>
            {
                Due::Nothing
            }
            _ => Due::Manifest,
        }
    }

    fn issuing_certificate(&self) -> Bytes {
        Bytes::copy_from_slice(self.issuing_certificate)
    }

    fn pins(&self) -> Vec<Digest> {
        let mut pins: Vec<_> = self
            .tls_pins
            .iter()
            .copied()
            .map(Digest::from_bytes)
            .collect();
        pins.sort_unstable();
        pins
    }
}

/// How a key that is in use, or will be next, is listed: as before, unless its end is near.
fn in_use_entry(known: &[EnvelopeKeyEntry], key: &EnvelopeKey, now_ms: u64) -> EnvelopeKeyEntry {
    let entry = known.iter().find(|entry| entry.public == *key.public());
    let near_ms = now_ms.saturating_add(ENVELOPE_KEY_OVERLAP_MS);
    match entry.copied() {
        Some(entry) if entry.not_after_ms > near_ms => entry,
        listed => EnvelopeKeyEntry {
            public: *key.public(),
            not_before_ms: listed.map_or(now_ms.saturating_sub(CLOCK_BEHIND_MS), |entry| {
                entry.not_before_ms
            }),
            not_after_ms: now_ms.saturating_add(ENVELOPE_KEY_VALIDITY_MS),
            revoked_ms: listed.and_then(|entry| entry.revoked_ms),
        },
    }
}

/// What has to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// The manifest, for the same keys.
    Manifest,
    /// The manifest, without the pins of former TLS keys.
    Pins,
    /// The next envelope key takes over.
    Key,
}

fn crypto(error: impl std::fmt::Display) -> OrganisationError {
    OrganisationError::Crypto(error.to_string())
}
