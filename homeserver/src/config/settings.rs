//! Settings before they are understood: who says what, and every mistake found on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// What every variable that sets a key starts with.
const ENVIRONMENT_PREFIX: &str = "ENTENTE_";
/// Parts a section from a key in a variable's name.
const ENVIRONMENT_SEPARATOR: &str = "__";
/// Sections whose names have two parts; in a variable's name an underscore stands between them.
const NESTED: &[&str] = &["audit.syslog"];
/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Something wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file with its line, or the environment variable.
    pub at: String,
    /// `section.key`, when it is about one.
    pub key: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.at, self.problem),
            None => write!(f, "{}: {}", self.at, self.problem),
        }
    }
}

/// A value as somebody wrote it.
#[derive(Debug, Clone)]
struct Setting {
    at: String,
    value: Written,
}

#[derive(Debug, Clone)]
enum Written {
    One(String),
    Many(Vec<String>),
}

/// All settings, the last one to speak for each key, and the mistakes so far.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// By section and key.
    settings: BTreeMap<(String, String), Setting>,
    /// Sections that somebody mentioned, with the place.
    mentioned: BTreeMap<String, String>,
    known: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
    /// Variables with our prefix that part no section from a key.
    unparted: Vec<String>,
    /// The main file: where a missing key is missing.
    main: String,
    /// A file could not be read as a whole: what seems to be missing or out of place may come of that alone.
    incomplete: bool,
}

impl Settings {
    /// Takes up the main file.
    pub(super) fn read_file(&mut self, path: &Path) {
        self.main = path.display().to_string();
        self.read_one(path);
    }

    /// Takes up every `*.toml` of a folder, by name; the folder may be missing.
    pub(super) fn read_folder(&mut self, folder: &Path) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                self.incomplete = true;
                return self.blame(folder.display().to_string(), &error.to_string());
            }
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "toml"))
            .collect();
        paths.sort();
        for path in paths {
            self.read_one(&path);
        }
    }

    fn read_one(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = std::fs::metadata(path).and_then(|about| {
            if about.len() > FILE_BYTES_MAX {
                return Err(std::io::Error::other("it is larger than 1 MiB"));
            }
            std::fs::read_to_string(path)
        });
        match text {
            Ok(text) => self.read_text(&name, &text),
            Err(error) => {
                self.incomplete = true;
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let problem = if missing {
                    "there is no such file: write it with `homeserver init`, or name another with \
                     --config"
                        .to_owned()
                } else {
                    error.to_string()
                };
                self.blame(name, &problem);
            }
        }
    }

    /// Takes up the text of a file.
    pub(super) fn read_text(&mut self, file: &str, text: &str) {
        if self.main.is_empty() {
            file.clone_into(&mut self.main);
        }
        let line = |at: usize| {
            let before = text.get(..at).unwrap_or(text);
            format!("{file}:{}", before.matches('\n').count() + 1)
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let broken = !errors.is_empty();
        self.incomplete |= broken;
        for error in errors {
            let at = error
                .span()
                .map_or_else(|| file.to_owned(), |span| line(span.start));
            self.blame(at, error.message());
        }
        for (section, keys) in table.get_ref() {
            let at = line(section.span().start);
            let DeValue::Table(keys) = keys.get_ref() else {
                // The heading above it may be what can't be read.
                if broken {
                    continue;
                }
                self.blame(
                    at,
                    &format!("`{}` stands outside of any [section]", section.get_ref()),
                );
                continue;
            };
            let mut sections = VecDeque::from([(section.get_ref().to_string(), at, keys)]);
            while let Some((section, at, keys)) = sections.pop_front() {
                let mut has_own = keys.is_empty();
                for (key, value) in keys {
                    let at = line(key.span().start);
                    let name = (section.clone(), key.get_ref().to_string());
                    if let DeValue::Table(inner) = value.get_ref() {
                        let nested = format!("{}.{}", name.0, name.1);
                        if NESTED.contains(&nested.as_str()) {
                            sections.push_back((nested, at, inner));
                            continue;
                        }
                    }
                    has_own = true;
                    match written(value.get_ref()) {
                        Some(value) => drop(self.settings.insert(name, Setting { at, value })),
                        None => self.mistakes.push(Mistake {
                            at,
                            key: Some(format!("{}.{}", name.0, name.1)),
                            problem: format!(
                                "a {} does not belong here",
                                value.get_ref().type_str()
                            ),
                        }),
                    }
                }
                if has_own && !broken {
                    self.mentioned.entry(section).or_insert(at);
                }
            }
        }
    }

    /// Takes up `ENTENTE_SECTION__KEY` variables; lists are separated by commas.
    pub(super) fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let Some((section, key)) = name.split_once(ENVIRONMENT_SEPARATOR) else {
                self.unparted.push(name.to_owned());
                continue;
            };
            let section = section.to_ascii_lowercase();
            let mut nested = NESTED.iter();
            let nested = nested.find(|nested| nested.replace('.', "_") == section);
            let section = nested.map_or(section, |nested| (*nested).to_owned());
            let name = (section, key.to_ascii_lowercase());
            let at = format!("environment variable {variable}");
            self.mentioned
                .entry(name.0.clone())
                .or_insert_with(|| at.clone());
            let value = Written::One(value);
            self.settings.insert(name, Setting { at, value });
        }
    }

    /// The settings of one section; what its reader does not ask for is a mistake.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        self.known.insert(name);
        Section {
            name,
            asked: Vec::new(),
            places: BTreeMap::new(),
            settings: self,
        }
    }

    /// Every mistake, by place.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        let sections: Vec<_> = self.known.iter().map(|name| format!("[{name}]")).collect();
        for (section, at) in &self.mentioned {
            if !self.known.contains(section.as_str()) {
                self.mistakes.push(Mistake {
                    at: at.clone(),
                    key: None,
                    problem: format!(
                        "there is no section [{section}]; there are {}",
                        sections.join(", ")
                    ),
                });
            }
        }
        self.blame_unparted();
        self.mistakes
    }

    /// A variable that names a section and then something is meant for us; others may be another program's.
    fn blame_unparted(&mut self) {
        for name in std::mem::take(&mut self.unparted) {
            let lower = name.to_ascii_lowercase();
            // Of two sections of which one begins as the other, the longer is meant.
            let meant = self.known.iter().rev().find_map(|section| {
                let key = lower.strip_prefix(section)?.strip_prefix('_')?;
                Some(format!("{section}{ENVIRONMENT_SEPARATOR}{key}"))
            });
            if let Some(meant) = meant {
                let problem = format!(
                    "two underscores part a section from a key: did you mean {ENVIRONMENT_PREFIX}{}?",
                    meant.to_ascii_uppercase()
                );
                self.blame(
                    format!("environment variable {ENVIRONMENT_PREFIX}{name}"),
                    &problem,
                );
            }
        }
    }

    fn blame(&mut self, at: String, problem: &str) {
        self.mistakes.push(Mistake {
            at,
            key: None,
            problem: problem.trim().to_owned(),
        });
    }
}

