//! A data folder made of a backup.
//!
//! Everything is written to a folder of its own within the data folder, read back, and only then moved: first the store, then
//! the generations of its keys, then the organisation's keys, without which no homeserver starts. A note says when all of it is
//! whole: cut off after that, the next attempt with the same backup only moves what is left.
//!
//! The store gets a master key and a generation of its own: a backup has neither. Keys of contents are wrapped under that
//! generation on the way, out of the backup's key.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::contents::{ContentsError, Opening, Piece};
use super::reading::{ReadError, Reader};
use super::sealing::Secret;
use crate::organisation::init::data_dir_problems;
use crate::organisation::{KeyFolder, OrganisationError, sync_folder, write_private};
use crate::store::engine::{Engine, open_embedded};
use crate::store::everything::{Everything, Sum, Summing};
use crate::store::restored::{self, RestoredRecord};
use crate::store::sealed::generations::GenerationFolder;
use crate::store::sealed::{KeyRing, MasterKey, WrappingKey};
use crate::store::{Key, Part, StoreError, Value, schema};

/// Where everything lies until it is whole.
const ASIDE: &str = "restoring";
/// What is made, in the order in which it is put in its place.
const PARTS: [&str; 3] = ["store", "generations", "keys"];
/// What notes there that it is, and what it was made of.
const WHOLE: &str = "whole";
/// A batch takes no further entry once it has this much.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something is in the way.
    #[error("{}", .0.join("\n"))]
    Occupied(Vec<String>),
    /// A file or folder could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk does not give back what was written.
    #[error(
        "what was written is not what the backup holds: the disk is damaged; nothing was restored"
    )]
    Different,
    /// It is a backup of what this program can't run.
    #[error(
        "it holds no store that this program knows: run the version that made it ({0}), or a newer one"
    )]
    Unknown(String),
    /// Its keys can't be used.
    #[error("its keys can't be used: {0}")]
    Keys(String),
    /// It is another organisation's, or somebody else has made it.
    #[error("it is of the organisation with the fingerprint {0}, and not of the one that is named")]
    OtherFingerprint(String),
    /// Another process does the same.
    #[error("another restore is at work on this folder: wait until it has ended")]
    AtWork,
    /// An earlier attempt was cut off when it moved things to their places.
    #[error(
        "an earlier restore, of {server} as of {made_ms} ms since 1970, was cut off when all was whole: run it again with that \
         backup, which takes a moment; or remove `store`, `generations`, `keys` and `restoring` from the folder"
    )]
    HalfWay {
        /// The organisation.
        server: ServerName,
        /// When that backup was made, milliseconds since the Unix epoch.
        made_ms: u64,
    },
}

impl From<ContentsError> for RestoreError {
    fn from(error: ContentsError) -> Self {
        Self::Read(error.into())
    }
}

/// What opens a backup, and whose it has to be.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The backup.
    pub file: &'a Path,
    /// What opens it.
    pub secret: &'a Secret,
    /// The fingerprint of its organisation; `None`: whosever it is.
    pub fingerprint: Option<Fingerprint>,
}

/// What a backup is of, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The organisation.
    pub server: ServerName,
    /// The fingerprint of its root.
    pub fingerprint: String,
    /// When the backup was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Entries of the store.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Restored {
    fn new(opening: Opening, fingerprint: &Fingerprint, sum: &Sum) -> Self {
        Self {
            server: opening.server,
            fingerprint: fingerprint.to_string(),
            made_ms: opening.made_ms,
            entries: sum.entries,
            bytes: sum.bytes,
        }
    }
}

/// Reads a backup from its beginning to its end, holds it to all that a restore asks of it, and writes nothing. `told` hears how
/// many entries were read.
pub fn verify(
    asked: Asked<'_>,
    (now_ms, random): (u64, &dyn SecureRandom),
    mut told: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let mut reader = open(asked.file, asked.secret)?;
    let (mut files, mut mark) = (Vec::new(), None);
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::KeyFile { name, text } => files.push((name, text)),
            Piece::Entry(key, value) if key == schema::key() => mark = Some(value),
            _ => {}
        }
        told(reader.entries());
    }
    let (opening, sum) = reader.end()?;
    known(mark, &opening.program)?;
    let keys = KeyFolder::of_files(files);
    usable(&keys, &opening.server, (now_ms, random))?;
    let fingerprint = expected(&keys, asked.fingerprint)?;
    Ok(Restored::new(opening, &fingerprint, &sum))
}

