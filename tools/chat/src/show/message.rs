//! A message as a line for people and as an object for programs.

use entente_sdk::ids::Address;
use entente_sdk::{Body, Message, Progress};
use serde::Serialize;

use crate::show::clock::LocalClock;
use crate::show::duration::describe_seconds;
use crate::show::output::Paint;
use crate::show::safe;

/// Digits of an id that are shown; enough to name it by.
const ID_DIGITS: usize = 8;
/// How much of a message is quoted where it is spoken of.
const QUOTED_CHARACTERS: usize = 40;

/// A message for programs.
#[derive(Serialize)]
pub(crate) struct MessageObject<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    message: &'a Message,
}

impl<'a> From<&'a Message> for MessageObject<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            kind: "message",
            message,
        }
    }
}

/// How a reader sees messages.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// Whose device this is.
    pub(crate) address: Address,
    pub(crate) clock: LocalClock,
    pub(crate) paint: Paint,
    pub(crate) saving: Saving,
}

/// How a file is kept where the message is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Saving {
    /// By a command of the shell.
    ByCommand,
    /// By a line typed into the conversation.
    InTalk,
}

impl Reader {
    /// Lines for one message: time, sender, text, and faintly what becomes of it.
    pub(crate) fn lines(&self, message: &Message) -> Vec<String> {
        let at_ms = message.accepted_ms.unwrap_or(message.sent_ms);
        let time = self.paint.faint(&self.clock.time_of_day(at_ms));
        let name = self.paint.strong(&self.name(&message.sender));
        let mut texts = match &message.body {
            Body::Text { text } => safe::lines(text),
            Body::File { name, bytes } => vec![self.file_line(message, name, *bytes)],
        };
        if texts.is_empty() {
            texts.push(String::new());
        }
        let remarks = self.remarks(message);
        if let Some(last) = texts.last_mut().filter(|_| !remarks.is_empty()) {
            last.push_str(&self.paint.faint(&format!("  · {}", remarks.join(" · "))));
        }
        let mut texts = texts.into_iter();
        let first = texts.next().unwrap_or_default();
        let mut lines = vec![format!("{time}  {name}  {first}")];
        lines.extend(texts.map(|text| format!("       {text}")));
        if let Some(alarm) = failure_of(&message.progress) {
            lines.push(format!("       {}", self.paint.alarm(&alarm)));
        }
        lines
    }

    /// How an address is shown: the handle alone within the reader's own organisation.
    pub(crate) fn name(&self, address: &Address) -> String {
        if *address == self.address {
            "you".to_owned()
        } else if address.server == self.address.server {
            address.handle.to_string()
        } else {
            address.to_string()
        }
    }

    /// One line for what became of an own message whose lines stand further up; none while it waits.
    pub(crate) fn outcome(&self, message: &Message) -> Option<String> {
        let text = match &message.body {
            Body::Text { text } => safe::one_line(text.lines().next().unwrap_or_default()),
            Body::File { name, .. } => safe::one_line(name),
        };
        let mut quoted: String = text.chars().take(QUOTED_CHARACTERS).collect();
        if quoted != text {
            quoted.push('…');
        }
        let time = self.clock.time_of_day(message.sent_ms);
        let what = self.paint.faint(&format!("of {time}, \"{quoted}\":"));
        let outcome = match &message.progress {
            Progress::Accepted => self.paint.faint("accepted"),
            progress => self.paint.alarm(&failure_of(progress)?),
        };
        Some(format!("       {what} {outcome}"))
    }

    fn file_line(&self, message: &Message, name: &str, bytes: u64) -> String {
        let name = safe::one_line(name);
        let size = describe_bytes(bytes);
        let id = short_id(message);
        let save = match self.saving {
            Saving::ByCommand => "chat save-file",
            Saving::InTalk => "/save",
        };
        match message.progress {
            Progress::Received => format!("[file {name}, {size}; to keep it: {save} {id}]"),
            _ => format!("[file {name}, {size}]"),
        }
    }

    fn remarks(&self, message: &Message) -> Vec<String> {
        let mut remarks = Vec::new();
        match &message.progress {
            Progress::Waiting => remarks.push("waiting to be sent".to_owned()),
            Progress::Accepted => remarks.push("accepted".to_owned()),
            Progress::Received | Progress::Refused { .. } | Progress::Returned { .. } => {}
        }
        if let Some(expires_ms) = message.expires_ms {
            let left_ms = expires_ms.saturating_sub(self.clock.now_ms());
            let left = describe_seconds(left_ms / 1000);
            // What was never sent is nowhere else.
            remarks.push(match message.progress {
                Progress::Refused { .. } => format!("kept here alone for {left}"),
                _ => format!("expires in {left}"),
            });
        }
        if message.burn_seconds > 0 {
            let after = describe_seconds(u64::from(message.burn_seconds));
            remarks.push(format!("burns {after} after it is read"));
        }
        if message.from_history {
            remarks.push("from your history".to_owned());
        }
        if message.label > 0 {
            remarks.push(format!("label {}", message.label));
        }
        remarks
    }
}

