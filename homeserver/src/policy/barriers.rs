//! Barriers between people of this organisation: who may find, invite and message whom, by the segments that they are
//! in (`docs/adr/0041-segments-are-sets-of-user-types-and-people.md`).
//!
//! Deliberately absent: rooms. Whoever asks names two people and what the one does towards the other.

use std::collections::{BTreeMap, BTreeSet};

use federation_proto::ids::Handle;
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::{BarrierChange, PeopleOf};
use homeserver_api::policy::{BarrierRule, Barriers, Contact, Effect};

use super::{By, Decision};

/// What names a barrier in a reason; those of other organisations don't get to see it.
pub(super) const BARRIER: &str = "a barrier in your organisation";
/// Most segments,
pub const SEGMENTS_MAX: usize = 200;
/// rules between them,
pub const RULES_MAX: usize = 1000;
/// and entries of one segment.
pub const SEGMENT_ENTRIES_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 64;
/// People whom a difference names of each group; the others it counts.
const NAMED_MAX: usize = 10;

/// The segments that somebody is in.
pub fn segments_of(barriers: &Barriers, handle: &Handle, user_type: &str) -> Vec<String> {
    barriers
        .segments
        .iter()
        .filter(|segment| {
            segment.user_types.iter().any(|name| name == user_type)
                || segment.users.contains(handle)
        })
        .map(|segment| segment.name.clone())
        .collect()
}

/// Whether somebody in the segments `from` may do this towards somebody in the segments `to`, and which rule says so.
pub fn evaluate<'a>(
    barriers: &'a Barriers,
    from: &[String],
    to: &[String],
    contact: Contact,
) -> (Decision, By<'a>) {
    #[cfg(feature = "faults")]
    if crate::faults::is_on("ignore-barriers") {
        return (Decision::Allowed, By::SegmentsDefault);
    }
    let about = |effect: Effect| {
        let mut rules = barriers.rules.iter();
        rules.find(|rule| rule.effect == effect && concerns(rule, from, to, contact))
    };
    let denying = about(Effect::Deny);
    let (effect, by) = match denying.or_else(|| about(Effect::Allow)) {
        Some(rule) => (rule.effect, By::Segments(&rule.name)),
        None => (barriers.default, By::SegmentsDefault),
    };
    match effect {
        Effect::Allow => (Decision::Allowed, by),
        Effect::Deny => (Decision::Refused(refusal(contact, by)), by),
    }
}

fn concerns(rule: &BarrierRule, from: &[String], to: &[String], contact: Contact) -> bool {
    let leads = |from: &[String], to: &[String]| from.contains(&rule.from) && to.contains(&rule.to);
    (rule.contacts.is_empty() || rule.contacts.contains(&contact))
        && (leads(from, to) || (!rule.one_way && leads(to, from)))
}

fn refusal(contact: Contact, by: By<'_>) -> Refusal {
    let what = match contact {
        Contact::Find => "finding",
        Contact::Invite => "inviting",
        Contact::Message => "writing to",
    };
    Refusal::new(
        RefusalCode::OutOfScope,
        format!("{BARRIER} forbids {what} somebody there ({by}): ask your administrator"),
    )
}

/// What is wrong with segments and rules by themselves.
pub fn problems(barriers: &Barriers) -> Vec<String> {
    let mut found = Vec::new();
    if barriers.segments.len() > SEGMENTS_MAX {
        found.push(format!("there may be {SEGMENTS_MAX} segments at most"));
    }
    if barriers.rules.len() > RULES_MAX {
        found.push(format!("there may be {RULES_MAX} rules at most"));
    }
    let mut segments = BTreeSet::new();
    for segment in &barriers.segments {
        let name = &segment.name;
        if !is_name(name) {
            found.push(format!("segment {name:?}: {A_NAME}"));
        }
        if !segments.insert(name) {
            found.push(format!("there are two segments `{name}`"));
        }
        if segment.user_types.len() + segment.users.len() > SEGMENT_ENTRIES_MAX {
            found.push(format!(
                "segment `{name}` may list {SEGMENT_ENTRIES_MAX} user types and people at most"
            ));
        }
    }
    let mut rules = BTreeSet::new();
    for rule in &barriers.rules {
        let name = &rule.name;
        if !is_name(name) {
            found.push(format!("rule {name:?}: {A_NAME}"));
        }
        if !rules.insert(name) {
            found.push(format!("there are two rules `{name}`"));
        }
        for end in [&rule.from, &rule.to] {
            if !segments.contains(end) {
                found.push(format!("rule `{name}`: there is no segment `{end}`"));
            }
        }
    }
    found
}

