//! A new issuing CA: asked for on the homeserver's machine, signed where the root's key is, and taken up by
//! the running homeserver.
//!
//! The request's private key waits in `issuing-next-key.pem` and never leaves the folder. What the root has
//! signed is put with it into `issuing-new/`, complete or not at all, and the homeserver takes it from there.
//! Partners need not be told: they pin the root, and the next manifest carries the new certificate.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::organisation::OrganisationIdentity;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{CERTIFICATE, ISSUING, ISSUING_KEY, PRIVATE_KEY, ROOT, own_uid};
use super::keys::IssuingCa;
use super::renewal::Renewal;
use super::{KeyFolder, Keys, OrganisationError, certificates, pem, sync_folder, write_private};

const REQUEST: &str = "CERTIFICATE REQUEST";
const NEXT_KEY: &str = "issuing-next-key.pem";
pub(super) const NEW: &str = "issuing-new";
const NEW_DRAFT: &str = "issuing-new.draft";
/// Largest request or certificate that is read, as text.
pub const TEXT_BYTES_MAX: u64 = 16 * 1024;

/// Signs a request for an issuing CA with the root's private key (PKCS#8). The organisation's name is the
/// root's, whatever the request says; of the request only the key counts.
pub fn sign(
    request: &str,
    root: &str,
    root_key: &[u8],
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<String, OrganisationError> {
    let (root, root_key, server) = root_of(root, root_key)?;
    let key = requested_key(request)?;
    let issuing = certificates::issuing(&server, &key, &root, &root_key, now_ms, random)?;
    Ok(pem::encode(CERTIFICATE, &issuing).to_string())
}

/// A root with its private key (PKCS#8), and the organisation that it is of.
pub(super) fn root_of(
    root: &str,
    root_key: &[u8],
) -> Result<(CertificateDer<'static>, KeyPair, ServerName), OrganisationError> {
    let wrong = |problem: &str| unusable("root certificate", problem);
    let root = pem::decode(CERTIFICATE, root)
        .map(|der| CertificateDer::from(der.to_vec()))
        .ok_or_else(|| wrong("it is not one PEM block of a CERTIFICATE"))?;
    let root_key = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(root_key),
        &PKCS_ECDSA_P256_SHA256,
    )?;
    let server = {
        let (_, parsed) =
            X509Certificate::from_der(&root).map_err(|error| wrong(&error.to_string()))?;
        if parsed.public_key().raw != root_key.subject_public_key_info() {
            return Err(wrong("it belongs to another key than the root key file"));
        }
        organisation_of(&parsed)?
    };
    Ok((root, root_key, server))
}

/// The key that a request asks for, which whoever made the request holds.
pub(super) fn requested_key(
    request: &str,
) -> Result<impl PublicKeyData + use<>, OrganisationError> {
    let wrong = |problem: String| unusable("request", &problem);
    let der = pem::decode(REQUEST, request)
        .ok_or_else(|| wrong(format!("it is not one PEM block of a {REQUEST}")))?;
    let der = CertificateSigningRequestDer::from(der.as_slice());
    // Parsing checks the request's signature too.
    let parsed = CertificateSigningRequestParams::from_der(&der)
        .map_err(|error| wrong(error.to_string()))?;
    if PublicKeyData::algorithm(&parsed.public_key) == &PKCS_ECDSA_P256_SHA256 {
        Ok(parsed.public_key)
    } else {
        Err(wrong("its key is not ECDSA P-256".to_owned()))
    }
}

/// Whether a text is a request that [`sign`] would sign, for tests with any text.
#[doc(hidden)]
pub fn is_request(text: &str) -> bool {
    requested_key(text).is_ok()
}

/// The organisation that a root is of, by its subject: `a.example root`.
pub(super) fn organisation_of(root: &X509Certificate<'_>) -> Result<ServerName, OrganisationError> {
    root.subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok()?.strip_suffix(" root")?.parse().ok())
        .ok_or_else(|| unusable("root certificate", "its subject names no organisation"))
}

impl KeyFolder {
    /// A request for the root's signature, as text. Its key is made once and kept until it is signed.
    pub fn request_issuing(&self, server: &ServerName) -> Result<String, OrganisationError> {
        self.request_issuing_with(NEXT_KEY, server)
    }

