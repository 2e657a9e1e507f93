//! Other people's text, made harmless for a terminal.
//!
//! A message may hold anything: escape sequences that move the cursor, retitle the window or fake
//! earlier lines, and marks that reverse the reading order. All of it is shown, none of it obeyed.

/// Characters that change the direction or the grouping of what surrounds them.
const fn reorders(character: char) -> bool {
    matches!(
        character,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// A text whose every control character is visible, except the ends of lines.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(one_line).collect()
}

/// A text on one line.
pub(crate) fn one_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => safe.push_str("    "),
            '\n' => safe.push(' '),
            c if c.is_control() || reorders(c) || matches!(c, '\u{2028}' | '\u{2029}') => {
                safe.extend(c.escape_unicode());
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that a terminal obeys comes through, and plain text is untouched; by the
    /// attacks by name.
    #[test]
    fn nothing_is_obeyed() {
        let attacks = "\u{1b}[2J\u{9b}1A\u{7}\r\u{8}\u{202e}\u{2066}\u{85}\u{7f}\u{2028}";
        let safe = one_line(attacks);
        assert!(safe.bytes().all(|b| b.is_ascii_graphic()), "{safe}");
        assert!(safe.contains("\\u{1b}"));
        assert_eq!(one_line("grüße 👋 a\tb"), "grüße 👋 a    b");
        assert_eq!(lines("one\r\ntwo\n"), ["one", "two"]);
    }
}
