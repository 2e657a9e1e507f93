//! From the keys as they are to the keys as they are to be: what is due by the clock, what an administrator
//! asks for, and a new issuing CA.
//!
//! Nothing of a [`Renewal`] is used before [`super::KeyFolder::replace`] has written it and [`Keys::take`]
//! has taken it: what the process shows is what its next start will find.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::keys::KeyId;
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::OrganisationError;
use super::keys::{IssuingCa, Keys, Second, Signing, State, TlsKey};
use super::signing::{Due, Listing, TLS_FORMER_MAX};

/// What is to take the place of keys and certificates.
pub struct Renewal {
    pub(super) state: Arc<State>,
    what: Vec<String>,
}

impl Renewal {
    /// What is new, in words.
    pub fn what(&self) -> String {
        self.what.join(", ")
    }
}

/// What an administrator asks of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The next envelope key takes over.
    RotateEnvelope {
        /// From this one; once another is in use, that has been done. `None`: from whichever.
        replaces: Option<KeyId>,
    },
    /// The backup TLS key takes over.
    RotateTls {
        /// From the key with this pin, likewise.
        replaces: Option<[u8; 32]>,
    },
    /// Envelope keys are revoked since a time; `None`: all that are listed.
    RevokeEnvelope {
        /// Which.
        key: Option<KeyId>,
        /// Since when, milliseconds since the Unix epoch.
        since_ms: u64,
    },
    /// A TLS key is no longer ours.
    RevokeTls {
        /// Its pin.
        pin: [u8; 32],
    },
    /// The new root takes over.
    SwitchRoot {
        /// SHA-256 of its certificate; when that is the root already, it has been done.
        to: [u8; 32],
    },
    /// There is to be no new root after all.
    CancelRoot,
    /// Nothing leads to the former root any more, before its time.
    ForgetRoot,
}

impl Keys {
    /// Makes whatever is due anew: TLS certificates (for the same keys: pins stay) once less than a third
    /// of their life is left, the envelope key 30 days before its end, and the manifest with it. `None`
    /// when nothing is due. Nothing changes yet, so that a renewal that can't be written is made again.
    pub fn renewal(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        let mut draft = self.draft();
        let issuing = Arc::clone(&draft.state.issuing);
        for (name, slot) in [
            ("current TLS certificate", &mut draft.state.tls_current),
            ("backup TLS certificate", &mut draft.state.tls_backup),
        ] {
            if is_due(&slot.leaf, now_ms)? {
                *slot = Arc::new(slot.renewed(&self.server, &issuing, now_ms, random)?);
                draft.what.push(name.to_owned());
            }
        }
        let manifest = Arc::clone(&draft.state.manifest);
        self.forget_when_due(&mut draft, now_ms);
        let root = Bytes::copy_from_slice(&draft.state.root);
        let due = self.listing(&draft.state, &root).is_due(&manifest, now_ms);
        match due {
            Due::Nothing => {}
            Due::Manifest => draft.manifest(&[], now_ms, random)?,
            Due::Pins => {
                draft.state.tls_former.clear();
                draft.manifest(&[], now_ms, random)?;
            }
            Due::Key => {
                draft.next_envelope_key(random)?;
                draft.manifest(&[], now_ms, random)?;
            }
        }
        Ok(draft.done())
    }

    /// What an administrator asks for. `None`: it is so already.
    pub fn asked(
        &self,
        asked: &Asked,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        let mut draft = self.draft();
        match asked {
            Asked::RotateEnvelope { replaces } => {
                let current = draft.state.envelope.key.id();
                if replaces.is_some_and(|replaces| replaces != current) {
                    return Ok(None);
                }
                draft.next_envelope_key(random)?;
                draft.manifest(&[], now_ms, random)?;
            }
            Asked::RotateTls { replaces } => {
                let former = draft.state.tls_current.pin();
                if replaces.is_some_and(|replaces| replaces != former) {
                    return Ok(None);
                }
                draft.next_tls_key(now_ms, random)?;
                draft.state.tls_former.push(former);
                let more = draft.state.tls_former.len().saturating_sub(TLS_FORMER_MAX);
                draft.state.tls_former.drain(..more);
                draft.manifest(&[], now_ms, random)?;
            }
            Asked::RevokeEnvelope { key, since_ms } => {
                draft.revoke_envelope_keys(*key, *since_ms, now_ms, random)?;
            }
            Asked::RevokeTls { pin } => draft.revoke_tls_key(pin, now_ms, random)?,
            Asked::SwitchRoot { to } => draft.switch_root(*to, now_ms, random)?,
            Asked::CancelRoot => draft.cancel_root()?,
            Asked::ForgetRoot => draft.forget_root()?,
        }
        Ok(draft.done())
    }

