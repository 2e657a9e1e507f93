//! User types: what accounts may do.

use std::sync::Arc;

use homeserver_api::admin::UserType;
use homeserver_api::policy::{ExternalScope, SignInRules, UserTypePolicy};

use super::{IdentityError, accounts};
use crate::audit::{self, Actor, Event};
use crate::node::{Node, to_its_end};
use crate::store::{Part, PartOutcome, StoreError, policy_serial, user_type};

/// The user type of accounts created without one; it is there from the start.
pub const STANDARD: &str = "standard";
const NAME_BYTES_MAX: usize = 64;
/// A TTL beyond a year is a mistake.
const TTL_SECONDS_MAX: u32 = 366 * 24 * 60 * 60;
const EXTERNAL_PEERS_MAX: usize = 1000;
const EXTERNAL_RULES_MAX: usize = 64;
const LABEL_NAMES_MAX: usize = 256;
const LABEL_NAME_BYTES_MAX: usize = 64;
const FILE_ENDINGS_MAX: usize = 1000;
const BANNER_BYTES_MAX: usize = 4096;
const PASSWORD_CHARACTERS_MAX: u32 = 64;
const PASSWORD_KINDS_MAX: u8 = 4;
/// Nobody waits longer than a day after a mistake, or is locked out for longer.
const SIGN_IN_SECONDS_MAX: u32 = 24 * 60 * 60;
/// Shorter than this nobody would get to write anything.
const SIGNED_IN_SECONDS_MIN: u32 = 60;
pub(super) const ATTEMPTS_MAX: usize = 16;