/// Makes the data folder of a backup; refuses one in which keys or a store lie. `told` hears how many entries were read.
pub async fn restore(
    asked: Asked<'_>,
    data_dir: &Path,
    (now_ms, random): (u64, &dyn SecureRandom),
    mut told: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let aside = data_dir.join(ASIDE);
    let is_half_way = aside.join(WHOLE).exists();
    if !is_half_way {
        is_free(data_dir)?;
    }
    let mut reader = open(asked.file, asked.secret)?;
    let Some(Piece::Opening(opening)) = reader.next_piece()? else {
        return Err(ContentsError::OutOfOrder.into());
    };
    make_data_dir(data_dir)?;
    let _alone = alone(data_dir)?;
    if let Some(restored) = finish_earlier(data_dir, &aside, &opening)? {
        return Ok(restored);
    }
    is_free(data_dir)?;
    make_aside(data_dir, &aside)?;
    let (store, keys) = (aside.join("store"), aside.join("keys"));
    make_folder(&store)?;
    let master = MasterKey::draw(random)?;
    let text = master.text();
    let generations = GenerationFolder::at(aside.join("generations"), master);
    let generation = generations.create(now_ms, random)?;
    let ring = KeyRing::of_folder(&generations, generation.number)?;
    let mut files = Vec::new();
    let mut filling = Filling::of(&store, ring, random)?;
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::KeyFile { name, text } => files.push((name, text)),
            Piece::StoreKey(key) => filling.backup = Some(WrappingKey::new(key)),
            Piece::Entry(key, value) => filling.add(key, value).await?,
            Piece::Opening(_) | Piece::End(_) => {}
        }
        told(reader.entries());
    }
    let (opening, sum) = reader.end()?;
    let record = RestoredRecord {
        made_ms: opening.made_ms,
        restored_ms: now_ms,
        is_ready: false,
        is_confirmed: false,
    };
    filling.finish(&record, &opening.program).await?;
    let keys = write_keys(&keys, (&files, &text))?;
    usable(&keys, &opening.server, (now_ms, random))?;
    let fingerprint = expected(&keys, asked.fingerprint)?;
    let restored = Restored::new(opening, &fingerprint, &sum);
    note_whole(&aside, &restored)?;
    put_in_place(data_dir, &aside)?;
    Ok(restored)
}

/// That nothing lies where things are put.
fn is_free(data_dir: &Path) -> Result<(), RestoreError> {
    let problems = data_dir_problems(data_dir);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(RestoreError::Occupied(problems)),
    }
}

/// The mark of a store that this program knows; `program` is what made the backup.
fn known(mark: Option<Value>, program: &str) -> Result<Value, RestoreError> {
    let known = mark.filter(schema::is_known);
    known.ok_or_else(|| RestoreError::Unknown(program.to_owned()))
}

/// That a homeserver would take these keys.
fn usable(
    keys: &KeyFolder,
    server: &ServerName,
    (now_ms, random): (u64, &dyn SecureRandom),
) -> Result<(), RestoreError> {
    let problems = keys.look(server, now_ms, random);
    if problems.is_empty() {
        return Ok(());
    }
    let problems: Vec<_> = problems.iter().map(OrganisationError::to_string).collect();
    Err(RestoreError::Keys(problems.join("; ")))
}

/// The fingerprint of the keys' organisation, which has to be this one, if one is named.
fn expected(keys: &KeyFolder, named: Option<Fingerprint>) -> Result<Fingerprint, RestoreError> {
    let fingerprint = keys.fingerprint();
    let fingerprint = fingerprint.map_err(|error| RestoreError::Keys(error.to_string()))?;
    if named.is_some_and(|named| named != fingerprint) {
        return Err(RestoreError::OtherFingerprint(fingerprint.to_string()));
    }
    Ok(fingerprint)
}

fn open(file: &Path, secret: &Secret) -> Result<Reader<BufReader<File>>, RestoreError> {
    let input = File::open(file).map_err(at(file))?;
    Ok(Reader::open(BufReader::new(input), secret)?)
}

/// Makes the data folder, durably, if it is not there.
fn make_data_dir(data_dir: &Path) -> Result<(), RestoreError> {
    let missing = data_dir.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<_> = missing.filter_map(Path::parent).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(at(data_dir))?;
    for parent in missing {
        match sync_folder(parent) {
            // Whoever may write into a folder may not always read it.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(at(parent)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps other restores away from the folder, for as long as this is held.
fn alone(data_dir: &Path) -> Result<File, RestoreError> {
    let folder = File::open(data_dir).map_err(at(data_dir))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(RestoreError::AtWork),
        Err(TryLockError::Error(error)) => Err(at(data_dir)(error)),
    }
}

/// Moves what an earlier attempt with this backup has left half-way; `None`: there is nothing that counts.
fn finish_earlier(
    data_dir: &Path,
    aside: &Path,
    opening: &Opening,
) -> Result<Option<Restored>, RestoreError> {
    let note = match fs::read(aside.join(WHOLE)) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(aside)(error)),
    };
    let Ok(earlier) = serde_json::from_slice::<Restored>(&note) else {
        return Ok(None);
    };
    if (&earlier.server, earlier.made_ms) != (&opening.server, opening.made_ms) {
        // Nothing of it is in its place yet: it is thrown away.
        if PARTS.iter().all(|name| aside.join(name).exists()) {
            return Ok(None);
        }
        return Err(RestoreError::HalfWay {
            server: earlier.server,
            made_ms: earlier.made_ms,
        });
    }
    put_in_place(data_dir, aside)?;
    Ok(Some(earlier))
}

