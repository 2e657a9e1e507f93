//! Which targets are tried, and in which order: RFC 2782 without any I/O; randomness is an argument.

use std::net::IpAddr;

use super::limits::ADDRESSES_PER_TARGET_MAX;

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The lowest goes first.
    pub priority: u16,
    /// Its share of the connections among those of its priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, with neither a dot at its end nor capitals; empty for the target ".".
    pub target: String,
}

/// Whether the records say that the service is decidedly not there: one record with the target ".".
pub fn not_offered(services: &[Service]) -> bool {
    matches!(services, [only] if only.target.is_empty())
}

/// The services in the order in which they are to be tried: by priority, and within one by weighted
/// chance. `draw(most)` draws evenly from 0 to `most`, both included.
///
/// Records with the target "." beside others mean nothing and are left out.
pub fn order(mut services: Vec<Service>, draw: &mut dyn FnMut(u64) -> u64) -> Vec<Service> {
    services.retain(|service| !service.target.is_empty());
    // Weight 0 stands first within its priority, so that it has a very small chance, as the RFC wants.
    services.sort_by_key(|service| (service.priority, service.weight != 0));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let group = || services.iter().take_while(|s| s.priority == priority);
        let drawn = draw(group().map(|s| u64::from(s.weight)).sum());
        let mut running = 0;
        let chosen = group().position(|service| {
            running += u64::from(service.weight);
            running >= drawn
        });
        ordered.push(services.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// The addresses of one target as they are tried: families in turn, IPv6 first (RFC 8305, section 4), each
/// once, and no more than the limit.
pub fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|a| a.is_ipv6());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            break;
        }
        for address in pair.into_iter().flatten() {
            if !mixed.contains(&address) {
                mixed.push(address);
            }
        }
    }
    mixed.truncate(ADDRESSES_PER_TARGET_MAX);
    mixed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small generator of even numbers for tests: splitmix64.
    fn seeded(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |most| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % (most + 1)
        }
    }

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service {
            priority,
            weight,
            port: 8448,
            target: target.to_owned(),
        }
    }

    fn services() -> impl Strategy<Value = Vec<Service>> {
        let one = (
            0..4_u16,
            prop_oneof![Just(0_u16), any::<u16>()],
            "[a-z]{0,3}",
        );
        prop::collection::vec(one.prop_map(|(p, w, t)| service(p, w, &t)), 0..32)
    }

    proptest! {
        /// Goal: nothing is lost, invented or tried before a lower priority, whatever is drawn (even
        /// out of range); by arbitrary records and draws.
        #[test]
        fn an_order_is_a_permutation_by_priority(records in services(), seed: u64, wild: bool) {
            let mut even = seeded(seed);
            let mut draw = |most| if wild { u64::MAX } else { even(most) };
            let ordered = order(records.clone(), &mut draw);
            prop_assert!(ordered.windows(2).all(|w| w[0].priority <= w[1].priority));
            let mut left: Vec<_> = records.into_iter().filter(|r| !r.target.is_empty()).collect();
            for service in &ordered {
                let at = left.iter().position(|r| r == service);
                prop_assert!(at.is_some());
                left.remove(at.unwrap());
            }
            prop_assert!(left.is_empty());
        }

        /// Goal: families take turns, nothing twice, within the limit; by arbitrary addresses.
        #[test]
        fn families_take_turns(addresses: Vec<IpAddr>) {
            let mixed = interleave(&addresses);
            prop_assert!(mixed.len() <= ADDRESSES_PER_TARGET_MAX);
            prop_assert!(mixed.iter().all(|a| addresses.contains(a)));
            let both = [true, false].map(|v6| addresses.iter().any(|a| a.is_ipv6() == v6));
            if both == [true, true] {
                prop_assert!(mixed[0].is_ipv6() && mixed[1].is_ipv4());
            }
            for (at, address) in mixed.iter().enumerate() {
                prop_assert!(!mixed[..at].contains(address));
            }
        }
    }

    /// Goal: connections are shared by weight; by 20,000 seeded choices among weights 10, 30 and 60, each
    /// share within 2 % of what it should be, and weight 0 rare but not never.
    #[test]
    fn weights_are_shares() {
        let mut draw = seeded(7);
        let records = [("a", 10), ("b", 30), ("c", 60), ("zero", 0)];
        let records: Vec<_> = records.map(|(t, w)| service(1, w, t)).into();
        let mut firsts = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..20_000 {
            let first = order(records.clone(), &mut draw).remove(0);
            *firsts.entry(first.target).or_default() += 1;
        }
        for (target, share) in [("a", 2_000_u32), ("b", 6_000), ("c", 12_000)] {
            assert!(firsts[target].abs_diff(share) < 400, "{firsts:?}");
        }
        assert!((1..500).contains(&firsts["zero"]), "{firsts:?}");
    }

    /// Goal: equal records without weights come in their order, one alone needs no chance, "." alone is a
    /// refusal; by samples.
    #[test]
    fn the_simple_cases() {
        let none = &mut |most| {
            assert_eq!(most, 0);
            0
        };
        let records = vec![service(2, 0, "c"), service(1, 0, "a"), service(1, 0, "b")];
        let ordered: Vec<_> = order(records, none).into_iter().map(|s| s.target).collect();
        assert_eq!(ordered, ["a", "b", "c"]);
        assert!(not_offered(&[service(0, 0, "")]));
        assert!(!not_offered(&[]));
        assert!(!not_offered(&[service(0, 0, ""), service(0, 0, "a")]));
    }
}
