//! Whether somebody of another organisation may start a conversation with a person.

use homeserver_api::policy::OutsideContacts;

/// How the person stands with him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// The person lets him in.
    Given,
    /// The person has decided nothing.
    Open,
    /// The person has blocked him.
    Barred,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// He may.
    Free,
    /// He has to ask first.
    MustAsk,
    /// There is nobody, for him.
    Hidden,
}

/// Decides by the setting of the person's user type and the person's own word; a block holds whatever the
/// setting is.
pub const fn approach(setting: OutsideContacts, consent: Consent) -> Approach {
    match (consent, setting) {
        (Consent::Barred, _) => Approach::Hidden,
        (Consent::Given, _) | (Consent::Open, OutsideContacts::Open) => Approach::Free,
        (Consent::Open, OutsideContacts::Ask) => Approach::MustAsk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a block holds always, the setting decides about the others; by the whole table.
    #[test]
    fn table() {
        use OutsideContacts::{Ask, Open};
        for (setting, consent, expected) in [
            (Open, Consent::Given, Approach::Free),
            (Open, Consent::Open, Approach::Free),
            (Open, Consent::Barred, Approach::Hidden),
            (Ask, Consent::Given, Approach::Free),
            (Ask, Consent::Open, Approach::MustAsk),
            (Ask, Consent::Barred, Approach::Hidden),
        ] {
            assert_eq!(
                approach(setting, consent),
                expected,
                "{setting:?} {consent:?}"
            );
        }
    }
}
