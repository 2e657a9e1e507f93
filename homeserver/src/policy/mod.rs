//! What the organisation's rules allow: pure functions of rules and input.
//!
//! One question at a time: may this own account do (or have done to it) this one thing, with these
//! other organisations? The answer is yes, or a refusal that says what to do.
//!
//! Deliberately absent: HTTP, storage and the clock (`now_ms` is an argument).

mod abroad;
mod agreement;
pub mod barriers;
mod contact;
mod duration;
pub mod gate;
#[cfg(any(test, feature = "faults"))]
pub mod matrices;
#[cfg(test)]
mod model;
mod rule;

use federation_proto::ids::ServerName;
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::Operation;
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::{Bounds, DirectoryListing, Labels, UserTypePolicy};

pub use abroad::{told_abroad, told_to_peer};
pub use agreement::{Agreement, Direction, Standing};
pub use contact::{Approach, Consent, approach};
pub use duration::in_words;
pub use rule::By;

/// What names a user type in a reason; those of other organisations don't get to see it.
const FOR_USER_TYPE: &str = " for user type ";

/// An own account, as far as rules speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// Its user type's name.
    pub user_type: &'a str,
    /// What its user type allows.
    pub policy: &'a UserTypePolicy,
    /// Whether an administrator has suspended it.
    pub suspended: bool,
}

/// Another organisation that takes part, and the agreement with it.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The other organisation's homeserver.
    pub server: &'a ServerName,
    /// The agreement, when there is one.
    pub agreement: Option<&'a Agreement>,
}

/// The rules that bear on one decision.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The own account that acts, or that is acted on.
    pub party: Party<'a>,
    /// Every other organisation concerned; empty for what stays at home.
    pub links: &'a [Link<'a>],
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The account sends a message to a room with the linked organisations.
    Send(MessageAttributes),
    /// The account is to get a message from a linked organisation.
    Receive(MessageAttributes),
    /// The account asks for keys of people of the linked organisations, or adds them to a room.
    Invite,
    /// Somebody of a linked organisation asks for the account's keys, or adds it to a room.
    BeInvited,
    /// The account uploads a file.
    Upload {
        /// Its length, encrypted.
        bytes: u64,
        /// How long it is to be kept.
        ttl_seconds: u32,
    },
    /// The account downloads a file of a linked organisation.
    Download,
    /// The account looks for people of the linked organisations.
    LookUp,
    /// Somebody looks for the account, at home or in a linked organisation.
    BeFound {
        /// Knowing only how its handle begins.
        by_beginning: bool,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// It may not, and why.
    Refused(Refusal),
}

impl Decision {
    /// As a result, for `?`.
    pub fn into_result(self) -> Result<(), Refusal> {
        match self {
            Self::Allowed => Ok(()),
            Self::Refused(refusal) => Err(refusal),
        }
    }
}

/// A refusal, and the rule that made it.
type Broken<'a> = (By<'a>, Refusal);

/// Decides `input` under `rules`.
pub fn evaluate(rules: &Rules<'_>, input: &Input) -> Decision {
    match judge(rules, input) {
        Ok(()) => Decision::Allowed,
        Err((_, refusal)) => Decision::Refused(refusal),
    }
}

/// Decides as [`evaluate`] does, and names the rule that decided: the one that refuses, or the last one that had to let it
/// pass.
pub fn explain<'a>(rules: &Rules<'a>, input: &Input) -> (Decision, By<'a>) {
    match judge(rules, input) {
        Ok(()) => (Decision::Allowed, By::allowing(rules, input)),
        Err((by, refusal)) => (Decision::Refused(refusal), by),
    }
}

fn judge<'a>(rules: &Rules<'a>, input: &Input) -> Result<(), Broken<'a>> {
    suspension(rules).map_err(|refusal| (By::Suspension, refusal))?;
    // First: an agreement that is not in force has no terms that anything could be held to.
    for link in rules.links {
        standing(link, rules.now_ms).map_err(|refusal| (By::Standing(link.server), refusal))?;
    }
    own_bounds(rules, input)?;
    for link in rules.links {
        on_link(rules, link, input)?;
    }
    Ok(())
}

/// Judges an operation by the agreement alone (`user_type` `None`: for any of ours).
pub fn evaluate_link(
    link: &Link<'_>,
    direction: Direction,
    operation: Operation,
    user_type: Option<&str>,
    now_ms: u64,
) -> Decision {
    let verdict = standing(link, now_ms)
        .and_then(|agreement| granted(link.server, agreement, direction, operation, user_type));
    match verdict {
        Ok(()) => Decision::Allowed,
        Err(refusal) => Decision::Refused(refusal),
    }
}

