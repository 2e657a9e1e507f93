//! Whole organisations made by chance, and every decision in them held to a model that only enumerates.
//!
//! The model shares no code with what decides: it knows the meaning of each field, writes every condition down, and looks at
//! all of them. Test builds alone.

use std::collections::BTreeSet;

use federation_proto::ids::{Handle, ServerName};
use homeserver_api::admin::{Grant, Operation};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::{
    BarrierRule, Barriers, Bounds, Contact, DirectoryListing, Effect, ExternalRule, ExternalScope,
    Labels, Segment, UserTypePolicy,
};

use super::{Agreement, Decision, Direction, Input, Link, Party, Rules, Standing, barriers};

/// When everything is decided, milliseconds since the Unix epoch.
const NOW_MS: u64 = 1_000_000;
const OPERATIONS: [Operation; 4] = [
    Operation::Message,
    Operation::Invite,
    Operation::Directory,
    Operation::Files,
];

/// Chance from a seed: SplitMix64.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..below`.
    fn below(&mut self, below: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(below.max(1))).unwrap_or(0)
    }

    fn small(&mut self, below: u8) -> u8 {
        u8::try_from(self.below(u32::from(below))).unwrap_or(0)
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        let place = self.below(u32::try_from(all.len()).unwrap_or(0));
        all.get(usize::try_from(place).unwrap_or(0)).cloned()
    }

    fn some_of<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.once_in(2)).cloned().collect()
    }
}

/// An organisation: its people, with the places of their user types, and its partners.
struct Organisation {
    user_types: Vec<(String, UserTypePolicy)>,
    people: Vec<(Handle, usize, bool)>,
    partners: Vec<(ServerName, Option<Agreement>)>,
    barriers: Barriers,
}

/// Makes `matrices` organisations from `seed` and holds each of their decisions to the model: between every two people for
/// each contact, and of every person with each set of partners for each input. How many decisions that were, or the first
/// that differs.
pub fn check(matrices: u64, seed: u64) -> Result<u64, String> {
    let mut decisions = 0;
    for number in 0..matrices {
        let mut chance = Chance(seed.wrapping_add(number.wrapping_mul(0x0001_0000_0001)));
        let organisation = organisation(&mut chance)?;
        let held = inside(&organisation).and_then(|inside| {
            let outside = outside(&organisation, &mut chance)?;
            Ok(inside + outside)
        });
        decisions += held.map_err(|what| format!("matrix {number} of seed {seed}: {what}"))?;
    }
    Ok(decisions)
}

/// Every two people.
fn inside(of: &Organisation) -> Result<u64, String> {
    let type_of = |place: &usize| {
        of.user_types
            .get(*place)
            .map_or("", |(name, _)| name.as_str())
    };
    let mut decisions = 0;
    for (from, from_type, _) in &of.people {
        for (to, to_type, _) in &of.people {
            for contact in Contact::ALL {
                let segments = |handle: &Handle, place: &usize| {
                    barriers::segments_of(&of.barriers, handle, type_of(place))
                };
                let (from_in, to_in) = (segments(from, from_type), segments(to, to_type));
                let (decision, by) = barriers::evaluate(&of.barriers, &from_in, &to_in, contact);
                let (one, other) = ((from, type_of(from_type)), (to, type_of(to_type)));
                let expected = may_contact(&of.barriers, one, other, contact);
                if (decision == Decision::Allowed) != expected {
                    return Err(format!(
                        "{from} to {to}, {contact:?}: {decision:?} by {by}, and the model says {expected}; {:?}",
                        of.barriers
                    ));
                }
                decisions += 1;
            }
        }
    }
    Ok(decisions)
}

/// Every person with each set of partners.
fn outside(of: &Organisation, chance: &mut Chance) -> Result<u64, String> {
    let mut decisions = 0;
    for (handle, place, suspended) in &of.people {
        let Some((user_type, policy)) = of.user_types.get(*place) else {
            continue;
        };
        for set in 0_u32..(1 << of.partners.len().min(3)) {
            let links: Vec<Link<'_>> = (0_u32..)
                .zip(&of.partners)
                .filter(|(bit, _)| set & (1 << bit) != 0)
                .map(|(_, (server, agreement))| Link {
                    server,
                    agreement: agreement.as_ref(),
                })
                .collect();
            for input in inputs(chance) {
                let rules = Rules {
                    party: Party {
                        user_type,
                        policy,
                        suspended: *suspended,
                    },
                    links: &links,
                    now_ms: NOW_MS,
                };
                let decision = super::evaluate(&rules, &input);
                let expected = may(&rules, &input);
                if (decision == Decision::Allowed) != expected {
                    return Err(format!(
                        "{handle}, {input:?}: {decision:?}, and the model says {expected}; {rules:?}"
                    ));
                }
                decisions += 1;
            }
        }
    }
    Ok(decisions)
}

