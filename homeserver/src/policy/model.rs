//! Policy against a model that enumerates instead of reasoning.

use federation_proto::ids::ServerName;
use homeserver_api::admin::{Grant, Operation};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::{Bounds, ExternalScope, UserTypePolicy};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000;

fn server(n: u8) -> ServerName {
    format!("s{n}.example").parse().unwrap()
}

prop_compose! {
    fn bounds()(min in 0_u32..6, length in 0_u32..6) -> Bounds {
        Bounds { min_seconds: min, max_seconds: min + length, default_seconds: min }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        Just(Operation::Message),
        Just(Operation::Invite),
        Just(Operation::Directory),
        Just(Operation::Files),
    ]
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let names = prop::collection::vec(
        prop_oneof![Just("x".to_owned()), Just("y".to_owned())],
        0..3,
    );
    let grant = (operation(), names).prop_map(|(operation, user_types)| Grant {
        operation,
        user_types,
    });
    prop::collection::vec(grant, 0..5)
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        6 => Just(Standing::Active),
        1 => Just(Standing::Incomplete),
        1 => Just(Standing::Suspended),
        1 => Just(Standing::Expired),
        1 => Just(Standing::Revoked),
    ]
}

fn agreement() -> impl Strategy<Value = Agreement> {
    let expires = prop_oneof![5 => Just(NOW + 1), 1 => Just(NOW), 1 => Just(NOW - 1)];
    (
        standing(),
        expires,
        grants(),
        grants(),
        bounds(),
        0_u64..8,
        0_u8..4,
    )
        .prop_map(
            |(standing, expires_ms, outbound, inbound, ttl, file_bytes_max, label_max)| Agreement {
                standing,
                expires_ms,
                outbound,
                inbound,
                ttl_min_seconds: ttl.min_seconds,
                ttl_max_seconds: ttl.max_seconds,
                file_bytes_max,
                label_max,
            },
        )
}

fn external() -> impl Strategy<Value = ExternalScope> {
    prop_oneof![
        Just(ExternalScope::None),
        Just(ExternalScope::AllPeers),
        prop::collection::vec((0_u8..3).prop_map(server), 0..3).prop_map(ExternalScope::Peers),
    ]
}

fn user_type() -> impl Strategy<Value = UserTypePolicy> {
    (bounds(), bounds(), external(), any::<bool>(), 0_u64..8).prop_map(
        |(ttl, burn, external, files, file_bytes_max)| UserTypePolicy {
            ttl,
            burn,
            external,
            files,
            file_bytes_max,
            devices_max: 5,
            ..UserTypePolicy::default()
        },
    )
}