/// Every user type, by name.
pub async fn list(node: &Node) -> Result<Vec<UserType>, StoreError> {
    let mut all: Vec<UserType> = user_type::all(&node.store)
        .await?
        .into_iter()
        .map(|(name, policy)| UserType { name, policy })
        .collect();
    if all.iter().all(|user_type| user_type.name != STANDARD) {
        all.push(UserType {
            name: STANDARD.to_owned(),
            policy: UserTypePolicy::default(),
        });
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(all)
}

/// The policy of a user type.
pub(super) async fn get(node: &Node, name: &str) -> Result<Option<UserTypePolicy>, StoreError> {
    let stored = user_type::get(&node.store, name).await?;
    Ok(stored.or_else(|| (name == STANDARD).then(UserTypePolicy::default)))
}

/// What happens after failed sign-ins to an account of this user type; for a name that nobody has, what does to most people.
pub(super) async fn sign_in_rules(
    node: &Node,
    name: Option<&str>,
) -> Result<SignInRules, StoreError> {
    let policy = get(node, name.unwrap_or(STANDARD)).await?;
    Ok(policy.unwrap_or_default().sign_in)
}

/// Creates a user type, or changes it: its accounts are under the new rules at once.
pub async fn put(
    node: &Arc<Node>,
    actor: &Actor,
    name: &str,
    policy: UserTypePolicy,
) -> Result<UserType, IdentityError> {
    check(name, &policy)?;
    if get(node, name).await?.is_none()
        && user_type::all(&node.store).await?.len() >= user_type::USER_TYPES_MAX
    {
        return Err(IdentityError::Invalid(format!(
            "there are {} user types already: delete one first",
            user_type::USER_TYPES_MAX
        )));
    }
    let detail = serde_json::to_string(&policy).unwrap_or_default();
    change(node, actor, "user-type.changed", name, detail, |part| {
        user_type::put(part, name, &policy)
    })
    .await?;
    Ok(UserType {
        name: name.to_owned(),
        policy,
    })
}

/// Deletes a user type that no account has.
pub async fn delete(node: &Node, actor: &Actor, name: &str) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        if user_type::get(&node.store, name).await?.is_none() {
            return Err(IdentityError::UnknownUserType(name.to_owned()));
        }
        let serial = policy_serial::get(&node.store).await?;
        if accounts::any_of_type(node, name).await? {
            return Err(IdentityError::UserTypeInUse(name.to_owned()));
        }
        let mut part = Part::default();
        policy_serial::advance(&mut part, serial)?;
        user_type::delete(&mut part, name);
        record(
            node,
            &mut part,
            actor,
            "user-type.deleted",
            name,
            String::new(),
        );
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

async fn change(
    node: &Arc<Node>,
    actor: &Actor,
    action: &'static str,
    name: &str,
    detail: String,
    write: impl Fn(&mut Part) -> Result<(), StoreError>,
) -> Result<(), IdentityError> {
    for _ in 0..ATTEMPTS_MAX {
        let mut part = Part::default();
        let serial = policy_serial::get(&node.store).await?;
        policy_serial::advance(&mut part, serial)?;
        write(&mut part)?;
        record(node, &mut part, actor, action, name, detail.clone());
        if commit_rules(node, part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(IdentityError::Busy)
}

/// Commits what changes the rules of many, and has every session read them again.
pub(super) async fn commit_rules(node: &Arc<Node>, part: Part) -> Result<PartOutcome, StoreError> {
    let node = Arc::clone(node);
    let act = async move {
        let outcome = node.store.commit(part).await;
        if matches!(outcome, Ok(PartOutcome::Committed)) {
            node.mailboxes.ring_for_rules();
        }
        outcome
    };
    to_its_end(act).await
}

/// Records an act in the part that does it.
pub(super) fn record(
    node: &Node,
    part: &mut Part,
    actor: &Actor,
    action: &'static str,
    subject: impl ToString,
    detail: String,
) {
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action,
        subject: subject.to_string(),
        detail,
    };
    audit::record(part, &event);
}

fn check(name: &str, policy: &UserTypePolicy) -> Result<(), IdentityError> {
    let name_ok = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    let few = |scope: &ExternalScope| match scope {
        ExternalScope::Peers(peers) => peers.len() <= EXTERNAL_PEERS_MAX,
        ExternalScope::None | ExternalScope::AllPeers => true,
    };
    let peers_ok =
        few(&policy.external) && policy.external_rules.iter().all(|rule| few(&rule.scope));
    let problems = [
        (
            name_ok,
            "a user type's name has 1 to 64 of a-z, 0-9, `.`, `_` and `-`",
        ),
        (
            policy.ttl.in_order(),
            "ttl: min, default and max must be in this order",
        ),
        (
            policy.ttl.min_seconds >= 1,
            "ttl: min must be at least 1 second",
        ),
        (
            policy.ttl.max_seconds <= TTL_SECONDS_MAX,
            "ttl: max must be at most 366 days",
        ),
        (
            policy.burn.in_order(),
            "burn: min, default and max must be in this order",
        ),
        (
            policy.burn.max_seconds <= TTL_SECONDS_MAX,
            "burn: max must be at most 366 days",
        ),
        (
            (1..=1000).contains(&policy.devices_max),
            "devices_max must be between 1 and 1000",
        ),
        (peers_ok, "external: at most 1000 peers"),
    ];
    let problems = problems.into_iter().chain(further_problems(policy));
    let found: Vec<&str> = problems
        .filter(|(ok, _)| !ok)
        .map(|(_, problem)| problem)
        .collect();
    if found.is_empty() {
        Ok(())
    } else {
        Err(IdentityError::Invalid(found.join("; ")))
    }
}

/// What is wrong with what a user type need not say.
fn further_problems(policy: &UserTypePolicy) -> [(bool, &'static str); 11] {
    let (labels, sign_in) = (&policy.labels, &policy.sign_in);
    let endings = policy.file_types.iter().map(|rule| rule.endings.len());
    let ending_ok = |ending: &String| *ending == ending.to_lowercase() && !ending.contains('.');
    let all_endings = || policy.file_types.iter().flat_map(|rule| &rule.endings);
    let banner = policy.clients.banner.as_ref();
    let least = policy.sessions.sign_in_seconds_max;
    [
        (
            policy.external_rules.len() <= EXTERNAL_RULES_MAX,
            "external_rules: at most 64",
        ),
        (
            labels.in_order(),
            "labels: min, default and max must be in this order",
        ),
        (
            labels.names.len() <= LABEL_NAMES_MAX
                && labels
                    .names
                    .iter()
                    .all(|name| name.len() <= LABEL_NAME_BYTES_MAX),
            "labels: at most 256 names of at most 64 bytes",
        ),
        (
            endings.sum::<usize>() <= FILE_ENDINGS_MAX,
            "file_types: at most 1000 endings",
        ),
        (
            all_endings().all(ending_ok),
            "file_types: endings are written in lower case and without a dot",
        ),
        (
            sign_in.delay_seconds_min <= sign_in.delay_seconds_max
                && sign_in.delay_seconds_max <= SIGN_IN_SECONDS_MAX,
            "sign_in: delay min and max must be in this order, and at most a day",
        ),
        (
            sign_in.lockout_failures == 0
                || (sign_in.lockout_failures > sign_in.free_failures
                    && (1..=SIGN_IN_SECONDS_MAX).contains(&sign_in.lockout_seconds)),
            "sign_in: a lockout comes after the free failures, and lasts between a second and a day",
        ),
        (
            policy.passwords.characters_min <= PASSWORD_CHARACTERS_MAX,
            "passwords: characters_min must be at most 64",
        ),
        (
            policy.passwords.kinds_min <= PASSWORD_KINDS_MAX,
            "passwords: kinds_min must be at most 4",
        ),
        (
            least.is_none_or(|seconds| seconds >= SIGNED_IN_SECONDS_MIN),
            "sessions: sign_in_seconds_max must be at least 60",
        ),
        (
            banner.is_none_or(|text| (1..=BANNER_BYTES_MAX).contains(&text.len())),
            "clients: a banner has between 1 and 4096 bytes",
        ),
    ]
}
