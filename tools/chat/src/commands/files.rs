//! `chat send-file` and `chat save-file`.

use std::path::{Path, PathBuf};

use entente_sdk::Body;
use serde_json::json;

use crate::cli::{Common, SaveFile, SendFile};
use crate::commands::{send as sending, with_session};
use crate::failure::{Failure, Result};
use crate::place;
use crate::show::message::describe_bytes;
use crate::show::output::Output;

pub(super) async fn send(common: &Common, arguments: &SendFile, output: &Output) -> Result {
    if !arguments.path.is_file() {
        return Err(Failure::new(
            "file",
            format!("{} is not a file.", arguments.path.display()),
        ));
    }
    sending::file(common, arguments, output).await
}

pub(super) async fn save(common: &Common, arguments: &SaveFile, output: &Output) -> Result {
    with_session(common, output, async |client| {
        let message = place::message(client, &arguments.message).await?;
        let Body::File { name, bytes } = &message.body else {
            return Err(Failure::new(
                "no-file",
                "That message has no file: see `chat history` for those that have one.",
            ));
        };
        let path = match &arguments.path {
            Some(path) => path.clone(),
            None => own_name(name)?,
        };
        if path.exists() {
            return Err(Failure::new(
                "exists",
                format!(
                    "{} exists already: name another file as the last argument.",
                    path.display()
                ),
            ));
        }
        client.save_file(message.id, &path).await?;
        output.object(&json!({
            "type": "saved",
            "message": message.id,
            "path": path.display().to_string(),
            "bytes": bytes,
        }))?;
        let size = describe_bytes(*bytes);
        output.line(&format!("{} ({size}) is saved.", path.display()))
    })
    .await
}

/// The sender's name for the file, if it is one in this folder and not hidden.
pub(crate) fn own_name(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let plain = path.file_name().is_some_and(|file| file == name)
        && !name.starts_with('.')
        && !name.chars().any(char::is_control);
    if plain {
        Ok(path.to_path_buf())
    } else {
        Err(Failure::new(
            "name",
            "The file's own name can't be used here: name another as the last argument.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sender can't choose a folder, a hidden file or a name that drives the terminal; by
    /// such names.
    #[test]
    fn senders_choose_plain_names_only() {
        assert_eq!(own_name("report.pdf").unwrap(), Path::new("report.pdf"));
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a/",
            ".bashrc",
            "a\u{1b}b",
        ] {
            assert!(own_name(bad).is_err(), "{bad}");
        }
    }
}
