//! A room's keys without the client: for a load generator that encrypts and decrypts by hand.
//!
//! Nothing is stored and nothing waits. What makes that safe is that the client has left the room
//! before: its ratchet lives on here alone, so no key can be used twice.

use bytes::Bytes;
use homeserver_api::ids::RoomId;

use super::Core;
use super::messages::encrypt;
use super::opening::decrypt;
use super::records::SentRecord;
use crate::content::{Content, Part};
use crate::error::Error;
use crate::message::SendOptions;
use crate::mls::Group;

/// A room taken out of its client, in memory only.
pub struct DetachedRoom {
    room: RoomId,
    group: Group,
    /// What was sent, and how much of that in this epoch.
    sent: SentRecord,
    in_epoch: u32,
    /// What every text is put in.
    content: Content,
}

impl std::fmt::Debug for DetachedRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DetachedRoom({})", self.room)
    }
}

impl Core {
    /// Takes a room out of this device, which is no longer in it afterwards.
    pub(crate) fn detach(
        &mut self,
        room: RoomId,
        options: SendOptions,
    ) -> Result<DetachedRoom, Error> {
        self.open_room(room)?;
        let content = self.content(Part::Text(String::new()), options, self.bounds(room)?)?;
        let mut sent = self.room(room)?.sent.clone();
        let in_epoch = self.room(room)?.sent_in_epoch;
        // Nothing of it is told to whoever goes on reading: it is one's own other end.
        sent.recent.clear();
        Ok(DetachedRoom {
            room,
            sent,
            in_epoch,
            group: self.take_group(room)?,
            content,
        })
    }
}

impl DetachedRoom {
    /// The room.
    #[must_use]
    pub const fn room(&self) -> RoomId {
        self.room
    }

    /// Encrypts text: an MLS PrivateMessage, for [`crate::frames::SubmissionBody::Message`].
    ///
    /// # Errors
    /// When the text is too long.
    pub fn encrypt(&mut self, text: &str) -> Result<Bytes, Error> {
        let content = Content {
            part: Part::Text(text.to_owned()),
            order: self.sent.next(self.in_epoch, u32::MAX),
            ..self.content.clone()
        };
        self.in_epoch = self.in_epoch.saturating_add(1);
        encrypt(&mut self.group, &content)
    }

    /// Decrypts an MLS PrivateMessage that holds text; each only once.
    ///
    /// # Errors
    /// When it is not acceptable, or was decrypted before.
    pub fn decrypt(&mut self, message: &[u8]) -> Result<String, Error> {
        match decrypt(&mut self.group, self.room, message)?.0.part {
            Part::Text(text) => Ok(text),
            Part::File(_) | Part::History(_) => Err(Error::Mls("it is no text".to_owned())),
        }
    }
}
