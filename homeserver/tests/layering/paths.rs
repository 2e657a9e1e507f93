//! Which absolute paths a source names: in use trees, and wherever else a path stands. Names that the same file
//! gives to something else (`use … as`, `type … =`) are followed.
//!
//! Deliberately absent: macros that put paths together, and names that came in by a glob from another file; so globs
//! that land where many rooms are in reach are refused as such (`layering.rs`).

use super::source::{is_word, tokens_of};

/// A path that the source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// First the crate (`crate` for its own), then the rest.
    pub path: Vec<String>,
    /// Everything below it is taken in.
    pub glob: bool,
    /// It stands in a `use`, under this name.
    pub imported_as: Option<String>,
}

/// Words that stand before a path and are no part of it.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "box", "break", "const", "continue", "dyn", "else", "enum", "extern",
    "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
    "return", "static", "struct", "trait", "type", "unsafe", "use", "where", "while", "yield",
];

/// How many names that stand for others are followed in a row.
const ALIASES_MAX: usize = 8;

/// Every path that the code of a file names, resolved against its module.
pub fn paths_in(code: &str, module: &[String]) -> Vec<Named> {
    let mut reader = Reader {
        tokens: tokens_of(code),
        module: module.to_vec(),
        inner: Vec::new(),
        depth: 0,
        found: Vec::new(),
        aliases: Vec::new(),
    };
    reader.read();
    reader.follow_aliases()
}

struct Reader {
    tokens: Vec<String>,
    module: Vec<String>,
    /// The inline modules around the token at hand, with the depth of braces that each began at.
    inner: Vec<(String, usize)>,
    depth: usize,
    found: Vec<Named>,
    /// What a name stands for; several of one name in different scopes all count.
    aliases: Vec<(String, Vec<String>)>,
}

impl Reader {
    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", String::as_str)
    }

    fn read(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            at = self.step(at);
        }
    }

    /// Reads what begins at `at`; returns where the next begins.
    fn step(&mut self, at: usize) -> usize {
        match self.token(at) {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                let depth = self.depth;
                self.inner.retain(|(_, began)| *began < depth);
            }
            "mod" if self.token(at + 2) == "{" => {
                let name = self.token(at + 1).to_owned();
                self.inner.push((name, self.depth));
                self.depth += 1;
                return at + 3;
            }
            "use" if self.token(at + 1) != "<" => return self.use_tree(at + 1, &[]),
            "type" => self.alias(at + 1),
            "::" => return self.path(at + 1),
            word if is_word(word) && self.token(at + 1) == "::" && !KEYWORDS.contains(&word) => {
                return self.path(at);
            }
            word if is_word(word) && self.closes_bracket(at, at) => return self.path(at),
            _ => {}
        }
        at + 1
    }

    /// Whether the path from `start` to `end` fills angle brackets that a path goes on behind: `<a::B>::c`.
    fn closes_bracket(&self, start: usize, end: usize) -> bool {
        let before = |back: usize| start.checked_sub(back).map_or("", |at| self.token(at));
        let opened = match (before(1), before(2)) {
            ("<", word) => word != "impl",
            (sign, next) => sign == "::" && next == "<",
        };
        opened && self.token(end + 1) == ">" && self.token(end + 2) == "::"
    }

    /// A path outside of uses, from its first word on. One in angle brackets may go on behind them.
    fn path(&mut self, start: usize) -> usize {
        let mut at = start;
        let mut path = Vec::new();
        while is_word(self.token(at)) {
            path.push(self.token(at).to_owned());
            at += if self.closes_bracket(start, at) { 2 } else { 1 };
            if self.token(at) != "::" {
                break;
            }
            at += 1;
        }
        if !path.is_empty() {
            self.name(path, false, None);
        }
        at.max(start)
    }

    /// `type Name<…> = path;` gives the path another name.
    fn alias(&mut self, at: usize) {
        let name = self.token(at).to_owned();
        let rest = self.tokens[at.min(self.tokens.len())..].iter();
        let Some(sign) = rest
            .take_while(|token| *token != ";")
            .position(|token| token == "=")
        else {
            return;
        };
        let mut here = at + sign + 1;
        let mut path = Vec::new();
        while is_word(self.token(here)) || self.token(here) == "::" {
            if is_word(self.token(here)) {
                path.push(self.token(here).to_owned());
            }
            here += 1;
        }
        if let Some(path) = self.absolute(path) {
            self.aliases.push((name, path));
        }
    }

    /// One branch of a use tree; returns where the next begins.
    fn use_tree(&mut self, start: usize, before: &[String]) -> usize {
        let mut at = start;
        let mut path = before.to_vec();
        loop {
            match self.token(at) {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while !matches!(self.token(at), "}" | "") {
                        let next = self.use_tree(at, &path);
                        at = if next == at { at + 1 } else { next };
                        if self.token(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "*" => {
                    self.name(path, true, Some("*".to_owned()));
                    return at + 1;
                }
                // `{self}` is what stands before the braces.
                "self" if !before.is_empty() && path.len() == before.len() => at += 1,
                "as" => {
                    let name = self.token(at + 1).to_owned();
                    self.name(path, false, Some(name));
                    return at + 2;
                }
                word if is_word(word) => {
                    path.push(word.to_owned());
                    at += 1;
                }
                _ => {
                    if let Some(last) = path.last().cloned() {
                        self.name(path, false, Some(last));
                    }
                    return at;
                }
            }
        }
    }

    fn name(&mut self, path: Vec<String>, glob: bool, imported_as: Option<String>) {
        let Some(path) = self.absolute(path) else {
            return;
        };
        if let Some(name) = &imported_as
            && !glob
        {
            self.aliases.push((name.clone(), path.clone()));
        }
        self.found.push(Named {
            path,
            glob,
            imported_as,
        });
    }

    /// Resolves `self` and `super` against the module at hand.
    fn absolute(&self, path: Vec<String>) -> Option<Vec<String>> {
        let relative = path
            .iter()
            .take_while(|part| matches!(part.as_str(), "self" | "super"))
            .count();
        let first = path.first()?;
        if relative == 0 {
            return (first != "Self").then_some(path);
        }
        let supers = path[..relative]
            .iter()
            .filter(|part| *part == "super")
            .count();
        let inner = self.inner.iter().map(|(name, _)| name.clone());
        let here: Vec<String> = self.module.iter().cloned().chain(inner).collect();
        let kept = here.len().saturating_sub(supers);
        let mut whole = vec!["crate".to_owned()];
        whole.extend(here[..kept].iter().cloned());
        whole.extend(path[relative..].iter().cloned());
        Some(whole)
    }

    /// What was found, and what its first words stand for beside.
    fn follow_aliases(self) -> Vec<Named> {
        let mut all = self.found;
        let mut waiting: Vec<(usize, Named)> =
            all.iter().cloned().map(|named| (0, named)).collect();
        while let Some((followed, named)) = waiting.pop() {
            let stands_for = self.aliases.iter().filter(|(name, path)| {
                named.path.first() == Some(name) && path.first() != Some(name)
            });
            for (_, path) in stands_for {
                let mut whole = path.clone();
                whole.extend(named.path[1..].iter().cloned());
                let next = Named {
                    path: whole,
                    ..named.clone()
                };
                if followed < ALIASES_MAX && !all.contains(&next) {
                    all.push(next.clone());
                    waiting.push((followed + 1, next));
                }
            }
        }
        all
    }
}