/// Judges a message that is only passed on, or comes from one who does: by the agreement with the next one, or the
/// last, alone. Whose people wrote it is for others to judge.
pub fn evaluate_passing(
    link: &Link<'_>,
    direction: Direction,
    attributes: &MessageAttributes,
    now_ms: u64,
) -> Decision {
    match passes(link, direction, attributes, now_ms) {
        Ok(()) => Decision::Allowed,
        Err(refusal) => Decision::Refused(refusal),
    }
}

fn passes(
    link: &Link<'_>,
    direction: Direction,
    attributes: &MessageAttributes,
    now_ms: u64,
) -> Result<(), Refusal> {
    let (server, agreement) = (link.server, standing(link, now_ms)?);
    granted(server, agreement, direction, Operation::Message, None)?;
    if attributes.file {
        granted(server, agreement, direction, Operation::Files, None)?;
    }
    label_within(server, agreement, attributes.label)?;
    let (min, max) = (agreement.ttl_min_seconds, agreement.ttl_max_seconds);
    if ttl_within(attributes.ttl_seconds, (min, max)) {
        return Ok(());
    }
    let reason = match min <= max {
        true => format!(
            "choose a TTL between {} and {} for {server}",
            in_words(min),
            in_words(max)
        ),
        false => format!(
            "the agreement with {server} lets no TTL pass: ask your administrator to amend it"
        ),
    };
    Err(Refusal::new(RefusalCode::TtlOutOfBounds, reason))
}

/// Judges only whether the agreement is in force.
pub fn evaluate_standing(link: &Link<'_>, now_ms: u64) -> Decision {
    match standing(link, now_ms) {
        Ok(_) => Decision::Allowed,
        Err(refusal) => Decision::Refused(refusal),
    }
}

fn suspension(rules: &Rules<'_>) -> Result<(), Refusal> {
    if rules.party.suspended {
        return Err(Refusal::new(
            RefusalCode::AccountSuspended,
            "this account is suspended: ask your administrator to resume it",
        ));
    }
    Ok(())
}

/// The user type's own bounds, which hold at home too.
fn own_bounds<'a>(rules: &Rules<'a>, input: &Input) -> Result<(), Broken<'a>> {
    let (name, policy) = (rules.party.user_type, rules.party.policy);
    let by = |field: &'static str| move |refusal: Refusal| (By::UserType { name, field }, refusal);
    match input {
        Input::Send(attributes) => {
            let ttl = ttl_bounds(rules);
            if !ttl_within(attributes.ttl_seconds, ttl) {
                return Err(by("ttl")(ttl_refusal(ttl, rules)));
            }
            if !policy.burn.contains(attributes.burn_seconds) {
                return Err(by("burn")(burn_refusal(&policy.burn)));
            }
            if attributes.file && !policy.files {
                return Err(by("files")(no_files()));
            }
            if !policy.labels.contains(attributes.label) {
                return Err(by("labels")(label_choice(&policy.labels)));
            }
            Ok(())
        }
        Input::Receive(attributes) if attributes.label > policy.labels.max => {
            Err(by("labels")(label_too_high(rules, attributes.label)))
        }
        Input::Upload { bytes, ttl_seconds } => {
            if !policy.files {
                return Err(by("files")(no_files()));
            }
            if *bytes > policy.file_bytes_max {
                let refusal = Refusal::new(
                    RefusalCode::FilesNotAllowed,
                    format!(
                        "your user type allows files of at most {} bytes: send a smaller one",
                        policy.file_bytes_max
                    ),
                );
                return Err(by("file_bytes_max")(refusal));
            }
            // A file may go before its message does, so only the upper bound holds for it.
            if *ttl_seconds == 0 || *ttl_seconds > policy.ttl.max_seconds {
                return Err(by("ttl")(ttl_refusal((1, policy.ttl.max_seconds), rules)));
            }
            Ok(())
        }
        Input::BeFound { by_beginning } => {
            let found = match policy.directory {
                DirectoryListing::Hidden => false,
                DirectoryListing::Exact => !by_beginning,
                DirectoryListing::Listed => true,
            };
            // Whoever asks is told nothing of this.
            found.then_some(()).ok_or_else(|| {
                by("directory")(Refusal::new(
                    RefusalCode::UnknownRecipient,
                    "the user type hides its people from such a look-up",
                ))
            })
        }
        Input::Receive(_) | Input::Invite | Input::BeInvited | Input::Download | Input::LookUp => {
            Ok(())
        }
    }
}

