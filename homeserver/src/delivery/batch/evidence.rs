//! What rooms go through that concerns devices of this homeserver: kept until the part is written, where evidence is open
//! about them ([`crate::delivery::evidence`]).

use federation_proto::ids::{Member, RoomId, ServerName};
use federation_proto::transaction::VerifiedEnvelope;

use super::Batch;

/// Something has happened to devices of this homeserver in a room.
pub(in crate::delivery) struct RoomEvent {
    pub(in crate::delivery) room: RoomId,
    pub(in crate::delivery) hub: ServerName,
    /// Devices of this homeserver.
    pub(in crate::delivery) members: Vec<Member>,
    pub(in crate::delivery) happened: Happened,
    /// The envelope by which the hub has said so.
    pub(in crate::delivery) word: Option<VerifiedEnvelope>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The hub was asked to remove them.
    Asked,
    /// The hub has accepted that.
    Accepted,
    /// Their removal is ordered.
    Ordered {
        /// For which epoch.
        epoch: u64,
        /// The hub's stamp.
        stamp_ms: u64,
    },
    /// A commit has taken them out.
    Removed {
        /// The epoch that it has begun.
        epoch: u64,
        /// The hub's stamp.
        stamp_ms: u64,
    },
    /// The room is over here.
    Ended,
}

impl Batch<'_> {
    /// What follows is by this envelope of a peer (`None`: by nobody's).
    pub(in crate::delivery) fn bring(&mut self, envelope: Option<&VerifiedEnvelope>) {
        self.bringing = envelope.cloned();
    }

    /// Notes what has happened to those of `members` that are of this homeserver.
    pub fn note_own<'m>(
        &mut self,
        (room, hub): (RoomId, &ServerName),
        members: impl IntoIterator<Item = &'m Member>,
        happened: Happened,
    ) {
        let own = &self.node.server;
        let members = members.into_iter().filter(|member| member.server == *own);
        let members: Vec<_> = members.cloned().collect();
        if members.is_empty() {
            return;
        }
        let is_word = matches!(
            happened,
            Happened::Ordered { .. } | Happened::Removed { .. }
        );
        let word = self.bringing.clone();
        self.room_events.push(RoomEvent {
            room,
            hub: hub.clone(),
            members,
            happened,
            word: word.filter(|word| is_word && word.header().origin == *hub),
        });
    }
}