    /// What a new issuing CA brings with it: TLS certificates for the same keys, and a manifest.
    pub(super) fn under(
        &self,
        issuing: IssuingCa,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Renewal, OrganisationError> {
        let draft = self.draft();
        draft.no_second_root()?;
        draft.with_issuing(issuing, now_ms, random)
    }

    /// Uses what was made anew from now on; it has been written before.
    pub fn take(&self, renewal: &Renewal) {
        self.put(Arc::clone(&renewal.state));
    }

    /// Renews what is due in memory alone; whether anything was.
    #[cfg(test)]
    pub(crate) fn renew(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<bool, OrganisationError> {
        let renewal = self.renewal(now_ms, random)?;
        let any = renewal.is_some();
        if let Some(renewal) = renewal {
            self.take(&renewal);
        }
        Ok(any)
    }

    pub(super) fn draft(&self) -> Draft<'_> {
        Draft {
            keys: self,
            state: State::clone(&self.state.load()),
            what: Vec::new(),
        }
    }

    fn listing<'a>(&'a self, state: &'a State, root: &'a Bytes) -> Listing<'a> {
        let mut tls_pins = state.tls_former.clone();
        tls_pins.extend(state.tls_pins());
        Listing {
            server: &self.server,
            root,
            issuing_certificate: &state.issuing.certificate,
            issuing_key: &state.issuing.key,
            envelope: &state.envelope.key,
            envelope_next: &state.envelope_next.key,
            tls_pins,
            former_roots: Vec::new(),
        }
    }
}

/// A state that is being made.
pub(super) struct Draft<'a> {
    pub(super) keys: &'a Keys,
    pub(super) state: State,
    pub(super) what: Vec<String>,
}

