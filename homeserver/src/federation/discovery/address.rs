//! Which addresses may be a peer's.
//!
//! Whoever controls a name chooses the address; these rules keep him from choosing something inside of
//! this machine or its network segment. The checked address itself is connected to, never the name
//! again, so that a second answer of the DNS changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why no peer can be at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No host at all.
    #[error("it is the unspecified address")]
    Unspecified,
    /// Many hosts.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// Only this network segment, and the metadata services of clouds.
    #[error("it is link-local")]
    LinkLocal,
    /// An IPv4 address in IPv6 clothes.
    #[error("it is an IPv4 address written as IPv6; publish it as an A record")]
    EmbeddedIpv4,
    /// Set aside for other purposes.
    #[error("it is set aside for documentation, tests or other purposes")]
    Reserved,
    /// This machine.
    #[error("it is this machine; discovery.loopback_addresses = true would allow it")]
    Loopback,
    /// A private network.
    #[error("it is private; discovery.private_addresses = true would allow it")]
    Private,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRules {
    /// Private networks.
    pub private: bool,
    /// This machine.
    pub loopback: bool,
}

/// Who chose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// It stands literally in the agreement that both administrators signed.
    InAgreement,
    /// The DNS.
    ByDns,
}

impl AddressRules {
    /// Whether `address` may be a peer's.
    pub fn check(self, address: IpAddr, chosen: Chosen) -> Result<(), Unfit> {
        let Some(kind) = (match address {
            IpAddr::V4(address) => kind_of_v4(address),
            IpAddr::V6(address) => kind_of_v6(address),
        }) else {
            return Ok(());
        };
        let allowed = match kind {
            Unfit::Private => self.private || chosen == Chosen::InAgreement,
            Unfit::Loopback => self.loopback || chosen == Chosen::InAgreement,
            Unfit::Reserved => chosen == Chosen::InAgreement,
            Unfit::Unspecified | Unfit::Multicast | Unfit::LinkLocal | Unfit::EmbeddedIpv4 => false,
        };
        if allowed { Ok(()) } else { Err(kind) }
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Option<Unfit> {
    let [a, b, c, _] = address.octets();
    let kind = match (a, b, c) {
        (0, _, _) => Unfit::Unspecified,
        (127, _, _) => Unfit::Loopback,
        (169, 254, _) => Unfit::LinkLocal,
        (224..=239, _, _) => Unfit::Multicast,
        _ if address.is_broadcast() => Unfit::Multicast,
        (10, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Unfit::Private,
        // Protocol assignments, documentation, 6to4 relays, benchmarks, class E.
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => Unfit::Reserved,
        (192, 88, 99) | (198, 18 | 19, _) | (240.., _, _) => Unfit::Reserved,
        _ => return None,
    };
    Some(kind)
}

fn kind_of_v6(address: Ipv6Addr) -> Option<Unfit> {
    let kind = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Unfit::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Unfit::Loopback,
        // Compatible, mapped and translated (RFC 4291, RFC 6145); NAT64, Teredo, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => Unfit::EmbeddedIpv4,
        [0x64, 0xff9b, ..] | [0x2001, 0, ..] | [0x2002, ..] => Unfit::EmbeddedIpv4,
        [0xff00..=0xffff, ..] => Unfit::Multicast,
        [0xfe80..=0xfebf, ..] => Unfit::LinkLocal,
        // Unique local, and site-local as it was once called.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Unfit::Private,
        // Discard, benchmarks, ORCHID, documentation.
        [0x100, 0, 0, 0, ..] | [0x2001, 2, 0, ..] | [0x2001, 0x10..=0x2f, ..] => Unfit::Reserved,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Unfit::Reserved,
        _ => return None,
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: AddressRules = AddressRules {
        private: false,
        loopback: false,
    };

    /// Goal: every kind of address that is no peer's is refused when the DNS chooses it; by samples at
    /// the edges of each range.
    #[test]
    fn what_the_dns_may_not_choose() {
        let samples = [
            ("0.0.0.0", Unfit::Unspecified),
            ("0.255.255.255", Unfit::Unspecified),
            ("::", Unfit::Unspecified),
            ("127.0.0.1", Unfit::Loopback),
            ("127.255.255.255", Unfit::Loopback),
            ("::1", Unfit::Loopback),
            ("169.254.169.254", Unfit::LinkLocal),
            ("fe80::1", Unfit::LinkLocal),
            ("febf::1", Unfit::LinkLocal),
            ("224.0.0.1", Unfit::Multicast),
            ("239.255.255.255", Unfit::Multicast),
            ("255.255.255.255", Unfit::Multicast),
            ("ff02::1", Unfit::Multicast),
            ("::ffff:127.0.0.1", Unfit::EmbeddedIpv4),
            ("::ffff:8.8.8.8", Unfit::EmbeddedIpv4),
            ("::127.0.0.1", Unfit::EmbeddedIpv4),
            ("::ffff:0:127.0.0.1", Unfit::EmbeddedIpv4),
            ("64:ff9b::7f00:1", Unfit::EmbeddedIpv4),
            ("64:ff9b:1::1", Unfit::EmbeddedIpv4),
            ("2002:7f00:1::", Unfit::EmbeddedIpv4),
            ("2001::1", Unfit::EmbeddedIpv4),
            ("10.0.0.1", Unfit::Private),
            ("172.16.0.1", Unfit::Private),
            ("172.31.255.255", Unfit::Private),
            ("192.168.0.1", Unfit::Private),
            ("100.64.0.1", Unfit::Private),
            ("fd00::1", Unfit::Private),
            ("fec0::1", Unfit::Private),
            ("192.0.2.1", Unfit::Reserved),
            ("198.51.100.1", Unfit::Reserved),
            ("203.0.113.1", Unfit::Reserved),
            ("198.19.0.1", Unfit::Reserved),
            ("240.0.0.1", Unfit::Reserved),
            ("2001:db8::1", Unfit::Reserved),
            ("3fff::1", Unfit::Reserved),
            ("100::1", Unfit::Reserved),
        ];
        for (address, expected) in samples {
            let refused = STRICT.check(address.parse().unwrap(), Chosen::ByDns);
            assert_eq!(refused, Err(expected), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2a00::1",
            "2001:4860::1",
        ] {
            let address = address.parse().unwrap();
            assert_eq!(STRICT.check(address, Chosen::ByDns), Ok(()), "{address}");
        }
    }

    /// Goal: configuration and agreement open what they should and nothing more; by each switch.
    #[test]
    fn what_may_be_allowed() {
        let check = |rules: AddressRules, address: &str, chosen| {
            rules.check(address.parse().unwrap(), chosen).is_ok()
        };
        let private = AddressRules {
            private: true,
            ..STRICT
        };
        let loopback = AddressRules {
            loopback: true,
            ..STRICT
        };
        assert!(check(private, "10.0.0.1", Chosen::ByDns));
        assert!(!check(private, "127.0.0.1", Chosen::ByDns));
        assert!(check(loopback, "127.0.0.1", Chosen::ByDns));
        assert!(!check(loopback, "10.0.0.1", Chosen::ByDns));
        for stated in ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1"] {
            assert!(check(STRICT, stated, Chosen::InAgreement), "{stated}");
        }
        let all = AddressRules {
            private: true,
            loopback: true,
        };
        for never in ["0.0.0.0", "ff02::1", "169.254.169.254", "::ffff:127.0.0.1"] {
            assert!(!check(all, never, Chosen::InAgreement), "{never}");
        }
    }
}
