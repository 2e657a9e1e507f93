//! The one error of this library: a stable code for programs, a sentence for people.

use std::path::PathBuf;

use homeserver_api::ids::{Address, RoomId, ServerName};
use homeserver_api::problem::Problem;
use homeserver_api::refusal::{Refusal, RefusalCode};

use crate::message::MessageId;

/// What went wrong. Every variant has a stable [`Error::code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The homeserver cannot be reached; trying again may help.
    #[error("the homeserver at {endpoint} can't be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What failed.
        reason: String,
    },
    /// An open session ended; what was not answered is sent again with the next one.
    #[error("the session with the homeserver was lost: {0}")]
    SessionLost(String),
    /// The homeserver does not hold the organisation's identity that was pinned at enrolment.
    #[error(
        "the homeserver's certificate does not lead to the organisation's root that this device \
         trusts: {0}"
    )]
    Untrusted(String),
    /// The homeserver answered with a problem.
    #[error("{}", in_words(.0))]
    Problem(Problem),
    /// Policy, an agreement or the protocol forbids it.
    #[error("{}", .0.reason)]
    Refused(Refusal),
    /// The homeserver answered with something this version does not understand.
    #[error("the homeserver's answer was not understood: {0}")]
    Protocol(String),
    /// A message, commit or welcome is not acceptable.
    #[error("not acceptable: {0}")]
    Mls(String),
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
    /// What a homeserver says of somebody's devices is not to be believed.
    #[error("{0}")]
    Devices(String),
    /// Somebody's device came by a reset, and nobody has confirmed it on this device.
    #[error(
        "{0} has a new device that no other device of the account has approved: ask them by another way, then \
         confirm it (`chat confirm {0}`)"
    )]
    Unconfirmed(Address),
    /// A device is certified for another address than its account is known by, and nobody has confirmed that on this device.
    #[error("{}", renamed_in_words(.address, .certified, *.taken))]
    Renamed {
        /// The address that the account is known by.
        address: Address,
        /// The address that it is certified for.
        certified: Address,
        /// Whether another account is known by that one: then nobody can confirm it.
        taken: bool,
    },
    /// The device's store cannot be opened with this passphrase or key.
    #[error("the passphrase or key does not open the store")]
    WrongKey,
    /// The store is older than what this device has sent already.
    #[error(
        "this device's store is an older copy of itself: enrol the device again, because a copy \
         would use the same keys twice"
    )]
    StaleStore,
    /// The homeserver is older than what it has accepted from this device already.
    #[error(
        "the homeserver has forgotten what it accepted from this device, as after it was put back \
         from a backup: enrol the device again, and tell your administrator"
    )]
    RestoredServer,
    /// What was typed is no recovery code.
    #[error("{0}")]
    RecoveryCode(String),
    /// A file is not the backup that it should be.
    #[error("{0}")]
    Backup(String),
    /// There is no enrolled device in the folder.
    #[error("no device is enrolled in {}", .0.display())]
    NotEnrolled(PathBuf),
    /// There is an enrolled device in the folder already.
    #[error("a device is enrolled in {} already", .0.display())]
    AlreadyEnrolled(PathBuf),
    /// Another process has the device open.
    #[error("another process has the device in {} open", .0.display())]
    InUse(PathBuf),
    /// The store failed.
    #[error("the device's store failed: {0}")]
    Store(String),
    /// A local file failed.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// This device is in no such room.
    #[error("this device is in no room {0}")]
    UnknownRoom(RoomId),
    /// The organisations in a room don't let it happen.
    #[error("{0}")]
    Policy(String),
    /// A message is outside of what all organisations in its room allow.
    #[error("{reason}")]
    OutOfBounds {
        /// The code that a homeserver refuses it with too.
        code: RefusalCode,
        /// What it may be.
        reason: String,
    },
    /// There is no such message here, or it has expired or burnt.
    #[error("there is no message {0} here: it never was, has expired or is burnt")]
    UnknownMessage(MessageId),
    /// The argument cannot be used.
    #[error("{0}")]
    InvalidArgument(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl From<room_rules::Error> for Error {
    fn from(error: room_rules::Error) -> Self {
        use room_rules::Error as Rules;
        match error {
            Rules::Certificate(reason) => Self::Certificate(reason),
            Rules::UnknownOrganisation(server) => Self::UnknownOrganisation(server),
            Rules::UnknownRoot(server) => Self::UnknownRoot(server),
            Rules::Handover => Self::Untrusted(error.to_string()),
            Rules::Mls(reason) => Self::Mls(reason),
            Rules::Consent(_)
            | Rules::ConsentEnded(_)
            | Rules::NotFullMesh { .. }
            | Rules::NoCommonBounds(_) => Self::Policy(error.to_string()),
            Rules::OutOfBounds { code, reason } => Self::OutOfBounds { code, reason },
            Rules::Settings(_) | Rules::Refused(_) | Rules::PendingRemoves => {
                Self::Mls(error.to_string())
            }
        }
    }
}

impl Error {
    /// The stable code: the refusal's or problem's own one, else this library's.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::SessionLost(_) => "session-lost",
            Self::Untrusted(_) => "untrusted-server",
            Self::Problem(problem) => problem.code(),
            Self::Refused(refusal) => refusal.code.as_str(),
            Self::Protocol(_) => "protocol",
            Self::Mls(_) => "mls",
            Self::Policy(_) => "room-policy",
            Self::OutOfBounds { code, .. } => code.as_str(),
            Self::Certificate(_) | Self::UnknownRoot(_) => "certificate",
            Self::UnknownOrganisation(_) => "unknown-organisation",
            Self::Devices(_) => "devices",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Renamed { .. } => "renamed",
            Self::StaleStore => "stale-store",
            Self::RestoredServer => "restored-server",
            Self::WrongKey => "wrong-key",
            Self::RecoveryCode(_) => "recovery-code",
            Self::Backup(_) => "backup",
            Self::NotEnrolled(_) => "not-enrolled",
            Self::AlreadyEnrolled(_) => "already-enrolled",
            Self::InUse(_) => "in-use",
            Self::Store(_) => "store",
            Self::File { .. } => "file",
            Self::UnknownRoom(_) => "unknown-room",
            Self::UnknownMessage(_) => "unknown-message",
            Self::InvalidArgument(_) => "invalid-argument",
            Self::Closed => "closed",
        }
    }

    /// Whether newer roots from the homeserver may mend it.
    pub(crate) const fn wants_roots(&self) -> bool {
        matches!(self, Self::UnknownOrganisation(_) | Self::UnknownRoot(_))
    }

    /// The refusal, when the error is one.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// What to do about somebody whose homeserver certifies him for another address.
