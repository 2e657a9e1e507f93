//! Why something was refused: a stable code for machines and a sentence for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A stable reason code: the number on federation links, the text everywhere else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum RefusalCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl RefusalCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number that stands for this code on a federation link.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The code with this number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The code as text, such as `no-agreement`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl FromStr for RefusalCode {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$name),)* _ => Err(()) }
            }
        }
    };
}

refusal_codes! {
    /// The two servers have no agreement.
    NoAgreement = 1, "no-agreement";
    /// One side has suspended the agreement.
    AgreementSuspended = 2, "agreement-suspended";
    /// The agreement was revoked.
    AgreementRevoked = 3, "agreement-revoked";
    /// The agreement has expired.
    AgreementExpired = 4, "agreement-expired";
    /// The agreement does not grant this operation for this user type in this direction.
    OutOfScope = 5, "out-of-scope";
    /// The sender's or the recipient's user type may not talk to other organisations.
    ExternalScope = 6, "external-scope";
    /// The time-to-live lies outside the bounds.
    TtlOutOfBounds = 7, "ttl-out-of-bounds";
    /// The burn-on-read time lies outside the bounds.
    BurnOutOfBounds = 8, "burn-out-of-bounds";
    /// The user type may not send files, or none of this size.
    FilesNotAllowed = 9, "files-not-allowed";
    /// Larger than a limit.
    TooLarge = 10, "too-large";
    /// The account or the peer has used up its quota.
    Quota = 11, "quota";
    /// No such account, or none that may be reached (one answer for both).
    UnknownRecipient = 12, "unknown-recipient";
    /// The recipient existed and is gone.
    RecipientGone = 13, "recipient-gone";
    /// No such room, or the sender is no member (one answer for both).
    UnknownRoom = 14, "unknown-room";
    /// A commit for an epoch that is not the room's current one.
    WrongEpoch = 15, "wrong-epoch";
    /// A message from an epoch that the room no longer keeps.
    EpochTooOld = 16, "epoch-too-old";
    /// A room with this identifier exists already.
    RoomExists = 17, "room-exists";
    /// The bytes do not decode, or contradict what surrounds them.
    Malformed = 18, "malformed";
    /// The time-to-live ran out before delivery.
    Expired = 19, "expired";
    /// No key package could be had for the account.
    NoKeyPackages = 20, "no-key-packages";
    /// A submission's counter skips a number.
    CounterGap = 21, "counter-gap";
    /// Too many requests; try again later.
    RateLimited = 22, "rate-limited";
    /// A domain in the room is not a peer of another one.
    NotFullMesh = 23, "not-full-mesh";
    /// The account is suspended.
    AccountSuspended = 24, "account-suspended";
    /// An earlier position of the lane is missing.
    LaneGap = 25, "lane-gap";
    /// Another envelope already has this position in the lane.
    LinkConflict = 26, "link-conflict";
    /// The envelopes are of a link epoch that the origin has left.
    StaleLinkEpoch = 27, "stale-link-epoch";
    /// The key that signed is not in the manifest that is known here.
    UnknownKey = 28, "unknown-key";
    /// The server can't take it now; nothing is wrong with it.
    Unavailable = 29, "unavailable";
    /// The person decides who from outside may start a conversation, and has not consented.
    ConsentRequired = 30, "consent-required";
    /// The room's hub has ordered removals, which a commit has to take up.
    PendingRemoves = 31, "pending-removes";
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as its addressee sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Refusal {
    /// What a program acts on.
    pub code: RefusalCode,
    /// What a person reads: what happened and what to do about it.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this code and this sentence.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: number, text and code convert into each other without loss, for every code.
    #[test]
    fn codes_round_trip() {
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_number(code.number()), Some(*code));
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!(RefusalCode::from_number(0), None);
    }
}
