//! A charter with its members' introductions and the signatures collected so far.

use std::collections::BTreeMap;

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::agreement::ceremony::AgreementError;
use crate::agreement::consortium::body::{CharterBody, CharterMember, Introduction, is_name};
use crate::agreement::documents::{DocumentError, signed_bytes};
use crate::agreement::terms::{EffectiveTerms, TermsError};
use crate::armor::{self, Kind};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::fingerprint::Fingerprint;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{CHARTER_LABEL, IssuingKey};
use crate::limits::{
    CHARTER_FILE_BYTES_MAX, CLOCK_SKEW_MS_MAX, CONSORTIUM_MEMBERS_MAX, CONSORTIUM_NAME_BYTES_MAX,
    INTRODUCTION_BYTES_MAX, ISSUING_SIGNATURE_BYTES_MAX, PEERING_DOCUMENT_BYTES_MAX,
};
use crate::manifest::{self, Manifest, ManifestError};

/// Why a charter is not made, taken or signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsortiumError {
    /// The file does not hold.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The terms are not in order.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// No agreement follows for a pair.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// A name that can't be one.
    #[error("the consortium's name must have 1 to {CONSORTIUM_NAME_BYTES_MAX} bytes of plain text")]
    Name,
    /// One member or none.
    #[error("a consortium has at least two members: pass the introduction of each other member")]
    TooFew,
    /// Over the limit.
    #[error("a consortium has at most {CONSORTIUM_MEMBERS_MAX} members")]
    TooMany,
    /// Listed twice.
    #[error("{0} is listed twice: pass one introduction of each member")]
    Twice(ServerName),
    /// Not in the charter.
    #[error(
        "{0} is not a member by this charter: send its maker your introduction, and ask for a new one"
    )]
    NotAMember(ServerName),
    /// The file lacks an introduction.
    #[error("the introduction of {0} is missing: ask for the whole charter again")]
    NoIntroduction(ServerName),
    /// An introduction that the charter does not name.
    #[error("the introduction of {0} is not the one that the charter names")]
    OtherIntroduction(ServerName),
    /// A member's keys do not hold.
    #[error("the keys of {server} do not hold: {error}; ask for a new introduction of it")]
    Keys {
        /// The member.
        server: ServerName,
        /// Why.
        error: ManifestError,
    },
    /// A signature that is not the member's.
    #[error(
        "the signature in the name of {0} does not verify: somebody else made it, or the charter was changed"
    )]
    BadSignature(ServerName),
    /// The charter names another root for us.
    #[error(
        "the charter names another root certificate for {0} than this server has: somebody passes for it, \
         or the introduction is old; sign nothing, and compare with the charter's maker"
    )]
    ForeignRoot(ServerName),
    /// Our issuing key is no longer the one introduced.
    #[error(
        "the charter introduces {0} with keys that it no longer uses: send a new introduction, and ask for a new charter"
    )]
    OldKeys(ServerName),
    /// The fingerprint that was confirmed is another one.
    #[error(
        "the fingerprint is not the one that was confirmed: the charter's is {0}. \
         Somebody may have been given another charter; compare again, all together"
    )]
    WrongFingerprint(Fingerprint),
    /// Its last day is past, or comes before it was made.
    #[error("the charter has expired: make one of the next serial")]
    Expired,
    /// Not the same charter.
    #[error("the files hold different charters: merge only signatures of one charter")]
    OtherCharter,
    /// Not of the same consortium, or not the next.
    #[error("the charter does not follow the one that is known of this consortium")]
    NotTheNext,
    /// One of a pair has not signed.
    #[error("{0} has not signed: merge its signature first")]
    NotSigned(ServerName),
    /// The agreement that stands was made without this consortium.
    #[error("the agreement was not made by a charter of this consortium: amend it by itself")]
    OfItsOwn,
    /// Introduced under a root that the agreement does not know.
    #[error(
        "the charter introduces {0} under a root that the agreement does not name: amend the agreement by itself, or \
         let both state their present roots first"
    )]
    OtherRoot(ServerName),
}

/// A member whose introduction is there and fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Introduced {
    pub(super) introduction: Introduction,
    pub(super) bytes: Bytes,
    pub(super) manifest: Manifest,
}

