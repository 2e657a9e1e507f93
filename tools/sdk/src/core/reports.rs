//! Reports of abuse: what this device discloses of messages that it has received.

use homeserver_api::ids::{AccountId, Address, RoomId};
use homeserver_api::limits::{REPORT_NOTE_BYTES_MAX, REPORT_TEXT_BYTES_MAX, REPORTED_MESSAGES_MAX};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::{Report, ReportedMessage, SubmissionBody, is_reportable};

use super::Core;
use super::records::{MessageContent, Place, Purpose};
use crate::content::{Content, Part};
use crate::error::Error;
use crate::message::{AbuseReport, MessageId};

impl Core {
    /// Reports somebody of a room; the submission's counter, and who it is.
    pub(crate) fn report(
        &mut self,
        room: RoomId,
        report: AbuseReport,
    ) -> Result<(u64, Address), Error> {
        self.room(room)?;
        let mut reported = match report.person {
            Some(person) => Some((self.account_in(room, &person)?, person)),
            None => None,
        };
        let mut messages = Vec::with_capacity(report.messages.len());
        for id in report.messages {
            let (of, message) = self.disclose(room, id)?;
            match &reported {
                Some(known) if *known != of => {
                    return Err(Error::InvalidArgument(format!(
                        "message {id} is not from {}: report one person at a time",
                        known.1
                    )));
                }
                Some(_) => {}
                None => reported = Some(of),
            }
            messages.push(message);
        }
        let Some((account, address)) = reported else {
            return Err(Error::InvalidArgument(
                "name a message, or the person, to report".to_owned(),
            ));
        };
        if account == self.identity.member.account {
            return Err(Error::InvalidArgument(
                "what you wrote yourself can't be reported".to_owned(),
            ));
        }
        if !is_reportable(&report.note, &messages) {
            return Err(Error::InvalidArgument(format!(
                "a report has at most {REPORTED_MESSAGES_MAX} messages, {REPORT_TEXT_BYTES_MAX} bytes of text and \
                 {REPORT_NOTE_BYTES_MAX} bytes of note: report the worst of it"
            )));
        }
        let body = SubmissionBody::Report(Report {
            account,
            address: address.clone(),
            room,
            reason: report.reason,
            note: report.note,
            messages,
            tell: report.tell,
        });
        let counter = self.enqueue(body, Purpose::Report)?;
        Ok((counter, address))
    }

    /// Takes in the homeserver's answer to a report.
    pub(super) fn report_answered(&mut self, counter: u64, answer: Result<(), Refusal>) {
        self.effects.reports.push((counter, answer));
    }

    /// One received message of the room, as a report discloses it, and who sent it.
    fn disclose(
        &self,
        room: RoomId,
        id: MessageId,
    ) -> Result<((AccountId, Address), ReportedMessage), Error> {
        let place: Place = self.place(id)?;
        if place.room != room {
            return Err(Error::InvalidArgument(format!(
                "message {id} is of another room"
            )));
        }
        let unknown = || Error::UnknownMessage(id);
        // As for any reader, what is over is not there any more.
        let message = self.read_message(place)?.ok_or_else(unknown)?;
        let stored: MessageContent = self.stored_content(place)?.ok_or_else(unknown)?;
        let sha256 = stored.message_sha256.ok_or_else(|| {
            Error::InvalidArgument("what you wrote yourself can't be reported".to_owned())
        })?;
        let disclosed = ReportedMessage {
            device: stored.device.device,
            accepted_ms: message.accepted_ms.unwrap_or(message.sent_ms),
            message_sha256: sha256,
            text: match Content::decode(&stored.content)?.part {
                Part::Text(text) => text,
                Part::File(file) => format!("[file {}, {} bytes]", file.name, file.bytes),
                Part::History(_) => return Err(unknown()),
            },
        };
        Ok(((stored.device.account, stored.sender), disclosed))
    }

    /// The account that has this address in the room.
    fn account_in(&mut self, room: RoomId, person: &Address) -> Result<AccountId, Error> {
        // Of a room that is over nothing is known but its messages.
        let present = match self.room_is_open(room) {
            Ok(()) => self.known_leaves(room)?,
            Err(_) => Vec::new(),
        };
        present
            .into_iter()
            .find(|leaf| leaf.device.address == *person)
            .map(|leaf| leaf.device.member.account)
            .ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "{person} is not in the room: report one of his messages instead"
                ))
            })
    }
}