/// Why a message did not get where it should, if so.
pub(crate) fn failure_of(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Refused { refusal } => {
            Some(format!("not sent: {}", safe::one_line(&refusal.reason)))
        }
        Progress::Returned { server, refusal } => Some(format!(
            "returned: {server} did not get it: {}",
            safe::one_line(&refusal.reason)
        )),
        Progress::Received | Progress::Waiting | Progress::Accepted => None,
    }
}

/// The first digits of a message's id.
pub(crate) fn short_id(message: &Message) -> String {
    message.id.to_string().chars().take(ID_DIGITS).collect()
}

/// A size in the largest unit that leaves at least one.
pub(crate) fn describe_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, length) in UNITS {
        if bytes >= length {
            let tenths = bytes / (length / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use entente_sdk::MessageId;
    use entente_sdk::ids::{AccountId, DeviceId, Member, RoomId};

    use super::*;

    fn message(sender: &str, text: &str, progress: Progress) -> Message {
        let sender: Address = sender.parse().unwrap();
        Message {
            id: MessageId::from_bytes([0xab; 16]),
            number: 1,
            room: RoomId::from_bytes([1; 16]),
            device: Member {
                server: sender.server.clone(),
                account: AccountId::from_bytes([2; 16]),
                device: DeviceId::from_bytes([3; 16]),
            },
            sender,
            body: Body::Text {
                text: text.to_owned(),
            },
            sent_ms: 0,
            accepted_ms: None,
            expires_ms: None,
            burn_seconds: 30,
            label: 0,
            progress,
            from_history: false,
        }
    }

    fn reader() -> Reader {
        Reader {
            address: "alice@a.example".parse().unwrap(),
            clock: LocalClock::utc(),
            paint: Paint::plain(),
            saving: Saving::ByCommand,
        }
    }

    /// Goal: what becomes of a message whose lines stand further up is told without showing it twice, and a refused
    /// one does not claim to expire elsewhere. Method: a long text in each state.
    #[test]
    fn outcomes() {
        let text = "x".repeat(QUOTED_CHARACTERS + 1);
        let refusal = entente_sdk::refusal::Refusal::new(
            entente_sdk::refusal::RefusalCode::TtlOutOfBounds,
            "choose another",
        );
        let own = |progress| message("alice@a.example", &text, progress);
        assert_eq!(reader().outcome(&own(Progress::Waiting)), None);
        let accepted = reader().outcome(&own(Progress::Accepted)).unwrap();
        assert!(accepted.ends_with("xx…\": accepted"), "{accepted}");
        let mut refused = own(Progress::Refused { refusal });
        let told = reader().outcome(&refused).unwrap();
        assert!(told.ends_with(": not sent: choose another"), "{told}");
        refused.expires_ms = Some(u64::MAX);
        let lines = reader().lines(&refused);
        assert!(lines[0].contains("kept here alone for "), "{lines:?}");
    }

    /// Goal: what came with a history says so, and nothing else does. Method: one of each.
    #[test]
    fn what_came_with_a_history() {
        let mut came = message("bob@b.example", "hi", Progress::Received);
        assert!(!reader().lines(&came)[0].contains("history"));
        came.from_history = true;
        assert!(reader().lines(&came)[0].contains("from your history"));
    }

    /// Goal: a received file says how it is kept where it is read. Method: one in each place.
    #[test]
    fn how_a_file_is_kept() {
        let mut file = message("bob@b.example", "", Progress::Received);
        file.body = Body::File {
            name: "a.txt".to_owned(),
            bytes: 1,
        };
        let mut reader = reader();
        assert!(reader.lines(&file)[0].contains("chat save-file abababab]"));
        reader.saving = Saving::InTalk;
        assert!(reader.lines(&file)[0].contains("to keep it: /save abababab]"));
    }

    /// Goal: a line shows time, name, text, state and burn time, and a second line of text can't
    /// pass for another message; by a message that tries.
    #[test]
    fn lines_of_a_message() {
        let tries = message(
            "bob@b.example",
            "hi\n00:00  you  fake\u{1b}[A",
            Progress::Received,
        );
        let lines = reader().lines(&tries);
        assert_eq!(lines[0], "00:00  bob@b.example  hi");
        assert!(lines[1].starts_with("       00:00"), "{lines:?}");
        assert!(lines[1].contains("\\u{1b}[A") && lines[1].contains("burns 30 s after"));
        let own = message("alice@a.example", "hi", Progress::Accepted);
        assert!(reader().lines(&own)[0].starts_with("00:00  you  hi  · accepted"));
    }

    /// Goal: sizes are shown in sensible units; by a table around the bounds.
    #[test]
    fn sizes() {
        for (bytes, shown) in [
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1 << 30, "1.0 GiB"),
        ] {
            assert_eq!(describe_bytes(bytes), shown);
        }
    }
}