/// A charter whose introductions fit and whose signatures hold. That it is the one which the others
/// have, only its fingerprint shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    pub(super) body: CharterBody,
    pub(super) bytes: Bytes,
    pub(super) members: BTreeMap<ServerName, Introduced>,
    pub(super) signatures: BTreeMap<ServerName, Bytes>,
}

impl Charter {
    /// A charter of these members that nobody has signed yet. `body.members` is filled in here.
    ///
    /// # Errors
    /// When a member is listed twice, its keys do not hold, or nothing would follow from the charter.
    pub fn make(
        mut body: CharterBody,
        introductions: &[Introduction],
    ) -> Result<Self, ConsortiumError> {
        body.terms.check()?;
        if !is_name(&body.name) {
            return Err(ConsortiumError::Name);
        }
        if introductions.len() < 2 {
            return Err(ConsortiumError::TooFew);
        }
        if introductions.len() > CONSORTIUM_MEMBERS_MAX {
            return Err(ConsortiumError::TooMany);
        }
        let mut members = BTreeMap::new();
        for introduction in introductions {
            let bytes = introduction.to_bytes().map_err(DocumentError::from)?;
            let introduced = introduce(bytes, body.made_ms)?;
            let server = introduction.server.clone();
            if members.insert(server.clone(), introduced).is_some() {
                return Err(ConsortiumError::Twice(server));
            }
        }
        body.members = members
            .iter()
            .map(|(server, member)| CharterMember {
                server: server.clone(),
                introduction_sha256: Digest::of(&member.bytes),
            })
            .collect();
        let bytes = body.to_bytes().map_err(DocumentError::from)?;
        let charter = Self {
            body,
            bytes,
            members,
            signatures: BTreeMap::new(),
        };
        charter.check_sense()?;
        Ok(charter)
    }

