//! The keys folder: what lies in it, how it is written once and read at every start.
//!
//! | file | holds |
//! |---|---|
//! | `root.pem` | the root certificate |
//! | `issuing.pem`, `issuing-key.pem` | the issuing CA's certificate and private key |
//! | `tls-current.pem`, `tls-current-key.pem` | the TLS certificate in use and its private key |
//! | `tls-backup.pem`, `tls-backup-key.pem` | the pair that takes over when the current one is lost |
//! | `envelope-key.pem` | the Ed25519 private key that signs what goes to peers |
//! | `envelope-next-key.pem` | the one that takes over from it, which the manifest lists already |
//! | `room-key.pem` | the Ed25519 private key that proposes removals in the rooms ordered here; the same for life |
//! | `manifest.pem` | the signed list of envelope keys and TLS pins that peers know |
//! | `root-change.pem` | a second root, while the root is changed (see [`super::root_change`]); empty otherwise |
//! | `store-master.key` | the master key of the store, unless that is kept elsewhere; made with the others, and not read here |
//!
//! What is renewed is written as a whole into `renewal/` beside them, and moved from there once it is
//! complete: a crash leaves the keys as before or as after, never a mixture. For `issuing-next-key.pem` and
//! `issuing-new/` see [`super::issuing`], for `root-next-issuing-key.pem` and `root-new/` [`super::root_change`].
//!
//! The folder is 0700, private keys are 0600. The root's private key is never here.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::keys::{IssuingCa, Pieces, State, TlsKey};
use super::renewal::Renewal;
use super::root_change::{self, ROOT_CHANGE};
use super::signing::EnvelopeSeed;
use super::{Keys, OrganisationError, pem};

pub(super) const CERTIFICATE: &str = "CERTIFICATE";
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(super) const ROOT: &str = "root.pem";
pub(super) const ISSUING: &str = "issuing.pem";
pub(super) const ISSUING_KEY: &str = "issuing-key.pem";
const TLS_CURRENT: (&str, &str) = ("tls-current.pem", "tls-current-key.pem");
const TLS_BACKUP: (&str, &str) = ("tls-backup.pem", "tls-backup-key.pem");
const ENVELOPE_KEY: &str = "envelope-key.pem";
const ENVELOPE_NEXT_KEY: &str = "envelope-next-key.pem";
const ROOM_KEY: &str = "room-key.pem";
/// As the configuration expects it where it names no other.
const STORE_MASTER: &str = "store-master.key";
pub(super) const MANIFEST: (&str, &str) = ("manifest.pem", "ENTENTE MANIFEST");
/// Where a renewal is put together, and its name when it is complete.
const RENEWAL_DRAFT: &str = "renewal.new";
const RENEWAL: &str = "renewal";
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024;
const NO_KEYS: &str = "there are no keys here: make them with `homeserver init`, put the folder back from a backup, or \
                       name the folder that holds them (server.data_dir)";
const NO_KEY: &str = "it is missing: put it back from a backup";
const ROOT_UID: u32 = 0;

/// The folder that holds an organisation's keys; or, with the texts of its files by their names, one that is nowhere yet.
pub struct KeyFolder(PathBuf, Option<BTreeMap<String, Zeroizing<String>>>);

