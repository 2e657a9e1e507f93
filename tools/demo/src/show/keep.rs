//! `--keep`: the homeservers stay up for whoever wants to chat by hand.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{Stage, print};
use crate::failure::{Failure, Result, While};
use crate::homeserver::Homeserver;

/// A terminal's device: the real `chat`, enrolled.
struct Terminal {
    address: String,
    program: PathBuf,
    folder: PathBuf,
    passphrase: PathBuf,
}

impl Stage<'_> {
    /// Two more people, enrolled through `chat`, with a conversation; and how to go on with it.
    pub(super) async fn how_to_chat(&self, programs: &Path) -> Result {
        self.display.act("For you to chat by hand");
        let ann = self.terminal(&self.a, "ann", programs).await?;
        let ben = self.terminal(&self.b, "ben", programs).await?;
        let hello = ["send", &ben.address, "Hello Ben, this is Ann."];
        self.display
            .step("Ann greets Ben with `chat send`", ann.run(&hello))
            .await?;
        print(&format!(
            "\nThe homeservers stay up until Ctrl-C. To chat by hand, in one terminal:\n\n  {}\n\nand in another:\n\n  {}\n",
            ann.spell(&["talk", &ben.address]),
            ben.spell(&["talk", &ann.address]),
        ))
    }

    async fn terminal(
        &self,
        server: &Homeserver,
        handle: &str,
        programs: &Path,
    ) -> Result<Terminal> {
        let account = server.create_user(handle, "standard").await?;
        let secret = |name: &str, text: &str| {
            let path = server.folder().join(format!("{name}-of-{handle}"));
            std::fs::write(&path, text)
                .while_to(format!("write {}", path.display()))
                .map(|()| path)
        };
        let password = secret("password", &account.password)?;
        let terminal = Terminal {
            address: account.address.to_string(),
            program: programs.join("chat"),
            folder: server.folder().join(format!("chat-of-{handle}")),
            passphrase: secret("passphrase", "a passphrase for the demonstration\n")?,
        };
        let enrol = [
            "enrol",
            &terminal.address,
            "--server",
            &server.client_endpoint(),
            "--root-sha256",
            server.root_sha256(),
            "--password-file",
            &password.display().to_string(),
        ];
        let title = format!("{} enrols with `chat enrol`", terminal.address);
        self.display.step(&title, terminal.run(&enrol)).await?;
        Ok(terminal)
    }
}

impl Terminal {
    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut words = vec![
            self.program.display().to_string(),
            "--dir".to_owned(),
            self.folder.display().to_string(),
            "--passphrase-file".to_owned(),
            self.passphrase.display().to_string(),
        ];
        words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        words
    }

    /// The command as a shell takes it.
    fn spell(&self, arguments: &[&str]) -> String {
        let quoted: Vec<String> = self
            .command(arguments)
            .into_iter()
            .map(|word| {
                let plain = word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"/._-@:".contains(&byte));
                if plain {
                    word
                } else {
                    format!("'{}'", word.replace('\'', r"'\''"))
                }
            })
            .collect();
        quoted.join(" ")
    }

    async fn run(&self, arguments: &[&str]) -> Result {
        let output = Command::new(&self.program)
            .args(self.command(arguments).iter().skip(1))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .while_to(format!("run {}", self.program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "`{}` failed: {}",
            self.spell(arguments),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}
