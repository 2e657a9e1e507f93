//! Makes everything a new organisation needs.

use federation_proto::ids::ServerName;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::keys::{IssuingCa, Pieces, TlsKey};
use super::signing::EnvelopeSeed;
use super::{Keys, OrganisationError, certificates};

/// A new organisation, not yet written anywhere.
pub struct NewOrganisation {
    /// What the homeserver keeps.
    pub keys: Keys,
    /// The root's private key (PKCS#8), which it must not keep.
    pub root_key: Zeroizing<Vec<u8>>,
}

/// Makes a root, an issuing CA, two TLS keys, two envelope keys and a room key for `server`.
pub fn create(
    server: &ServerName,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<NewOrganisation, OrganisationError> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root = certificates::root(server, &root_key, now_ms, random)?;
    let issuing_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issuing = certificates::issuing(server, &issuing_key, &root, &root_key, now_ms, random)?;
    let issuing = IssuingCa::new(issuing, issuing_key, random)?;
    let pieces = Pieces {
        server: server.clone(),
        root,
        tls_current: TlsKey::draw(server, &issuing, now_ms, random)?,
        tls_backup: TlsKey::draw(server, &issuing, now_ms, random)?,
        issuing,
        seed: EnvelopeSeed::draw(random)?,
        seed_next: EnvelopeSeed::draw(random)?,
        room_seed: EnvelopeSeed::draw(random)?,
        manifest: None,
        second: None,
    };
    Ok(NewOrganisation {
        root_key: Zeroizing::new(root_key.serialize_der()),
        keys: Keys::assemble(pieces, now_ms, random)?,
    })
}