const A_NAME: &str = "a name has 1 to 64 of a-z, 0-9, `.`, `_` and `-`";

fn is_name(name: &str) -> bool {
    let may = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(may)
}

/// People who are in the same segments before a change, and in the same ones after it.
type Alike<'p> = BTreeMap<(Vec<String>, Vec<String>), Vec<&'p Handle>>;

/// Who gains and who loses whom when `after` takes the place of `before`, among `people` with their user types.
pub fn difference(
    before: &Barriers,
    after: &Barriers,
    people: &[(Handle, String)],
) -> (Vec<BarrierChange>, Vec<BarrierChange>) {
    let mut alike = Alike::new();
    for (handle, user_type) in people {
        let place = (
            segments_of(before, handle, user_type),
            segments_of(after, handle, user_type),
        );
        alike.entry(place).or_default().push(handle);
    }
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for (from, acting) in &alike {
        for (to, others) in &alike {
            let pairs = match from == to {
                // Nobody is barred from himself.
                true => acting.len() * acting.len().saturating_sub(1),
                false => acting.len() * others.len(),
            };
            if pairs == 0 {
                continue;
            }
            for contact in Contact::ALL {
                let (may_before, _) = evaluate(before, &from.0, &to.0, contact);
                let (may_after, by) = evaluate(after, &from.1, &to.1, contact);
                let (may_before, may_after) = (
                    may_before == Decision::Allowed,
                    may_after == Decision::Allowed,
                );
                let list = match (may_before, may_after) {
                    (false, true) => &mut gained,
                    (true, false) => &mut lost,
                    _ => continue,
                };
                list.push(BarrierChange {
                    contact,
                    from: people_of(&from.1, acting),
                    to: people_of(&to.1, others),
                    pairs: u64::try_from(pairs).unwrap_or(u64::MAX),
                    rule: by.to_string(),
                });
            }
        }
    }
    (gained, lost)
}