/// Makes an empty folder in the data folder; what an earlier attempt has left there is removed.
fn make_aside(data_dir: &Path, aside: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(aside)(error)),
        _ => {}
    }
    make_folder(aside)?;
    sync_folder(data_dir).map_err(at(data_dir))
}

fn make_folder(path: &Path) -> Result<(), RestoreError> {
    DirBuilder::new().mode(0o700).create(path).map_err(at(path))
}

/// A store that is being filled.
struct Filling<'r> {
    engine: Arc<dyn Engine>,
    /// What goes out with the next batch.
    part: Part,
    bytes: usize,
    /// What marks a store as one is written last.
    mark: Option<Value>,
    summing: Summing,
    /// What the keys of contents are wrapped under from now on,
    ring: KeyRing,
    /// and what they are wrapped under in the backup.
    backup: Option<WrappingKey>,
    random: &'r dyn SecureRandom,
}

impl<'r> Filling<'r> {
    fn of(
        folder: &Path,
        ring: KeyRing,
        random: &'r dyn SecureRandom,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            // Without a commit log: nobody waits for a commit. The first start makes one.
            engine: open_embedded(folder, false)?,
            part: Part::default(),
            bytes: 0,
            mark: None,
            summing: Summing::default(),
            ring,
            backup: None,
            random,
        })
    }

    async fn add(&mut self, key: Key, value: Value) -> Result<(), RestoreError> {
        if key == schema::key() {
            self.mark = Some(value);
            return Ok(());
        }
        let backup = self.backup.as_ref().ok_or(ContentsError::OutOfOrder)?;
        let value = self.ring.restored(&key, value, backup, self.random)?;
        self.summing.add(&key, &value);
        self.bytes = self
            .bytes
            .saturating_add(key.len())
            .saturating_add(value.len());
        self.part.put(key, value);
        if self.bytes >= BATCH_BYTES_MAX {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), RestoreError> {
        self.bytes = 0;
        let part = std::mem::take(&mut self.part);
        if !part.writes.is_empty() {
            self.engine.apply(&[part]).await?;
        }
        Ok(())
    }

    /// Reads everything back, and then marks the store as one that was restored.
    async fn finish(mut self, record: &RestoredRecord, program: &str) -> Result<(), RestoreError> {
        self.write().await?;
        let mut all = Everything::from(self.engine.snapshot().await?);
        let mut there = Summing::default();
        loop {
            let entries = all.next().await?;
            if entries.is_empty() {
                break;
            }
            for (key, value) in &entries {
                there.add(key, value);
            }
        }
        drop(all);
        if there.sum() != self.summing.sum() {
            return Err(RestoreError::Different);
        }
        let mark = known(self.mark, program)?;
        let mut part = Part::default();
        restored::put(&mut part, record)?;
        part.put(schema::key(), mark);
        self.engine.apply(&[part]).await?;
        Ok(())
    }
}

/// Writes the keys.
fn write_keys(
    folder: &Path,
    (files, master): (&[(String, Zeroizing<String>)], &str),
) -> Result<KeyFolder, RestoreError> {
    let keys = KeyFolder::at(folder);
    keys.create_from(files)
        .and_then(|()| keys.add_master_key(master))
        .map_err(at(folder))?;
    Ok(keys)
}

/// Notes, once everything is on the disk, that it is whole.
fn note_whole(aside: &Path, restored: &Restored) -> Result<(), RestoreError> {
    for name in PARTS {
        let folder = aside.join(name);
        sync_folder(&folder).map_err(at(&folder))?;
    }
    let note = serde_json::to_vec(restored).map_err(io::Error::from);
    note.and_then(|note| write_private(&aside.join(WHOLE), &note))
        .and_then(|()| sync_folder(aside))
        .map_err(at(aside))
}

/// Moves what is whole to its place, as far as it is not there yet.
fn put_in_place(data_dir: &Path, aside: &Path) -> Result<(), RestoreError> {
    for name in PARTS {
        let (from, place) = (aside.join(name), data_dir.join(name));
        if from.exists() {
            fs::rename(from, &place).map_err(at(&place))?;
            sync_folder(data_dir).map_err(at(data_dir))?;
        }
    }
    fs::remove_file(aside.join(WHOLE))
        .and_then(|()| fs::remove_dir(aside))
        .map_err(at(aside))?;
    sync_folder(data_dir).map_err(at(data_dir))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |error| RestoreError::File { path, error }
}
