//! What people rule for themselves: tighter than their user type, never looser.

use serde::{Deserialize, Serialize};

use super::{Choice, DeviceReset, DirectoryListing, OutsideContacts, Preview, UserTypePolicy};

/// What an account's owner has chosen. It takes away from what the user type allows; where that is tighter already, or
/// becomes so later, it has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRules {
    /// The longest time-to-live of the own messages.
    #[serde(default)]
    pub ttl_seconds_max: Option<u32>,
    /// The shortest burn-on-read time of the own messages: none goes out that does not burn.
    #[serde(default)]
    pub burn_seconds_min: Option<u32>,
    /// Who finds the account.
    #[serde(default)]
    pub directory: Option<DirectoryListing>,
    /// Who from outside may start conversations.
    #[serde(default)]
    pub outside_contacts: Option<OutsideContacts>,
    /// How a device comes to the account without another one's approval.
    #[serde(default)]
    pub device_reset: Option<DeviceReset>,
    /// What a notification shows.
    #[serde(default)]
    pub preview: Option<Preview>,
    /// Whether no receipts of reading are sent.
    #[serde(default)]
    pub no_receipts: bool,
    /// Whether nobody is shown that the person is there.
    #[serde(default)]
    pub no_presence: bool,
}

impl OwnRules {
    /// The user type's rules with the own ones: whatever is in the own ones, nothing is allowed that was not before.
    #[must_use]
    pub fn tighten(&self, policy: &UserTypePolicy) -> UserTypePolicy {
        let mut tight = policy.clone();
        if let Some(most) = self.ttl_seconds_max {
            tight.ttl.max_seconds = most.min(policy.ttl.max_seconds).max(policy.ttl.min_seconds);
            tight.ttl.default_seconds = policy.ttl.default_seconds.min(tight.ttl.max_seconds);
        }
        if let Some(least) = self.burn_seconds_min {
            tight.burn.min_seconds = least
                .max(policy.burn.min_seconds)
                .min(policy.burn.max_seconds);
            tight.burn.default_seconds = policy.burn.default_seconds.max(tight.burn.min_seconds);
        }
        if let Some(found) = self.directory {
            tight.directory = found.min(policy.directory);
        }
        if self.outside_contacts == Some(OutsideContacts::Ask) {
            tight.outside_contacts = OutsideContacts::Ask;
        }
        if self.device_reset == Some(DeviceReset::Administrator) {
            tight.device_reset = DeviceReset::Administrator;
        }
        if let Some(preview) = self.preview {
            tight.clients.preview = preview.min(policy.clients.preview);
        }
        if self.no_receipts && policy.clients.receipts == Choice::Free {
            tight.clients.receipts = Choice::Off;
        }
        tight.clients.presence &= !self.no_presence;
        tight
    }

    /// What of it the user type does not leave to its people, if anything.
    #[must_use]
    pub fn loosens(&self, policy: &UserTypePolicy) -> Option<&'static str> {
        let is_within = |seconds: Option<u32>, (min, max): (u32, u32)| {
            seconds.is_none_or(|seconds| min <= seconds && seconds <= max)
        };
        let ttl = (policy.ttl.min_seconds, policy.ttl.max_seconds);
        let burn = (policy.burn.min_seconds, policy.burn.max_seconds);
        let asks = policy.outside_contacts == OutsideContacts::Ask;
        let resets = policy.device_reset == DeviceReset::Administrator;
        let checks = [
            (is_within(self.ttl_seconds_max, ttl), "ttl_seconds_max"),
            (is_within(self.burn_seconds_min, burn), "burn_seconds_min"),
            (
                self.directory.is_none_or(|own| own <= policy.directory),
                "directory",
            ),
            (
                !asks || self.outside_contacts != Some(OutsideContacts::Open),
                "outside_contacts",
            ),
            (
                !resets || self.device_reset != Some(DeviceReset::Password),
                "device_reset",
            ),
            (
                self.preview.is_none_or(|own| own <= policy.clients.preview),
                "preview",
            ),
            (
                !self.no_receipts || policy.clients.receipts != Choice::Always,
                "no_receipts",
            ),
        ];
        checks
            .iter()
            .find(|(tightens, _)| !tightens)
            .map(|(_, field)| *field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Bounds, ClientRules};

