//! Another root takes over from the present one, while everything runs.
//!
//! Who changes the root has both root keys at hand, elsewhere: [`sign`] makes the new root, and has a new issuing CA
//! certified by both of them, under one name and one key. From the moment on that the homeserver takes these up
//! (`Stage::Next`) whatever it shows leads to either root, and there is a manifest under each; so each partner can go
//! over by itself, when it has consented, and none has to wait for another. Device certificates lead to the present
//! root until the new one takes over (`Stage::Former`), and the former one is forgotten when the last of them has
//! ended.
//!
//! | file | holds |
//! |---|---|
//! | `root-next-issuing-key.pem` | the private key of a request that has not been answered |
//! | `root-new/` | what was signed, complete or not at all, until the homeserver takes it up |
//! | `root-change.pem` | the second root: certificate, issuing CA, handover, manifest |
//!
//! A root key that somebody else has is not made good by this: what it signs leads to the former root, until that is
//! forgotten. That takes a new organisation.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use federation_proto::limits::{FORMER_ROOT_MS_MAX, FORMER_ROOTS_MAX};
use federation_proto::manifest::{FormerRoot, Manifest};
use federation_proto::organisation::OrganisationIdentity;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::certificates::{self, DEVICE_VALIDITY};
use super::files::{CERTIFICATE, ISSUING, ISSUING_KEY, MANIFEST, PRIVATE_KEY, ROOT};
use super::issuing::{
    self, at, check_follows, organisation_of, remove, requested_key, root_of, unusable,
};
use super::keys::{IssuingCa, Second, SecondRoot, Stage, sha256};
use super::renewal::{Draft, Renewal};
use super::signing::{DAY_MS, ENVELOPE_KEY_OVERLAP_MS, ENVELOPE_KEY_VALIDITY_MS};
use super::{KeyFolder, Keys, OrganisationError, pem};

/// The second root, while there is one.
pub(super) const ROOT_CHANGE: &str = "root-change.pem";
const NEXT_KEY: &str = "root-next-issuing-key.pem";
const NEW: &str = "root-new";
const NEW_DRAFT: &str = "root-new.draft";
const SIGNED: &str = "signed.pem";
/// The last device certificate under the former root is issued when the new one takes over, and ends then.
const FORMER_MS: u64 = DEVICE_VALIDITY.whole_days().unsigned_abs() * DAY_MS;
/// A manifest that names a root which is still in use is made again, with the next envelope key, before the last
/// device certificate that was issued meanwhile would end too late.
const IN_USE_MS: u64 = 120 * DAY_MS;

const _: () = assert!(
    ENVELOPE_KEY_VALIDITY_MS - ENVELOPE_KEY_OVERLAP_MS + FORMER_MS < IN_USE_MS
        && IN_USE_MS <= FORMER_ROOT_MS_MAX
);

/// A new root, not yet written anywhere.
pub struct NewRoot {
    /// What the homeserver takes: certificates alone, all of them public.
    pub signed: String,
    /// The new root's private key (PKCS#8), which the homeserver must not have.
    pub root_key: Zeroizing<Vec<u8>>,
    /// What administrators and devices know it by.
    pub fingerprint: Fingerprint,
}

