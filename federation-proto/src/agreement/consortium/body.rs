//! What introductions and charters say, and their one encoding.

use bytes::Bytes;

use crate::agreement::documents::{DocumentError, FORMAT};
use crate::agreement::endpoint::Endpoint;
use crate::agreement::terms::Terms;
use crate::armor::{self, Kind};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::{ConsortiumId, ServerName};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CONSORTIUM_MEMBERS_MAX, CONSORTIUM_NAME_BYTES_MAX, CONTACT_BYTES_MAX,
    ENDPOINT_BYTES_MAX, ENDPOINTS_MAX, INTRODUCTION_BYTES_MAX, MANIFEST_BYTES_MAX,
    PEERING_DOCUMENT_BYTES_MAX,
};
use crate::text::is_unseen;
use crate::version::VersionSet;

/// Who a member of a consortium is and where it is reached.
///
/// Nobody signs it: its manifest is signed, and whoever it introduces reads it in the charter before
/// signing that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Who is introduced.
    pub server: ServerName,
    /// The protocol versions that it speaks.
    pub versions: VersionSet,
    /// Its root certificate, DER: what the others pin.
    pub root: Bytes,
    /// Its key manifest, with its issuing certificate and TLS pins.
    pub manifest: Bytes,
    /// Where it is reached; none: where DNS says.
    pub endpoints: Vec<Endpoint>,
    /// Whom the others' administrators turn to.
    pub contact: String,
}

impl Introduction {
    /// Reads an armored introduction.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn from_armor(text: &str) -> Result<Self, DocumentError> {
        Ok(Self::from_bytes(armor::read(Kind::Introduction, text)?)?)
    }

    /// The introduction as text.
    ///
    /// # Errors
    /// When a part is over its limit.
    pub fn to_armor(&self) -> Result<String, DocumentError> {
        Ok(armor::write(Kind::Introduction, &self.to_bytes()?))
    }
}

impl Wire for Introduction {
    const BYTES_MAX: usize = INTRODUCTION_BYTES_MAX;
    const NAME: &'static str = "introduction";

    fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.server_name(&self.server);
        self.versions.write(writer);
        writer.opaque16("root certificate", CERTIFICATE_BYTES_MAX, &self.root);
        writer.opaque16("manifest", MANIFEST_BYTES_MAX, &self.manifest);
        writer.list(
            "endpoints",
            ENDPOINTS_MAX,
            &self.endpoints,
            |writer, endpoint| {
                writer.opaque16("endpoint", ENDPOINT_BYTES_MAX, endpoint.as_str().as_bytes());
            },
        );
        if self.contact.chars().any(is_unseen) {
            writer.fail("contact", CONTACT_BYTES_MAX);
        }
        writer.opaque16("contact", CONTACT_BYTES_MAX, self.contact.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        read_format(reader)?;
        Ok(Self {
            server: reader.server_name("member")?,
            versions: VersionSet::read(reader)?,
            root: reader.opaque16("root certificate", CERTIFICATE_BYTES_MAX)?,
            manifest: reader.opaque16("manifest", MANIFEST_BYTES_MAX)?,
            endpoints: reader.list("endpoints", ENDPOINTS_MAX, |reader| {
                reader
                    .text16("endpoint", ENDPOINT_BYTES_MAX)?
                    .parse()
                    .map_err(|_| DecodeError::Invalid("endpoint"))
            })?,
            contact: reader.text16("contact", CONTACT_BYTES_MAX)?,
        })
    }
}

/// A member as the charter names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CharterMember {
    /// The member.
    pub server: ServerName,
    /// SHA-256 of its introduction.
    pub introduction_sha256: Digest,
}

/// What a charter says: what its members sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharterBody {
    /// Which consortium.
    pub consortium: ConsortiumId,
    /// What it is called.
    pub name: String,
    /// Counts the consortium's charters; the first has 1.
    pub serial: u64,
    /// SHA-256 of the charter before this one; zeros for the first.
    pub previous: Digest,
    /// What each member states to each other.
    pub terms: Terms,
    /// Its members by name, each once; at least two.
    pub members: Vec<CharterMember>,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// When every agreement that follows from it ends, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

impl Wire for CharterBody {
    const BYTES_MAX: usize = PEERING_DOCUMENT_BYTES_MAX;
    const NAME: &'static str = "charter";

    fn write(&self, writer: &mut Writer) {
        writer.u16(FORMAT);
        writer.fixed(self.consortium.as_bytes());
        if !is_name(&self.name) {
            writer.fail("name of the consortium", CONSORTIUM_NAME_BYTES_MAX);
        }
        writer.opaque8(
            "name of the consortium",
            CONSORTIUM_NAME_BYTES_MAX,
            self.name.as_bytes(),
        );
        writer.u64(self.serial);
        writer.fixed(self.previous.as_bytes());
        self.terms.write(writer);
        if check_members(&self.members).is_err() {
            writer.fail("members", CONSORTIUM_MEMBERS_MAX);
        }
        writer.list(
            "members",
            CONSORTIUM_MEMBERS_MAX,
            &self.members,
            |writer, member| {
                writer.server_name(&member.server);
                writer.fixed(member.introduction_sha256.as_bytes());
            },
        );
        writer.u64(self.made_ms);
        writer.u64(self.expires_ms);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        read_format(reader)?;
        let body = Self {
            consortium: ConsortiumId::from_bytes(reader.fixed("consortium")?),
            name: reader.text8("name of the consortium", CONSORTIUM_NAME_BYTES_MAX)?,
            serial: reader.u64("serial")?,
            previous: Digest::from_bytes(reader.fixed("previous charter")?),
            terms: Terms::read(reader)?,
            members: reader.list("members", CONSORTIUM_MEMBERS_MAX, |reader| {
                Ok(CharterMember {
                    server: reader.server_name("member")?,
                    introduction_sha256: Digest::from_bytes(
                        reader.fixed("hash of an introduction")?,
                    ),
                })
            })?,
            made_ms: reader.u64("time")?,
            expires_ms: reader.u64("expiry")?,
        };
        check_members(&body.members)?;
        if body.name.is_empty() {
            return Err(DecodeError::Empty("name of the consortium"));
        }
        Ok(body)
    }
}

/// By name alone: one member has one introduction.
fn check_members(members: &[CharterMember]) -> Result<(), DecodeError> {
    if members.len() < 2 {
        return Err(DecodeError::Empty("members"));
    }
    if members.is_sorted_by(|left, right| left.server < right.server) {
        Ok(())
    } else {
        Err(DecodeError::NotAscending("members"))
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= CONSORTIUM_NAME_BYTES_MAX && !name.chars().any(is_unseen)
}

fn read_format(reader: &mut Reader) -> Result<(), DecodeError> {
    match reader.u16("format")? {
        FORMAT => Ok(()),
        other => Err(DecodeError::UnknownFormat(other)),
    }
}
