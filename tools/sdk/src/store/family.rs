//! The kinds of records, and what stands for a record's name on disk.

/// Length of a record's name on disk.
pub(super) const KEY_BYTES: usize = 24;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Who this device is.
    Identity,
    /// Counters and the account's policy.
    State,
    /// One room, without MLS's state.
    Room,
    /// MLS's state of a group's current epoch.
    GroupState,
    /// MLS's state of a group's earlier epochs.
    GroupEpoch,
    /// The private half of a key package.
    KeyPackage,
    /// A submission that is not answered yet.
    Outbox,
    /// What is known of a message apart from its content.
    MessageMeta,
    /// A message's content.
    MessageContent,
    /// From a message's id to its place.
    MessageIndex,
    /// A message that waits for its room's commit.
    Queue,
    /// A change of a room's membership that is under way.
    Operation,
    /// The other organisations' roots.
    Anchors,
    /// From a submission's counter to its message.
    Sent,
    /// MLS's state of a group that this device comes back into, until the hub has ordered that.
    PendingGroup,
    /// What is known of somebody's devices.
    Person,
    /// What is known of an organisation's device log.
    DeviceLog,
    /// A question about somebody's devices.
    Question,
    /// A history that is on its way between two own devices.
    Transfer,
    /// Where a message stands that came with a history or a backup.
    Imported,
    /// A conversation of a history or a backup.
    PastRoom,
    /// A message that burnt here and would not have expired yet.
    Burnt,
    /// How far the messages of a device in a room have come.
    Sequence,
    /// Messages of a device in a room that are missing here.
    Missing,
    /// Which commit began an epoch.
    Ordered,
    /// The public tree of a group's current epoch, where the group's state does not hold it.
    GroupTree,
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::State => 2,
            Self::Room => 3,
            Self::GroupState => 4,
            Self::GroupEpoch => 5,
            Self::KeyPackage => 6,
            Self::Outbox => 7,
            Self::MessageMeta => 8,
            Self::MessageContent => 9,
            Self::MessageIndex => 10,
            Self::Queue => 11,
            Self::Operation => 12,
            Self::Anchors => 13,
            Self::Sent => 14,
            Self::PendingGroup => 15,
            Self::Person => 16,
            Self::DeviceLog => 17,
            Self::Question => 18,
            Self::Transfer => 19,
            Self::Imported => 20,
            Self::PastRoom => 21,
            Self::Burnt => 22,
            Self::Sequence => 23,
            Self::Missing => 24,
            Self::Ordered => 25,
            Self::GroupTree => 26,
        }
    }

    /// Whether a replaced or deleted record must become unreadable: content, and every ratchet
    /// state from which a message key could be derived again.
    pub(super) const fn forgets(self) -> bool {
        matches!(
            self,
            Self::GroupState
                | Self::GroupEpoch
                | Self::PendingGroup
                | Self::KeyPackage
                | Self::MessageContent
        )
    }
}

/// A record's hidden name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) [u8; KEY_BYTES]);

impl Key {
    pub(super) fn number(&self) -> u64 {
        self.0
            .last_chunk::<8>()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}
