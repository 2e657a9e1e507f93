//! The keys folder: what lies in it, how it is written once and read at every start.
//!
//! | file | holds |
//! |---|---|
//! | `root.pem` | the root certificate |
//! | `issuing.pem`, `issuing-key.pem` | the issuing CA's certificate and private key |
//! | `tls-current.pem`, `tls-current-key.pem` | the TLS certificate in use and its private key |
//! | `tls-backup.pem`, `tls-backup-key.pem` | the pair that takes over when the current one is lost |
//! | `envelope-key.pem` | the Ed25519 private key that signs what goes to peers |
//! | `manifest.pem` | the signed list of envelope keys and TLS pins that peers know |
//!
//! The folder is 0700, private keys are 0600. The root's private key is never here.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use bytes::Bytes;
use federation_proto::ids::ServerName;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::keys::{Pieces, Renewal, TlsKey};
use super::signing::EnvelopeSeed;
use super::{Keys, OrganisationError, pem};

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";
const ROOT: &str = "root.pem";
const ISSUING: &str = "issuing.pem";
const ISSUING_KEY: &str = "issuing-key.pem";
const TLS_CURRENT: (&str, &str) = ("tls-current.pem", "tls-current-key.pem");
const TLS_BACKUP: (&str, &str) = ("tls-backup.pem", "tls-backup-key.pem");
const ENVELOPE_KEY: &str = "envelope-key.pem";
const MANIFEST: (&str, &str) = ("manifest.pem", "ENTENTE MANIFEST");
const FILE_BYTES_MAX: u64 = 64 * 1024;
const ROOT_UID: u32 = 0;

/// The folder that holds an organisation's keys.
pub struct KeyFolder(PathBuf);