/// What one other organisation's taking part asks for.
fn on_link<'a>(rules: &Rules<'a>, link: &Link<'a>, input: &Input) -> Result<(), Broken<'a>> {
    let server = link.server;
    let agreement =
        standing(link, rules.now_ms).map_err(|refusal| (By::Standing(server), refusal))?;
    let (name, policy) = (rules.party.user_type, rules.party.policy);
    if !policy.external.allows(server) {
        return Err((
            By::UserType {
                name,
                field: "external",
            },
            out_of_reach(rules, server, "may not communicate with"),
        ));
    }
    let need = |direction, operation| {
        if !policy.reaches(server, direction, operation) {
            return Err((
                By::UserType {
                    name,
                    field: "external_rules",
                },
                out_of_reach(rules, server, narrowed(direction, operation)),
            ));
        }
        granted(server, agreement, direction, operation, Some(name)).map_err(|refusal| {
            (
                By::Grant {
                    server,
                    direction,
                    operation,
                },
                refusal,
            )
        })
    };
    let by_terms = |refusal: Refusal| (By::Terms(server), refusal);
    match input {
        Input::Send(attributes) => {
            need(Direction::Outbound, Operation::Message)?;
            if attributes.file {
                need(Direction::Outbound, Operation::Files)?;
            }
            // The TTL was held to every link's bounds together with the user type's.
            label_within(server, agreement, attributes.label).map_err(by_terms)
        }
        Input::Receive(attributes) => {
            need(Direction::Inbound, Operation::Message)?;
            if attributes.file {
                need(Direction::Inbound, Operation::Files)?;
            }
            label_within(server, agreement, attributes.label).map_err(by_terms)?;
            // Whoever sent it is told, and knows nothing of user types here.
            let bounds = (agreement.ttl_min_seconds, agreement.ttl_max_seconds);
            if ttl_within(attributes.ttl_seconds, bounds) {
                return Ok(());
            }
            Err(by_terms(ttl_choice(bounds).unwrap_or_else(|| {
                Refusal::new(
                    RefusalCode::TtlOutOfBounds,
                    "no TTL suits both organisations: ask your administrator to amend the agreement",
                )
            })))
        }
        Input::Invite => need(Direction::Outbound, Operation::Invite),
        Input::BeInvited => need(Direction::Inbound, Operation::Invite),
        Input::Upload { bytes, .. } => {
            need(Direction::Outbound, Operation::Files)?;
            if *bytes > agreement.file_bytes_max {
                return Err(by_terms(Refusal::new(
                    RefusalCode::FilesNotAllowed,
                    format!(
                        "the agreement with {server} allows files of at most {} bytes: send a smaller one",
                        agreement.file_bytes_max
                    ),
                )));
            }
            Ok(())
        }
        Input::Download => need(Direction::Inbound, Operation::Files),
        Input::LookUp => need(Direction::Outbound, Operation::Directory),
        Input::BeFound { .. } => need(Direction::Inbound, Operation::Directory),
    }
}

/// What a user type's scope keeps from its people.
fn out_of_reach(rules: &Rules<'_>, server: &ServerName, may_not: &str) -> Refusal {
    Refusal::new(
        RefusalCode::ExternalScope,
        format!(
            "user type `{}` {may_not} {server}: ask your administrator for a user type with that external scope",
            rules.party.user_type
        ),
    )
}

const fn narrowed(direction: Direction, operation: Operation) -> &'static str {
    match (direction, operation) {
        (Direction::Outbound, Operation::Message) => "may not write to people of",
        (Direction::Outbound, Operation::Invite) => "may not invite people of",
        (Direction::Outbound, Operation::Directory) => "may not look for people of",
        (Direction::Outbound, Operation::Files) => "may not send files to people of",
        (Direction::Inbound, Operation::Message) => "may not get messages of people of",
        (Direction::Inbound, Operation::Invite) => "may not be invited by people of",
        (Direction::Inbound, Operation::Directory) => "may not be found by people of",
        (Direction::Inbound, Operation::Files) => "may not get files of people of",
    }
}

fn label_choice(labels: &Labels) -> Refusal {
    Refusal::new(
        RefusalCode::OutOfScope,
        format!(
            "choose a label between {} and {} for this message",
            labels.min, labels.max
        ),
    )
}

fn label_too_high(rules: &Rules<'_>, label: u8) -> Refusal {
    Refusal::new(
        RefusalCode::OutOfScope,
        format!(
            "messages with label {label} don't reach people here{FOR_USER_TYPE}`{}`: choose one up to {}, or ask your administrator",
            rules.party.user_type, rules.party.policy.labels.max
        ),
    )
}

fn label_within(server: &ServerName, agreement: &Agreement, label: u8) -> Result<(), Refusal> {
    if label <= agreement.label_max {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::OutOfScope,
        format!(
            "the agreement with {server} lets messages pass up to label {}, and this one has {label}: choose a lower one, or ask your administrator",
            agreement.label_max
        ),
    ))
}

