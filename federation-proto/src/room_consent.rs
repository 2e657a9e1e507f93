//! Room consents: what an organisation lets a room do in which its people are, and with whom they may be there.
//!
//! Each organisation in a room signs one, and the room's group carries all of them: so no server can loosen
//! what another one has signed, and none can bring two organisations together that have no agreement.
//!
//! The issuing CA signs, not an envelope key: whoever is in the room judges a consent by the organisation's root and
//! the certificate that it carries, alone, as he judges the leaves beside it. Devices know roots and no manifests.

use std::collections::BTreeSet;

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::ids::{AccountId, RoomId, ServerName};
use crate::keys::{IssuingKey, KeyError, ROOM_CONSENT_LABEL};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CLOCK_SKEW_MS_MAX, ISSUING_SIGNATURE_BYTES_MAX, ROOM_CONSENT_MS_MAX,
    ROOM_CONSENT_PAST_ROOT_MS_MAX, ROOM_DOMAINS_MAX, ROOM_EPOCHS_MAX, SERVER_NAME_WIRE_BYTES_MAX,
    SIGNATURE_LABEL_BYTES_MAX, SMALL_FIELDS_BYTES_MAX,
};
use crate::manifest::FormerRoot;
use crate::organisation::{CertificateError, OrganisationIdentity};

const FORMAT: u8 = 1;

/// From which to which number of seconds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub min_seconds: u32,
    /// The greatest.
    pub max_seconds: u32,
}

impl Span {
    /// Whether this many seconds are within.
    #[must_use]
    pub const fn contains(&self, seconds: u32) -> bool {
        self.min_seconds <= seconds && seconds <= self.max_seconds
    }
}

/// What an organisation lets one room do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomConsent {
    /// The room.
    pub room: RoomId,
    /// Whose consent it is.
    pub server: ServerName,
    /// The organisations with which its people may be in the room, itself among them.
    pub domains: BTreeSet<ServerName>,
    /// How long messages live there; at least 1.
    pub ttl: Span,
    /// How long they live once they were read; 0: they don't burn.
    pub burn: Span,
    /// Highest classification label of a message.
    pub label_max: u8,
    /// Most epochs that are kept for late messages.
    pub retained_epochs: u16,
    /// The account of its own that has to be in the room to record it.
    pub recorder: Option<AccountId>,
    /// When it was signed, milliseconds since the Unix epoch. Of two the later one counts.
    pub serial: u64,
    /// Its end, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// A consent with its organisation's signature. [`SignedRoomConsent::verify`] judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoomConsent {
    consent: RoomConsent,
    issuing: Bytes,
    signature: Bytes,
}

/// Why a consent could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It is none that anybody would read.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a consent does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// Its certificates do not hold.
    #[error("the room consent of {0}: {1}")]
    Certificate(ServerName, CertificateError),
    /// The issuing CA did not sign it.
    #[error("the room consent of {0} is not signed by its issuing CA")]
    BadSignature(ServerName),
}

impl RoomConsent {
    /// Signs the consent with the issuing CA's key.
    ///
    /// # Errors
    /// When it is none, or the key fails.
    pub fn sign(
        self,
        issuing: Bytes,
        key: &IssuingKey,
        random: &dyn SecureRandom,
    ) -> Result<SignedRoomConsent, SignError> {
        let signature = key.sign(&self.signed_bytes(&issuing)?, random)?.into();
        Ok(SignedRoomConsent {
            consent: self,
            issuing,
            signature,
        })
    }

    /// Whether it counts at this time, as far as its dates say.
    #[must_use]
    pub const fn is_in_force(&self, now_ms: u64) -> bool {
        self.serial <= now_ms.saturating_add(CLOCK_SKEW_MS_MAX) && now_ms < self.expires_ms
    }