impl KeyFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into(), None)
    }

    /// The folder that these files would make, to look at it alone.
    pub fn of_files(files: Vec<(String, Zeroizing<String>)>) -> Self {
        // Errors name the files below this, and nothing lies there.
        Self(PathBuf::from("keys"), Some(files.into_iter().collect()))
    }

    /// What administrators of partners compare, by the root certificate here.
    pub fn fingerprint(&self) -> Result<Fingerprint, OrganisationError> {
        let root = self.certificate(ROOT)?;
        Ok(Fingerprint::of_root(&root))
    }

    /// Writes the keys of a new organisation; refuses a folder that exists.
    pub fn create(&self, keys: &Keys) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        self.write_new(
            ROOM_KEY,
            &pem::encode(PRIVATE_KEY, &keys.room_seed.to_pkcs8()),
        )?;
        for (name, text) in texts(&keys.state.load()) {
            self.write_new(name, &text)?;
        }
        sync_folder(&self.0)?;
        self.0.parent().map_or(Ok(()), sync_folder)
    }

    /// Writes the files of a backup; refuses a folder that exists. Whether they are keys shows when they are loaded.
    pub fn create_from(&self, files: &[(String, Zeroizing<String>)]) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        for (name, text) in files {
            self.write_new(name, text)?;
        }
        sync_folder(&self.0)
    }

    /// Writes the text of the store's master key beside the other keys, in a folder that is there and has none.
    pub fn add_master_key(&self, text: &str) -> io::Result<()> {
        self.write_new(STORE_MASTER, text)?;
        sync_folder(&self.0)
    }

    /// Reads and checks every key of `server`; every mistake is reported at once.
    pub fn load(
        &self,
        server: &ServerName,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Keys, Vec<OrganisationError>> {
        if let Err(error) = self.finish_replacing() {
            let problem = format!("what was renewed before can't be put in its place: {error}");
            return Err(vec![self.unusable(RENEWAL, problem)]);
        }
        self.read_all(server, now_ms, random)
    }

    /// What [`Self::load`] would complain about. Nothing is touched, so it may be asked while a homeserver runs.
    pub fn look(
        &self,
        server: &ServerName,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Vec<OrganisationError> {
        // What is being put in its place was checked before, and is read whole only once it is there.
        if self.1.is_none() && matches!(self.0.join(RENEWAL).try_exists(), Ok(true)) {
            return Vec::new();
        }
        self.read_all(server, now_ms, random)
            .err()
            .unwrap_or_default()
    }

    fn read_all(
        &self,
        server: &ServerName,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Keys, Vec<OrganisationError>> {
        if self.1.is_none()
            && let Err(error) = std::fs::metadata(&self.0)
        {
            return Err(vec![OrganisationError::Unusable {
                what: self.0.display().to_string(),
                problem: unreadable(&error, NO_KEYS),
            }]);
        }
        let mut problems = Vec::new();
        let mut note = |error| problems.push(error);
        self.check_private(&self.0, 0o700).unwrap_or_else(&mut note);
        let root = self.certificate(ROOT).map_err(&mut note);
        let issuing = self.certificate(ISSUING).map_err(&mut note);
        let issuing_key = self.key(ISSUING_KEY).map_err(&mut note);
        let tls_current = self.tls(TLS_CURRENT, server).map_err(&mut note);
        let tls_backup = self.tls(TLS_BACKUP, server).map_err(&mut note);
        let seed = self.envelope_seed(ENVELOPE_KEY).map_err(&mut note);
        let seed_next = self.next_seed(random).map_err(&mut note);
        let room_seed = self.envelope_seed(ROOM_KEY).map_err(&mut note);
        let manifest = self.read(MANIFEST.0, MANIFEST.1).map_err(&mut note);
        let second = self.second_root().map_err(&mut note);

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
                    self.check_signed(names.0, &tls.leaf, issuing)
                        .unwrap_or_else(&mut note);
                }
            }
        }
        let issuing = match (issuing, issuing_key) {
            (Ok(issuing), Ok(key)) if problems.is_empty() => {
                IssuingCa::new(issuing, key, random).map_err(|error| vec![error])?
            }
            _ => return Err(problems),
        };
        let tls = tls_current.and_then(|current| Ok((current, tls_backup?)));
        let seeds = seed.and_then(|seed| Ok((seed, seed_next?, room_seed?)));
        match (root, tls, seeds, manifest, second) {
            (Ok(root), Ok(tls), Ok(seeds), Ok(manifest), Ok(second)) => {
                let (tls_current, tls_backup) = tls;
                let (seed, seed_next, room_seed) = seeds;
                let pieces = Pieces {
                    server: server.clone(),
                    root,
                    issuing,
                    tls_current,
                    tls_backup,
                    seed,
                    seed_next,
                    room_seed,
                    manifest: Some(Bytes::copy_from_slice(&manifest)),
                    second,
                };
                Keys::assemble(pieces, now_ms, random)
                    .map_err(|error| vec![self.unusable(MANIFEST.0, error.to_string())])
            }
            _ => Err(problems),
        }
    }

    /// Writes what was made anew, before it is used: all of it or nothing, whenever the process dies.
    pub fn replace(&self, renewal: &Renewal) -> io::Result<()> {
        // Of an earlier renewal that was complete; what is written now follows it.
        self.finish_replacing()?;
        let draft = self.0.join(RENEWAL_DRAFT);
        // What a crash left behind.
        match std::fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&draft)?;
        for (name, text) in texts(&renewal.state) {
            write_private(&draft.join(name), text.as_bytes())?;
        }
        sync_folder(&draft)?;
        std::fs::rename(&draft, self.0.join(RENEWAL))?;
        sync_folder(&self.0)?;
        self.finish_replacing()
    }

    /// Moves the files of a complete renewal to their places.
    fn finish_replacing(&self) -> io::Result<()> {
        let complete = self.0.join(RENEWAL);
        if !complete.try_exists()? {
            return Ok(());
        }
        for entry in std::fs::read_dir(&complete)? {
            let entry = entry?;
            std::fs::rename(entry.path(), self.0.join(entry.file_name()))?;
        }
        sync_folder(&self.0)?;
        std::fs::remove_dir(&complete)?;
        sync_folder(&self.0)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn write_new(&self, name: &str, text: &str) -> io::Result<()> {
        write_private(&self.0.join(name), text.as_bytes())
    }

    fn read(&self, name: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
        pem::decode(label, &self.text(name)?)
            .ok_or_else(|| self.unusable(name, format!("it is not one PEM block of a {label}")))
    }

    /// A file's text.
    pub(super) fn text(&self, name: &str) -> Result<Zeroizing<String>, OrganisationError> {
        let path = self.0.join(name);
        let wrong = |problem: String| self.unusable(name, problem);
        if let Some(files) = &self.1 {
            let text = files.get(name);
            return text.cloned().ok_or_else(|| wrong(NO_KEY.to_owned()));
        }
        let about = std::fs::metadata(&path).map_err(|error| wrong(unreadable(&error, NO_KEY)))?;
        if about.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        std::fs::read_to_string(&path)
            .map(Zeroizing::new)
            .map_err(|error| wrong(unreadable(&error, NO_KEY)))
    }

    pub(super) fn certificate(
        &self,
        name: &str,
    ) -> Result<CertificateDer<'static>, OrganisationError> {
        let der = CertificateDer::from(self.read(name, CERTIFICATE)?.to_vec());
        self.parse(name, &der)?;
        Ok(der)
    }

    fn private(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, OrganisationError> {
        let der = self.read(name, PRIVATE_KEY)?;
        self.check_private(&self.0.join(name), 0o600)?;
        Ok(der)
    }

    pub(super) fn key(&self, name: &str) -> Result<KeyPair, OrganisationError> {
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
        let key = Arc::new(key);
        let name = only_dns_name(&self.parse(names.0, &leaf)?);
        if name.as_deref() != Some(server.as_str()) {
            let problem = format!(
                "it is for {}, but the configuration names this server {server}",
                name.as_deref().unwrap_or("no single name")
            );
            return Err(self.unusable(names.0, problem));
        }
        Ok(TlsKey { key, leaf })
    }

    fn envelope_seed(&self, name: &str) -> Result<EnvelopeSeed, OrganisationError> {
        EnvelopeSeed::from_pkcs8(&self.private(name)?)
            .ok_or_else(|| self.unusable(name, "it is no Ed25519 key (PKCS#8)".to_owned()))
    }

    /// The next envelope key. One that is missing is drawn: nothing was ever signed with it, and the next
    /// manifest lists it.
    fn next_seed(&self, random: &dyn SecureRandom) -> Result<EnvelopeSeed, OrganisationError> {
        match self.is_missing(ENVELOPE_NEXT_KEY) {
            true => EnvelopeSeed::draw(random),
            false => self.envelope_seed(ENVELOPE_NEXT_KEY),
        }
    }

    /// Whether there is certainly no such file.
    pub(super) fn is_missing(&self, name: &str) -> bool {
        match &self.1 {
            Some(files) => !files.contains_key(name),
            None => matches!(self.0.join(name).try_exists(), Ok(false)),
        }
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

    pub(super) fn check_matches(
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
        if self.1.is_some() {
            return Ok(());
        }
        let wrong = |problem| OrganisationError::Unusable {
            what: path.display().to_string(),
            problem,
        };
        let about = std::fs::metadata(path).map_err(|error| wrong(unreadable(&error, NO_KEY)))?;
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

    pub(super) fn unusable(&self, name: &str, problem: String) -> OrganisationError {
        OrganisationError::Unusable {
            what: self.0.join(name).display().to_string(),
            problem,
        }
    }
}

/// Why a file can't be read, for whoever has to mend it.
pub(super) fn unreadable(error: &io::Error, missing: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => missing.to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not read it: run the command as the user that the homeserver runs as"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Every file of the keys that are in use, with its content: what a backup keeps. What was asked of a root key and has not
/// been answered is not among them.
pub fn key_files(keys: &Keys) -> Vec<(&'static str, Zeroizing<String>)> {
    let room_key = pem::encode(PRIVATE_KEY, &keys.room_seed.to_pkcs8());
    let mut files = vec![(ROOM_KEY, room_key)];
    files.extend(texts(&keys.state.load()));
    files
}

/// Every file that a renewal may change, with its content.
fn texts(state: &State) -> [(&'static str, Zeroizing<String>); 11] {
    let certificate = |der: &CertificateDer<'_>| pem::encode(CERTIFICATE, der);
    let private = |key: &KeyPair| pem::encode(PRIVATE_KEY, key.serialized_der());
    let seed = |seed: &EnvelopeSeed| pem::encode(PRIVATE_KEY, &seed.to_pkcs8());
    [
        (ROOT, certificate(&state.root)),
        // Empty, not absent: what is moved into place takes the place of the former one.
        (
            ROOT_CHANGE,
            Zeroizing::new(root_change::text_of(state.second.as_ref())),
        ),
        (ISSUING, certificate(&state.issuing.certificate)),
        (ISSUING_KEY, private(state.issuing.issuer.key())),
        (TLS_CURRENT.0, certificate(&state.tls_current.leaf)),
        (TLS_CURRENT.1, private(&state.tls_current.key)),
        (TLS_BACKUP.0, certificate(&state.tls_backup.leaf)),
        (TLS_BACKUP.1, private(&state.tls_backup.key)),
        (ENVELOPE_KEY, seed(&state.envelope.seed)),
        (ENVELOPE_NEXT_KEY, seed(&state.envelope_next.seed)),
        (MANIFEST.0, pem::encode(MANIFEST.1, state.manifest.bytes())),
    ]
}

/// The user that this process runs as; `None` where the system does not say.
pub(super) fn own_uid() -> Option<u32> {
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
