//! Why something about a peer could not be done.

use federation_proto::agreement::{AgreementError, DocumentError};
use federation_proto::ids::ServerName;

use crate::store::StoreError;

/// Why something about a peer could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PeeringError {
    /// Nothing is known of it.
    #[error("there is no peer {0}: `hsctl peer list` shows those that there are")]
    UnknownPeer(ServerName),
    /// No such document waits.
    #[error("no document `{0}` waits: `hsctl peer quarantine list` shows those that do")]
    NotInQuarantine(String),
    /// The document is not what it should be. Whoever passed it is at fault.
    #[error("{0}")]
    Document(String),
    /// The document was made later than it is here: it may come again.
    #[error("{0}")]
    TooEarly(String),
    /// Something else has to reach the partner first: the document may come again.
    #[error("{0}")]
    NotYet(String),
    /// A manifest that would say whether it is the partner's is about to be fetched: it may come again soon.
    #[error("{0}")]
    KeysAwaited(String),
    /// What the administrator wants to state can't be stated.
    #[error("{0}")]
    Statement(String),
    /// Not possible where the agreement stands.
    #[error("{0}")]
    State(String),
    /// It changed again and again while we tried.
    #[error("the agreement changes at this very moment: try again")]
    Busy,
    /// The homeserver is at fault.
    #[error("{0}")]
    Internal(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AgreementError> for PeeringError {
    fn from(error: AgreementError) -> Self {
        match error {
            AgreementError::Terms(error) => Self::Statement(error.to_string()),
            // Of an agreement that was replaced, or a proposal that is not open any more.
            AgreementError::Document(error @ DocumentError::OtherDocuments) => {
                Self::State(error.to_string())
            }
            AgreementError::Document(error) => error.into(),
            AgreementError::NotForUs { .. }
            | AgreementError::OtherPartner { .. }
            | AgreementError::WithItself
            | AgreementError::UnknownIssuer
            | AgreementError::NotTheFirst
            | AgreementError::NoCommonVersion { .. } => Self::Document(error.to_string()),
            // The document is in order, but does not fit what was confirmed, or how things stand.
            _ => Self::State(error.to_string()),
        }
    }
}

impl From<DocumentError> for PeeringError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Key(error) => Self::Internal(error.to_string()),
            DocumentError::FromTheFuture => Self::TooEarly(error.to_string()),
            error => Self::Document(error.to_string()),
        }
    }
}
