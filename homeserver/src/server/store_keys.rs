//! The keys of the store: the master key, from wherever the configuration says, the generations that it opens, and the
//! task that takes one generation after the other into use.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::engines;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, MasterKeyConfig, StoreConfig};
use crate::node::Node;
use crate::store::lease::Duty;
use crate::store::node_row;
use crate::store::sealed::MasterKey;
use crate::store::sealed::generations::{GenerationFolder, Generations};
use crate::store::sealed::rotation::{self, Share};
use crate::store::{Store, StoreError};

/// How often it is looked whether the generation in use is at hand,
const MINDED_EVERY: Duration = Duration::from_secs(1);
/// and for how long a node of several goes on without.
const ENDED_AFTER: Duration = Duration::from_secs(10);
/// Longest text of a master key, with what may stand around it.
const TEXT_BYTES_MAX: u64 = 4096;
/// How long a program may take to print it.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);
/// Where systemd puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where the generations are that the configuration names.
pub async fn open(config: &Config) -> Result<Generations, StoreError> {
    Ok(Generations::in_folder(folder(config).await?))
}

/// Tells whether the master key opens every generation; changes nothing, so it may be asked while a homeserver runs.
pub async fn look(config: &Config) -> Result<(), StoreError> {
    folder(config).await?.look().map(drop)
}

/// The folder of generations.
async fn folder(config: &Config) -> Result<GenerationFolder, StoreError> {
    let master = master_key(config).await?;
    Ok(GenerationFolder::at(config.generations_dir(), master))
}

/// The master key that the configuration names.
pub async fn master_key(config: &Config) -> Result<MasterKey, StoreError> {
    let made = config.server.master_key_file();
    let (from, text) = match &config.store_keys.master {
        MasterKeyConfig::Made => (made.display().to_string(), from_file(&made)?),
        MasterKeyConfig::File(path) => (path.display().to_string(), from_file(path)?),
        MasterKeyConfig::Credential(name) => {
            (format!("the credential {name}"), from_credential(name)?)
        }
        MasterKeyConfig::Command(command) => (command.join(" "), from_command(command).await?),
    };
    MasterKey::parse(&text).ok_or_else(|| {
        StoreError::Keys(format!(
            "{from}: it is no master key, which is a line of base64 that stands for 32 bytes, as `openssl rand -base64 32` \
             prints it"
        ))
    })
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, StoreError> {
    let wrong = |problem: &str| StoreError::Keys(format!("{}: {problem}", path.display()));
    let about = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(
            "the master key is missing: put it back from where you keep a copy, or name where it is ([store_keys]); \
             without it nothing that waits here can be read",
        ),
        _ => wrong(&error.to_string()),
    })?;
    if about.mode() & 0o077 != 0 {
        let path = path.display();
        return Err(wrong(&format!("others can read it: chmod 600 {path}")));
    }
    read(path).map_err(|error| wrong(&error.to_string()))
}

