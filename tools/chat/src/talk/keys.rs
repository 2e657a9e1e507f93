//! What a terminal's raw bytes mean: characters, and the few keys that a line needs.

/// Longest sequence of one key. A longer one is no key: without an end it would swallow all that is typed after it.
const SEQUENCE_BYTES_MAX: usize = 32;

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
    /// The keys in `bytes`. What is kept for the next piece is shorter than one sequence.
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
            let mut within = after.iter().take(SEQUENCE_BYTES_MAX - 2);
            let Some(last) = within.position(|b| (0x40..=0x7e).contains(b)) else {
                return if bytes.len() < SEQUENCE_BYTES_MAX {
                    Step::Incomplete
                } else {
                    Step::Took(SEQUENCE_BYTES_MAX, None)
                };
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
    use proptest::prelude::*;

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

    /// Goal: a sequence without an end does not swallow what is typed after it. Method: one that is too long, by
    /// single bytes.
    #[test]
    fn endless_sequence() {
        let mut keys = Keys::default();
        for byte in b"\x1b[".iter().chain(&[b'1'; SEQUENCE_BYTES_MAX]) {
            keys.take(&[*byte]);
        }
        assert_eq!(keys.take(b"a").last(), Some(&Key::Character('a')));
    }

    /// Goal: bytes that are no text are dropped, and what follows is read; by one such byte.
    #[test]
    fn not_text() {
        assert_eq!(Keys::default().take(b"\xffa"), [Key::Character('a')]);
    }

    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let piece = prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
            "\u{1b}[\\[O]?[0-9;]{0,40}[A-Z~]?".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..6)
    }

    proptest! {
        /// Goal: typed text comes out as it was typed. Method: any printable text, cut at any place.
        #[test]
        fn text_is_kept(text in "\\PC{0,40}", cut in any::<prop::sample::Index>()) {
            let (before, after) = text.as_bytes().split_at(cut.index(text.len() + 1));
            let mut keys = Keys::default();
            let mut got = keys.take(before);
            got.extend(keys.take(after));
            let expected: Vec<Key> = text.chars().map(Key::Character).collect();
            prop_assert_eq!(got, expected);
        }

        /// Goal: any bytes are keys, the same however they are cut; none is a control character, and little is held
        /// back. Method: sequences right and wrong, and any bytes, in pieces and at once.
        #[test]
        fn any_bytes(pieces in pieces()) {
            let mut keys = Keys::default();
            let mut got = Vec::new();
            for piece in &pieces {
                got.extend(keys.take(piece));
                prop_assert!(keys.rest.len() < SEQUENCE_BYTES_MAX);
            }
            prop_assert!(!got.iter().any(|key| matches!(key, Key::Character(c) if c.is_control())));
            prop_assert_eq!(got, Keys::default().take(&pieces.concat()));
        }
    }
}
