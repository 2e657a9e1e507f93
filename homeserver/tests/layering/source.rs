//! Reads Rust sources just far enough for `paths.rs`: comments, strings and test modules are blanked, the rest is
//! cut into words and signs.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder, in a fixed order; build folders are left out.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    waiting.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The module path of a file below a crate's `src`: `delivery/outbox.rs` is `[delivery, outbox]`.
pub fn module_of(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module
        .last()
        .is_some_and(|last| last == "mod" || last == "lib" || last == "main")
    {
        module.pop();
    }
    module
}

/// The source with comments, strings and characters blanked, and without its test modules.
pub fn code_of(source: &str) -> String {
    let mut code = blank(source);
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]\n").map(|at| from + at) {
        let line = code[at..].lines().nth(1).unwrap_or_default();
        // A declaration alone (`mod tests;`) has nothing to leave out.
        if !(line.contains("mod ") && line.contains('{')) {
            from = at + 1;
            continue;
        }
        let open = at + code[at..].find('{').unwrap();
        code.replace_range(at..end_of_block(&code, open), "");
        from = at;
    }
    code
}

/// Where the block that opens at `open` is closed; literals are blanked already.
fn end_of_block(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// What follows `path =` in an attribute (`#[path = "…"]`, also below `cfg_attr`), and what `include!` names: files
/// that become part of this one from elsewhere.
pub fn files_drawn_in(source: &str) -> Vec<String> {
    let characters: Vec<char> = source.chars().collect();
    let blanked: Vec<char> = blank(source).chars().collect();
    let mut found = Vec::new();
    for at in 0..blanked.len() {
        let starts = matches!(blanked[at], 'p' | 'i') && (at == 0 || !word_part(blanked[at - 1]));
        if !starts {
            continue;
        }
        let before = blanked[..at].iter().rev().find(|c| !c.is_whitespace());
        let attribute =
            before.is_some_and(|c| "[(,".contains(*c)) && literal_after(&characters, at, "path=");
        if attribute || literal_after(&characters, at, "include!(") {
            let literal = characters[at..].iter().skip_while(|c| **c != '"').skip(1);
            found.push(literal.take_while(|c| **c != '"').collect());
        }
    }
    found
}

/// Whether these signs stand from `at` on, with any space between, and a string behind them.
fn literal_after(characters: &[char], at: usize, signs: &str) -> bool {
    let here = characters[at..].iter().filter(|c| !c.is_whitespace());
    here.take(signs.len() + 1)
        .eq(signs.chars().chain(['"']).collect::<Vec<_>>().iter())
}

pub fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs; a raw name (`r#store`) is the name.
pub fn tokens_of(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let characters: Vec<char> = code.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        if characters[at] == 'r' && characters.get(at + 1) == Some(&'#') {
            at += 2;
            continue;
        }
        let start = at;
        if characters[at].is_alphabetic() || characters[at] == '_' {
            while at < characters.len()
                && (characters[at].is_alphanumeric() || characters[at] == '_')
            {
                at += 1;
            }
            tokens.push(characters[start..at].iter().collect());
        } else if characters[at] == ':' && characters.get(at + 1) == Some(&':') {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !characters[at].is_whitespace() {
                tokens.push(characters[at].to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// Replaces comments and literals by spaces; line breaks stay.
fn blank(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < characters.len() {
        let end = literal_end(&characters, at);
        if end == at {
            out.push(characters[at]);
            at += 1;
        } else {
            out.extend(
                characters[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts here.
fn literal_end(characters: &[char], at: usize) -> usize {
    let next = characters.get(at + 1);
    match characters[at] {
        '/' if next == Some(&'/') => line_end(characters, at),
        '/' if next == Some(&'*') => block_end(characters, at),
        '"' => string_end(characters, at + 1),
        'r' if !at
            .checked_sub(1)
            .is_some_and(|last| word_part(characters[last])) =>
        {
            raw_end(characters, at)
        }
        '\'' => character_end(characters, at),
        _ => at,
    }
}

fn word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(characters: &[char], at: usize) -> usize {
    characters[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(characters.len(), |length| at + length)
}

fn block_end(characters: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < characters.len() {
        match (characters[here], characters.get(here + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                here += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                here += 2;
                if depth == 0 {
                    return here;
                }
            }
            _ => here += 1,
        }
    }
    here
}

fn string_end(characters: &[char], mut at: usize) -> usize {
    while at < characters.len() {
        match characters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    characters.len()
}

fn raw_end(characters: &[char], at: usize) -> usize {
    let hashes = characters[at + 1..]
        .iter()
        .take_while(|c| **c == '#')
        .count();
    if characters.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut here = at + hashes + 2;
    while here < characters.len() {
        let closed = characters[here] == '"'
            && characters[here + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        if closed {
            return here + 1 + hashes;
        }
        here += 1;
    }
    here
}

/// A character literal ends at its quote; a lifetime is none.
fn character_end(characters: &[char], at: usize) -> usize {
    match (characters.get(at + 1), characters.get(at + 2)) {
        (Some('\\'), _) => characters[at + 3..]
            .iter()
            .position(|c| *c == '\'')
            .map_or(at, |length| at + 4 + length),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}