fn from_credential(name: &str) -> Result<Zeroizing<String>, StoreError> {
    let wrong = |problem: &str| {
        StoreError::Keys(format!(
            "the credential {name} of the master key: {problem}"
        ))
    };
    let Some(folder) = std::env::var_os(CREDENTIALS) else {
        return Err(wrong(
            "systemd has handed over none: start the homeserver as a service with LoadCredentialEncrypted= in its unit, or \
             with systemd-run",
        ));
    };
    let path = Path::new(&folder).join(name);
    read(&path).map_err(|error| wrong(&format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    // A text that grows leaves copies behind.
    let capacity = usize::try_from(TEXT_BYTES_MAX).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    std::fs::File::open(path)?
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

async fn from_command(command: &[String]) -> Result<Zeroizing<String>, StoreError> {
    let wrong = |problem: &str| {
        StoreError::Keys(format!(
            "{}: {problem}; it has to print the master key and end",
            command.join(" ")
        ))
    };
    let Some((program, arguments)) = command.split_first() else {
        return Err(wrong("there is no program"));
    };
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut started = started.map_err(|error| wrong(&error.to_string()))?;
    let printed = started.stdout.take();
    let done = async {
        let capacity = usize::try_from(TEXT_BYTES_MAX).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(capacity));
        if let Some(printed) = printed {
            let mut printed = printed.take(TEXT_BYTES_MAX);
            printed.read_to_string(&mut text).await?;
        }
        Ok::<_, std::io::Error>((text, started.wait().await?))
    };
    let done = tokio::time::timeout(COMMAND_TIME_MAX, done).await;
    let seconds = COMMAND_TIME_MAX.as_secs();
    let done = done.map_err(|_| wrong(&format!("it was not done after {seconds} seconds")))?;
    let (text, status) = done.map_err(|error| wrong(&error.to_string()))?;
    match status.success() {
        true => Ok(text),
        false => Err(wrong(&format!("it has failed ({status})"))),
    }
}

/// Fails when nodes of a cluster use the generations: to be asked before these go over to another master key.
pub async fn nobody_uses(config: &Config) -> Result<(), StoreError> {
    // Several nodes share a database; any other store is open in one process at most.
    if !matches!(config.store, StoreConfig::Postgresql(_)) {
        return Ok(());
    }
    let store = Store::new(engines::open(config).await?)?;
    let nodes = node_row::seen_lately(&store, SystemClock.now_ms()).await?;
    if nodes.is_empty() {
        return Ok(());
    }
    Err(StoreError::Keys(format!(
        "nodes of the cluster work with them ({}): stop all of them and wait a minute; nothing was changed",
        nodes.join(", ")
    )))
}

/// Looks again and again whether the generation in use is at hand. A node of several ends when it has not been for a while:
/// it can't do its part, and the others take that over.
pub(super) async fn mind(node: Arc<Node>) {
    let Some(seals) = node.store.seals() else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(MINDED_EVERY).await;
        let Err(error @ StoreError::Keys(_)) = seals.mind().await else {
            continue;
        };
        tracing::error!(%error, "what is written can't be sealed or read soon");
        let lasts = seals.trouble();
        let lasts = lasts.is_some_and(|(passed, _)| passed >= ENDED_AFTER);
        if lasts && !node.cluster.is_alone() {
            tracing::error!("this process ends, for others to go on");
            return;
        }
    }
}

/// Takes one generation after the other into use, until the store stops. Of several nodes one makes them.
pub(super) async fn rotate(node: Arc<Node>) {
    loop {
        let share = match (node.cluster.is_alone(), node.cluster.holds(&Duty::Tasks)) {
            (true, _) => Share::Alone,
            (false, true) => Share::Ours,
            (false, false) => Share::Others,
        };
        match rotation::look_as(&node.store, node.clock.as_ref(), share).await {
            Ok(()) => {}
            Err(StoreError::Stopped) => return,
            Err(error) => tracing::error!(
                %error,
                "what was deleted could not be made unreadable; trying again"
            ),
        }
        tokio::time::sleep(rotation::LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A configuration whose master key comes from there.
    fn config(data_dir: &Path, master: MasterKeyConfig) -> Config {
        let mut config = Config::minimal("a.example".parse().unwrap(), data_dir.to_owned());
        config.store_keys.master = master;
        config
    }

    async fn told(config: &Config) -> String {
        let refused = master_key(config).await.err().unwrap();
        refused.to_string()
    }

    /// Goal: a master key comes from a file or from what a program prints, and whoever finds none there, or something
    /// else, is told where and what to do. Method: each, right and wrong.
    #[tokio::test]
    async fn a_master_key_comes_from_where_it_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        let file = config(place.path(), MasterKeyConfig::File(path.clone()));
        assert!(told(&file).await.contains("the master key is missing"));
        let text = format!("{}=\n", "A".repeat(43));
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(told(&file).await.contains("chmod 600"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(*master_key(&file).await.unwrap().text(), text);
        std::fs::write(&path, "short").unwrap();
        assert!(told(&file).await.contains("openssl rand"));

        let command = |script: &str| {
            let parts = ["/bin/sh", "-c", script].map(str::to_owned);
            config(place.path(), MasterKeyConfig::Command(parts.into()))
        };
        let printed = master_key(&command(&format!("echo {}", text.trim()))).await;
        assert_eq!(*printed.unwrap().text(), text);
        let failed = told(&command("echo no; exit 3")).await;
        assert!(
            failed.contains("it has failed (exit status: 3)"),
            "{failed}"
        );
        let missing = MasterKeyConfig::Command(vec!["/nonexistent/program".to_owned()]);
        let missing = told(&config(place.path(), missing)).await;
        assert!(missing.contains("/nonexistent/program: "), "{missing}");
        let made = config(place.path(), MasterKeyConfig::Made);
        assert!(told(&made).await.contains("keys/store-master.key"));
    }
}