fn written(value: &DeValue<'_>) -> Option<Written> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(values) => values
            .iter()
            .map(|value| one(value.get_ref()))
            .collect::<Option<_>>()
            .map(Written::Many),
        value => one(value).map(Written::One),
    }
}

/// One section while it is read.
pub(super) struct Section<'a> {
    name: &'static str,
    asked: Vec<&'static str>,
    /// Where each key that was read was set.
    places: BTreeMap<&'static str, String>,
    settings: &'a mut Settings,
}

impl Section<'_> {
    /// The value of `key` as `parse` understands it, or `None` when nobody set it or it is wrong.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let setting = self.take(key)?;
        let parsed = match &setting.value {
            Written::One(text) => parse(text),
            Written::Many(_) => Err("one value is wanted here, not a list".to_owned()),
        };
        self.keep(key, setting.at, parsed)
    }

    /// The values of the list at `key`, each as `parse` understands it.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let setting = self.take(key)?;
        let texts = match &setting.value {
            Written::Many(texts) => texts.clone(),
            Written::One(text) => text
                .split(',')
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .collect(),
        };
        let count = texts.len();
        // Each is read, whatever the others hold: all mistakes at once.
        let values: Vec<_> = texts
            .iter()
            .filter_map(|text| self.keep(key, setting.at.clone(), parse(text)))
            .collect();
        (values.len() == count).then_some(values)
    }

    /// The value of `key`, which has no default.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let name = (self.name.to_owned(), key.to_owned());
        if !self.settings.settings.contains_key(&name) {
            self.asked.push(key);
            self.blame_missing(key);
            return None;
        }
        self.optional(key, parse)
    }

    /// Whether somebody set `key`, which was read, rightly or not.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Blames a key that has no default for being missing.
    pub(super) fn blame_missing(&mut self, key: &'static str) {
        if !self.settings.incomplete {
            self.settings.mistakes.push(Mistake {
                at: self.settings.main.clone(),
                key: Some(format!("{}.{key}", self.name)),
                problem: "it is missing and has no default".to_owned(),
            });
        }
    }

    /// Blames the first of `keys` that somebody set, where it was set, for what they decide together.
    pub(super) fn blame(&mut self, keys: &[&'static str], problem: String) {
        let set = keys
            .iter()
            .find_map(|key| Some((*key, self.places.get(key)?.clone())));
        let (key, at) = match set {
            Some((key, at)) => (Some(key), at),
            None => (keys.first().copied(), self.settings.main.clone()),
        };
        self.settings.mistakes.push(Mistake {
            at,
            key: key.map(|key| format!("{}.{key}", self.name)),
            problem,
        });
    }

    fn take(&mut self, key: &'static str) -> Option<Setting> {
        self.asked.push(key);
        let setting = self
            .settings
            .settings
            .remove(&(self.name.to_owned(), key.to_owned()))?;
        self.places.insert(key, setting.at.clone());
        Some(setting)
    }

    fn keep<T>(&mut self, key: &str, at: String, parsed: Result<T, String>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(problem) => {
                self.settings.mistakes.push(Mistake {
                    at,
                    key: Some(format!("{}.{key}", self.name)),
                    problem,
                });
                None
            }
        }
    }
}

impl Drop for Section<'_> {
    /// What was set but never asked for does not exist.
    fn drop(&mut self) {
        let left: Vec<_> = self
            .settings
            .settings
            .keys()
            .filter(|(section, _)| section == self.name)
            .cloned()
            .collect();
        for name in left {
            if let Some(setting) = self.settings.settings.remove(&name) {
                self.settings.mistakes.push(Mistake {
                    at: setting.at,
                    key: Some(format!("{}.{}", name.0, name.1)),
                    problem: format!("there is no such key; there are {}", self.asked.join(", ")),
                });
            }
        }
    }
}

/// Parses what implements `FromStr`, with its own error as the problem.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Parses a whole number within bounds.
pub(super) fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("`{text}` is not a whole number from {least} to {most}"))
    }
}
