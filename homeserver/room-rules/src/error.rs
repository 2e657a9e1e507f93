//! Why something may not happen in a room.

use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;
use mls_rs::error::{IntoAnyError, MlsError};

/// Why a certificate, a message or a change is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A certificate does not vouch for what it should.
    #[error("the certificate is not acceptable: {0}")]
    Certificate(String),
    /// A certificate is of an organisation whose root is not known here.
    #[error(
        "the certificate is of {0}, with which there is no agreement that this device knows of"
    )]
    UnknownOrganisation(ServerName),
    /// A certificate leads to none of the roots of its organisation that are known here.
    #[error("the certificate is not acceptable: it does not lead to the root of {0}")]
    UnknownRoot(ServerName),
    /// The own organisation's present root has not signed for the one that is to follow it.
    #[error(
        "another root of the organisation is named, which the one that this device trusts has not signed for"
    )]
    Handover,
    /// The room's settings are not what they must be.
    #[error("the room's settings are not acceptable: {0}")]
    Settings(String),
    /// A room consent is not what it must be.
    #[error("{0}")]
    Consent(String),
    /// An organisation's consent to a room is not in force.
    #[error(
        "the consent of {0} to this room has ended: once one of its people is online it is renewed, and until then \
         the room lets people go and nothing else"
    )]
    ConsentEnded(ServerName),
    /// Two organisations in a room have no agreement with each other.
    #[error(
        "{one} has not consented to be in a room with {other}: every two organisations in a room need an agreement \
         with each other, ask their administrators"
    )]
    NotFullMesh {
        /// Whose consent it is that names the other one not.
        one: ServerName,
        /// Who is not named.
        other: ServerName,
    },
    /// What the organisations in a room allow has nothing in common.
    #[error("the organisations' rules can't be kept together: {0}")]
    NoCommonBounds(String),
    /// A message is outside of what all organisations in its room allow.
    #[error("{reason}")]
    OutOfBounds {
        /// The code that a homeserver refuses it with too.
        code: RefusalCode,
        /// What it may be.
        reason: String,
    },
    /// A room's rules forbid it.
    #[error("the commit is refused: {0}")]
    Refused(String),
    /// The hub's Removes that wait have to be in it.
    #[error("the commit leaves out removals that the hub has ordered")]
    PendingRemoves,
    /// It is not well formed, or not signed as it must be.
    #[error("not acceptable: {0}")]
    Mls(String),
}

impl IntoAnyError for Error {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl Error {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    pub(crate) fn settings(reason: impl Into<String>) -> Self {
        Self::Settings(reason.into())
    }
}

/// What these rules have said inside mls-rs, or what mls-rs itself says.
impl From<MlsError> for Error {
    fn from(error: MlsError) -> Self {
        let inner = match &error {
            MlsError::IdentityProviderError(inner) | MlsError::MlsRulesError(inner) => {
                inner.inner_dyn_error().downcast_ref::<Self>()
            }
            _ => None,
        };
        inner
            .cloned()
            .unwrap_or_else(|| Self::Mls(error.to_string()))
    }
}
