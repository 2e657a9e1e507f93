//! Standard output: tables and sentences for people, one JSON value a line for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences.
    Human,
    /// The admin API's JSON, one value a line.
    Json,
}

impl Format {
    /// Prints an answer; `human` is asked only when a person reads.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Human => print(human(value).trim_end()),
            Self::Json => print(&to_json(value)?),
        }
    }

    /// Prints that something is done: a sentence, or `{"done": …}`.
    pub(crate) fn done(self, sentence: &str) -> Result<(), Failure> {
        self.show(&serde_json::json!({ "done": sentence }), |_| {
            sentence.to_owned()
        })
    }
}

/// One line of JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::Other(format!("the answer can't be written as JSON: {error}")))
}

/// Prints a text and a line end.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        // The reader of a pipe has seen enough (`| head`): nothing failed.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Other(format!(
            "can't write to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// A list; `nothing` is said when there are no rows.
pub(crate) fn list(header: &[&str], rows: Vec<Vec<String>>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let mut table = bare_table();
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    without_trailing_spaces(&table)
}

/// Named facts, one a line.
pub(crate) fn facts(rows: Vec<(&str, String)>) -> String {
    let mut table = bare_table();
    table.add_rows(
        rows.into_iter()
            .map(|(name, value)| vec![name.to_owned(), value]),
    );
    without_trailing_spaces(&table)
}

fn bare_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn without_trailing_spaces(table: &Table) -> String {
    // Every cell has a space on its left; the first column's only indents.
    let lines: Vec<String> = table
        .lines()
        .map(|line| {
            let line = line.trim_end();
            line.strip_prefix(' ').unwrap_or(line).to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a list aligns its columns, carries no decoration that would hinder `grep` and `awk`,
    /// and says so when it is empty.
    #[test]
    fn lists() {
        let rows = vec![
            vec!["alice@a.example".to_owned(), "standard".to_owned()],
            vec!["bo@a.example".to_owned(), "guest".to_owned()],
        ];
        assert_eq!(
            list(&["address", "type"], rows, "none"),
            "ADDRESS          TYPE\nalice@a.example  standard\nbo@a.example     guest"
        );
        assert_eq!(list(&["address"], Vec::new(), "No users."), "No users.");
    }

    /// Goal: facts align.
    #[test]
    fn fact_sheets() {
        let sheet = facts(vec![
            ("server", "a.example".to_owned()),
            ("up", "yes".to_owned()),
        ]);
        assert_eq!(sheet, "server  a.example\nup      yes");
    }
}