/// The agreement, when it is in force at `now_ms`.
fn standing<'a>(link: &Link<'a>, now_ms: u64) -> Result<&'a Agreement, Refusal> {
    let server = link.server;
    let none = || {
        Refusal::new(
            RefusalCode::NoAgreement,
            format!("there is no agreement with {server}: ask your administrator to make one"),
        )
    };
    let agreement = link.agreement.ok_or_else(none)?;
    match agreement.standing {
        Standing::Incomplete => Err(none()),
        Standing::Revoked => Err(Refusal::new(
            RefusalCode::AgreementRevoked,
            format!("the agreement with {server} was revoked: ask your administrator"),
        )),
        Standing::Expired => Err(expired(server)),
        Standing::Active | Standing::Suspended if now_ms >= agreement.expires_ms => {
            Err(expired(server))
        }
        Standing::Suspended => Err(Refusal::new(
            RefusalCode::AgreementSuspended,
            format!("the agreement with {server} is suspended: try again when it has been resumed"),
        )),
        Standing::Active => Ok(agreement),
    }
}

fn expired(server: &ServerName) -> Refusal {
    Refusal::new(
        RefusalCode::AgreementExpired,
        format!("the agreement with {server} has expired: ask your administrator to renew it"),
    )
}

fn granted(
    server: &ServerName,
    agreement: &Agreement,
    direction: Direction,
    operation: Operation,
    user_type: Option<&str>,
) -> Result<(), Refusal> {
    if agreement.grants(direction, operation, user_type) {
        return Ok(());
    }
    let what = match operation {
        Operation::Message => "messages",
        Operation::Invite => "invitations",
        Operation::Directory => "directory look-ups",
        Operation::Files => "files",
    };
    let way = match direction {
        Direction::Outbound => "to",
        Direction::Inbound => "from",
    };
    Err(Refusal::new(
        RefusalCode::OutOfScope,
        match user_type {
            Some(name) => format!(
                "the agreement with {server} does not grant {what} {way} {server}{FOR_USER_TYPE}`{name}`: ask your administrator"
            ),
            None => format!(
                "the agreement with {server} does not grant {what} {way} {server}: ask your administrator"
            ),
        },
    ))
}

/// The TTL bounds of the user type and of every agreement in force together, in seconds.
fn ttl_bounds(rules: &Rules<'_>) -> (u32, u32) {
    let own = rules.party.policy.ttl;
    rules.links.iter().filter_map(|link| link.agreement).fold(
        (own.min_seconds, own.max_seconds),
        |(min, max), agreement| {
            (
                min.max(agreement.ttl_min_seconds),
                max.min(agreement.ttl_max_seconds),
            )
        },
    )
}

/// Whether a time-to-live lies within bounds (least, greatest).
pub fn ttl_within(seconds: u32, (min, max): (u32, u32)) -> bool {
    #[cfg(feature = "faults")]
    if crate::faults::is_on("accept-any-ttl") {
        return true;
    }
    min <= seconds && seconds <= max
}

fn ttl_refusal(bounds: (u32, u32), rules: &Rules<'_>) -> Refusal {
    ttl_choice(bounds).unwrap_or_else(|| {
        let servers: Vec<&str> = rules
            .links
            .iter()
            .map(|link| link.server.as_str())
            .collect();
        let reason = format!(
            "no TTL suits both your user type and the agreement with {}: ask your administrator to align their bounds",
            servers.join(", ")
        );
        Refusal::new(RefusalCode::TtlOutOfBounds, reason)
    })
}

/// Asks for a TTL within bounds; `None`: they hold none.
fn ttl_choice((min, max): (u32, u32)) -> Option<Refusal> {
    let reason = || {
        format!(
            "choose a TTL between {} and {}",
            in_words(min),
            in_words(max)
        )
    };
    (min <= max).then(|| Refusal::new(RefusalCode::TtlOutOfBounds, reason()))
}

fn burn_refusal(bounds: &Bounds) -> Refusal {
    let min = match bounds.min_seconds {
        0 => "0 (does not burn)".to_owned(),
        seconds => in_words(seconds),
    };
    let reason = match bounds.max_seconds {
        0 => "your user type does not allow burn-on-read: send without it".to_owned(),
        max => format!(
            "choose a burn-on-read time between {min} and {}",
            in_words(max)
        ),
    };
    Refusal::new(RefusalCode::BurnOutOfBounds, reason)
}

fn no_files() -> Refusal {
    Refusal::new(
        RefusalCode::FilesNotAllowed,
        "your user type may not send files: send the message without one",
    )
}
