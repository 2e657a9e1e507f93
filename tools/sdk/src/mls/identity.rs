//! Who a member is: what mls-rs asks before it accepts a credential anywhere.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use mls_rs::IdentityProvider;
use mls_rs::error::IntoAnyError;
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, identity::SigningIdentity};
use mls_rs_core::identity::{CredentialType, MemberValidationContext};

use crate::certificate::{self, AnchorSet, CertificateHash, DeviceCertificate, Validity};
use crate::error::Error;

impl IntoAnyError for Error {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

/// The certificate check of every member of every group. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Identities {
    anchors: Arc<RwLock<AnchorSet>>,
    /// Certificates that are members of the group whose commit is being processed: their validity
    /// was judged when they were admitted and is not judged again.
    admitted: Arc<RwLock<BTreeSet<CertificateHash>>>,
}

impl Identities {
    pub(super) fn new(anchors: AnchorSet) -> Self {
        Self {
            anchors: Arc::new(RwLock::new(anchors)),
            admitted: Arc::default(),
        }
    }

    /// Replaces the roots.
    pub(crate) fn set_anchors(&self, anchors: AnchorSet) {
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
    }

    /// Names the present members of the group that is about to process a commit.
    pub(crate) fn set_admitted(&self, members: BTreeSet<CertificateHash>) {
        *self
            .admitted
            .write()
            .unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// What a credential says, once everything but its dates is checked.
    pub(crate) fn verify(
        &self,
        identity: &SigningIdentity,
        validity: Validity,
    ) -> Result<DeviceCertificate, Error> {
        let chain = chain(identity)?;
        let device = self
            .anchors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .verify(chain, validity)?;
        if device.public_key != identity.signature_key.as_ref() {
            return Err(Error::Certificate(
                "it certifies another key than the member's signature key".to_owned(),
            ));
        }
        Ok(device)
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
        let leaf = chain(identity)?
            .first()
            .ok_or_else(|| Error::Certificate("the chain is empty".to_owned()))?;
        let admitted = self
            .admitted
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&certificate::hash(leaf));
        Ok(if admitted {
            Validity::NotJudged
        } else {
            Validity::At(timestamp.seconds_since_epoch())
        })
    }
}

impl IdentityProvider for Identities {
    type Error = Error;

    fn validate_member(
        &self,
        signing_identity: &SigningIdentity,
        timestamp: Option<MlsTime>,
        context: MemberValidationContext<'_>,
    ) -> Result<(), Error> {
        let validity = self.validity(signing_identity, timestamp, context)?;
        self.verify(signing_identity, validity).map(|_| ())
    }

    fn validate_external_sender(
        &self,
        _signing_identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), Error> {
        Err(Error::Mls("a room has no external senders".to_owned()))
    }

    /// A device is its URI: the same device with a renewed certificate is the same member.
    fn identity(
        &self,
        signing_identity: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<Vec<u8>, Error> {
        let leaf = chain(signing_identity)?
            .first()
            .ok_or_else(|| Error::Certificate("the chain is empty".to_owned()))?;
        Ok(certificate::read(leaf)?.uri.into_bytes())
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

fn chain(identity: &SigningIdentity) -> Result<&[mls_rs_core::identity::DerCertificate], Error> {
    identity
        .credential
        .as_x509()
        .map(|chain| chain.as_slice())
        .ok_or_else(|| Error::Certificate("the credential is not a certificate chain".to_owned()))
}