impl Draft<'_> {
    pub(super) fn done(self) -> Option<Renewal> {
        (!self.what.is_empty()).then(|| Renewal {
            state: Arc::new(self.state),
            what: self.what,
        })
    }

    /// A new issuing CA, TLS certificates by it for the same keys, and a manifest.
    pub(super) fn with_issuing(
        mut self,
        issuing: IssuingCa,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Renewal, OrganisationError> {
        let issuing = Arc::new(issuing);
        for slot in [&mut self.state.tls_current, &mut self.state.tls_backup] {
            *slot = Arc::new(slot.renewed(&self.keys.server, &issuing, now_ms, random)?);
        }
        self.state.issuing = issuing;
        self.what.push("issuing CA, TLS certificates".to_owned());
        self.manifest(&[], now_ms, random)?;
        Ok(Renewal {
            state: Arc::new(self.state),
            what: self.what,
        })
    }

    /// The next manifest, under each root.
    pub(super) fn manifest(
        &mut self,
        revoked: &[(KeyId, u64)],
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), OrganisationError> {
        let root = Bytes::copy_from_slice(&self.state.root);
        let former = Arc::clone(&self.state.manifest);
        let (former_roots, of_second) = self.former_roots(now_ms);
        let mut listing = self.keys.listing(&self.state, &root);
        listing.former_roots = former_roots;
        let manifest = listing.manifest(Some(&former), revoked, now_ms, random)?;
        if let Some(second) = self.state.second.clone() {
            let root = Bytes::copy_from_slice(&second.certificates.root);
            let mut listing = self.keys.listing(&self.state, &root);
            listing.issuing_certificate = &second.certificates.issuing;
            listing.former_roots = of_second;
            let manifest = listing.manifest(Some(&former), revoked, now_ms, random)?;
            let manifest = Arc::new(manifest);
            self.state.second = Some(Second { manifest, ..second });
        }
        self.what.push(format!("manifest {}", manifest.serial()));
        self.state.manifest = Arc::new(manifest);
        Ok(())
    }

    /// The next envelope key takes over, and another is announced.
    fn next_envelope_key(&mut self, random: &dyn SecureRandom) -> Result<(), OrganisationError> {
        let next = Arc::new(Signing::draw(random)?);
        self.state.envelope = std::mem::replace(&mut self.state.envelope_next, next);
        self.what.push(format!(
            "envelope key {} takes over, {} is announced",
            self.state.envelope.key.id(),
            self.state.envelope_next.key.id()
        ));
        Ok(())
    }

    /// The backup TLS key takes over, and another is made.
    fn next_tls_key(
        &mut self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), OrganisationError> {
        let next = self.new_tls_key(now_ms, random)?;
        self.state.tls_current = std::mem::replace(&mut self.state.tls_backup, next);
        self.what.push(format!(
            "TLS key {} takes over, {} is its backup",
            hex::encode(self.state.tls_current.pin()),
            hex::encode(self.state.tls_backup.pin())
        ));
        Ok(())
    }

    fn new_tls_key(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Arc<TlsKey>, OrganisationError> {
        let issuing = &self.state.issuing;
        TlsKey::draw(&self.keys.server, issuing, now_ms, random).map(Arc::new)
    }

    fn revoke_envelope_keys(
        &mut self,
        which: Option<KeyId>,
        since_ms: u64,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), OrganisationError> {
        if since_ms > now_ms {
            return Err(OrganisationError::Asked(
                "a key is revoked since now or since an earlier time: this one is still to come"
                    .to_owned(),
            ));
        }
        let listed = &self.state.manifest.body().envelope_keys;
        if let Some(id) = which.filter(|id| self.state.manifest.envelope_key(*id).is_none()) {
            return Err(OrganisationError::UnknownKey(id.to_string()));
        }
        let revoked: Vec<_> = listed
            .iter()
            .filter(|entry| which.is_none_or(|id| entry.id() == id))
            .filter(|entry| entry.not_after_ms > now_ms && !entry.revoked_at(since_ms))
            .map(|entry| (entry.id(), since_ms))
            .collect();
        if revoked.is_empty() {
            return Ok(());
        }
        let is_revoked = |id: KeyId| revoked.iter().any(|(of, _)| *of == id);
        for (id, _) in &revoked {
            self.what
                .push(format!("envelope key {id} is revoked since {since_ms}"));
        }
        // First the next one: what takes over must not be revoked.
        if is_revoked(self.state.envelope_next.key.id()) {
            self.state.envelope_next = Arc::new(Signing::draw(random)?);
        }
        if is_revoked(self.state.envelope.key.id()) {
            self.next_envelope_key(random)?;
        }
        self.manifest(&revoked, now_ms, random)
    }

    fn revoke_tls_key(
        &mut self,
        pin: &[u8; 32],
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), OrganisationError> {
        let state = &mut self.state;
        if let Some(at) = state.tls_former.iter().position(|former| former == pin) {
            state.tls_former.remove(at);
        } else if state.tls_current.pin() == *pin {
            self.next_tls_key(now_ms, random)?;
        } else if state.tls_backup.pin() == *pin {
            self.state.tls_backup = self.new_tls_key(now_ms, random)?;
        } else {
            return Err(OrganisationError::UnknownKey(hex::encode(pin)));
        }
        self.what
            .push(format!("TLS key {} is revoked", hex::encode(pin)));
        self.manifest(&[], now_ms, random)
    }
}

fn is_due(leaf: &CertificateDer<'_>, now_ms: u64) -> Result<bool, OrganisationError> {
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    Ok(now >= to - (to - from) / 3)
}
