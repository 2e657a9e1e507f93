//! Evidence of deprovisioning: who was cut off, when, by whom, and what became of it in every room that his devices
//! were in.
//!
//! The organisation whose user it was signs it, with its issuing CA: whoever has the organisation's root judges it alone
//! and for ever, where a manifest forgets an envelope key after a month. What a partner's homeserver has to do with it
//! stands in there with that homeserver's own signatures, and with the manifests by which they hold.
//!
//! A document holds a page of the rooms; the pages of one cut name each other, so that none can be left out unseen.

mod judged;
mod wire;

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{EncodeError, Wire, Writer};
use crate::hash::Digest;
use crate::ids::{AccountId, DeviceId, EvidenceId, Handle, RoomId, ServerName};
use crate::keys::{EVIDENCE_LABEL, IssuingKey, KeyError};
use crate::limits::{CERTIFICATE_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX};
use crate::transaction::EnvelopeProof;

pub use judged::{EvidenceError, HubError, Judged, Pages};

/// Why devices were cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Their user was deleted.
    UserDeleted,
    /// Their user was suspended.
    UserSuspended,
    /// The device was removed from its account.
    DeviceRemoved,
}

/// Who cut them off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// An administrator over the network.
    Administrator(Handle),
    /// Whoever opened the homeserver's admin socket, by user id.
    Operator(u32),
    /// A device of the account itself.
    Device(DeviceId),
    /// The homeserver itself.
    System,
}

/// A device that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutDevice {
    /// The device.
    pub device: DeviceId,
    /// The key that all of its certificates have had.
    pub key: [u8; 32],
}

/// The act: what it was when it happened, and never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The evidence's own name.
    pub evidence: EvidenceId,
    /// Of which homeserver.
    pub server: ServerName,
    /// The account.
    pub account: AccountId,
    /// Its handle then.
    pub handle: Handle,
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub by: By,
    /// When, milliseconds since the Unix epoch.
    pub cut_ms: u64,
    /// The devices, ascending.
    pub devices: Vec<CutDevice>,
}

/// The sessions of the devices that were open at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// How many.
    pub count: u32,
    /// When the last of them had ended, milliseconds since the Unix epoch.
    pub ended_ms: u64,
}

/// A hub's signing keys, as they were known when its word came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubKeys {
    /// The hub's homeserver.
    pub server: ServerName,
    /// The root that the agreement with it pinned, DER.
    pub root: Bytes,
    /// Its manifest.
    pub manifest: Bytes,
}

/// One room that the devices were in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEvidence {
    /// The room.
    pub room: RoomId,
    /// The homeserver that orders it.
    pub hub: ServerName,
    /// Those of the devices that were in it, ascending.
    pub devices: Vec<DeviceId>,
    /// What has happened since, in its order.
    pub steps: Vec<Step>,
}

/// Something that has happened in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it was known here, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which devices it concerns, ascending.
    pub devices: Vec<DeviceId>,
    /// What.
    pub what: What,
}

/// What a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Their own homeserver has asked the hub to remove them: the request is on its disk.
    Asked,
    /// The hub has accepted the request.
    Accepted,
    /// The hub has ordered the removals: from here on it takes nothing of them.
    Ordered(Said),
    /// A commit has taken them out of the group.
    Removed(Said),
    /// The room is over for their homeserver: everybody has left it, or the agreement with the hub has ended.
    Ended,
}

/// What a hub has said in a room's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The epoch: that of the removals, or that which the commit has begun.
    pub epoch: u64,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// The hub's signature; `None` where the hub is the own homeserver, or what it has signed is too large to keep.
    pub proof: Option<Proof>,
}

/// What a hub has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// SHA-256 of the manifest that its key is in; see [`Evidence::hubs`].
    pub manifest: Digest,
    /// Where it stood in its transaction, and the signature.
    pub place: EnvelopeProof,
    /// The envelope.
    pub envelope: Bytes,
}

/// What is known of one cut, and of a page of its rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The act.
    pub cut: Cut,
    /// The sessions, once all have ended.
    pub sessions: Option<Sessions>,
    /// When every room had been looked through for the devices, milliseconds since the Unix epoch.
    pub listed_ms: Option<u64>,
    /// When nothing was left to wait for, milliseconds since the Unix epoch.
    pub completed_ms: Option<u64>,
    /// When this was signed, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The page begins behind this room; `None`: with the first.
    pub after: Option<RoomId>,
    /// Whether there are rooms behind the last one of the page.
    pub more: bool,
    /// Keys of the hubs whose word is in it, ascending by the SHA-256 of their manifests.
    pub hubs: Vec<HubKeys>,
    /// The rooms, ascending.
    pub rooms: Vec<RoomEvidence>,
}

/// Evidence with the organisation's signature. [`SignedEvidence::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvidence {
    evidence: Evidence,
    issuing: Bytes,
    signature: Bytes,
}

/// Why evidence could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It is over a limit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl RoomEvidence {
    /// Devices that the room is still waited for.
    pub fn waiting(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.iter().filter(|device| {
            let is_over = |step: &&Step| matches!(step.what, What::Removed(_) | What::Ended);
            let mut over = self.steps.iter().filter(is_over);
            !over.any(|step| step.devices.contains(device))
        })
    }

    /// Whether nothing is left to wait for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.waiting().next().is_none()
    }
}

impl Evidence {
    /// Signs it with the issuing CA's key.
    ///
    /// # Errors
    /// When it is over a limit, or the key fails.
    pub fn sign(
        self,
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<SignedEvidence, SignError> {
        let signature = key.sign(&self.signed_bytes(&issuing)?, random)?.into();
        let signed = SignedEvidence {
            evidence: self,
            issuing,
            signature,
        };
        // Nobody reads one that is too large.
        signed.to_bytes()?;
        Ok(signed)
    }

    fn signed_bytes(&self, issuing: &Bytes) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(16 * 1024);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, EVIDENCE_LABEL);
        self.write_body(&mut writer);
        writer.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX, issuing);
        writer.finish()
    }
}

impl SignedEvidence {
    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &Evidence {
        &self.evidence
    }

    /// The certificate of the issuing CA that is to have signed it, DER.
    #[must_use]
    pub const fn issuing(&self) -> &Bytes {
        &self.issuing
    }
}
