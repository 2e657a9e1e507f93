//! What a hub does when somebody leaves, with true proposals.

use std::collections::BTreeMap;

use bytes::Bytes;
use homeserver_api::ids::{Member, RoomId, ServerName};
use homeserver_api::session::{Commit, DeliveryBody};
use room_rules::{Observed, RoomKey};

use super::{Network, Room};
use crate::certificate::AnchorSet;
use crate::clock::Clock as _;

impl Room {
    /// As a hub sees it; all hubs of tests have one key.
    fn observed(&self, roots: &BTreeMap<ServerName, Vec<u8>>) -> Observed {
        let key = RoomKey::from_seed(&[42; 32]).unwrap();
        let (server, root) = roots.first_key_value().unwrap();
        let mut anchors = AnchorSet::own(server.clone(), root.clone());
        let all = roots
            .iter()
            .map(|(server, root)| (server.clone(), root.clone().into()));
        anchors.replace_others(server, all);
        Observed::open(&self.group_info, anchors, Some(&key)).unwrap()
    }

    /// Whether a commit leaves out removals that wait.
    pub(super) fn leaves_out(
        &self,
        roots: &BTreeMap<ServerName, Vec<u8>>,
        commit: &Commit,
        now_ms: u64,
    ) -> bool {
        if self.going.is_empty() {
            return false;
        }
        let removals: Vec<Bytes> = self
            .going
            .iter()
            .map(|(.., proposal)| proposal.clone())
            .collect();
        let (bytes, info) = (&commit.commit, &commit.group_info);
        match self.observed(roots).judge(&removals, bytes, info, now_ms) {
            Ok(judged) => judged.left_out > 0,
            Err(room_rules::Error::PendingRemoves) => true,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Network {
    /// The hub removes those devices of a room that are meant, with their accounts.
    pub(crate) fn leaves(&mut self, id: RoomId, meant: impl Fn(&Member) -> bool) {
        self.removes(id, true, meant);
    }

    /// The hub removes those devices of a room that are meant.
    pub(crate) fn removes(&mut self, id: RoomId, account: bool, meant: impl Fn(&Member) -> bool) {
        let room = self.rooms.get_mut(&id).unwrap();
        let observed = room.observed(&self.roots);
        let is_going = |member: &Member| room.going.iter().any(|(m, ..)| m == member);
        let leaves = observed.leaves().unwrap().into_iter();
        let leaving: Vec<_> = leaves
            .filter(|leaf| meant(&leaf.member) && !is_going(&leaf.member))
            .collect();
        let indices: Vec<_> = leaving.iter().map(|leaf| (leaf.index, account)).collect();
        let proposals = observed.propose_removals(&indices).unwrap();
        let going = leaving.into_iter().zip(&proposals);
        room.going
            .extend(going.map(|(leaf, proposal)| (leaf.member, account, proposal.clone())));
        let (epoch, members) = (room.epoch, room.members.clone());
        self.order_removals(id, &members, epoch, &proposals);
    }

    /// Delivers such proposals, whoever made them.
    pub(crate) fn order_removals(
        &mut self,
        room: RoomId,
        to: &[Member],
        epoch: u64,
        proposals: &[Bytes],
    ) {
        let accepted_ms = self.clock.now_ms();
        for member in to
            .iter()
            .filter(|member| self.devices.contains_key(member))
            .cloned()
            .collect::<Vec<_>>()
        {
            let body = DeliveryBody::Removals {
                room,
                epoch,
                proposals: proposals.to_vec(),
                accepted_ms,
            };
            self.deliver(&member, body);
        }
    }
}
