//! The line being typed: pure, so that it can be tested without a terminal.

use unicode_width::UnicodeWidthChar as _;

use super::keys::{Key, Typed};

/// A line and the cursor in it.
#[derive(Debug, Default)]
pub(super) struct Editor {
    characters: Vec<char>,
    /// Index of the character under the cursor.
    cursor: usize,
}

impl Editor {
    /// Applies a key; answers what it completes.
    pub(super) fn press(&mut self, key: &Key) -> Option<Typed> {
        match key {
            Key::Character(character) => {
                self.characters.insert(self.cursor, *character);
                self.cursor += 1;
            }
            Key::Enter => {
                self.cursor = 0;
                return Some(Typed::Line(self.characters.drain(..).collect()));
            }
            Key::Backspace => {
                if self.cursor > 0 {
                    self.cursor -= 1;
                    self.characters.remove(self.cursor);
                }
            }
            Key::Delete => self.delete(),
            Key::EndOfInput => {
                if self.characters.is_empty() {
                    return Some(Typed::Leave);
                }
                self.delete();
            }
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.characters.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.characters.len(),
            Key::Clear => {
                self.characters.clear();
                self.cursor = 0;
            }
            Key::ClearWord => self.clear_word(),
            Key::Interrupt => return Some(Typed::Leave),
        }
        None
    }

    /// As much of the line as fits into `columns`, around the cursor, and the cursor's column in it.
    pub(super) fn view(&self, columns: usize) -> (String, usize) {
        let width = |character: &char| character.width().unwrap_or(0);
        // One column stays free for the cursor behind the last character.
        let room = columns.saturating_sub(1);
        let (before, after) = self.characters.split_at(self.cursor);
        let mut used = 0;
        let shown_before = before
            .iter()
            .rev()
            .take_while(|character| {
                used += width(character);
                used <= room
            })
            .count();
        let before = before.iter().skip(before.len() - shown_before);
        let cursor = before.clone().map(width).sum();
        let mut used = cursor;
        let after = after.iter().take_while(|character| {
            used += width(character);
            used <= room
        });
        (before.chain(after).collect(), cursor)
    }

    fn delete(&mut self) {
        if self.cursor < self.characters.len() {
            self.characters.remove(self.cursor);
        }
    }

    fn clear_word(&mut self) {
        let start = self.cursor;
        let is_space = |at: usize| self.characters.get(at).is_some_and(|c| c.is_whitespace());
        let mut at = start;
        while at > 0 && is_space(at - 1) {
            at -= 1;
        }
        while at > 0 && !is_space(at - 1) {
            at -= 1;
        }
        self.characters.drain(at..start);
        self.cursor = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Key]) -> Editor {
        let mut editor = Editor::default();
        for key in keys {
            editor.press(key);
        }
        editor
    }

    fn characters(text: &str) -> Vec<Key> {
        text.chars().map(Key::Character).collect()
    }

    /// Goal: editing does what the keys say, and Enter gives the line; by one line edited at both
    /// ends and in the middle.
    #[test]
    fn edits() {
        let mut keys = characters("bc");
        keys.extend([
            Key::Home,
            Key::Character('a'),
            Key::End,
            Key::Character('d'),
        ]);
        keys.extend([Key::Left, Key::Backspace, Key::Delete]);
        let mut editor = typed(&keys);
        assert_eq!(
            editor.press(&Key::Enter),
            Some(Typed::Line("ab".to_owned()))
        );
        assert_eq!(editor.press(&Key::EndOfInput), Some(Typed::Leave));
    }

    /// Goal: Ctrl-D leaves only when nothing is typed, and Ctrl-W takes one word; by both.
    #[test]
    fn control_keys() {
        let mut editor = typed(&characters("one two  "));
        assert_eq!(editor.press(&Key::EndOfInput), None);
        editor.press(&Key::ClearWord);
        assert_eq!(
            editor.press(&Key::Enter),
            Some(Typed::Line("one ".to_owned()))
        );
    }

    /// Goal: a line wider than the terminal never wraps, whatever the width of its characters; by
    /// wide characters in every width of terminal.
    #[test]
    fn never_wraps() {
        let editor = typed(&characters("a漢字bc漢字defgh"));
        for columns in 0..30 {
            let (shown, cursor) = editor.view(columns);
            let width: usize = shown.chars().map(|c| c.width().unwrap_or(0)).sum();
            assert!(width <= columns.saturating_sub(1), "{columns}");
            assert!(cursor <= width, "{columns}");
        }
        let mut keys = characters("0123456789");
        keys.push(Key::Home);
        assert_eq!(typed(&keys).view(5), ("0123".to_owned(), 0));
    }
}
