//! Standard input, read by a thread of its own: the runtime has no way to stop a read.

use std::io::{BufRead as _, Read as _};

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
                    read_lines(&sender)
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

fn read_lines(sender: &mpsc::Sender<Line>) {
    for line in std::io::stdin()
        .lock()
        .lines()
        .map_while(std::result::Result::ok)
    {
        if sender.blocking_send(Line::Text(line)).is_err() {
            return;
        }
    }
}
