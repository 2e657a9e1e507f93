//! Which rule decided.

use std::fmt;

use federation_proto::ids::ServerName;
use homeserver_api::admin::Operation;

use super::{Direction, Input, Rules};

/// The rule that refused something, or the last one that had to let it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// An administrator has suspended the account.
    Suspension,
    /// A field of a user type.
    UserType {
        /// The user type.
        name: &'a str,
        /// The field of its policy.
        field: &'static str,
    },
    /// Whether the agreement with this server is in force.
    Standing(&'a ServerName),
    /// What the agreement with this server grants.
    Grant {
        /// The server.
        server: &'a ServerName,
        /// Which way.
        direction: Direction,
        /// What.
        operation: Operation,
    },
    /// The bounds in the agreement with this server.
    Terms(&'a ServerName),
    /// A rule between segments, by its name.
    Segments(&'a str),
    /// What holds between people about whom no rule is.
    SegmentsDefault,
}

impl<'a> By<'a> {
    /// The last rule that had to let `input` pass, of one that is allowed.
    pub(super) fn allowing(rules: &Rules<'a>, input: &Input) -> Self {
        let (field, granted) = match input {
            Input::Send(_) => ("ttl", (Direction::Outbound, Operation::Message)),
            Input::Receive(_) => ("labels", (Direction::Inbound, Operation::Message)),
            Input::Invite => ("external", (Direction::Outbound, Operation::Invite)),
            Input::BeInvited => ("external", (Direction::Inbound, Operation::Invite)),
            Input::Upload { .. } => ("files", (Direction::Outbound, Operation::Files)),
            Input::Download => ("files", (Direction::Inbound, Operation::Files)),
            Input::LookUp => ("external", (Direction::Outbound, Operation::Directory)),
            Input::BeFound { .. } => ("directory", (Direction::Inbound, Operation::Directory)),
        };
        let (direction, operation) = granted;
        match rules.links.last() {
            Some(link) => Self::Grant {
                server: link.server,
                direction,
                operation,
            },
            None => Self::UserType {
                name: rules.party.user_type,
                field,
            },
        }
    }
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspension => f.write_str("the account's suspension"),
            Self::UserType { name, field } => write!(f, "user type {name}, {field}"),
            Self::Standing(server) => {
                write!(f, "agreement with {server}, whether it is in force")
            }
            Self::Grant {
                server,
                direction,
                operation,
            } => {
                let direction = match direction {
                    Direction::Outbound => "outbound",
                    Direction::Inbound => "inbound",
                };
                let operation = match operation {
                    Operation::Message => "message",
                    Operation::Invite => "invite",
                    Operation::Directory => "directory",
                    Operation::Files => "files",
                };
                write!(f, "agreement with {server}, {direction} {operation}")
            }
            Self::Terms(server) => write!(f, "agreement with {server}, its bounds"),
            Self::Segments(name) => write!(f, "segments, rule {name}"),
            Self::SegmentsDefault => f.write_str("segments, the default"),
        }
    }
}