fn people_of(segments: &[String], people: &[&Handle]) -> PeopleOf {
    PeopleOf {
        segments: segments.to_vec(),
        count: u64::try_from(people.len()).unwrap_or(u64::MAX),
        some: people
            .iter()
            .take(NAMED_MAX)
            .map(|handle| (*handle).clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use homeserver_api::policy::Segment;

    use super::*;

    fn segment(name: &str, user_types: &[&str], users: &[&str]) -> Segment {
        Segment {
            name: name.to_owned(),
            user_types: user_types.iter().map(ToString::to_string).collect(),
            users: users.iter().map(|handle| handle.parse().unwrap()).collect(),
        }
    }

    fn rule(name: &str, from: &str, to: &str, effect: Effect) -> BarrierRule {
        BarrierRule {
            name: name.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            one_way: false,
            contacts: Vec::new(),
            effect,
        }
    }

    fn two(rules: Vec<BarrierRule>, default: Effect) -> Barriers {
        Barriers {
            default,
            segments: vec![
                segment("research", &["analyst"], &["rita"]),
                segment("trading", &["trader"], &[]),
            ],
            rules,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Goal: people are in the segments that list their user type or themselves. Method: one of each, one of both and one of
    /// neither.
    #[test]
    fn who_is_in_a_segment() {
        let barriers = two(Vec::new(), Effect::Allow);
        let of =
            |handle: &str, user_type| segments_of(&barriers, &handle.parse().unwrap(), user_type);
        assert_eq!(of("anna", "analyst"), names(&["research"]));
        assert_eq!(of("rita", "trader"), names(&["research", "trading"]));
        assert_eq!(of("rita", "guest"), names(&["research"]));
        assert!(of("gus", "guest").is_empty());
    }

    /// Goal: a rule holds both ways unless it says otherwise, for what it names; a denial beats every leave, and the default
    /// holds where no rule is. Method: tables of each.
    #[test]
    fn a_denial_beats_a_leave() {
        let (research, trading) = (names(&["research"]), names(&["trading"]));
        let wall = rule("wall", "research", "trading", Effect::Deny);
        let may = |barriers: &Barriers, from: &[String], to: &[String], contact| {
            evaluate(barriers, from, to, contact).0 == Decision::Allowed
        };
        let open = two(vec![wall.clone()], Effect::Allow);
        assert!(!may(&open, &research, &trading, Contact::Find));
        assert!(!may(&open, &trading, &research, Contact::Message));
        assert!(may(&open, &research, &research, Contact::Message));
        assert!(may(&open, &[], &trading, Contact::Message));
        let one_way = BarrierRule {
            one_way: true,
            contacts: vec![Contact::Message],
            ..wall.clone()
        };
        let one_way = two(vec![one_way], Effect::Allow);
        assert!(!may(&one_way, &research, &trading, Contact::Message));
        assert!(may(&one_way, &trading, &research, Contact::Message));
        assert!(may(&one_way, &research, &trading, Contact::Find));
        let leave = rule("leave", "research", "trading", Effect::Allow);
        let closed = two(vec![leave.clone()], Effect::Deny);
        assert!(may(&closed, &research, &trading, Contact::Invite));
        assert!(!may(&closed, &research, &research, Contact::Invite));
        let both = two(vec![leave, wall], Effect::Deny);
        let (decision, by) = evaluate(&both, &trading, &research, Contact::Find);
        assert_eq!(by, By::Segments("wall"));
        assert_eq!(
            decision.into_result().unwrap_err().code,
            RefusalCode::OutOfScope
        );
        let (_, by) = evaluate(&closed, &research, &[], Contact::Find);
        assert_eq!(by, By::SegmentsDefault);
    }

    /// Goal: a difference tells who gains and who loses whom, by how many, and nothing of those for whom nothing changes.
    /// Method: a wall between two segments that comes and goes, and somebody who changes sides.
    #[test]
    fn differences() {
        let people: Vec<(Handle, String)> = [
            ("anna", "analyst"),
            ("ben", "analyst"),
            ("tom", "trader"),
            ("gus", "guest"),
        ]
        .map(|(handle, user_type)| (handle.parse().unwrap(), user_type.to_owned()))
        .into();
        let open = two(Vec::new(), Effect::Allow);
        let wall = two(
            vec![rule("wall", "research", "trading", Effect::Deny)],
            Effect::Allow,
        );
        assert_eq!(difference(&wall, &wall, &people), (Vec::new(), Vec::new()));
        let (gained, lost) = difference(&open, &wall, &people);
        assert!(gained.is_empty());
        assert_eq!(lost.len(), 6, "each way, each of three: {lost:?}");
        assert!(lost.iter().all(|change| change.pairs == 2));
        assert!(
            lost.iter()
                .all(|change| change.rule == "segments, rule wall")
        );
        let (gained, lost) = difference(&wall, &open, &people);
        assert_eq!((gained.len(), lost.len()), (6, 0));
        let mut moved = wall.clone();
        moved.segments[1].users.push("gus".parse().unwrap());
        let (gained, lost) = difference(&wall, &moved, &people);
        assert!(gained.is_empty());
        let pairs: u64 = lost.iter().map(|change| change.pairs).sum();
        assert_eq!(pairs, 2 * 2 * 3);
        let gus: Handle = "gus".parse().unwrap();
        let of_gus = |change: &BarrierChange| change.from.some.first() == Some(&gus);
        assert!(lost.iter().any(of_gus));
    }

    /// Goal: segments and rules that contradict themselves are told, all at once. Method: one document with a mistake of each
    /// kind.
    #[test]
    fn mistakes() {
        let mut barriers = two(
            vec![
                rule("wall", "research", "nobody", Effect::Deny),
                rule("wall", "research", "trading", Effect::Deny),
                rule("", "research", "trading", Effect::Deny),
            ],
            Effect::Allow,
        );
        barriers.segments.push(segment("research", &[], &[]));
        barriers.segments.push(segment("A b", &[], &[]));
        let found = problems(&barriers).join("\n");
        for part in [
            "`nobody`",
            "two rules `wall`",
            "rule \"\"",
            "two segments `research`",
            "\"A b\"",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(problems(&two(Vec::new(), Effect::Deny)).is_empty());
    }
}