    /// Reads a charter with the introductions of all its members.
    ///
    /// # Errors
    /// When the bytes are not one, or a check fails.
    pub fn open(bytes: Bytes, at_ms: u64) -> Result<Self, ConsortiumError> {
        let charter = Self::read(bytes)?;
        if charter.body.made_ms > at_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(DocumentError::FromTheFuture.into());
        }
        let listed = charter.body.members.iter();
        if let Some(missing) = listed
            .map(|member| &member.server)
            .find(|server| !charter.members.contains_key(*server))
        {
            return Err(ConsortiumError::NoIntroduction(missing.clone()));
        }
        Ok(charter)
    }

    /// Reads an armored charter: [`Charter::open`] of the bytes in the text.
    ///
    /// # Errors
    /// When the text is not one, or a check fails.
    pub fn from_armor(text: &str, at_ms: u64) -> Result<Self, ConsortiumError> {
        let bytes = armor::read(Kind::Charter, text).map_err(DocumentError::from)?;
        Self::open(bytes, at_ms)
    }

    /// Reads a charter, perhaps with some of the introductions only, as it was when it was made.
    ///
    /// # Errors
    /// When the bytes are not one, or a check fails.
    pub(super) fn read(bytes: Bytes) -> Result<Self, ConsortiumError> {
        let (charter_bytes, introductions, signatures) =
            split(bytes).map_err(DocumentError::from)?;
        let body = CharterBody::from_bytes(charter_bytes.clone()).map_err(DocumentError::from)?;
        let mut members = BTreeMap::new();
        for bytes in introductions {
            let sha256 = Digest::of(&bytes);
            let introduced = introduce(bytes, body.made_ms)?;
            let server = introduced.introduction.server.clone();
            let named = body.members.iter().find(|member| member.server == server);
            if named.is_none_or(|member| member.introduction_sha256 != sha256) {
                return Err(ConsortiumError::OtherIntroduction(server));
            }
            if members
                .last_key_value()
                .is_some_and(|(last, _)| *last >= server)
            {
                let error = DecodeError::NotAscending("introductions");
                return Err(DocumentError::from(error).into());
            }
            members.insert(server, introduced);
        }
        let mut charter = Self {
            body,
            bytes: charter_bytes,
            members,
            signatures: BTreeMap::new(),
        };
        charter.check_sense()?;
        for (server, signature) in signatures {
            charter.take_signature(server, signature)?;
        }
        Ok(charter)
    }

    /// Signs it as the member `us`. `confirmed` is the charter's fingerprint as all its members'
    /// administrators have compared it. Signing again changes nothing.
    ///
    /// # Errors
    /// When it is not the confirmed one, has expired, or does not introduce us as we are.
    pub fn sign(
        &mut self,
        us: (&ServerName, &Bytes),
        confirmed: &Fingerprint,
        key: &IssuingKey,
        random: &dyn SecureRandom,
        now_ms: u64,
    ) -> Result<(), ConsortiumError> {
        self.check_ours(us)?;
        let (server, _) = us;
        if self.fingerprint() != *confirmed {
            return Err(ConsortiumError::WrongFingerprint(self.fingerprint()));
        }
        if now_ms >= self.body.expires_ms {
            return Err(ConsortiumError::Expired);
        }
        if self.signatures.contains_key(server) {
            return Ok(());
        }
        let signed = signed_bytes(CHARTER_LABEL, &self.bytes).map_err(DocumentError::from)?;
        let signature = key.sign(&signed, random).map_err(DocumentError::from)?;
        self.take_signature(server.clone(), signature.into())
            .map_err(|_| ConsortiumError::OldKeys(server.clone()))
    }

    /// Checks that the charter introduces this server under its own root.
    ///
    /// # Errors
    /// When it is not listed, or with another root.
    pub fn check_ours(&self, us: (&ServerName, &Bytes)) -> Result<(), ConsortiumError> {
        let (server, root) = us;
        let ours = self.member(server)?;
        if ours.introduction.root == *root {
            Ok(())
        } else {
            Err(ConsortiumError::ForeignRoot(server.clone()))
        }
    }

    /// Takes the signatures of another file of the same charter.
    ///
    /// # Errors
    /// When it is another charter.
    pub fn merge(&mut self, other: &Self) -> Result<(), ConsortiumError> {
        if self.bytes != other.bytes {
            return Err(ConsortiumError::OtherCharter);
        }
        for (server, signature) in &other.signatures {
            self.signatures
                .entry(server.clone())
                .or_insert_with(|| signature.clone());
        }
        Ok(())
    }

    /// Whether it may follow `former`, the newest charter of the consortium that is known. Charters
    /// between the two may be unknown: whoever did not sign them was never bound.
    ///
    /// # Errors
    /// When it is of another consortium, older, or the next and not of that one.
    pub fn check_follows(&self, former: &Self) -> Result<(), ConsortiumError> {
        let next = former.body.serial.saturating_add(1);
        let follows = self.body.consortium == former.body.consortium
            && (self.body.serial > next
                || (self.body.serial == next && self.body.previous == former.sha256()));
        if follows {
            Ok(())
        } else {
            Err(ConsortiumError::NotTheNext)
        }
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &CharterBody {
        &self.body
    }

    /// SHA-256 of what is signed: what the next charter names, the same whoever has signed.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// What the members' administrators read to each other.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_document(self.sha256())
    }

    /// Its members' introductions, by name.
    pub fn introductions(&self) -> impl Iterator<Item = &Introduction> {
        self.members.values().map(|member| &member.introduction)
    }

    /// A member's keys as introduced.
    #[must_use]
    pub fn manifest_of(&self, server: &ServerName) -> Option<&Manifest> {
        self.members.get(server).map(|member| &member.manifest)
    }

    /// Whether a member has signed.
    #[must_use]
    pub fn is_signed_by(&self, server: &ServerName) -> bool {
        self.signatures.contains_key(server)
    }

    /// The whole file: charter, introductions, signatures.
    ///
    /// # Errors
    /// Never for what was opened or made.
    pub fn to_bytes(&self) -> Result<Bytes, DocumentError> {
        let mut writer = Writer::with_capacity(self.bytes.len());
        writer.opaque32("charter", PEERING_DOCUMENT_BYTES_MAX, &self.bytes);
        let introductions: Vec<_> = self.members.values().map(|member| &member.bytes).collect();
        writer.list(
            "introductions",
            CONSORTIUM_MEMBERS_MAX,
            &introductions,
            |writer, bytes| writer.opaque16("introduction", INTRODUCTION_BYTES_MAX, bytes),
        );
        let signatures: Vec<_> = self.signatures.iter().collect();
        writer.list(
            "signatures",
            CONSORTIUM_MEMBERS_MAX,
            &signatures,
            |writer, (server, signature)| {
                writer.server_name(server);
                writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, signature);
            },
        );
        Ok(writer.finish()?)
    }

    /// The whole file as text.
    ///
    /// # Errors
    /// Never for what was opened or made.
    pub fn to_armor(&self) -> Result<String, DocumentError> {
        Ok(armor::write(Kind::Charter, &self.to_bytes()?))
    }

    /// The charter with the introductions and signatures of these two alone: what proves their
    /// agreement.
    pub(super) fn of_pair(&self, pair: &[&ServerName; 2]) -> Self {
        let mut reduced = self.clone();
        reduced.members.retain(|server, _| pair.contains(&server));
        reduced
            .signatures
            .retain(|server, _| pair.contains(&server));
        reduced
    }

    pub(super) fn member(&self, server: &ServerName) -> Result<&Introduced, ConsortiumError> {
        self.members
            .get(server)
            .ok_or_else(|| ConsortiumError::NotAMember(server.clone()))
    }

    fn take_signature(
        &mut self,
        server: ServerName,
        signature: Bytes,
    ) -> Result<(), ConsortiumError> {
        let signed = signed_bytes(CHARTER_LABEL, &self.bytes).map_err(DocumentError::from)?;
        let identity = self.member(&server)?.manifest.identity();
        if !identity.verifies(&signed, &signature) {
            return Err(ConsortiumError::BadSignature(server));
        }
        self.signatures.insert(server, signature);
        Ok(())
    }

    /// What makes a charter one that anything can follow from.
    fn check_sense(&self) -> Result<(), ConsortiumError> {
        let body = &self.body;
        if body.expires_ms <= body.made_ms {
            return Err(ConsortiumError::Expired);
        }
        if body.serial == 0 || (body.serial == 1) != (body.previous == Digest::ZERO) {
            return Err(ConsortiumError::NotTheNext);
        }
        let (terms, end) = (&body.terms, body.expires_ms);
        if EffectiveTerms::intersection(terms, end, terms, end).is_empty() {
            return Err(AgreementError::NothingInCommon.into());
        }
        Ok(())
    }
}

