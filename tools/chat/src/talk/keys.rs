//! What a terminal's raw bytes mean: characters, and the few keys that a line needs.

/// A key press.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    Home,
    End,
    /// Ctrl-U: take the whole line away.
    Clear,
    /// Ctrl-W: take the last word away.
    ClearWord,
    /// Ctrl-C, and Ctrl-D on an empty line.
    Interrupt,
    EndOfInput,
}

/// What typing comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    Leave,
}

/// Turns bytes into keys; keeps what is incomplete for the next piece.
#[derive(Debug, Default)]
pub(super) struct Keys {
    rest: Vec<u8>,
}

/// One step of reading.
enum Step {
    /// A key, or nothing of interest, in so many bytes.
    Took(usize, Option<Key>),
    /// More bytes are needed.
    Incomplete,
}

impl Keys {
    /// The keys in `bytes`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.rest.is_empty() {
            let Step::Took(length, key) = step(&self.rest) else {
                break;
            };
            keys.extend(key);
            self.rest.drain(..length.min(self.rest.len()));
        }
        keys
    }
}

fn step(bytes: &[u8]) -> Step {
    let control = |key| Step::Took(1, Some(key));
    match bytes {
        [b'\r' | b'\n', ..] => control(Key::Enter),
        [0x7f | 0x08, ..] => control(Key::Backspace),
        [0x01, ..] => control(Key::Home),
        [0x02, ..] => control(Key::Left),
        [0x03, ..] => control(Key::Interrupt),
        [0x04, ..] => control(Key::EndOfInput),
        [0x05, ..] => control(Key::End),
        [0x06, ..] => control(Key::Right),
        [0x15, ..] => control(Key::Clear),
        [0x17, ..] => control(Key::ClearWord),
        [0x1b, ..] => escape(bytes),
        [b'\t', ..] => control(Key::Character(' ')),
        [0..0x20, ..] => Step::Took(1, None),
        _ => character(bytes),
    }
}

/// `ESC [ … letter`, `ESC O letter`, or Escape with a key.
fn escape(bytes: &[u8]) -> Step {
    match bytes {
        [_] | [_, b'[' | b'O'] => Step::Incomplete,
        [_, b'[' | b'O', after @ ..] => {
            let Some(last) = after.iter().position(|b| (0x40..=0x7e).contains(b)) else {
                return Step::Incomplete;
            };
            let key = match after.get(..=last) {
                Some([b'C']) => Some(Key::Right),
                Some([b'D']) => Some(Key::Left),
                Some([b'H'] | [b'1' | b'7', b'~']) => Some(Key::Home),
                Some([b'F'] | [b'4' | b'8', b'~']) => Some(Key::End),
                Some([b'3', b'~']) => Some(Key::Delete),
                _ => None,
            };
            Step::Took(last + 3, key)
        }
        _ => Step::Took(2, None),
    }
}

fn character(bytes: &[u8]) -> Step {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() == 0 => {
            return match error.error_len() {
                Some(wrong) => Step::Took(wrong, None),
                None => Step::Incomplete,
            };
        }
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    };
    match whole.chars().next() {
        Some(first) if first.is_control() => Step::Took(first.len_utf8(), None),
        Some(first) => Step::Took(first.len_utf8(), Some(Key::Character(first))),
        None => Step::Took(1, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: keys come out the same however the terminal cuts its bytes; by cutting one input at
    /// every place.
    #[test]
    fn cut_anywhere() {
        let input = "aé👋\u{1b}[D\u{1b}OC\u{1b}[3~\u{1b}[1;5Cx\r".as_bytes();
        let expected = [
            Key::Character('a'),
            Key::Character('é'),
            Key::Character('👋'),
            Key::Left,
            Key::Right,
            Key::Delete,
            Key::Character('x'),
            Key::Enter,
        ];
        for cut in 0..=input.len() {
            let mut keys = Keys::default();
            let mut got = keys.take(&input[..cut]);
            got.extend(keys.take(&input[cut..]));
            assert_eq!(got, expected, "cut at {cut}");
        }
    }

    /// Goal: bytes that are no text are dropped, and what follows is read; by one such byte.
    #[test]
    fn not_text() {
        assert_eq!(Keys::default().take(b"\xffa"), [Key::Character('a')]);
    }
}
