//! The organisation's keys, as administrators see and change them.

use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

/// What a key is used for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// It is in use.
    Current,
    /// Partners know it, and it takes over from the current one.
    Next,
    /// It was in use; partners still take what was made with it.
    Former,
    /// Partners no longer take what is made with it.
    Revoked,
}

/// A key that signs what goes to partners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeKeyStatus {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// What it is used for.
    pub used_as: KeyUse,
    /// From when it counts, milliseconds since the Unix epoch.
    pub not_before_ms: u64,
    /// Until when it counts, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// Since when it is revoked, milliseconds since the Unix epoch.
    pub revoked_ms: Option<u64>,
}

/// A key that TLS connections show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsKeyStatus {
    /// SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits.
    pub pin: String,
    /// What it is used for.
    pub used_as: KeyUse,
    /// Until when its certificate is valid, milliseconds since the Unix epoch; former keys have none any
    /// more.
    pub certificate_not_after_ms: Option<u64>,
}

/// What a partner knows of these keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerKnowledge {
    /// The partner.
    pub server: ServerName,
    /// The serial of the newest manifest that it is known to have; absent: it has not said since the
    /// homeserver started.
    pub manifest_serial: Option<u64>,
}

/// Every key that partners may meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysStatus {
    /// The root's fingerprint, as it is read aloud.
    pub fingerprint: String,
    /// Until when the root is valid, milliseconds since the Unix epoch.
    pub root_not_after_ms: u64,
    /// Until when the issuing CA is valid, milliseconds since the Unix epoch.
    pub issuing_not_after_ms: u64,
    /// The serial of the manifest that lists these keys.
    pub manifest_serial: u64,
    /// When it was signed, milliseconds since the Unix epoch.
    pub manifest_issued_ms: u64,
    /// Envelope keys: the current one, the next, then the rest.
    pub envelope: Vec<EnvelopeKeyStatus>,
    /// TLS keys: the current one, the backup, then the rest.
    pub tls: Vec<TlsKeyStatus>,
    /// A second root, while the root is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_change: Option<RootChangeStatus>,
    /// Partners with an agreement that is in force or suspended.
    pub partners: Vec<PartnerKnowledge>,
}

/// A second root beside the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChangeStatus {
    /// Its fingerprint.
    pub fingerprint: String,
    /// The same as words to read aloud.
    pub words: String,
    /// It was the root before, and counts until then for device certificates, milliseconds since the Unix epoch;
    /// absent: it is to take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until_ms: Option<u64>,
}

/// How far a change of the root is, with each partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStatus {
    /// The fingerprint of the root in use.
    pub fingerprint: String,
    /// The same as words to read aloud.
    pub words: String,
    /// The second root, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RootChangeStatus>,
    /// Partners with an agreement that is in force or suspended.
    pub partners: Vec<PartnerRoot>,
}

/// Which root a partner goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerRoot {
    /// The partner.
    pub server: ServerName,
    /// How far it is.
    pub standing: PartnerRootStanding,
    /// The amendment that announces the root and is still on its way to the partner, as text: to be brought as a
    /// file where the partner can't be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amendment: Option<String>,
}

/// How far a partner is with a new root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerRootStanding {
    /// It goes by the root that is to count, or counts.
    Consented,
    /// The amendment that announces it waits for the partner's consent.
    Announced,
    /// It goes by another root, and has not been told.
    NotAnnounced,
}

/// Partners are to hear of the new root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceRootRequest {
    /// These; none: all.
    #[serde(default)]
    pub partners: Vec<ServerName>,
}

/// The new root is to take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRootRequest {
    /// Its fingerprint, digits or words: once it has taken over, the request has been done and changes nothing.
    pub fingerprint: String,
    /// Partners that have not consented, and are not waited for.
    #[serde(default)]
    pub without: Vec<ServerName>,
}

/// The next key takes over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {
    /// The key in use that it takes over from, by id or pin: once another is in use, the request has been
    /// done, and changes nothing. Absent: whichever is in use.
    #[serde(default)]
    pub replaces: Option<String>,
}

/// Partners are to take no more of what is made with an envelope key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeEnvelopeKeyRequest {
    /// The key's id; absent: every key that is listed.
    #[serde(default)]
    pub key: Option<String>,
    /// Since when, milliseconds since the Unix epoch; absent: now.
    #[serde(default)]
    pub since_ms: Option<u64>,
}

/// Partners are to let in nobody who shows a TLS key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeTlsKeyRequest {
    /// The key's pin.
    pub pin: String,
}
