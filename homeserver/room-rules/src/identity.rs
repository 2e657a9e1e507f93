//! Who a member is: what mls-rs asks before it accepts a credential anywhere.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mls_rs::IdentityProvider;
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, identity::SigningIdentity};
use mls_rs_core::crypto::SignaturePublicKey;
use mls_rs_core::identity::{
    CertificateChain, CredentialType, DerCertificate, MemberValidationContext,
};

use crate::certificate::{
    self, AnchorSet, CertificateHash, DeviceCertificate, HubCertificate, Validity,
};
use crate::consents;
use crate::error::Error;
use crate::rules::Rules;
use crate::settings::RoomSettings;

/// Whose word an imported tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imports {
    /// Somebody's: every chain in it is verified.
    Verified,
    /// Somebody's, of a room that we are in: every chain in it is verified, those of former partners' people
    /// too.
    Again,
    /// Ours: what we have kept after judging every leaf when it came.
    OurOwn,
}

/// The certificate check of every member of every group. Clones share their state.
#[derive(Debug, Clone)]
pub struct Identities {
    anchors: Arc<RwLock<AnchorSet>>,
    /// The same with the roots of former partners: for rooms that we are in.
    with_ended: Arc<RwLock<AnchorSet>>,
    /// Certificates that are members of the group whose commit is being processed: their validity
    /// was judged when they were admitted and is not judged again.
    admitted: Arc<RwLock<BTreeSet<CertificateHash>>>,
    /// Whose turn it is to name members and judge by them.
    judging: Arc<Mutex<()>>,
    imports: Imports,
    rules: Rules,
}

impl Identities {
    /// Judges by these roots.
    #[must_use]
    pub fn new(anchors: AnchorSet, imports: Imports) -> Self {
        let with_ended = Arc::new(RwLock::new(anchors.with_ended()));
        Self {
            rules: Rules::new(Arc::clone(&with_ended)),
            anchors: Arc::new(RwLock::new(anchors)),
            with_ended,
            admitted: Arc::default(),
            judging: Arc::default(),
            imports,
        }
    }

    /// The same, for the tree of a room that we are in and come back into.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            imports: Imports::Again,
            ..self.clone()
        }
    }

    /// The rules of the groups whose members are judged here.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Replaces the roots.
    pub fn set_anchors(&self, anchors: AnchorSet) {
        *self
            .with_ended
            .write()
            .unwrap_or_else(PoisonError::into_inner) = anchors.with_ended();
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
    }

    /// Waits until nobody else judges: whoever names members keeps that until he has judged by them.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.judging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the present members of the group that is about to process a commit.
    pub fn set_admitted(&self, members: BTreeSet<CertificateHash>) {
        *self
            .admitted
            .write()
            .unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// What a credential says, once it is checked.
    ///
    /// # Errors
    /// When it does not vouch for a device with the member's signature key.
    pub fn verify(
        &self,
        identity: &SigningIdentity,
        validity: Validity,
    ) -> Result<DeviceCertificate, Error> {
        verify_by(&self.anchors, identity, validity)
    }

    /// The roots that count for a room: in one that we are in, those of former partners too.
    const fn anchors_for(&self, is_ours: bool) -> &Arc<RwLock<AnchorSet>> {
        match is_ours {
            true => &self.with_ended,
            false => &self.anchors,
        }
    }

    /// What the credential of an external sender says, once it is checked: a hub's own organisation vouches for
    /// it.
    ///
    /// # Errors
    /// When it does not vouch for a hub with the sender's signature key.
    pub fn verify_hub(&self, identity: &SigningIdentity) -> Result<HubCertificate, Error> {
        let hub = self
            .anchors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .verify_hub(chain(identity)?)?;
        if hub.public_key != identity.signature_key.as_ref() {
            return Err(Error::Certificate(
                "it certifies another key than the hub's signature key".to_owned(),
            ));
        }
        Ok(hub)
    }

    /// Whether the consents in a room's settings hold together, as whoever comes into the room finds them; with a time,
    /// whether all are in force.
    ///
    /// # Errors
    /// When one is another's, or does not hold, or two exclude each other.
    pub fn check_consents(
        &self,
        settings: &RoomSettings,
        room: &[u8],
        now_ms: Option<u64>,
    ) -> Result<(), Error> {
        let anchors = self.anchors_for(self.imports == Imports::Again);
        let anchors = anchors.read().unwrap_or_else(PoisonError::into_inner);
        consents::check_all(settings, room, &anchors, now_ms)
    }

    fn validity(
        &self,
        identity: &SigningIdentity,
        timestamp: Option<MlsTime>,
        context: MemberValidationContext<'_>,
    ) -> Result<Validity, Error> {
        let Some(timestamp) = timestamp else {
            return Ok(Validity::NotJudged);
        };
        // Importing a tree judges nobody again: one stale leaf must not keep a newcomer out.
        if matches!(context, MemberValidationContext::ForNewGroup { .. }) {
            return Ok(Validity::NotJudged);
        }
        let admitted = self
            .admitted
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&mark(identity)?);
        Ok(if admitted {
            Validity::NotJudged
        } else {
            Validity::At(timestamp.seconds_since_epoch())
        })
    }
}

