//! Peers and the ceremony that makes an agreement with one.

pub(super) mod accept;
pub(super) mod activate;
pub(super) mod amend;
pub(super) mod consent;
pub(super) mod countersign;
mod granted;
pub(super) mod inspect;
pub(super) mod list;
pub(super) mod offer;
pub(super) mod refuse_amendment;
pub(super) mod resume;
pub(super) mod revoke;
pub(super) mod show;
pub(super) mod suspend;

use super::error::AdminError;
use crate::federation::peers::PeeringError;

impl From<PeeringError> for AdminError {
    fn from(error: PeeringError) -> Self {
        match error {
            PeeringError::UnknownPeer(_) | PeeringError::NotInQuarantine(_) => {
                Self::NotFound(error.to_string())
            }
            PeeringError::Document(_) | PeeringError::TooEarly(_) | PeeringError::Statement(_) => {
                Self::Malformed(error.to_string())
            }
            PeeringError::State(_) => Self::Conflict("conflict", error.to_string()),
            PeeringError::Busy | PeeringError::NotYet(_) | PeeringError::KeysAwaited(_) => {
                Self::Busy(error.to_string())
            }
            PeeringError::Internal(text) => Self::Internal(text),
            PeeringError::Store(error) => error.into(),
        }
    }
}
