//! The terminal while talking: raw mode, what is typed on the last line, messages above it.

use std::io::{self, Write as _};

use crossterm::terminal;

use super::editor::Editor;
use super::keys::{Keys, Typed};
use crate::failure::{Failure, Result};

/// Columns of a terminal that does not tell.
const COLUMNS: u16 = 80;
/// Back to the first column, and the line is empty.
const CLEAR_LINE: &str = "\r\u{1b}[2K";

/// A terminal in raw mode, until this is dropped.
pub(super) struct Screen {
    keys: Keys,
    editor: Editor,
    prompt: String,
}

impl Screen {
    pub(super) fn open() -> Result<Self> {
        terminal::enable_raw_mode().map_err(|error| {
            Failure::new("terminal", format!("The terminal can't be used: {error}."))
        })?;
        Ok(Self {
            keys: Keys::default(),
            editor: Editor::default(),
            prompt: String::new(),
        })
    }

    /// Takes key presses; answers the lines that they complete.
    pub(super) fn keys(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let keys = self.keys.take(bytes);
        keys.iter()
            .filter_map(|key| self.editor.press(key))
            .collect()
    }

    /// Prints a line above the one being typed.
    pub(super) fn above(&mut self, line: &str) -> Result {
        let mut out = io::stdout().lock();
        write!(out, "{CLEAR_LINE}{line}\r\n")?;
        out.flush()?;
        drop(out);
        self.draw()
    }

    /// Shows the line being typed behind this prompt.
    pub(super) fn prompt(&mut self, prompt: &str) -> Result {
        prompt.clone_into(&mut self.prompt);
        self.draw()
    }

    fn draw(&self) -> Result {
        let columns = terminal::size().map_or(COLUMNS, |(columns, _)| columns.max(1));
        let prompt_columns = self.prompt.chars().count();
        let left = usize::from(columns).saturating_sub(prompt_columns);
        let (line, cursor) = self.editor.view(left);
        let mut out = io::stdout().lock();
        write!(out, "{CLEAR_LINE}{}{line}\r", self.prompt)?;
        let cursor = prompt_columns + cursor;
        if cursor > 0 {
            write!(out, "\u{1b}[{cursor}C")?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The shell wants its terminal back even when this can't be said any more.
        let _ = terminal::disable_raw_mode();
        let _ = write!(io::stdout(), "{CLEAR_LINE}");
        let _ = io::stdout().flush();
    }
}