    /// The request for the key in the file with this name.
    pub(super) fn request_issuing_with(
        &self,
        key_name: &str,
        server: &ServerName,
    ) -> Result<String, OrganisationError> {
        self.check_own()?;
        let path = self.path().join(key_name);
        if !matches!(path.try_exists(), Ok(true)) {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let text = pem::encode(PRIVATE_KEY, key.serialized_der());
            write_private(&path, text.as_bytes())
                .and_then(|()| sync_folder(self.path()))
                .map_err(at(&path))?;
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{server} issuing"));
        let request = params.serialize_request(&self.key(key_name)?)?;
        Ok(pem::encode(REQUEST, request.der()).to_string())
    }

    /// Takes what the root has signed: the homeserver uses it from its next look on.
    pub fn install_issuing(&self, answer: &str, now_ms: u64) -> Result<(), OrganisationError> {
        self.check_own()?;
        let certificate = pem::decode(CERTIFICATE, answer)
            .map(|der| CertificateDer::from(der.to_vec()))
            .ok_or_else(|| unusable("certificate", "it is not one PEM block of a CERTIFICATE"))?;
        let key = self.key(NEXT_KEY).map_err(|error| {
            OrganisationError::Asked(format!(
                "{error}: there is no request that this answers; make one with `homeserver ca request`"
            ))
        })?;
        self.check_matches(NEXT_KEY, &certificate, &key)?;
        self.check_no_root_change()?;
        let root = self.certificate(ROOT)?;
        check_follows(&root, &self.certificate(ISSUING)?, &certificate, now_ms)?;

        let certificate = pem::encode(CERTIFICATE, &certificate);
        let key = pem::encode(PRIVATE_KEY, key.serialized_der());
        self.put_new(
            [NEW_DRAFT, NEW, NEXT_KEY],
            [(ISSUING, &certificate), (ISSUING_KEY, &key)],
        )
    }

    /// Puts what was signed where the homeserver takes it up, complete or not at all; the request is answered then. What
    /// has not been taken up yet is overtaken.
    pub(super) fn put_new(
        &self,
        [draft, new, next_key]: [&str; 3],
        texts: [(&str, &str); 2],
    ) -> Result<(), OrganisationError> {
        let draft = self.path().join(draft);
        let put = || -> io::Result<()> {
            remove(&draft)?;
            DirBuilder::new().mode(0o700).create(&draft)?;
            for (name, text) in texts {
                write_private(&draft.join(name), text.as_bytes())?;
            }
            sync_folder(&draft)?;
            remove(&self.path().join(new))?;
            std::fs::rename(&draft, self.path().join(new))?;
            std::fs::remove_file(self.path().join(next_key))?;
            sync_folder(self.path())
        };
        put().map_err(at(&draft))
    }

    /// The issuing CA that waits to be taken up, and what it brings with it.
    pub(super) fn waiting_issuing(
        &self,
        keys: &Keys,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        if !self
            .path()
            .join(NEW)
            .try_exists()
            .map_err(at(&self.path().join(NEW)))?
        {
            return Ok(None);
        }
        let new = Self::at(self.path().join(NEW));
        let certificate = new.certificate(ISSUING)?;
        if certificate == keys.issuing() {
            // Taken up before a crash.
            self.forget_waiting_issuing()?;
            return Ok(None);
        }
        let key = new.key(ISSUING_KEY)?;
        new.check_matches(ISSUING, &certificate, &key)?;
        check_follows(&keys.root(), &keys.issuing(), &certificate, now_ms)?;
        let issuing = IssuingCa::new(certificate, key, random)?;
        keys.under(issuing, now_ms, random).map(Some)
    }

    /// It is in use now.
    pub(super) fn forget_waiting_issuing(&self) -> Result<(), OrganisationError> {
        let path = self.path().join(NEW);
        remove(&path).map_err(at(&path))
    }

    /// What another user writes here, the homeserver could not read.
    pub(super) fn check_own(&self) -> Result<(), OrganisationError> {
        let owner = std::fs::metadata(self.path())
            .map_err(at(self.path()))?
            .uid();
        match own_uid() {
            Some(own) if own != owner => Err(OrganisationError::Asked(format!(
                "{} belongs to the user {owner}: run this as that user",
                self.path().display()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether `new` may follow `present`: the root has signed it, and it begins later, for partners take no
/// manifest of a CA that begins before the one they know.
pub(super) fn check_follows(
    root: &CertificateDer<'_>,
    present: &CertificateDer<'_>,
    new: &CertificateDer<'_>,
    now_ms: u64,
) -> Result<(), OrganisationError> {
    let since = |issuing: &CertificateDer<'_>, at_ms| {
        OrganisationIdentity::parse(
            Bytes::copy_from_slice(root),
            Bytes::copy_from_slice(issuing),
            at_ms,
        )
        .map(|identity| identity.issuing_since())
        .map_err(|error| unusable("new issuing CA", &error.to_string()))
    };
    let begins = since(new, now_ms)?;
    let (_, present) = X509Certificate::from_der(present)
        .map_err(|error| unusable("present issuing CA", &error.to_string()))?;
    if begins <= present.validity().not_before.timestamp() {
        return Err(unusable(
            "new issuing CA",
            "it begins no later than the present one, and partners would not take it: have a new one \
             signed",
        ));
    }
    Ok(())
}

pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OrganisationError {
    let path = PathBuf::from(path);
    move |error| OrganisationError::Unusable {
        what: path.display().to_string(),
        problem: error.to_string(),
    }
}

pub(super) fn unusable(what: &str, problem: &str) -> OrganisationError {
    OrganisationError::Unusable {
        what: what.to_owned(),
        problem: problem.to_owned(),
    }
}

/// What `homeserver ca renew` and the running homeserver do together, in memory, for tests.
#[cfg(test)]
pub(crate) fn renew_in_memory(
    keys: &Keys,
    root_key: &[u8],
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<(), OrganisationError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let request = pem::encode(REQUEST, request.der());
    let root = pem::encode(CERTIFICATE, &keys.root());
    let signed = sign(&request, &root, root_key, now_ms, random)?;
    let certificate = pem::decode(CERTIFICATE, &signed)
        .map(|der| CertificateDer::from(der.to_vec()))
        .ok_or_else(|| unusable("new issuing CA", "it is not one PEM block"))?;
    check_follows(&keys.root(), &keys.issuing(), &certificate, now_ms)?;
    let issuing = IssuingCa::new(certificate, key, random)?;
    keys.take(&keys.under(issuing, now_ms, random)?);
    Ok(())
}
