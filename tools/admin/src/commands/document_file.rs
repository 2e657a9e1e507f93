//! Where a new document goes.
//!
//! A file is opened before the homeserver is asked to sign anything, so that no document is made that can't be kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use homeserver_api::admin::PeeringDocument;
use serde::Serialize;

use crate::cli::DocumentOutput;
use crate::failure::Failure;
use crate::output::{Format, print};

/// Where a document goes, ready to take it.
pub(super) enum Destination {
    /// Standard output.
    Output,
    /// A file.
    File(OpenedFile),
}

impl Destination {
    /// As the flags say. An existing file keeps what it holds until there is a document.
    pub(super) fn open(output: &DocumentOutput) -> Result<Self, Failure> {
        Self::at(output.file.as_deref())
    }

    /// As the file's name says; none is standard output.
    pub(super) fn at(file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            None => Ok(Self::Output),
            Some(file) if file == Path::new("-") => Ok(Self::Output),
            Some(file) => OpenedFile::open(file).map(Self::File).map_err(|error| {
                Failure::Other(format!(
                    "{} can't be written: {error}. Nothing was changed; name another file, or `-` for standard output",
                    file.display()
                ))
            }),
        }
    }

    /// Writes the document and says what to do with it.
    pub(super) fn write(
        self,
        document: &PeeringDocument,
        format: Format,
        next: &str,
    ) -> Result<(), Failure> {
        if format == Format::Human {
            warn(&document.warnings);
        }
        self.write_text(&document.document, document, format, next)
    }

    /// Writes the text of the document that `answer` is about, and says what to do with it.
    pub(super) fn write_text<T: Serialize>(
        self,
        text: &str,
        answer: &T,
        format: Format,
        next: &str,
    ) -> Result<(), Failure> {
        let text = text.trim_end();
        match self {
            Self::File(file) => {
                let name = file.path.display().to_string();
                file.write(text)
                    .map_err(|error| Failure::Other(format!("{name} can't be written: {error}")))?;
                if format == Format::Human {
                    return print(&format!("Written to {name}. {next}"));
                }
            }
            Self::Output if format == Format::Human => {
                print(text)?;
                // Beside the document, not in it.
                let _ = writeln!(io::stderr().lock(), "{next}");
                return Ok(());
            }
            Self::Output => {}
        }
        format.show(answer, |_| String::new())
    }
}

/// Beside what is printed, not in it.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        // The warning is for a person: where nobody reads, the work goes on.
        let _ = writeln!(io::stderr().lock(), "! {warning}");
    }
}

/// A file that waits for its document. Dropped without one, it is as it was.
pub(super) struct OpenedFile {
    path: PathBuf,
    file: File,
    /// It was not there before.
    new: bool,
}

impl OpenedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, new) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.create(true).open(path)?, false)
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            new,
        })
    }

    fn write(mut self, text: &str) -> io::Result<()> {
        // What is no ordinary file, such as a pipe, has nothing to cut off.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        writeln!(self.file, "{text}")?;
        self.new = false;
        Ok(())
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        if self.new {
            // It is empty, or cut short by a full disk: better none than that.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(file: &Path) -> Result<Destination, Failure> {
        Destination::open(&DocumentOutput {
            file: Some(file.to_owned()),
        })
    }

    /// Goal: a file is as it was until its document is there: a new one is gone again, an old one keeps what it
    /// holds, and then holds the document alone. Method: both, dropped and written; and a folder that is not there.
    #[test]
    fn files_change_with_their_document_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        std::fs::write(&old, "something longer than the document").expect("written");
        for file in [&new, &old] {
            drop(open(file).expect("opened"));
        }
        assert!(!new.exists());
        let kept = std::fs::read_to_string(&old).expect("read");
        assert_eq!(kept, "something longer than the document");
        let document = PeeringDocument::new("OFFER\n".to_owned());
        for file in [&new, &old] {
            let opened = open(file).expect("opened");
            opened
                .write(&document, Format::Human, "Send it.")
                .expect("written");
            assert_eq!(std::fs::read_to_string(file).expect("read"), "OFFER\n");
        }
        assert!(open(&folder.path().join("none/new")).is_err());
        assert!(matches!(open(Path::new("-")), Ok(Destination::Output)));
    }
}
