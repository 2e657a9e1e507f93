//! A person: an account with one device, driven through the real `chat`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::homeserver::{Homeserver, inside};
use super::record::Record;
use crate::failure::{self, Failure, Result};
use crate::process::Run as _;

/// Seconds that a client waits for its homeserver or the other one.
const PATIENCE_SECONDS: &str = "60";

/// A person.
pub(crate) struct Person {
    pub(super) name: String,
    pub(super) address: String,
    chat: PathBuf,
    folder: PathBuf,
    namespace: Option<String>,
    /// What enrolment printed.
    pub(super) enrolled: String,
}

impl Person {
    /// Makes the account and enrols a device.
    pub(crate) fn enrol(server: &Homeserver, name: &str, binaries: &Path) -> Result<Self> {
        let account = server.account(name)?;
        let folder = server.folder.join(name);
        fs::create_dir_all(&folder).map_err(failure::at(&folder))?;
        let secret = |file: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(file);
            fs::write(&path, text).map_err(failure::at(&path))?;
            Ok(path)
        };
        let password = secret("password", &account.password)?;
        secret("passphrase", "a passphrase for this trial alone\n")?;
        let mut person = Self {
            name: name.to_owned(),
            address: account.address,
            chat: binaries.join("chat"),
            folder,
            namespace: server.namespace.clone(),
            enrolled: String::new(),
        };
        person.enrolled = person.enrolling(server, &password).captured()?;
        Ok(person)
    }

    /// Another device of the same account, in a folder of this name, by a reset.
    pub(super) fn second_device(
        &self,
        server: &Homeserver,
        name: &str,
        password: &Path,
    ) -> Result<Self> {
        let mut device = self.further_device(name)?;
        device.enrolled = device
            .enrolling(server, password)
            .arg("--reset")
            .captured()?;
        Ok(device)
    }

    /// The place of another device of the same account, in a folder of this name; it is not enrolled yet.
    pub(super) fn further_device(&self, name: &str) -> Result<Self> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(failure::at(&folder))?;
        let passphrase = folder.join("passphrase");
        fs::write(&passphrase, "another passphrase\n").map_err(failure::at(&passphrase))?;
        Ok(Self {
            name: self.name.clone(),
            address: self.address.clone(),
            chat: self.chat.clone(),
            folder,
            namespace: self.namespace.clone(),
            enrolled: String::new(),
        })
    }

    /// The command that makes it a device.
    pub(super) fn enrolling(&self, server: &Homeserver, password: &Path) -> Command {
        let mut command = self.chat();
        command
            .args(["enrol", &self.address, "--server", &server.client])
            .args(["--root-sha256", &server.root_sha256])
            .arg("--password-file")
            .arg(password);
        command
    }

    /// Where the account's first password is.
    pub(super) fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    /// Where the device keeps everything.
    pub(super) fn device_folder(&self) -> PathBuf {
        self.folder.join("device")
    }

    /// A command of `chat`, with `--json`.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.chat();
        command.args(words);
        command
    }

    /// Runs a command that must succeed, and returns the objects that it prints.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        self.command(words).captured()
    }

    /// Runs a command that must fail, and returns the objects that it prints.
    pub(super) fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self
            .command(words)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Start {
                program: "chat".to_owned(),
                source,
            })?;
        if output.status.success() {
            return Err(Failure::DidNotHold(format!("chat took {words:?}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The line that a person types in a shell, without `--json`.
    pub(crate) fn typed(&self, words: &[&str]) -> String {
        let quoted = |path: &Path| format!("'{}'", path.display());
        format!(
            "{} --dir {} --passphrase-file {} {}",
            quoted(&self.chat),
            quoted(&self.device_folder()),
            quoted(&self.folder.join("passphrase")),
            words.join(" ")
        )
    }

    fn chat(&self) -> Command {
        let mut command = inside(self.namespace.as_deref(), &self.chat);
        command
            .args(["--json", "--timeout", PATIENCE_SECONDS, "--dir"])
            .arg(self.device_folder())
            .arg("--passphrase-file")
            .arg(self.folder.join("passphrase"));
        command
    }

    /// Sends one text; a new conversation if there is none.
    pub(super) fn send(&self, to: &str, text: &str) -> Result {
        self.chat().args(["send", to, text]).captured().map(drop)
    }

    /// Tries to send a text with a lifetime and returns what the client printed, errors too.
    pub(super) fn try_to_send(&self, to: &str, text: &str, ttl: &str) -> Result<(bool, String)> {
        let output = self
            .chat()
            .args(["send", to, text, "--ttl", ttl])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Start {
                program: "chat".to_owned(),
                source,
            })?;
        let printed = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), printed.concat()))
    }

    /// Waits for so many messages of any conversation.
    pub(super) fn receive(&self, count: u32) -> Result<String> {
        self.chat()
            .args([
                "follow",
                "--count",
                &count.to_string(),
                "--seconds",
                PATIENCE_SECONDS,
            ])
            .captured()
    }

    /// Goes on line until the client has said of so many that they can't be read, or for as long as it is patient; of how
    /// many it did.
    pub(super) fn hear_unreadable(&self, count: u64) -> Result<u64> {
        let mut child = self
            .chat()
            .args(["follow", "--seconds", PATIENCE_SECONDS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Failure::Start {
                program: "chat".to_owned(),
                source,
            })?;
        let mut heard = 0_u64;
        if let Some(output) = child.stdout.take() {
            let lines = BufReader::new(output).lines();
            for line in lines.map_while(std::result::Result::ok) {
                heard = heard.saturating_add(u64::from(tells_of_unreadable(&line)));
                if heard >= count {
                    break;
                }
            }
        }
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        Ok(heard)
    }

    /// Goes on line in one conversation and puts on record what happens there.
    pub(super) fn talk(&self, with: &str, record: &Arc<Record>) -> Result<Talking> {
        let errors =
            fs::File::create(self.folder.join("talk.log")).map_err(failure::at(&self.folder))?;
        let mut child = self
            .chat()
            .args(["talk", with])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: "chat".to_owned(),
                source,
            })?;
        let missing = || Failure::Unexpected {
            program: "chat".to_owned(),
            what: "no pipe".to_owned(),
        };
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let record_of_listener = Arc::clone(record);
        let listener = thread::spawn(move || {
            for line in BufReader::new(output)
                .lines()
                .map_while(std::result::Result::ok)
            {
                note(&record_of_listener, &line);
            }
        });
        Ok(Talking {
            name: self.name.clone(),
            child,
            input: Some(input),
            listener: Some(listener),
            record: Arc::clone(record),
        })
    }
}

