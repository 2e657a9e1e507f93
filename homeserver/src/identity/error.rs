//! What can go wrong with accounts, and who is at fault.

use federation_proto::ids::Handle;

use crate::organisation::OrganisationError;
use crate::policy::gate::Barred;
use crate::store::StoreError;

/// Why something about an account was not done.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No account has this handle.
    #[error("there is no user `{0}`: list the users to find the handle")]
    UnknownUser(Handle),
    /// No user type has this name.
    #[error("there is no user type `{0}`: list the user types, or create this one")]
    UnknownUserType(String),
    /// The account has no such device.
    #[error("there is no such device of this account: list the account's devices")]
    UnknownDevice,
    /// Somebody has or had the handle.
    #[error(
        "the handle `{0}` is or was somebody's, and is never given to anyone else: choose another"
    )]
    HandleTaken(Handle),
    /// Accounts have this user type.
    #[error("accounts still have the user type `{0}`: give them another one first")]
    UserTypeInUse(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// One answer for an unknown handle and a wrong password.
    #[error(
        "the handle or the password is wrong: check both, or ask your administrator for a new password"
    )]
    SignInFailed,
    /// Whoever is signed in does not know the own password.
    #[error(
        "the present password is wrong: check it; whoever forgot it asks an administrator for a new one"
    )]
    WrongPassword,
    /// Too many failures just now.
    #[error("too many failed attempts: try again in {} s", .retry_after_ms.div_ceil(1000))]
    SlowDown {
        /// How long to wait.
        retry_after_ms: u64,
    },
    /// The account is suspended.
    #[error("this account is suspended: ask your administrator to resume it")]
    Suspended,
    /// The account has all the devices that it may have.
    #[error("this account has {0} devices, as many as its user type allows: remove one first")]
    TooManyDevices(u32),
    /// A reset that the user type does not permit, and that no administrator has.
    #[error(
        "the devices of this account are not reset by the password alone: approve the new device on another \
         one of yours, or ask your administrator to allow a reset"
    )]
    ResetForbidden,
    /// The account has had devices, and none is left to approve another one.
    #[error(
        "this account has no device left that could approve this one: enrol it by a reset; people who wrote \
         with you will be asked to confirm it"
    )]
    NoDeviceLeft,
    /// Too many devices wait.
    #[error(
        "as many devices of this account wait for approval as may: approve or decline them on a device of \
         yours, or wait an hour"
    )]
    TooManyWaiting,
    /// No such device waits.
    #[error(
        "no such device waits for approval: it was declined, or its hour is over; enrol it again"
    )]
    NotWaiting,
    /// A renewal for another key than the device's.
    #[error("the request is for another key than this device's: enrol a new device for a new key")]
    OtherKey,
    /// The device may not act now.
    #[error(transparent)]
    Barred(#[from] Barred),
    /// The segments are no longer those that a change was meant for.
    #[error("the segments have changed since: look at what the change does now, then apply that")]
    SegmentsChanged,
    /// Others changed the same thing at the same moment, again and again.
    #[error("others are changing the same thing: try again in a moment")]
    Busy,
    /// Keys or certificates.
    #[error(transparent)]
    Organisation(#[from] OrganisationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system failed.
    #[error("the homeserver could not check the password: {0}")]
    System(String),
}

impl IdentityError {
    /// Whether whoever asked was refused, by rules or for what they sent; otherwise something failed.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::SignInFailed
                | Self::Suspended
                | Self::TooManyDevices(_)
                | Self::ResetForbidden
                | Self::TooManyWaiting
                | Self::UnknownUserType(_)
                | Self::Organisation(OrganisationError::Request(_))
        )
    }
}

/// How an answer names it; stable.
pub fn barred_code(barred: &Barred) -> &'static str {
    match barred {
        Barred::SignIn => "sign-in-needed",
        Barred::Banner => "banner-needed",
        Barred::Client(_) => "client-too-old",
    }
}
