//! A data folder made of a backup.
//!
//! Everything is written to a folder of its own within the data folder, read back, and only then moved: first the store, then
//! the generations of its keys, then the organisation's keys, without which no homeserver starts.
//!
//! The store gets a master key and a generation of its own: a backup has neither. Keys of contents are wrapped under that
//! generation on the way, out of the backup's key.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use federation_proto::ids::ServerName;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::contents::{ContentsError, Opening, Piece};
use super::reading::{ReadError, Reader};
use super::sealing::Secret;
use crate::organisation::init::data_dir_problems;
use crate::organisation::{KeyFolder, OrganisationError, sync_folder};
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
}

impl From<ContentsError> for RestoreError {
    fn from(error: ContentsError) -> Self {
        Self::Read(error.into())
    }
}

/// What a backup is of, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The organisation.
    pub server: ServerName,
    /// When the backup was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Entries of the store.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Restored {
    fn new(opening: Opening, sum: &Sum) -> Self {
        Self {
            server: opening.server,
            made_ms: opening.made_ms,
            entries: sum.entries,
            bytes: sum.bytes,
        }
    }
}

/// Reads a backup from its beginning to its end and writes nothing. `told` hears how many entries were read.
pub fn verify(
    file: &Path,
    secret: &Secret,
    mut told: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let mut reader = open(file, secret)?;
    while reader.next_piece()?.is_some() {
        told(reader.entries());
    }
    let (opening, sum) = reader.end()?;
    Ok(Restored::new(opening, &sum))
}

/// Makes the data folder of a backup; refuses one in which keys or a store lie. `told` hears how many entries were read.
pub async fn restore(
    file: &Path,
    secret: &Secret,
    data_dir: &Path,
    (now_ms, random): (u64, &dyn SecureRandom),
    mut told: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let problems = data_dir_problems(data_dir);
    if !problems.is_empty() {
        return Err(RestoreError::Occupied(problems));
    }
    let mut reader = open(file, secret)?;
    let aside = data_dir.join(ASIDE);
    make_aside(data_dir, &aside)?;
    let (store, keys) = (aside.join("store"), aside.join("keys"));
    make_folder(&store)?;
    let master = MasterKey::draw(random)?;
    let text = master.text();
    let generations = GenerationFolder::at(aside.join("generations"), master);
    let generation = generations.create(now_ms, random)?;
    let ring = KeyRing::of_folder(&generations, generation)?;
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
    let restored = Restored::new(opening.clone(), &sum);
    let record = RestoredRecord {
        made_ms: restored.made_ms,
        restored_ms: now_ms,
        is_ready: false,
    };
    filling.finish(&record, &opening.program).await?;
    write_keys(&keys, (&files, &text), &restored.server, (now_ms, random))?;
    put_in_place(data_dir, &aside)?;
    Ok(restored)
}

fn open(file: &Path, secret: &Secret) -> Result<Reader<BufReader<File>>, RestoreError> {
    let input = File::open(file).map_err(at(file))?;
    Ok(Reader::open(BufReader::new(input), secret)?)
}

/// Makes the data folder, if it is not there, and an empty folder in it; what an earlier attempt has left there is removed.
fn make_aside(data_dir: &Path, aside: &Path) -> Result<(), RestoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(at(data_dir))?;
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(aside)(error)),
        _ => {}
    }
    make_folder(aside)
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
        let known = self.mark.filter(schema::is_known);
        let mark = known.ok_or_else(|| RestoreError::Unknown(program.to_owned()))?;
        let mut part = Part::default();
        restored::put(&mut part, record)?;
        part.put(schema::key(), mark);
        self.engine.apply(&[part]).await?;
        Ok(())
    }
}

/// Writes the keys, and loads them as a homeserver does.
fn write_keys(
    folder: &Path,
    (files, master): (&[(String, Zeroizing<String>)], &str),
    server: &ServerName,
    (now_ms, random): (u64, &dyn SecureRandom),
) -> Result<(), RestoreError> {
    let keys = KeyFolder::at(folder);
    keys.create_from(files)
        .and_then(|()| keys.add_master_key(master))
        .map_err(at(folder))?;
    let problems = keys.look(server, now_ms, random);
    if problems.is_empty() {
        return Ok(());
    }
    let problems: Vec<_> = problems.iter().map(OrganisationError::to_string).collect();
    Err(RestoreError::Keys(problems.join("; ")))
}

/// Moves what is whole to its place.
fn put_in_place(data_dir: &Path, aside: &Path) -> Result<(), RestoreError> {
    let inner = PARTS.map(|name| aside.join(name));
    for folder in inner.into_iter().chain([aside.to_owned()]) {
        sync_folder(&folder).map_err(at(&folder))?;
    }
    for name in PARTS {
        let place = data_dir.join(name);
        fs::rename(aside.join(name), &place).map_err(at(&place))?;
        sync_folder(data_dir).map_err(at(data_dir))?;
    }
    fs::remove_dir(aside).map_err(at(aside))?;
    sync_folder(data_dir).map_err(at(data_dir))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |error| RestoreError::File { path, error }
}