/// The model of barriers: all rules are looked at, in both directions.
fn may_contact(
    barriers: &Barriers,
    (from, from_type): (&Handle, &str),
    (to, to_type): (&Handle, &str),
    contact: Contact,
) -> bool {
    let is_in = |name: &str, handle: &Handle, user_type: &str| {
        let mut found = false;
        for segment in &barriers.segments {
            for listed in &segment.user_types {
                found |= segment.name == name && listed == user_type;
            }
            for listed in &segment.users {
                found |= segment.name == name && listed == handle;
            }
        }
        found
    };
    let mut effects = BTreeSet::new();
    for rule in &barriers.rules {
        let about = rule.contacts.is_empty() || rule.contacts.contains(&contact);
        let there = is_in(&rule.from, from, from_type) && is_in(&rule.to, to, to_type);
        let back = is_in(&rule.from, to, to_type) && is_in(&rule.to, from, from_type);
        if about && (there || back && !rule.one_way) {
            effects.insert(match rule.effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            });
        }
    }
    if effects.contains("deny") {
        return false;
    }
    effects.contains("allow") || barriers.default == Effect::Allow
}

/// The model of everything else: a list of conditions, of which all have to hold.
fn may(rules: &Rules<'_>, input: &Input) -> bool {
    let policy = rules.party.policy;
    let mut all = vec![!rules.party.suspended];
    let agreements: Vec<&Agreement> = rules
        .links
        .iter()
        .filter_map(|link| link.agreement)
        .collect();
    all.push(agreements.len() == rules.links.len());
    for agreement in &agreements {
        all.push(agreement.standing == Standing::Active && NOW_MS < agreement.expires_ms);
    }
    match input {
        Input::Send(message) => {
            let seconds = message.ttl_seconds;
            all.push(seconds >= policy.ttl.min_seconds && seconds <= policy.ttl.max_seconds);
            for agreement in &agreements {
                all.push(seconds >= agreement.ttl_min_seconds);
                all.push(seconds <= agreement.ttl_max_seconds);
            }
            let burn = message.burn_seconds;
            all.push(burn >= policy.burn.min_seconds && burn <= policy.burn.max_seconds);
            all.push(policy.files || !message.file);
            all.push(message.label >= policy.labels.min && message.label <= policy.labels.max);
        }
        Input::Receive(message) => all.push(message.label <= policy.labels.max),
        Input::Upload { bytes, ttl_seconds } => {
            all.push(policy.files && *bytes <= policy.file_bytes_max);
            all.push(*ttl_seconds > 0 && *ttl_seconds <= policy.ttl.max_seconds);
        }
        Input::BeFound { by_beginning } => all.push(match policy.directory {
            DirectoryListing::Hidden => false,
            DirectoryListing::Exact => !*by_beginning,
            DirectoryListing::Listed => true,
        }),
        Input::Invite | Input::BeInvited | Input::Download | Input::LookUp => {}
    }
    for link in rules.links {
        let Some(agreement) = link.agreement else {
            return false;
        };
        all.push(takes_in(&policy.external, link.server));
        for (direction, operation) in asks_for(input) {
            for rule in &policy.external_rules {
                let same = rule.direction == direction && rule.operation == operation;
                all.push(!same || takes_in(&rule.scope, link.server));
            }
            let grants = match direction {
                Direction::Outbound => &agreement.outbound,
                Direction::Inbound => &agreement.inbound,
            };
            let named = |grant: &Grant| {
                grant.user_types.is_empty()
                    || grant
                        .user_types
                        .iter()
                        .any(|name| name == rules.party.user_type)
            };
            let mut granted = false;
            for grant in grants {
                granted |= grant.operation == operation && named(grant);
            }
            all.push(granted);
        }
        match input {
            Input::Send(message) => all.push(message.label <= agreement.label_max),
            Input::Receive(message) => {
                all.push(message.label <= agreement.label_max);
                all.push(message.ttl_seconds >= agreement.ttl_min_seconds);
                all.push(message.ttl_seconds <= agreement.ttl_max_seconds);
            }
            Input::Upload { bytes, .. } => all.push(*bytes <= agreement.file_bytes_max),
            _ => {}
        }
    }
    all.into_iter().all(|holds| holds)
}