    fn strict() -> UserTypePolicy {
        let bounds = |min_seconds, max_seconds| Bounds {
            min_seconds,
            max_seconds,
            default_seconds: max_seconds,
        };
        UserTypePolicy {
            ttl: bounds(60, 3600),
            burn: bounds(10, 100),
            directory: DirectoryListing::Exact,
            outside_contacts: OutsideContacts::Ask,
            device_reset: DeviceReset::Administrator,
            clients: ClientRules {
                preview: Preview::Sender,
                receipts: Choice::Always,
                presence: false,
                ..ClientRules::default()
            },
            ..UserTypePolicy::default()
        }
    }

    /// Goal: what people choose for themselves loosens nothing, and is told when it would. Method: a user type that leaves
    /// little, and for each rule a choice that is looser.
    #[test]
    fn never_looser() {
        let policy = strict();
        let none = OwnRules::default;
        for (own, field) in [
            (
                OwnRules {
                    ttl_seconds_max: Some(3601),
                    ..none()
                },
                "ttl_seconds_max",
            ),
            (
                OwnRules {
                    ttl_seconds_max: Some(59),
                    ..none()
                },
                "ttl_seconds_max",
            ),
            (
                OwnRules {
                    burn_seconds_min: Some(9),
                    ..none()
                },
                "burn_seconds_min",
            ),
            (
                OwnRules {
                    burn_seconds_min: Some(101),
                    ..none()
                },
                "burn_seconds_min",
            ),
            (
                OwnRules {
                    directory: Some(DirectoryListing::Listed),
                    ..none()
                },
                "directory",
            ),
            (
                OwnRules {
                    outside_contacts: Some(OutsideContacts::Open),
                    ..none()
                },
                "outside_contacts",
            ),
            (
                OwnRules {
                    device_reset: Some(DeviceReset::Password),
                    ..none()
                },
                "device_reset",
            ),
            (
                OwnRules {
                    preview: Some(Preview::Full),
                    ..none()
                },
                "preview",
            ),
            (
                OwnRules {
                    no_receipts: true,
                    ..none()
                },
                "no_receipts",
            ),
        ] {
            assert_eq!(own.loosens(&policy), Some(field), "{own:?}");
            let tight = own.tighten(&policy);
            assert!(tight.ttl.in_order() && tight.burn.in_order(), "{tight:?}");
            assert!(tight.ttl.max_seconds <= policy.ttl.max_seconds);
            assert!(tight.burn.min_seconds >= policy.burn.min_seconds);
            assert!(tight.directory <= policy.directory);
            assert_eq!(tight.outside_contacts, policy.outside_contacts);
            assert_eq!(tight.device_reset, policy.device_reset);
            assert!(tight.clients.preview <= policy.clients.preview);
            assert_eq!(tight.clients.receipts, Choice::Always);
        }
    }

    /// Goal: each choice that tightens holds. Method: all of them at once on what a user type allows by default.
    #[test]
    fn tighter_holds() {
        let own = OwnRules {
            ttl_seconds_max: Some(3600),
            burn_seconds_min: Some(30),
            directory: Some(DirectoryListing::Hidden),
            outside_contacts: Some(OutsideContacts::Ask),
            device_reset: Some(DeviceReset::Administrator),
            preview: Some(Preview::Nothing),
            no_receipts: true,
            no_presence: true,
        };
        let policy = UserTypePolicy::default();
        assert_eq!(own.loosens(&policy), None);
        let tight = own.tighten(&policy);
        assert_eq!(
            (tight.ttl.max_seconds, tight.ttl.default_seconds),
            (3600, 3600)
        );
        assert_eq!(
            (tight.burn.min_seconds, tight.burn.default_seconds),
            (30, 30)
        );
        assert_eq!(tight.directory, DirectoryListing::Hidden);
        assert_eq!(tight.outside_contacts, OutsideContacts::Ask);
        assert_eq!(tight.device_reset, DeviceReset::Administrator);
        assert_eq!(tight.clients.preview, Preview::Nothing);
        assert_eq!(tight.clients.receipts, Choice::Off);
        assert!(!tight.clients.presence);
        assert_eq!(OwnRules::default().tighten(&policy), policy);
    }
}