/// An introduction whose manifest is of the member and held at this time.
fn introduce(bytes: Bytes, at_ms: u64) -> Result<Introduced, ConsortiumError> {
    let introduction = Introduction::from_bytes(bytes.clone()).map_err(DocumentError::from)?;
    let manifest = manifest::decode(introduction.manifest.clone())
        .map_err(DocumentError::from)?
        .verify(&introduction.server, &introduction.root, None, at_ms)
        .map_err(|error| ConsortiumError::Keys {
            server: introduction.server.clone(),
            error,
        })?;
    Ok(Introduced {
        introduction,
        bytes,
        manifest,
    })
}

/// What the charter in a file says, of which nothing else is checked: for what a store has kept.
pub(in crate::agreement) fn body_of(file: Bytes) -> Option<CharterBody> {
    let (charter, _, _) = split(file).ok()?;
    CharterBody::from_bytes(charter).ok()
}

type Parts = (Bytes, Vec<Bytes>, Vec<(ServerName, Bytes)>);

fn split(bytes: Bytes) -> Result<Parts, DecodeError> {
    if bytes.len() > CHARTER_FILE_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "charter",
            max: CHARTER_FILE_BYTES_MAX,
        });
    }
    let mut reader = Reader::new(bytes);
    let charter = reader.opaque32("charter", PEERING_DOCUMENT_BYTES_MAX)?;
    let introductions = reader.list("introductions", CONSORTIUM_MEMBERS_MAX, |reader| {
        reader.opaque16("introduction", INTRODUCTION_BYTES_MAX)
    })?;
    let signatures = reader.list("signatures", CONSORTIUM_MEMBERS_MAX, |reader| {
        Ok((
            reader.server_name("who signed")?,
            reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?,
        ))
    })?;
    reader.finish()?;
    // By name alone: one member signs once.
    if !signatures.is_sorted_by(|(left, _), (right, _)| left < right) {
        return Err(DecodeError::NotAscending("signatures"));
    }
    Ok((charter, introductions, signatures))
}