fn takes_in(scope: &ExternalScope, server: &ServerName) -> bool {
    match scope {
        ExternalScope::None => false,
        ExternalScope::AllPeers => true,
        ExternalScope::Peers(peers) => peers.iter().any(|peer| peer == server),
    }
}

fn asks_for(input: &Input) -> Vec<(Direction, Operation)> {
    let (out, into) = (Direction::Outbound, Direction::Inbound);
    match input {
        Input::Send(message) if message.file => {
            vec![(out, Operation::Message), (out, Operation::Files)]
        }
        Input::Send(_) => vec![(out, Operation::Message)],
        Input::Receive(message) if message.file => {
            vec![(into, Operation::Message), (into, Operation::Files)]
        }
        Input::Receive(_) => vec![(into, Operation::Message)],
        Input::Invite => vec![(out, Operation::Invite)],
        Input::BeInvited => vec![(into, Operation::Invite)],
        Input::Upload { .. } => vec![(out, Operation::Files)],
        Input::Download => vec![(into, Operation::Files)],
        Input::LookUp => vec![(out, Operation::Directory)],
        Input::BeFound { .. } => vec![(into, Operation::Directory)],
    }
}

/// One of each, with small numbers, so that bounds are met and missed by one.
fn inputs(chance: &mut Chance) -> Vec<Input> {
    let mut message = || MessageAttributes {
        ttl_seconds: 1 + chance.below(8),
        burn_seconds: chance.below(8),
        label: chance.small(5),
        file: chance.once_in(3),
    };
    let (sent, received) = (message(), message());
    vec![
        Input::Send(sent),
        Input::Receive(received),
        Input::Invite,
        Input::BeInvited,
        Input::Upload {
            bytes: u64::from(chance.below(8)),
            ttl_seconds: chance.below(8),
        },
        Input::Download,
        Input::LookUp,
        Input::BeFound {
            by_beginning: chance.once_in(2),
        },
    ]
}

fn organisation(chance: &mut Chance) -> Result<Organisation, String> {
    let names = (0..3).map(|n| format!("s{n}.example").parse::<ServerName>());
    let servers = names.collect::<Result<Vec<_>, _>>();
    let servers = servers.map_err(|error| error.to_string())?;
    let type_names: Vec<String> = (0..=chance.below(3)).map(|n| format!("type{n}")).collect();
    let user_types: Vec<_> = type_names
        .iter()
        .map(|name| (name.clone(), policy(chance, &servers)))
        .collect();
    let types = u32::try_from(user_types.len()).unwrap_or(1);
    let handles = (0..5).map(|n| format!("person{n}").parse::<Handle>());
    let handles = handles.collect::<Result<Vec<_>, _>>();
    let handles = handles.map_err(|error| error.to_string())?;
    let people = handles
        .iter()
        .map(|handle| {
            let place = usize::try_from(chance.below(types)).unwrap_or(0);
            (handle.clone(), place, chance.once_in(10))
        })
        .collect();
    let partners = servers
        .iter()
        .map(|server| {
            let agreement = (!chance.once_in(10)).then(|| agreement(chance, &type_names));
            (server.clone(), agreement)
        })
        .collect();
    let barriers = segments(chance, &type_names, &handles);
    Ok(Organisation {
        user_types,
        people,
        partners,
        barriers,
    })
}

fn segments(chance: &mut Chance, user_types: &[String], people: &[Handle]) -> Barriers {
    let names: Vec<String> = (0..chance.below(4))
        .map(|n| format!("segment{n}"))
        .collect();
    let segments = names
        .iter()
        .map(|name| Segment {
            name: name.clone(),
            user_types: chance.some_of(user_types),
            users: chance.some_of(people),
        })
        .collect();
    let effect = |chance: &mut Chance| match chance.once_in(2) {
        true => Effect::Allow,
        false => Effect::Deny,
    };
    let mut rules = Vec::new();
    for n in 0..chance.below(4) {
        if let (Some(from), Some(to)) = (chance.one_of(&names), chance.one_of(&names)) {
            rules.push(BarrierRule {
                name: format!("rule{n}"),
                from,
                to,
                one_way: chance.once_in(2),
                contacts: chance.some_of(&Contact::ALL),
                effect: effect(chance),
            });
        }
    }
    Barriers {
        default: effect(chance),
        segments,
        rules,
    }
}