impl KeyFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Writes the keys of a new organisation; refuses a folder that exists.
    pub fn create(&self, keys: &Keys) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        let certificate = |der: &CertificateDer<'_>| pem::encode(CERTIFICATE, der);
        let private = |key: &KeyPair| pem::encode(PRIVATE_KEY, key.serialized_der());
        self.write_new(ROOT, &certificate(&keys.root))?;
        self.write_new(ISSUING, &certificate(&keys.issuing))?;
        self.write_new(ISSUING_KEY, &private(keys.issuer.key()))?;
        for (names, tls) in [
            (TLS_CURRENT, &keys.tls_current),
            (TLS_BACKUP, &keys.tls_backup),
        ] {
            self.write_new(names.0, &certificate(&tls.leaf.load()))?;
            self.write_new(names.1, &private(&tls.key))?;
        }
        let signing = keys.signing.load();
        let seed = pem::encode(PRIVATE_KEY, &signing.seed.to_pkcs8());
        self.write_new(ENVELOPE_KEY, &seed)?;
        let manifest = pem::encode(MANIFEST.1, signing.manifest.bytes());
        self.write_new(MANIFEST.0, &manifest)?;
        sync_folder(&self.0)?;
        self.0.parent().map_or(Ok(()), sync_folder)
    }

    /// Reads and checks every key of `server`; every mistake is reported at once.
    pub fn load(
        &self,
        server: &ServerName,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Keys, Vec<OrganisationError>> {
        let mut problems = Vec::new();
        let mut note = |error| problems.push(error);
        self.check_private(&self.0, 0o700).unwrap_or_else(&mut note);
        let root = self.certificate(ROOT).map_err(&mut note);
        let issuing = self.certificate(ISSUING).map_err(&mut note);
        let issuing_key = self.key(ISSUING_KEY).map_err(&mut note);
        let tls_current = self.tls(TLS_CURRENT, server).map_err(&mut note);
        let tls_backup = self.tls(TLS_BACKUP, server).map_err(&mut note);
        let seed = self.envelope_seed().map_err(&mut note);
        let manifest = self.read(MANIFEST.0, MANIFEST.1).map_err(&mut note);

        if let (Ok(root), Ok(issuing)) = (&root, &issuing) {
            self.check_signed(ROOT, root, root)
                .unwrap_or_else(&mut note);
            self.check_signed(ISSUING, issuing, root)
                .unwrap_or_else(&mut note);
        }
        if let (Ok(issuing), Ok(key)) = (&issuing, &issuing_key) {
            self.check_matches(ISSUING, issuing, key)
                .unwrap_or_else(&mut note);
            for (names, tls) in [(TLS_CURRENT, &tls_current), (TLS_BACKUP, &tls_backup)] {
                if let Ok(tls) = tls {
                    self.check_signed(names.0, &tls.leaf.load(), issuing)
                        .unwrap_or_else(&mut note);
                }
            }
        }
        match (
            root,
            issuing,
            issuing_key,
            tls_current,
            tls_backup,
            seed,
            manifest,
        ) {
            (
                Ok(root),
                Ok(issuing),
                Ok(issuing_key),
                Ok(tls_current),
                Ok(tls_backup),
                Ok(seed),
                Ok(manifest),
            ) if problems.is_empty() => {
                let pieces = Pieces {
                    server: server.clone(),
                    root,
                    issuing,
                    issuing_key,
                    tls_current,
                    tls_backup,
                    seed,
                    manifest: Some(Bytes::copy_from_slice(&manifest)),
                };
                Keys::assemble(pieces, now_ms, random)
                    .map_err(|error| vec![self.unusable(MANIFEST.0, error.to_string())])
            }
            _ => Err(problems),
        }
    }

    /// Writes what [`Keys::renewal`] made anew, before it is used. Each file is replaced whole; the
    /// envelope key comes before the manifest that names it, and a crash between the two is mended by the
    /// next renewal.
    pub fn replace(&self, renewal: &Renewal) -> io::Result<()> {
        let signing = &renewal.signing;
        let files = [
            (
                TLS_CURRENT.0,
                pem::encode(CERTIFICATE, &renewal.tls_current),
            ),
            (TLS_BACKUP.0, pem::encode(CERTIFICATE, &renewal.tls_backup)),
            (
                ENVELOPE_KEY,
                pem::encode(PRIVATE_KEY, &signing.seed.to_pkcs8()),
            ),
            (
                MANIFEST.0,
                pem::encode(MANIFEST.1, signing.manifest.bytes()),
            ),
        ];
        for (name, text) in files {
            let new = format!("{name}.new");
            // What a crash left behind.
            match std::fs::remove_file(self.0.join(&new)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.write_new(&new, &text)?;
            std::fs::rename(self.0.join(&new), self.0.join(name))?;
            sync_folder(&self.0)?;
        }
        Ok(())
    }

    fn write_new(&self, name: &str, text: &str) -> io::Result<()> {
        write_private(&self.0.join(name), text.as_bytes())
    }

    fn read(&self, name: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
        let path = self.0.join(name);
        let wrong = |problem: String| self.unusable(name, problem);
        let about = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
        if about.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        pem::decode(label, &Zeroizing::new(text))
            .ok_or_else(|| wrong(format!("it is not one PEM block of a {label}")))
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, OrganisationError> {
        let der = CertificateDer::from(self.read(name, CERTIFICATE)?.to_vec());
        self.parse(name, &der)?;
        Ok(der)
    }

    fn private(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
        let der = self.read(name, PRIVATE_KEY)?;
        self.check_private(&self.0.join(name), 0o600)?;
        Ok(der)
    }

    fn key(&self, name: &str) -> Result<KeyPair, OrganisationError> {
        let der = self.private(name)?;
        KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(der.as_slice()),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map_err(|error| self.unusable(name, format!("it is no ECDSA P-256 key: {error}")))
    }

    fn tls(&self, names: (&str, &str), server: &ServerName) -> Result<TlsKey, OrganisationError> {
        let leaf = self.certificate(names.0)?;
        let key = self.key(names.1)?;
        self.check_matches(names.0, &leaf, &key)?;
        let name = only_dns_name(&self.parse(names.0, &leaf)?);
        if name.as_deref() != Some(server.as_str()) {
            let problem = format!(
                "it is for {}, but the configuration names this server {server}",
                name.as_deref().unwrap_or("no single name")
            );
            return Err(self.unusable(names.0, problem));
        }
        let leaf = ArcSwap::from_pointee(leaf);
        Ok(TlsKey { key, leaf })
    }

    fn envelope_seed(&self) -> Result<EnvelopeSeed, OrganisationError> {
        EnvelopeSeed::from_pkcs8(&self.private(ENVELOPE_KEY)?)
            .ok_or_else(|| self.unusable(ENVELOPE_KEY, "it is no Ed25519 key (PKCS#8)".to_owned()))
    }

    fn parse<'a>(
        &self,
        name: &str,
        der: &'a CertificateDer<'_>,
    ) -> Result<X509Certificate<'a>, OrganisationError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            Ok(_) => Err(self.unusable(name, "bytes follow the certificate".to_owned())),
            Err(error) => Err(self.unusable(name, format!("it is no certificate: {error}"))),
        }
    }

    fn check_matches(
        &self,
        name: &str,
        certificate: &CertificateDer<'_>,
        key: &KeyPair,
    ) -> Result<(), OrganisationError> {
        if self.parse(name, certificate)?.public_key().raw == key.subject_public_key_info() {
            Ok(())
        } else {
            Err(self.unusable(
                name,
                "it belongs to another key than the one beside it".to_owned(),
            ))
        }
    }

    fn check_signed(
        &self,
        name: &str,
        certificate: &CertificateDer<'_>,
        signer: &CertificateDer<'_>,
    ) -> Result<(), OrganisationError> {
        let signer = self.parse(name, signer)?;
        self.parse(name, certificate)?
            .verify_signature(Some(signer.public_key()))
            .map_err(|_| self.unusable(name, format!("it is not signed by {}", signer.subject())))
    }

    /// Private keys and their folder are their owner's alone.
    fn check_private(&self, path: &Path, mode: u32) -> Result<(), OrganisationError> {
        let wrong = |problem| OrganisationError::Unusable {
            what: path.display().to_string(),
            problem,
        };
        let about = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        if about.mode() & 0o077 != 0 {
            return Err(wrong(format!(
                "others can read it: chmod {mode:o} {}",
                path.display()
            )));
        }
        match own_uid() {
            Some(own) if !is_trusted_owner(about.uid(), own) => Err(wrong(format!(
                "it belongs to the user {}, who can change it: run the homeserver as that user, or \
                 chown {own} {}",
                about.uid(),
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    fn unusable(&self, name: &str, problem: String) -> OrganisationError {
        OrganisationError::Unusable {
            what: self.0.join(name).display().to_string(),
            problem,
        }
    }
}

/// The user that this process runs as; `None` where the system does not say.
fn own_uid() -> Option<u32> {
    std::fs::metadata("/proc/self")
        .ok()
        .map(|about| about.uid())
}

/// Whoever owns a file can change it; root can anyway.
const fn is_trusted_owner(owner: u32, own: u32) -> bool {
    owner == own || owner == ROOT_UID
}

/// Writes a new file that only its owner can read, durably; refuses one that exists.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The certificate's dNSName, when it is its only alternative name.
fn only_dns_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => Some((*name).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: keys that another user can change are refused, also when root runs the homeserver. Method: owners
    /// by example; one's own is what a new file gets.
    #[test]
    fn keys_of_another_user_are_refused() {
        assert!(is_trusted_owner(1000, 1000));
        assert!(is_trusted_owner(ROOT_UID, 1000));
        assert!(!is_trusted_owner(1001, 1000));
        assert!(!is_trusted_owner(1000, ROOT_UID));

        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        assert!(own_uid().is_none_or(|own| own == owner));
    }
}