/// A client on line; ended when dropped.
pub(super) struct Talking {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
    record: Arc<Record>,
}

impl Talking {
    /// Writes a text with this number.
    pub(super) fn say(&mut self, number: u32) -> Result {
        let text = format!("{number:06} from {}", self.name);
        self.record.written(&text, &self.name);
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| Failure::DidNotHold(format!("{}'s client has ended", self.name)))?;
        writeln!(input, "{text}")
            .and_then(|()| input.flush())
            .map_err(|error| {
                Failure::DidNotHold(format!("{}'s client takes no more: {error}", self.name))
            })
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // The end of its input ends a client that has nothing under way; the kill is for one that has.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Whether a client says that it can't read something.
fn tells_of_unreadable(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .is_ok_and(|event| event.get("type").and_then(Value::as_str) == Some("unreadable"))
}

/// Puts one line of a client's output on record.
fn note(record: &Record, line: &str) {
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        return;
    };
    let text_of = |name: &str| event.get(name).and_then(Value::as_str);
    match text_of("type") {
        Some("message") => {
            let text = event.pointer("/body/text").and_then(Value::as_str);
            let (Some(id), Some(text)) = (text_of("id"), text) else {
                return;
            };
            if is_received(&event) {
                record.shown(text);
            } else {
                record.identified(id, text);
                if state(&event) == Some("accepted") {
                    record.accepted(id);
                }
            }
        }
        Some("accepted") => {
            if let Some(id) = text_of("message") {
                record.accepted(id);
            }
        }
        Some("returned" | "refused") => record.returned(),
        _ => {}
    }
}

fn is_received(event: &Value) -> bool {
    state(event) == Some("received")
}

/// How far a message has come, as `chat` spells it.
fn state(event: &Value) -> Option<&str> {
    let progress = event.get("progress")?;
    progress
        .as_str()
        .or_else(|| progress.get("state")?.as_str())
}