fn scope(chance: &mut Chance, servers: &[ServerName]) -> ExternalScope {
    match chance.below(4) {
        0 => ExternalScope::None,
        1 => ExternalScope::Peers(chance.some_of(servers)),
        _ => ExternalScope::AllPeers,
    }
}

fn bounds(chance: &mut Chance) -> Bounds {
    let min_seconds = chance.below(4);
    Bounds {
        min_seconds,
        max_seconds: min_seconds + chance.below(6),
        default_seconds: min_seconds,
    }
}

fn policy(chance: &mut Chance, servers: &[ServerName]) -> UserTypePolicy {
    let external_rules = (0..chance.below(3)).filter_map(|_| {
        Some(ExternalRule {
            direction: chance.one_of(&[Direction::Outbound, Direction::Inbound])?,
            operation: chance.one_of(&OPERATIONS)?,
            scope: scope(chance, servers),
        })
    });
    let external_rules = external_rules.collect();
    let min = chance.small(2);
    let listings = [
        DirectoryListing::Hidden,
        DirectoryListing::Exact,
        DirectoryListing::Listed,
    ];
    UserTypePolicy {
        ttl: bounds(chance),
        burn: bounds(chance),
        external: scope(chance, servers),
        external_rules,
        files: !chance.once_in(3),
        file_bytes_max: u64::from(chance.below(8)),
        labels: Labels {
            min,
            max: min + chance.small(4),
            default: min,
            names: Vec::new(),
        },
        directory: chance.one_of(&listings).unwrap_or_default(),
        ..UserTypePolicy::default()
    }
}

fn agreement(chance: &mut Chance, user_types: &[String]) -> Agreement {
    let standings = [
        Standing::Incomplete,
        Standing::Suspended,
        Standing::Expired,
        Standing::Revoked,
    ];
    let standing = match chance.once_in(8) {
        true => chance.one_of(&standings).unwrap_or(Standing::Revoked),
        false => Standing::Active,
    };
    let grants = |chance: &mut Chance| {
        let operations: Vec<Operation> = OPERATIONS
            .into_iter()
            .filter(|_| !chance.once_in(5))
            .collect();
        let granted = operations.into_iter().map(|operation| Grant {
            operation,
            user_types: match chance.once_in(4) {
                true => chance.some_of(user_types),
                false => Vec::new(),
            },
        });
        granted.collect::<Vec<Grant>>()
    };
    let ttl = bounds(chance);
    Agreement {
        standing,
        expires_ms: NOW_MS + u64::from(!chance.once_in(10)),
        outbound: grants(chance),
        inbound: grants(chance),
        ttl_min_seconds: ttl.min_seconds,
        ttl_max_seconds: ttl.max_seconds + 3,
        file_bytes_max: u64::from(chance.below(8)),
        label_max: chance.small(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is decided is what a model says that only enumerates, in whole organisations. Method: 500 made by chance, each
    /// decision of each; and both answers come up often enough to say something.
    #[test]
    fn five_hundred_matrices() {
        let decisions = check(500, 41).unwrap();
        assert!(decisions > 100_000, "{decisions}");
        let mut chance = Chance(41);
        let made = organisation(&mut chance).unwrap();
        assert!(!made.people.is_empty() && !made.partners.is_empty());
    }

    /// Goal: the model notices a decision that is wrong. Method: a rule that denies, and a model that is asked about the same people
    /// without it.
    #[test]
    fn the_model_tells_apart() {
        let segment = |name: &str, user_type: &str| Segment {
            name: name.to_owned(),
            user_types: vec![user_type.to_owned()],
            users: Vec::new(),
        };
        let mut barriers = Barriers {
            default: Effect::Allow,
            segments: vec![segment("s", "a"), segment("t", "b")],
            rules: vec![BarrierRule {
                name: "wall".to_owned(),
                from: "s".to_owned(),
                to: "t".to_owned(),
                one_way: true,
                contacts: Vec::new(),
                effect: Effect::Deny,
            }],
        };
        let [x, y]: [Handle; 2] = ["xaver", "yvonne"].map(|handle| handle.parse().unwrap());
        let (one, other) = ((&x, "a"), (&y, "b"));
        assert!(!may_contact(&barriers, one, other, Contact::Find));
        assert!(may_contact(&barriers, other, one, Contact::Find));
        barriers.rules.clear();
        assert!(may_contact(&barriers, one, other, Contact::Find));
    }
}
