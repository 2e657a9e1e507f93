//! Standard input, read by a thread of its own: the runtime has no way to stop a read.

use std::io::{BufRead, Read as _};

use tokio::sync::mpsc;

use crate::failure::Result;

/// Lines or key presses read ahead.
const WAITING_MAX: usize = 64;
/// Longest piece of a terminal's input read at once.
const KEYS_BYTES: usize = 1024;

/// What came in.
pub(super) enum Line {
    /// Raw bytes from a terminal.
    Keys(Vec<u8>),
    /// A line from a pipe or a file, without its end.
    Text(String),
    /// A line that can't be sent, and why.
    Bad(String),
    /// There is no more.
    End,
}

/// Standard input.
pub(super) struct Input {
    lines: mpsc::Receiver<Line>,
}

impl Input {
    /// Starts reading: bytes as they are typed, or whole lines.
    pub(super) fn start(keys: bool) -> Result<Self> {
        let (sender, lines) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("input".into())
            .spawn(move || {
                if keys {
                    read_keys(&sender)
                } else {
                    read_lines(std::io::stdin().lock(), &sender)
                }
            })?;
        Ok(Self { lines })
    }

    /// The next piece.
    pub(super) async fn next(&mut self) -> Line {
        self.lines.recv().await.unwrap_or(Line::End)
    }
}

fn read_keys(sender: &mpsc::Sender<Line>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = [0; KEYS_BYTES];
    while let Ok(length @ 1..) = stdin.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if sender.blocking_send(Line::Keys(bytes)).is_err() {
            return;
        }
    }
}

fn read_lines(mut from: impl BufRead, sender: &mpsc::Sender<Line>) {
    let mut number: u64 = 0;
    loop {
        number += 1;
        let mut bytes = Vec::new();
        let (line, ends) = match from.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => (text(bytes, number), false),
            Err(error) => {
                let why = format!("Line {number} can't be read, nor what follows: {error}.");
                (Line::Bad(why), true)
            }
        };
        if sender.blocking_send(line).is_err() || ends {
            return;
        }
    }
}

/// A line without its end; one that is no text is told, because the reader meant to send it.
fn text(mut bytes: Vec<u8>, number: u64) -> Line {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Line::Text(text),
        Err(_) => Line::Bad(format!(
            "Line {number} is not UTF-8 text and was not sent: convert it, or send it as a file."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a line that is no text is told and ends nothing; by one between two others, with each kind
    /// of line end and none.
    #[test]
    fn lines_that_are_no_text() {
        let (sender, mut lines) = mpsc::channel(WAITING_MAX);
        read_lines(b"one\n\xff\xfe\ntwo\r\nthree".as_slice(), &sender);
        drop(sender);
        let mut got = Vec::new();
        while let Some(line) = lines.blocking_recv() {
            got.push(match line {
                Line::Text(text) => text,
                Line::Bad(why) => format!("bad: {why}"),
                Line::Keys(_) | Line::End => panic!("neither keys nor an end"),
            });
        }
        assert_eq!(got.len(), 4);
        assert!(got[1].starts_with("bad: Line 2 "), "{}", got[1]);
        assert_eq!([&got[0], &got[2], &got[3]], ["one", "two", "three"]);
    }
}