fn attributes() -> impl Strategy<Value = MessageAttributes> {
    (1_u32..12, 0_u32..12, 0_u8..5, any::<bool>()).prop_map(
        |(ttl_seconds, burn_seconds, label, file)| MessageAttributes {
            ttl_seconds,
            burn_seconds,
            label,
            file,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => attributes().prop_map(Input::Send),
        3 => attributes().prop_map(Input::Receive),
        1 => Just(Input::Invite),
        1 => Just(Input::BeInvited),
        2 => (0_u64..8, 0_u32..12).prop_map(|(bytes, ttl_seconds)| Input::Upload { bytes, ttl_seconds }),
        1 => Just(Input::Download),
    ]
}

/// The model: every condition written out as a flat list, all must hold.
fn allowed(rules: &Rules<'_>, input: &Input) -> bool {
    let p = rules.party.policy;
    let mut all = vec![!rules.party.suspended];
    let range = |b: &Bounds| (b.min_seconds..=b.max_seconds).collect::<Vec<u32>>();
    match input {
        Input::Send(a) => {
            all.push(range(&p.ttl).contains(&a.ttl_seconds));
            all.push(range(&p.burn).contains(&a.burn_seconds));
            all.push(!a.file || p.files);
        }
        Input::Upload { bytes, ttl_seconds } => {
            all.push(p.files);
            all.push((0..=p.file_bytes_max).any(|n| n == *bytes));
            all.push((1..=p.ttl.max_seconds).any(|n| n == *ttl_seconds));
        }
        _ => {}
    }
    for link in rules.links {
        let Some(agreement) = link.agreement else {
            return false;
        };
        all.push(agreement.standing == Standing::Active && NOW < agreement.expires_ms);
        all.push(match &p.external {
            ExternalScope::None => false,
            ExternalScope::AllPeers => true,
            ExternalScope::Peers(peers) => peers.iter().any(|peer| peer == link.server),
        });
        let has = |grants: &[Grant], operation: Operation| {
            grants.iter().filter(|g| g.operation == operation).any(|g| {
                g.user_types.is_empty() || g.user_types.iter().any(|n| n == rules.party.user_type)
            })
        };
        let ttl = agreement.ttl_min_seconds..=agreement.ttl_max_seconds;
        match input {
            Input::Send(a) => {
                all.push(has(&agreement.outbound, Operation::Message));
                all.push(!a.file || has(&agreement.outbound, Operation::Files));
                all.push((0..=agreement.label_max).any(|label| label == a.label));
                all.push(ttl.contains(&a.ttl_seconds));
            }
            Input::Receive(a) => {
                all.push(has(&agreement.inbound, Operation::Message));
                all.push(!a.file || has(&agreement.inbound, Operation::Files));
                all.push((0..=agreement.label_max).any(|label| label == a.label));
                all.push(ttl.contains(&a.ttl_seconds));
            }
            Input::Invite => all.push(has(&agreement.outbound, Operation::Invite)),
            Input::BeInvited => all.push(has(&agreement.inbound, Operation::Invite)),
            Input::Upload { bytes, .. } => {
                all.push(has(&agreement.outbound, Operation::Files));
                all.push(*bytes <= agreement.file_bytes_max);
            }
            Input::Download => all.push(has(&agreement.inbound, Operation::Files)),
        }
    }
    all.into_iter().all(|holds| holds)
}

proptest! {
    // What only one rule refuses is rare among random rules.
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Goal: policy allows exactly what the model allows; by random rules and inputs from small
    /// ranges, so that every bound is met, missed by one and missed by far.
    #[test]
    fn decides_as_the_model_does(
        policy in user_type(),
        user_type in prop_oneof![Just("x"), Just("y"), Just("z")],
        suspended in prop::bool::weighted(0.1),
        agreements in prop::collection::vec(prop::option::weighted(0.9, agreement()), 0..3),
        input in input(),
    ) {
        let servers: Vec<ServerName> = (0_u8..3).map(server).collect();
        let links: Vec<Link<'_>> = servers
            .iter()
            .zip(&agreements)
            .map(|(server, agreement)| Link { server, agreement: agreement.as_ref() })
            .collect();
        let rules = Rules {
            party: Party { user_type, policy: &policy, suspended },
            links: &links,
            now_ms: NOW,
        };
        let decision = evaluate(&rules, &input);
        prop_assert_eq!(decision == Decision::Allowed, allowed(&rules, &input), "{:?}", decision);
    }
}

/// Goal: a refusal says what to do, in words; by the commonest one.
#[test]
fn a_refusal_says_what_to_do() {
    let policy = UserTypePolicy::default();
    let rules = Rules {
        party: Party {
            user_type: "standard",
            policy: &policy,
            suspended: false,
        },
        links: &[],
        now_ms: NOW,
    };
    let attributes = MessageAttributes {
        ttl_seconds: 1,
        burn_seconds: 0,
        label: 0,
        file: false,
    };
    let refusal = evaluate(&rules, &Input::Send(attributes))
        .into_result()
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TtlOutOfBounds);
    assert_eq!(refusal.reason, "choose a TTL between 1 minute and 30 days");
}
