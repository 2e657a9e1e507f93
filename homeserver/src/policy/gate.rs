//! Whether a device may act for its account now: its user's sign-in, the banner, the client's version.

use homeserver_api::policy::{ClientVersion, UserTypePolicy};
use ring::digest::{SHA256, digest};

/// What is known of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// When its user last proved to know the password, milliseconds since the Unix epoch.
    pub signed_in_ms: u64,
    /// SHA-256 of the banner that its user agreed to last.
    pub banner: Option<[u8; 32]>,
}

/// Why it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// The password has to be typed again.
    #[error("this device was signed in too long ago: type the account's password again")]
    SignIn,
    /// The banner has not been agreed to.
    #[error("agree to the organisation's notice first: the account's rules have its text")]
    Banner,
    /// The client is too old, or did not say which one it is.
    #[error("this client is too old for the organisation: version {0} or a later one is needed")]
    Client(ClientVersion),
}

/// Until when the device's sign-in counts, milliseconds since the Unix epoch; `None`: without end.
pub fn sign_in_ends_ms(policy: &UserTypePolicy, device: &Device) -> Option<u64> {
    let seconds = policy.sessions.sign_in_seconds_max?;
    Some(
        device
            .signed_in_ms
            .saturating_add(u64::from(seconds).saturating_mul(1000)),
    )
}

/// What stands for the banner that there is.
pub fn banner_sha256(policy: &UserTypePolicy) -> Option<[u8; 32]> {
    let text = policy.clients.banner.as_ref()?;
    let mut hash = [0; 32];
    for (to, from) in hash
        .iter_mut()
        .zip(digest(&SHA256, text.as_bytes()).as_ref())
    {
        *to = *from;
    }
    Some(hash)
}

/// Whether the device may act at all.
pub fn may_act(policy: &UserTypePolicy, device: &Device, now_ms: u64) -> Result<(), Barred> {
    if sign_in_ends_ms(policy, device).is_some_and(|ends_ms| ends_ms <= now_ms) {
        return Err(Barred::SignIn);
    }
    match banner_sha256(policy) {
        Some(banner) if device.banner != Some(banner) => Err(Barred::Banner),
        Some(_) | None => Ok(()),
    }
}

/// Whether a client that calls itself this may have a session.
pub fn may_connect(policy: &UserTypePolicy, client: Option<ClientVersion>) -> Result<(), Barred> {
    match policy.clients.version_min {
        Some(least) if client.is_none_or(|version| version < least) => Err(Barred::Client(least)),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Device = Device {
        signed_in_ms: 1_000,
        banner: None,
    };

    /// Goal: a device acts as long as its sign-in counts, to the millisecond, and for ever where nothing bounds it. Method: the
    /// moments around the end.
    #[test]
    fn sign_ins_end() {
        let mut policy = UserTypePolicy::default();
        assert_eq!(may_act(&policy, &DEVICE, u64::MAX), Ok(()));
        policy.sessions.sign_in_seconds_max = Some(60);
        assert_eq!(may_act(&policy, &DEVICE, 60_999), Ok(()));
        assert_eq!(may_act(&policy, &DEVICE, 61_000), Err(Barred::SignIn));
    }

    /// Goal: a banner is agreed to again when its text changes. Method: two texts, and what was agreed to of each.
    #[test]
    fn banners_are_agreed_to() {
        let mut policy = UserTypePolicy::default();
        policy.clients.banner = Some("one".to_owned());
        assert_eq!(may_act(&policy, &DEVICE, 0), Err(Barred::Banner));
        let agreed = Device {
            banner: banner_sha256(&policy),
            ..DEVICE
        };
        assert_eq!(may_act(&policy, &agreed, 0), Ok(()));
        policy.clients.banner = Some("two".to_owned());
        assert_eq!(may_act(&policy, &agreed, 0), Err(Barred::Banner));
        policy.clients.banner = None;
        assert_eq!(may_act(&policy, &agreed, 0), Ok(()));
    }

    /// Goal: older clients, and those that don't say what they are, get no session where a version is asked for. Method: a
    /// version before, the same and one after.
    #[test]
    fn old_clients() {
        let version = |text: &str| Some(text.parse().unwrap());
        let mut policy = UserTypePolicy::default();
        assert_eq!(may_connect(&policy, None), Ok(()));
        policy.clients.version_min = version("1.2.0");
        let barred = Err(Barred::Client("1.2.0".parse().unwrap()));
        assert_eq!(may_connect(&policy, None), barred);
        assert_eq!(may_connect(&policy, version("1.1.9")), barred);
        assert_eq!(may_connect(&policy, version("1.2.0")), Ok(()));
        assert_eq!(may_connect(&policy, version("2.0.0")), Ok(()));
    }
}
