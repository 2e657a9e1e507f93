//! Makes everything a new organisation needs.

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::keys::{Pieces, TlsKey};
use super::signing::EnvelopeSeed;
use super::{Keys, OrganisationError, certificates};

/// A new organisation, not yet written anywhere.
pub struct NewOrganisation {
    /// What the homeserver keeps.
    pub keys: Keys,
    /// The root's private key (PKCS#8), which it must not keep.
    pub root_key: Zeroizing<Vec<u8>>,
}

/// Makes a root, an issuing CA, two TLS keys and an envelope key for `server`.
pub fn create(
    server: &ServerName,
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<NewOrganisation, OrganisationError> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root = certificates::root(server, &root_key, now_ms, random)?;
    let issuing_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issuing = certificates::issuing(server, &issuing_key, &root, &root_key, now_ms, random)?;
    let issuer = Issuer::from_ca_cert_der(&issuing, &issuing_key)?;
    let tls = || -> Result<TlsKey, OrganisationError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf: CertificateDer<'static> =
            certificates::tls_leaf(server, &key, &issuer, now_ms, random)?;
        Ok(TlsKey {
            key,
            leaf: ArcSwap::from_pointee(leaf),
        })
    };
    let (tls_current, tls_backup) = (tls()?, tls()?);
    let pieces = Pieces {
        server: server.clone(),
        root,
        issuing,
        issuing_key,
        tls_current,
        tls_backup,
        seed: EnvelopeSeed::draw(random)?,
        manifest: None,
    };
    Ok(NewOrganisation {
        root_key: Zeroizing::new(root_key.serialize_der()),
        keys: Keys::assemble(pieces, now_ms, random)?,
    })
}
