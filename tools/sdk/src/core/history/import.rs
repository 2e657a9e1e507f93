//! Taking in what another own device or a backup knew: once, in order, and nothing that is over.

use homeserver_api::ids::DeviceId;

use super::{ImportedRecord, PastRoom, PastRoomRecord};
use crate::backup::BackupOf;
use crate::core::Core;
use crate::core::records::{MessageContent, MessageMeta, Place, ProgressRecord};
use crate::error::Error;
use crate::history::{Conversation, Entry, PastMessage};
use crate::store::Family;

/// What of entries was new here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) messages: u64,
    /// Messages that were here already, are over, or have burnt here.
    pub(crate) passed_over: u64,
    pub(crate) people: u64,
}

impl Core {
    /// Whose backup one of this device is.
    pub(crate) fn backup_of(&self) -> BackupOf {
        BackupOf {
            address: self.own_address().clone(),
            account: self.identity.member.account,
            endpoint: self.identity.endpoint.clone(),
            root_sha256: hex::encode(self.identity.root_sha256),
            made_ms: self.now_ms(),
        }
    }

    /// Whether a backup is of this account.
    pub(crate) fn check_backup(&self, of: &BackupOf) -> Result<(), Error> {
        let own = &self.identity.member;
        if (&of.address.server, of.account) == (&own.server, own.account) {
            return Ok(());
        }
        Err(Error::Backup(format!(
            "the backup is of {}, and this is a device of {}, another account; nothing was changed",
            of.address,
            self.own_address()
        )))
    }

    /// Takes in entries of another own device, or of a backup, which has none.
    pub(crate) fn take_entries(
        &mut self,
        entries: Vec<Entry>,
        from: Option<DeviceId>,
    ) -> Result<Taken, Error> {
        let burnt = self.burnt()?;
        let mut taken = Taken::default();
        for entry in entries {
            match entry {
                Entry::Conversation(conversation) => self.take_conversation(conversation)?,
                Entry::Message(message) => {
                    let is_burnt = burnt.contains(&message.content.id);
                    if !is_burnt && self.take_past_message(*message, from)? {
                        taken.messages += 1;
                    } else {
                        taken.passed_over += 1;
                    }
                }
                Entry::Person(person) => {
                    taken.people += u64::from(self.take_past_person(person)?);
                }
            }
        }
        Ok(taken)
    }

    pub(super) fn take_conversation(&mut self, conversation: Conversation) -> Result<(), Error> {
        let Conversation {
            room,
            hub,
            addresses,
        } = conversation;
        let known = self.history.past.get(&room).map(|record| record.number);
        let numbers = self.history.past.values().map(|record| record.number);
        let number = known.unwrap_or_else(|| numbers.max().unwrap_or(0) + 1);
        let past = PastRoom {
            room,
            hub,
            addresses,
            over: None,
        };
        let record = PastRoomRecord { number, past };
        self.store.put(Family::PastRoom, b"", number, &record)?;
        self.history.past.insert(room, record);
        Ok(())
    }

    /// Takes in a message; whether it was not here and is not over.
    fn take_past_message(
        &mut self,
        message: PastMessage,
        from: Option<DeviceId>,
    ) -> Result<bool, Error> {
        let (now, room) = (self.now_ms(), message.room);
        let content = &message.content;
        let is_here = self
            .store
            .get::<Place>(Family::MessageIndex, content.id.as_bytes(), 0)?
            .is_some();
        // Whoever brings it may only shorten its life, and a wrong clock must not stretch it.
        let lifetime_ms = u64::from(content.ttl_seconds).saturating_mul(1000);
        let expires_ms = message
            .expires_ms
            .min(message.accepted_ms.saturating_add(lifetime_ms))
            .min(now.saturating_add(lifetime_ms));
        if is_here || expires_ms <= now || self.is_known(room).is_err() {
            return Ok(false);
        }
        let number = self.state.last_number + 1;
        self.state.last_number = number;
        let place = Place { room, number };
        self.store
            .put(Family::MessageIndex, content.id.as_bytes(), 0, &place)?;
        let imported = ImportedRecord {
            order_ms: message.order_ms,
            from,
        };
        self.store
            .put(Family::Imported, room.as_bytes(), number, &imported)?;
        self.put_content(
            place,
            &MessageContent {
                sender: message.sender(),
                device: message.device.clone(),
                content: content.encode()?,
                message_sha256: message.message_sha256,
            },
        )?;
        self.put_meta(
            place,
            &MessageMeta {
                id: content.id,
                progress: ProgressRecord::Received,
                ttl_seconds: content.ttl_seconds,
                burn_seconds: content.burn_seconds,
                accepted_ms: Some(message.accepted_ms),
                expires_ms: Some(expires_ms),
                burns_ms: None,
                counter: None,
                order: None,
                attempts: 0,
            },
        )?;
        Ok(true)
    }
}
