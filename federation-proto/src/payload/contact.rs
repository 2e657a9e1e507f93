//! A person's consent that somebody of another organisation may start a conversation with him: asked for,
//! given, taken back.

use super::{read_handle, write_handle};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::ids::{AccountId, Handle};
use crate::limits::{CONTACT_TEXT_BYTES_MAX, SMALL_FIELDS_BYTES_MAX};
use crate::text::is_unseen;

/// What one person lets another know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContactAct {
    /// Asks for the recipient's consent, and gives the own.
    Ask,
    /// Gives consent to whom has asked.
    Grant,
    /// Takes back what was asked.
    Withdraw,
    /// Takes consent back.
    Revoke,
}

/// One person of the origin's to one of the destination's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// What he lets know.
    pub act: ContactAct,
    /// The account of the origin's.
    pub account: AccountId,
    /// Its handle.
    pub from: Handle,
    /// The handle of the destination's person.
    pub to: Handle,
    /// What is said with an ask; empty with all else.
    pub text: String,
}

impl ContactAct {
    const ALL: [Self; 4] = [Self::Ask, Self::Grant, Self::Withdraw, Self::Revoke];

    const fn number(self) -> u8 {
        match self {
            Self::Ask => 1,
            Self::Grant => 2,
            Self::Withdraw => 3,
            Self::Revoke => 4,
        }
    }
}

impl Contact {
    /// Whether this may be said with an ask: short enough, and of characters that are seen.
    #[must_use]
    pub fn is_text(text: &str) -> bool {
        text.len() <= CONTACT_TEXT_BYTES_MAX && !text.chars().any(is_unseen)
    }
}

impl Wire for Contact {
    const BYTES_MAX: usize = CONTACT_TEXT_BYTES_MAX + SMALL_FIELDS_BYTES_MAX;
    const NAME: &'static str = "contact payload";

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.act.number());
        writer.fixed(self.account.as_bytes());
        write_handle(writer, &self.from);
        write_handle(writer, &self.to);
        let may_speak = self.text.is_empty() || self.act == ContactAct::Ask;
        if !may_speak || !Self::is_text(&self.text) {
            writer.fail("text of an ask", CONTACT_TEXT_BYTES_MAX);
        }
        writer.opaque16(
            "text of an ask",
            CONTACT_TEXT_BYTES_MAX,
            self.text.as_bytes(),
        );
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let number = reader.u8("contact act")?;
        let act = ContactAct::ALL
            .into_iter()
            .find(|act| act.number() == number)
            .ok_or(DecodeError::UnknownValue {
                what: "contact act",
                value: number.into(),
            })?;
        let contact = Self {
            act,
            account: reader.fixed("account").map(AccountId::from_bytes)?,
            from: read_handle(reader)?,
            to: read_handle(reader)?,
            text: reader.text16("text of an ask", CONTACT_TEXT_BYTES_MAX)?,
        };
        if contact.act != ContactAct::Ask && !contact.text.is_empty() {
            return Err(DecodeError::Invalid("text of an ask"));
        }
        Ok(contact)
    }
}
