//! What a homeserver that was taken over does with what passes through it.
//!
//! It holds its organisation's issuing CA and room key, as the organisations of these tests hand them out to anybody, orders rooms as
//! their hub, and says what it likes about time.

use homeserver_api::ids::{Member, RoomId};
use homeserver_api::session::{Commit, DeliveryBody};

use super::Network;

impl Network {
    /// Keeps back the first thing of a kind that waits for a device.
    pub(crate) fn withhold(
        &mut self,
        from: &Member,
        is_meant: impl Fn(&DeliveryBody) -> bool,
    ) -> DeliveryBody {
        let inbox = &mut self.devices.get_mut(from).unwrap().inbox;
        let at = inbox.iter().position(|delivery| is_meant(&delivery.body));
        inbox.remove(at.expect("something of the kind waits")).body
    }

    /// Keeps back the first message that waits for a device.
    pub(crate) fn withhold_message(&mut self, from: &Member) -> DeliveryBody {
        self.withhold(from, |body| matches!(body, DeliveryBody::Message { .. }))
    }

    /// Says of every message that waits for a device that it is over.
    pub(crate) fn call_expired(&mut self, to: &Member) {
        for delivery in &mut self.devices.get_mut(to).unwrap().inbox {
            if let DeliveryBody::Message { expires_ms, .. } = &mut delivery.body {
                *expires_ms = 1;
            }
        }
    }

    /// Orders a commit for some of the room alone.
    pub(crate) fn show_commit(&mut self, commit: &Commit, to: &[&Member]) {
        let to: Vec<Member> = to.iter().map(|member| (*member).clone()).collect();
        self.order_for(&to, commit);
    }

    /// Who the homeservers take for the room's members.
    pub(crate) fn set_members(&mut self, room: RoomId, members: &[&Member]) {
        let members = members.iter().map(|member| (*member).clone());
        self.rooms.get_mut(&room).unwrap().members = members.collect();
    }
}
