//! A history for another own device, and backups.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homeserver_api::ids::DeviceId;
use homeserver_api::refusal::RefusalCode;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::Client;
use super::shared::Shared;
use crate::backup::{self, BACKUP_BYTES_MAX, BACKUP_FILE_BYTES_MAX, BackupOf, RecoveryCode};
use crate::core::{HistoryBounds, PastRoom, Taken};
use crate::error::Error;
use crate::event::Event;
use crate::store::Store;

/// Pauses between questions for a new device's keys, which it uploads when it has just been approved.
const KEYS_AFTER: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(16),
];
/// Most messages of a backup.
const BACKUP_MESSAGES_MAX: usize = 200_000;
/// How old a backup's messages are at most.
const BACKUP_DAYS_MAX: u64 = 4000;
/// Entries that are taken in in one batch.
const RESTORED_AT_ONCE_MAX: usize = 512;

/// What has gone to another own device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistorySent {
    /// How many messages.
    pub messages: u64,
    /// Older messages that were too many.
    pub left_out: u64,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What opens it; nothing else does, and it is kept nowhere.
    pub code: RecoveryCode,
    /// How many messages.
    pub messages: u64,
    /// How many people, with what was confirmed of them.
    pub people: u64,
    /// Older messages that were too many.
    pub left_out: u64,
}

/// What came back from a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Messages that were not here.
    pub messages: u64,
    /// Messages that are over, were here already, or have burnt here.
    pub passed_over: u64,
    /// People of whom more is known now.
    pub people: u64,
}

/// Whose backup a file is; needs no enrolled device.
///
/// # Errors
/// When the file can't be read, is no whole backup, or the code is another one's.
pub async fn read_backup(path: impl AsRef<Path>, code: &RecoveryCode) -> Result<BackupOf, Error> {
    opened(path.as_ref(), code).await.map(|(of, _)| of)
}

impl Client {
    /// Whether the folder holds an enrolled device.
    #[must_use]
    pub fn is_enrolled(dir: impl AsRef<Path>) -> bool {
        Store::exists(dir.as_ref())
    }

    /// Sends what this device knows to another device of the account, and waits until the own homeserver has all of it; what was
    /// begun goes out by itself. Messages with their times of expiry, and whom a person has confirmed; never keys. The other device passes
    /// over what it has.
    ///
    /// # Errors
    /// When the account has no such other device, it has not uploaded keys in time, or the homeserver refuses.
    pub async fn send_history(&self, device: DeviceId) -> Result<HistorySent, Error> {
        // What waits for this device is part of what it knows.
        self.caught_up().await?;
        let mut events = self.shared.events();
        begin(&self.shared, device).await?;
        loop {
            match events.next().await {
                None => return Err(Error::Closed),
                Some(Event::HistorySent {
                    device: of,
                    messages,
                    left_out,
                }) if of == device => return Ok(HistorySent { messages, left_out }),
                Some(Event::HistoryRefused {
                    device: of,
                    refusal,
                }) if of == device => return Err(Error::Refused(refusal)),
                Some(_) => {}
            }
        }
    }

    /// Conversations that this device is not in, and of which it has messages: from a history or a backup, or because it was in
    /// them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn past_rooms(&self) -> Result<Vec<PastRoom>, Error> {
        self.shared.run(|core| core.past_rooms()).await
    }

    /// Writes what this device knows to a file, which must not exist, sealed by a new recovery code. Messages with their times of
    /// expiry, but for those that burn after reading, and whom a person has confirmed; never keys.
    ///
    /// # Errors
    /// When the file exists or can't be written, or the store fails.
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<Backup, Error> {
        let code = RecoveryCode::generate()?;
        let mut salt = [0; 32];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| Error::Store("no random bytes".to_owned()))?;
        let (of, gathered) = self
            .shared
            .run(|core| {
                Ok((
                    core.backup_of(),
                    core.gather(HistoryBounds {
                        messages: BACKUP_MESSAGES_MAX,
                        bytes: BACKUP_BYTES_MAX,
                        days: BACKUP_DAYS_MAX,
                        burning: false,
                    })?,
                ))
            })
            .await?;
        let (path, sealing) = (path.as_ref().to_owned(), code.clone());
        blocking(move || {
            let entries = gathered.entries.iter().flat_map(|(_, entry)| entry);
            let entries = Zeroizing::new(entries.copied().collect::<Vec<u8>>());
            let file = backup::seal(&of, &entries, &sealing, salt)?;
            write_new(&path, &file)?;
            Ok(Backup {
                code: sealing,
                messages: gathered.messages,
                people: gathered.people,
                left_out: gathered.left_out,
            })
        })
        .await
    }

    /// Takes in a backup of this account: what is over stays out, and what is here already is passed over. Nothing is
    /// changed by a file that is not whole, or a wrong code.
    ///
    /// # Errors
    /// When the file can't be read, is no whole backup, is another account's, or the code is another one's.
    pub async fn restore(
        &self,
        path: impl AsRef<Path>,
        code: &RecoveryCode,
    ) -> Result<Restored, Error> {
        let (of, mut entries) = opened(path.as_ref(), code).await?;
        self.shared.run(move |core| core.check_backup(&of)).await?;
        let mut restored = Restored::default();
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(RESTORED_AT_ONCE_MAX));
            let batch = std::mem::replace(&mut entries, rest);
            let Taken {
                messages,
                passed_over,
                people,
            } = self
                .shared
                .run(move |core| core.take_entries(batch, None))
                .await?;
            restored.messages += messages;
            restored.passed_over += passed_over;
            restored.people += people;
        }
        self.shared.run(|core| core.tidy_histories()).await?;
        Ok(restored)
    }
}

/// Makes the room for a history and fills it, unless that was done before.
async fn begin(shared: &Arc<Shared>, device: DeviceId) -> Result<(), Error> {
    let mut pauses = KEYS_AFTER.into_iter();
    let room = loop {
        let begun = shared
            .run_operation_if(move |core| core.begin_history(device))
            .await;
        match begun {
            Ok(Some(room)) => break room,
            Ok(None) => return Ok(()),
            Err(error) => {
                shared
                    .run(move |core| core.drop_histories_to(device))
                    .await?;
                let has_no_keys = error
                    .refusal()
                    .is_some_and(|refusal| refusal.code == RefusalCode::NoKeyPackages);
                match pauses.next().filter(|_| has_no_keys) {
                    // It was approved a moment ago, and is about to upload them.
                    Some(pause) => sleep(pause).await,
                    None => return Err(error),
                }
            }
        }
    };
    let offered = shared.run(move |core| core.offer_history(room)).await;
    if offered.is_err() {
        shared
            .run(move |core| core.drop_histories_to(device))
            .await?;
    }
    offered
}

async fn opened(
    path: &Path,
    code: &RecoveryCode,
) -> Result<(BackupOf, Vec<crate::history::Entry>), Error> {
    let (path, code) = (path.to_owned(), code.clone());
    blocking(move || {
        let length = std::fs::metadata(&path)
            .map_err(|e| file_error(&path, &e))?
            .len();
        if length > BACKUP_FILE_BYTES_MAX {
            return Err(Error::Backup(
                "the file is longer than any backup; nothing was changed".to_owned(),
            ));
        }
        let file = std::fs::read(&path).map_err(|e| file_error(&path, &e))?;
        backup::open(&file, &code)
    })
    .await
}

/// Writes a file that must not exist, for its owner alone; what fails leaves nothing there.
fn write_new(path: &PathBuf, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| file_error(path, &e))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(file);
        // The first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(|e| file_error(path, &e))
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Store(e.to_string()))?
}