pub(crate) fn renamed_in_words(address: &Address, certified: &Address, taken: bool) -> String {
    if taken {
        return format!(
            "the homeserver of {address} certifies them for {certified} now, by which this device knows somebody else: don't \
             believe it, and tell your administrator"
        );
    }
    format!(
        "the homeserver of {address} certifies them for {certified} now: ask them by another way whether that is their \
         address, then confirm it (`chat confirm {address}`)"
    )
}

/// What a problem says to a person. Most say it themselves; what a homeserver answers to a device that it doesn't know speaks to
/// the author of a program.
fn in_words(problem: &Problem) -> &str {
    match problem.code() {
        "not-signed-in" => {
            "your homeserver does not let this device in any more: the account is suspended, or the device was removed; ask \
             your administrator"
        }
        _ => &problem.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nobody is asked to send a header; other problems keep their own words. Method: the problem of a suspended account,
    /// and another.
    #[test]
    fn problems_speak_to_people() {
        let problem =
            |code| Error::Problem(Problem::new(401, code, "title", "send `Authorization: …`"));
        let said = problem("not-signed-in").to_string();
        assert!(said.contains("the account is suspended"), "{said}");
        assert!(said.contains("ask your administrator"), "{said}");
        assert!(!said.contains("Authorization"), "{said}");
        assert_eq!(problem("not-signed-in").code(), "not-signed-in");
        assert_eq!(problem("other").to_string(), "send `Authorization: …`");
    }
}
