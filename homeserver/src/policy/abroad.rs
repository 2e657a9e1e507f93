//! What another organisation is told of a refusal.
//!
//! Our own words name our user types and send people to our administrator: they are for our people and our audit
//! log. The code stays; the words are for the other side's people.

use federation_proto::ids::ServerName;
use federation_proto::refusal::{Refusal, RefusalCode};

use super::FOR_USER_TYPE;
use super::barriers::BARRIER;

/// The refusal without what is inside this organisation, for whoever it reaches.
pub fn told_abroad(refusal: Refusal) -> Refusal {
    let reason = match refusal.code {
        RefusalCode::ExternalScope => "the recipient may not communicate with your organisation",
        RefusalCode::OutOfScope if refusal.reason.contains(FOR_USER_TYPE) => {
            "the agreement between the two organisations does not grant this for the person there"
        }
        RefusalCode::OutOfScope if refusal.reason.contains(BARRIER) => {
            "the organisation of the person there does not let this through"
        }
        _ => return refusal,
    };
    Refusal::new(refusal.code, reason)
}

/// As [`told_abroad`], for what `us` judges of the agreement with the very peer that is told.
pub fn told_to_peer(refusal: Refusal, us: &ServerName) -> Refusal {
    let refusal = told_abroad(refusal);
    let reason = match refusal.code {
        RefusalCode::AgreementSuspended => format!("{us} has suspended the agreement with you"),
        RefusalCode::AgreementExpired => format!("the agreement with {us} has expired"),
        RefusalCode::AgreementRevoked => format!("{us} has revoked the agreement with you"),
        RefusalCode::NoAgreement => format!("{us} has no agreement in force with you"),
        _ => return refusal,
    };
    Refusal::new(refusal.code, reason)
}