/// Makes a new root for the organisation whose root this is, and signs a request for an issuing CA with both. Of the
/// request only the key counts.
pub fn sign(
    request: &str,
    root: &str,
    root_key: &[u8],
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<NewRoot, OrganisationError> {
    let (root, root_key, server) = root_of(root, root_key)?;
    let key = requested_key(request)?;
    let new_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let new_root = certificates::root(&server, &new_key, now_ms, random)?;
    let issuing =
        |root, root_key| certificates::issuing(&server, &key, root, root_key, now_ms, random);
    let signed = [
        new_root.clone(),
        issuing(&new_root, &new_key)?,
        certificates::handover(&new_key, (&root, &root_key), &server, now_ms, random)?,
        issuing(&root, &root_key)?,
    ];
    Ok(NewRoot {
        signed: signed
            .iter()
            .map(|der| pem::encode(CERTIFICATE, der).to_string())
            .collect(),
        root_key: Zeroizing::new(new_key.serialize_der()),
        fingerprint: Fingerprint::of_root(&new_root),
    })
}

/// What [`sign`] has signed.
pub(super) struct Signed {
    second: SecondRoot,
    /// The issuing CA by the present root.
    issuing: CertificateDer<'static>,
}

impl Signed {
    fn read(text: &str) -> Result<Self, OrganisationError> {
        let [root, issuing_new, handover, issuing] = certificates_in(text).ok_or_else(|| {
            unusable(
                "new root",
                "this is not what `homeserver root sign` makes: four PEM blocks of a CERTIFICATE",
            )
        })?;
        Ok(Self {
            second: SecondRoot {
                root,
                issuing: issuing_new,
                handover,
            },
            issuing,
        })
    }

    /// Whether `server`, with this root and this issuing CA, may take it up.
    fn check(
        &self,
        server: &ServerName,
        root: &CertificateDer<'_>,
        present: &CertificateDer<'_>,
        now_ms: u64,
    ) -> Result<(), OrganisationError> {
        let wrong = |problem: &str| unusable("new root", problem);
        let new = parse(&self.second.root)?;
        match organisation_of(&new) {
            Ok(found) if found == *server => {}
            Ok(found) => return Err(wrong(&format!("it is of {found}, and this is {server}"))),
            Err(error) => return Err(error),
        }
        if self.second.root == *root {
            return Err(wrong("it is the present root"));
        }
        check_follows(root, present, &self.issuing, now_ms)?;
        check_identity(&self.second.root, &self.second.issuing, now_ms)?;
        let (by_old, by_new) = (parse(&self.issuing)?, parse(&self.second.issuing)?);
        if by_old.public_key().raw != by_new.public_key().raw {
            return Err(wrong("the two roots have signed two different issuing CAs"));
        }
        check_handover(root, &self.second.root, &self.second.handover)
    }
}

fn certificates_in<const N: usize>(text: &str) -> Option<[CertificateDer<'static>; N]> {
    certificates(pem::blocks(text)?)
}

fn certificates<const N: usize>(
    blocks: Vec<(String, Vec<u8>)>,
) -> Option<[CertificateDer<'static>; N]> {
    let certificates = blocks
        .into_iter()
        .map(|(label, der)| (label == CERTIFICATE).then(|| CertificateDer::from(der)));
    certificates.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Whether a text is what [`sign`] makes, as far as it shows without the keys, for tests with any text.
#[doc(hidden)]
pub fn is_signed(text: &str) -> bool {
    Signed::read(text).is_ok()
}

fn check_identity(
    root: &CertificateDer<'_>,
    issuing: &CertificateDer<'_>,
    now_ms: u64,
) -> Result<(), OrganisationError> {
    let bytes = |der: &CertificateDer<'_>| Bytes::copy_from_slice(der);
    OrganisationIdentity::parse(bytes(root), bytes(issuing), now_ms)
        .map(drop)
        .map_err(|error| unusable("new root", &error.to_string()))
}

/// Whether the root `former` has certified the name and the key of the root `new`.
fn check_handover(
    former: &CertificateDer<'_>,
    new: &CertificateDer<'_>,
    handover: &CertificateDer<'_>,
) -> Result<(), OrganisationError> {
    let (former, new, handover) = (parse(former)?, parse(new)?, parse(handover)?);
    let is_new = handover.public_key().raw == new.public_key().raw
        && handover.subject().as_raw() == new.subject().as_raw()
        && handover.is_ca();
    let by_former = handover.issuer().as_raw() == former.subject().as_raw()
        && handover.verify_signature(Some(former.public_key())).is_ok();
    if is_new && by_former {
        Ok(())
    } else {
        Err(unusable(
            "new root",
            "the present root has not signed for it",
        ))
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, OrganisationError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(unusable("new root", "a certificate in it can't be read")),
    }
}

/// A second root as `root-change.pem` holds it; nothing when there is none.
pub(super) fn text_of(second: Option<&Second>) -> String {
    let Some(second) = second else {
        return String::new();
    };
    let SecondRoot {
        root,
        issuing,
        handover,
    } = second.certificates.as_ref();
    [root, issuing, handover]
        .into_iter()
        .map(|der| pem::encode(CERTIFICATE, der))
        .chain([pem::encode(MANIFEST.1, second.manifest.bytes())])
        .map(|text| text.to_string())
        .collect()
}

/// What [`text_of`] wrote.
fn second_in(text: &str) -> Option<(SecondRoot, Bytes)> {
    let mut blocks = pem::blocks(text)?;
    let (label, manifest) = blocks.pop()?;
    let [root, issuing, handover] = certificates(blocks)?;
    let second = SecondRoot {
        root,
        issuing,
        handover,
    };
    (label == MANIFEST.1).then(|| (second, manifest.into()))
}

impl KeyFolder {
    /// A request for both roots' signatures, as text. Its key is made once and kept until it is signed.
    pub fn request_root(&self, server: &ServerName) -> Result<String, OrganisationError> {
        self.check_no_other_change()?;
        self.request_issuing_with(NEXT_KEY, server)
    }

    /// Takes what both roots have signed: the homeserver takes it up at its next look.
    pub fn install_root(
        &self,
        server: &ServerName,
        signed: &str,
        now_ms: u64,
    ) -> Result<Fingerprint, OrganisationError> {
        self.check_own()?;
        self.check_no_other_change()?;
        let new = Signed::read(signed)?;
        let key = self.key(NEXT_KEY).map_err(|error| {
            OrganisationError::Asked(format!(
                "{error}: there is no request that this answers; make one with `homeserver root request`"
            ))
        })?;
        self.check_matches(NEXT_KEY, &new.issuing, &key)?;
        let (root, present) = (self.certificate(ROOT)?, self.certificate(ISSUING)?);
        new.check(server, &root, &present, now_ms)?;

        let key = pem::encode(PRIVATE_KEY, key.serialized_der());
        self.put_new(
            [NEW_DRAFT, NEW, NEXT_KEY],
            [(SIGNED, signed), (ISSUING_KEY, &key)],
        )?;
        Ok(Fingerprint::of_root(&new.second.root))
    }

    /// One change at a time, and none of the issuing CA alone meanwhile: that would have to be signed by both roots.
    pub(super) fn check_no_root_change(&self) -> Result<(), OrganisationError> {
        self.check_taken_up(NEW)?;
        self.check_no_other_change()
    }

    /// As [`KeyFolder::check_no_root_change`], but for a new root that waits to be taken up: another one overtakes it, for
    /// it may be one that can't be.
    fn check_no_other_change(&self) -> Result<(), OrganisationError> {
        self.check_taken_up(issuing::NEW)?;
        match self.second_root()? {
            Some(_) => Err(under_way()),
            None => Ok(()),
        }
    }

    fn check_taken_up(&self, name: &str) -> Result<(), OrganisationError> {
        if !matches!(self.path().join(name).try_exists(), Ok(true)) {
            return Ok(());
        }
        let text = "an issuing CA or a root that was installed before has not been taken up yet: let the homeserver run for \
                    a minute";
        Err(OrganisationError::Asked(text.to_owned()))
    }

    /// The second root that lies here, with the manifest under it.
    pub(super) fn second_root(&self) -> Result<Option<(SecondRoot, Bytes)>, OrganisationError> {
        if self.is_missing(ROOT_CHANGE) {
            return Ok(None);
        }
        let text = self.text(ROOT_CHANGE)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let damaged = "it is damaged: put it back from a backup";
        second_in(&text)
            .map(Some)
            .ok_or_else(|| self.unusable(ROOT_CHANGE, damaged.to_owned()))
    }

    /// The new root that waits to be taken up, and what it brings with it.
    pub(super) fn waiting_root(
        &self,
        keys: &Keys,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        let path = self.path().join(NEW);
        if !path.try_exists().map_err(at(&path))? {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path.join(SIGNED)).map_err(at(&path))?;
        let new = Signed::read(&text)?;
        if keys.has_second_root(&new.second.root) {
            // Taken up before a crash.
            self.forget_waiting_root()?;
            return Ok(None);
        }
        let folder = Self::at(&path);
        let key = folder.key(ISSUING_KEY)?;
        folder.check_matches(ISSUING_KEY, &new.issuing, &key)?;
        keys.beside(new, key, now_ms, random).map(Some)
    }

    /// It has been taken up. A request for the same key, which a crash may have left, is answered with that.
    pub(super) fn forget_waiting_root(&self) -> Result<(), OrganisationError> {
        let path = self.path().join(NEW);
        let key = |folder: &Self, name| Some(folder.key(name).ok()?.subject_public_key_info());
        let taken = key(&Self::at(&path), ISSUING_KEY);
        if taken.is_some() && taken == key(self, NEXT_KEY) {
            let next = self.path().join(NEXT_KEY);
            std::fs::remove_file(&next).map_err(at(&next))?;
        }
        remove(&path).map_err(at(&path))
    }
}

impl Keys {
    /// A new root beside the present one: an issuing CA that both have certified, TLS certificates by it for the same
    /// keys, and a manifest under each.
    pub(super) fn beside(
        &self,
        new: Signed,
        key: KeyPair,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Renewal, OrganisationError> {
        new.check(&self.server, &self.root(), &self.issuing(), now_ms)?;
        let issuing = IssuingCa::new(new.issuing, key, random)?;
        let mut draft = self.draft();
        draft.no_second_root()?;
        let fingerprint = Fingerprint::of_root(&new.second.root);
        draft.state.second = Some(Second {
            stage: Stage::Next,
            certificates: Arc::new(new.second),
            // Made anew at once, below.
            manifest: Arc::clone(&draft.state.manifest),
        });
        draft
            .what
            .push(format!("root {fingerprint} beside the present one"));
        draft.with_issuing(issuing, now_ms, random)
    }

    /// The root under which this homeserver is to be known to everybody: the new one, while there is one.
    pub fn target_root(&self) -> CertificateDer<'static> {
        let state = self.state.load();
        match &state.second {
            Some(second) if second.stage == Stage::Next => second.certificates.root.clone(),
            _ => state.root.clone(),
        }
    }

    /// Whether a new root waits to take over.
    pub fn has_next_root(&self) -> bool {
        let state = self.state.load();
        let second = state.second.as_ref();
        second.is_some_and(|second| second.stage == Stage::Next)
    }

    /// Whether a second root is there, whichever it is.
    pub fn has_two_roots(&self) -> bool {
        self.state.load().second.is_some()
    }

    fn has_second_root(&self, root: &CertificateDer<'_>) -> bool {
        let state = self.state.load();
        let second = state.second.as_ref();
        second.is_some_and(|second| second.certificates.root == *root)
    }

    /// The manifest for a partner that goes by this root of ours; `None`: it is none of ours any more.
    pub fn manifest_under(&self, root: &[u8]) -> Option<Arc<Manifest>> {
        let state = self.state.load();
        if state.root.as_ref() == root {
            return Some(Arc::clone(&state.manifest));
        }
        let second = state.second.as_ref();
        let second = second.filter(|second| second.certificates.root.as_ref() == root);
        second.map(|second| Arc::clone(&second.manifest))
    }

    /// The roots that device certificates may lead to beside the present one.
    pub fn former_roots(&self) -> Vec<FormerRoot> {
        self.state.load().manifest.body().former_roots.clone()
    }

    /// What tells own devices, which trust the former root, that the present one follows it.
    pub fn handover(&self) -> Option<CertificateDer<'static>> {
        let state = self.state.load();
        let second = state.second.as_ref();
        let former = second.filter(|second| second.stage != Stage::Next);
        former.map(|second| second.certificates.handover.clone())
    }

    /// The clock ends the time in which there are two roots.
    pub(super) fn forget_when_due(&self, draft: &mut Draft<'_>, now_ms: u64) {
        if let Some(second) = &draft.state.second
            && let Stage::Former { until_ms } = second.stage
            && until_ms <= now_ms
        {
            draft.forget();
        }
    }
}

impl Draft<'_> {
    /// What needs the certificates of both roots can't be done with those of one.
    pub(super) fn no_second_root(&self) -> Result<(), OrganisationError> {
        match self.state.second {
            Some(_) => Err(under_way()),
            None => Ok(()),
        }
    }

    /// The new root takes over. Device certificates lead to it from now on.
    pub(super) fn switch_root(
        &mut self,
        to: [u8; 32],
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), OrganisationError> {
        if sha256(&self.state.root) == to {
            return Ok(());
        }
        let second = self.next_root()?;
        if sha256(&second.certificates.root) != to {
            return Err(OrganisationError::Asked(
                "another new root waits than the one that was named: look at it again (`hsctl keys root show`)"
                    .to_owned(),
            ));
        }
        let certificates = second.certificates.as_ref();
        let key = self.state.issuing.issuer.key().serialize_der();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(key),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        let issuing = IssuingCa::new(certificates.issuing.clone(), key, random)?;
        let former = Second {
            stage: Stage::Former {
                until_ms: now_ms.saturating_add(FORMER_MS),
            },
            certificates: Arc::new(SecondRoot {
                root: std::mem::replace(&mut self.state.root, certificates.root.clone()),
                issuing: self.state.issuing.certificate.clone(),
                handover: certificates.handover.clone(),
            }),
            manifest: Arc::clone(&self.state.manifest),
        };
        self.state.issuing = Arc::new(issuing);
        self.state.manifest = second.manifest;
        self.state.second = Some(former);
        self.what.push(format!(
            "root {} takes over",
            Fingerprint::of_root(&self.state.root)
        ));
        self.manifest(&[], now_ms, random)
    }

    /// There is only the present root again.
    pub(super) fn cancel_root(&mut self) -> Result<(), OrganisationError> {
        let second = self.next_root()?;
        let fingerprint = Fingerprint::of_root(&second.certificates.root);
        self.state.second = None;
        self.what.push(format!("root {fingerprint} is given up"));
        Ok(())
    }

    /// The former root counts no more.
    pub(super) fn forget_root(&mut self) -> Result<(), OrganisationError> {
        match &self.state.second {
            Some(second) if second.stage != Stage::Next => {
                self.forget();
                Ok(())
            }
            _ => Err(OrganisationError::Asked(
                "there is no former root that still counts: `hsctl keys root show` says how things stand".to_owned(),
            )),
        }
    }

    fn forget(&mut self) {
        if let Some(second) = self.state.second.take() {
            let fingerprint = Fingerprint::of_root(&second.certificates.root);
            self.what
                .push(format!("former root {fingerprint} is forgotten"));
        }
    }

    fn next_root(&self) -> Result<Second, OrganisationError> {
        let second = self.state.second.clone();
        second
            .filter(|second| second.stage == Stage::Next)
            .ok_or_else(|| {
                OrganisationError::Asked(
                    "no new root waits to take over: make one first (`homeserver root --help`)"
                        .to_owned(),
                )
            })
    }

    /// The former roots that a manifest under the root names, and one under the second root.
    pub(super) fn former_roots(&self, now_ms: u64) -> (Vec<FormerRoot>, Vec<FormerRoot>) {
        let known = self.state.manifest.body().former_roots.clone();
        let Some(second) = &self.state.second else {
            return (known, Vec::new());
        };
        let without = |root: &CertificateDer<'_>| {
            let others = known.iter().filter(|former| former.root != root.as_ref());
            others.cloned().collect::<Vec<_>>()
        };
        let with = |root: &CertificateDer<'_>, until_ms| {
            let root = Bytes::copy_from_slice(root);
            let mut roots = without(&CertificateDer::from(root.as_ref()));
            roots.push(FormerRoot { root, until_ms });
            // Those of long ago go first.
            roots.sort_unstable_by_key(|former| std::cmp::Reverse(former.until_ms));
            roots.truncate(FORMER_ROOTS_MAX);
            roots
        };
        match second.stage {
            Stage::Next => {
                let in_use = with(&self.state.root, now_ms.saturating_add(IN_USE_MS));
                (known, in_use)
            }
            Stage::Former { until_ms } => {
                let root = &second.certificates.root;
                (with(root, until_ms), without(root))
            }
        }
    }
}

fn under_way() -> OrganisationError {
    OrganisationError::Asked(
        "a change of the root is under way: end it first; `hsctl keys root show` says how far it is, and \
         `hsctl keys root cancel` or `forget` end it at once"
            .to_owned(),
    )
}

/// What the homeserver's folder does with a new root, in memory, for tests.
#[cfg(test)]
pub(crate) fn prepare_in_memory(
    keys: &Keys,
    root_key: &[u8],
    now_ms: u64,
    random: &dyn SecureRandom,
) -> Result<NewRoot, OrganisationError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    let request = pem::encode("CERTIFICATE REQUEST", request.der());
    let root = pem::encode(CERTIFICATE, &keys.root());
    let new = sign(&request, &root, root_key, now_ms, random)?;
    let renewal = keys.beside(Signed::read(&new.signed)?, key, now_ms, random)?;
    keys.take(&renewal);
    Ok(new)
}

#[cfg(test)]
mod tests;