    fn signed_bytes(&self, issuing: &Bytes) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(1024);
        writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, ROOM_CONSENT_LABEL);
        self.write_body(&mut writer, issuing);
        writer.finish()
    }

    fn write_body(&self, writer: &mut Writer, issuing: &Bytes) {
        if let Err(what) = self.check() {
            writer.fail(what, 0);
        }
        writer.u8(FORMAT);
        writer.fixed(self.room.as_bytes());
        writer.server_name(&self.server);
        let domains: Vec<_> = self.domains.iter().collect();
        writer.list("domains", ROOM_DOMAINS_MAX, &domains, |writer, server| {
            writer.server_name(server);
        });
        for span in [&self.ttl, &self.burn] {
            writer.u32(span.min_seconds);
            writer.u32(span.max_seconds);
        }
        writer.u8(self.label_max);
        writer.u16(self.retained_epochs);
        writer.optional(self.recorder.as_ref(), |writer, account| {
            writer.fixed(account.as_bytes());
        });
        writer.u64(self.serial);
        writer.u64(self.expires_ms);
        writer.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX, issuing);
    }

    /// Its own rules; the field that breaks one.
    fn check(&self) -> Result<(), &'static str> {
        let ordered = |span: &Span| span.min_seconds <= span.max_seconds;
        let rules = [
            (self.domains.contains(&self.server), "domains"),
            (self.ttl.min_seconds > 0 && ordered(&self.ttl), "ttl"),
            (ordered(&self.burn), "burn"),
            (
                (1..=ROOM_EPOCHS_MAX).contains(&self.retained_epochs),
                "retained epochs",
            ),
            (
                self.serial < self.expires_ms
                    && self.expires_ms - self.serial <= ROOM_CONSENT_MS_MAX,
                "expiry",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, what)| Err(what))
    }
}

impl SignedRoomConsent {
    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &RoomConsent {
        &self.consent
    }

    /// The certificate of the issuing CA that is to have signed it, DER.
    #[must_use]
    pub const fn issuing(&self) -> &Bytes {
        &self.issuing
    }

    /// What it says, when the issuing CA of the organisation with this root has signed it. Its dates are not
    /// judged. A root that the organisation had before vouches for consents that end soon after it.
    ///
    /// # Errors
    /// When it has not.
    pub fn verify(
        &self,
        root: &Bytes,
        former: &[FormerRoot],
    ) -> Result<&RoomConsent, ConsentError> {
        let server = || self.consent.server.clone();
        let organisation = self
            .signer(root, former)
            .map_err(|error| ConsentError::Certificate(server(), error))?;
        let bytes = self.consent.signed_bytes(&self.issuing);
        let holds = bytes.is_ok_and(|bytes| organisation.verifies(&bytes, &self.signature));
        if holds {
            Ok(&self.consent)
        } else {
            Err(ConsentError::BadSignature(server()))
        }
    }

    /// The organisation, by the one of its roots to which the certificate leads.
    fn signer(
        &self,
        root: &Bytes,
        former: &[FormerRoot],
    ) -> Result<OrganisationIdentity, CertificateError> {
        let at_ms = self.consent.serial;
        let parse =
            |root: &Bytes| OrganisationIdentity::parse(root.clone(), self.issuing.clone(), at_ms);
        let counts = |former: &&FormerRoot| {
            let until_ms = former.until_ms;
            self.consent.expires_ms <= until_ms.saturating_add(ROOM_CONSENT_PAST_ROOT_MS_MAX)
        };
        parse(root).or_else(|refused| {
            let mut before = former.iter().filter(counts);
            before
                .find_map(|former| parse(&former.root).ok())
                .ok_or(refused)
        })
    }
}

impl Wire for SignedRoomConsent {
    const BYTES_MAX: usize = (1 + ROOM_DOMAINS_MAX) * SERVER_NAME_WIRE_BYTES_MAX
        + CERTIFICATE_BYTES_MAX
        + ISSUING_SIGNATURE_BYTES_MAX
        + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "room consent";

    fn write(&self, writer: &mut Writer) {
        self.consent.write_body(writer, &self.issuing);
        writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u8("format of a room consent")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format.into()));
        }
        let span = |reader: &mut Reader, what| {
            Ok::<_, DecodeError>(Span {
                min_seconds: reader.u32(what)?,
                max_seconds: reader.u32(what)?,
            })
        };
        let consent = RoomConsent {
            room: reader.fixed("room").map(RoomId::from_bytes)?,
            server: reader.server_name("server")?,
            domains: reader
                .ascending_list("domains", ROOM_DOMAINS_MAX, |reader| {
                    reader.server_name("domain")
                })?
                .into_iter()
                .collect(),
            ttl: span(reader, "ttl")?,
            burn: span(reader, "burn")?,
            label_max: reader.u8("label")?,
            retained_epochs: reader.u16("retained epochs")?,
            recorder: reader.optional("recorder", |reader| {
                reader.fixed("recorder").map(AccountId::from_bytes)
            })?,
            serial: reader.u64("serial")?,
            expires_ms: reader.u64("expiry")?,
        };
        consent.check().map_err(DecodeError::Invalid)?;
        Ok(Self {
            consent,
            issuing: reader.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX)?,
            signature: reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?,
        })
    }
}