/// What a member is known again by: his chain, and the key that it is to certify. A member whose commit changes one of
/// them is judged anew.
///
/// # Errors
/// When the credential is no chain of certificates.
pub fn mark(identity: &SigningIdentity) -> Result<CertificateHash, Error> {
    let chain = chain(identity)?;
    let mut whole: Vec<u8> = chain
        .iter()
        .flat_map(|certificate| certificate::hash(certificate))
        .collect();
    whole.extend(certificate::hash(identity.signature_key.as_ref()));
    Ok(certificate::hash(&whole))
}

impl IdentityProvider for Identities {
    type Error = Error;

    fn validate_member(
        &self,
        signing_identity: &SigningIdentity,
        timestamp: Option<MlsTime>,
        context: MemberValidationContext<'_>,
    ) -> Result<(), Error> {
        let imported = matches!(context, MemberValidationContext::ForNewGroup { .. });
        if imported && self.imports == Imports::OurOwn {
            return Ok(());
        }
        // Whoever processes a commit is in the room.
        let is_ours = self.imports == Imports::Again
            || matches!(context, MemberValidationContext::ForCommit { .. });
        let validity = self.validity(signing_identity, timestamp, context)?;
        // Whoever is a member already, with this very certificate and key, was judged when he came; and his organisation
        // may be no partner any more, which is no reason not to let him commit. Hub and clients see that alike.
        if !imported && validity == Validity::NotJudged && timestamp.is_some() {
            return Ok(());
        }
        verify_by(self.anchors_for(is_ours), signing_identity, validity).map(|_| ())
    }

    fn validate_external_sender(
        &self,
        signing_identity: &SigningIdentity,
        timestamp: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), Error> {
        // In a tree of our own it was judged when the room began.
        if self.imports == Imports::OurOwn && timestamp.is_none() {
            return Ok(());
        }
        self.verify_hub(signing_identity).map(|_| ())
    }

    /// A device is its URI: the same device with a renewed certificate is the same member.
    fn identity(
        &self,
        signing_identity: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<Vec<u8>, Error> {
        Ok(device_in(signing_identity)?.uri.into_bytes())
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        extensions: &ExtensionList,
    ) -> Result<bool, Error> {
        Ok(self.identity(predecessor, extensions)? == self.identity(successor, extensions)?)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

fn verify_by(
    anchors: &RwLock<AnchorSet>,
    identity: &SigningIdentity,
    validity: Validity,
) -> Result<DeviceCertificate, Error> {
    let device = anchors
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .verify(chain(identity)?, validity)?;
    if device.public_key != identity.signature_key.as_ref() {
        return Err(Error::Certificate(
            "it certifies another key than the member's signature key".to_owned(),
        ));
    }
    Ok(device)
}

pub(crate) fn chain(identity: &SigningIdentity) -> Result<&[DerCertificate], Error> {
    identity
        .credential
        .as_x509()
        .map(|chain| chain.as_slice())
        .ok_or_else(|| Error::Certificate("the credential is not a certificate chain".to_owned()))
}

/// What the certificate in a credential says, without judging who signed it.
///
/// # Errors
/// When it is no device's.
pub fn device_in(identity: &SigningIdentity) -> Result<DeviceCertificate, Error> {
    certificate::read(first(identity)?)
}

/// The certificate in a credential.
pub(crate) fn first(identity: &SigningIdentity) -> Result<&DerCertificate, Error> {
    chain(identity)?
        .first()
        .ok_or_else(|| Error::Certificate("the chain is empty".to_owned()))
}

/// The credential of a hub with this chain: its room certificate and the issuing CA's.
///
/// # Errors
/// When the first one is no hub's.
pub fn hub_identity<C: AsRef<[u8]>>(chain: &[C]) -> Result<SigningIdentity, Error> {
    let leaf = chain
        .first()
        .ok_or_else(|| Error::Certificate("the chain is empty".to_owned()))?;
    let hub = certificate::read_hub(leaf.as_ref())?;
    let chain: Vec<_> = chain
        .iter()
        .map(|der| DerCertificate::new(der.as_ref().to_vec()))
        .collect();
    Ok(SigningIdentity::new(
        CertificateChain::from(chain).into_credential(),
        SignaturePublicKey::new(hub.public_key),
    ))
}
