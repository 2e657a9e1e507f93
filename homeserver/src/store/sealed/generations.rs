//! Generation keys, a small file for each in a folder outside of the engine: what the engine, its log and the copies of
//! both hold is readable as long as the file is there.
//!
//! | bytes of `00000001.generation` | |
//! |---|---|
//! | 8 | `ent-gen` and a line feed |
//! | 1 | version: 1 |
//! | 8 | the generation's number, big-endian |
//! | 8 | when it was made, milliseconds since the Unix epoch |
//! | 12 | nonce: random |
//! | 48 | the generation's key, sealed by ChaCha20-Poly1305 under the master key; all before the nonce is authenticated with it |
//!
//! Invariants:
//! - A generation's file is durable before anything is wrapped under it, and is written once: of several nodes that make
//!   the same generation all use the one that was first.
//! - What is to be destroyed gets another name first (`00000001.destroying`). Whoever finds such a file overwrites and
//!   removes it: nothing needs it any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::hmac;
use ring::rand::SecureRandom;

use super::master::MasterKey;
use super::wrapping::{NONCE_BYTES, WRAPPED_BYTES, WrappingKey, drawn_nonce};
use crate::clock::{Clock as _, SystemClock};
use crate::store::StoreError;

const MAGIC: &[u8; 8] = b"ent-gen\n";
const VERSION: u8 = 1;
const FILE_BYTES_MAX: u64 = 4096;
const IN_USE: &str = "generation";
const DESTROYING: &str = "destroying";
const DRAFT: &str = "draft";
const TAKEN: &str = "taken";
/// Nobody makes a generation for as long.
const DRAFT_KEPT_MS: u64 = 60_000;

/// What tells generations of one number apart.
pub(super) type Fingerprint = [u8; 16];

/// A generation: what data keys are wrapped under for a while.
pub struct Generation {
    /// Its number; each has the one after its predecessor's.
    pub number: u64,
    /// When it was made, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Its key.
    pub(super) key: WrappingKey,
    /// Tells it from another one of the same number, and nothing of its key.
    pub(super) fingerprint: Fingerprint,
}

impl Generation {
    fn of(number: u64, made_ms: u64, key: WrappingKey) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
        let tag = hmac::sign(&mac, b"entente generation");
        let fingerprint = tag.as_ref().first_chunk().copied().unwrap_or_default();
        Self {
            number,
            made_ms,
            key,
            fingerprint,
        }
    }

    /// A new generation.
    pub fn draw(number: u64, now_ms: u64, random: &dyn SecureRandom) -> Result<Self, StoreError> {
        Ok(Self::of(number, now_ms, WrappingKey::draw(random)?))
    }
}

/// A generation as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationFile {
    number: u64,
    made_ms: u64,
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

impl GenerationFile {
    fn seal(
        generation: &Generation,
        master: &MasterKey,
        random: &dyn SecureRandom,
    ) -> Result<Self, StoreError> {
        let nonce = drawn_nonce(random)?;
        let bound = head(generation.number, generation.made_ms);
        let secret = generation.key.bytes();
        Ok(Self {
            number: generation.number,
            made_ms: generation.made_ms,
            nonce,
            wrapped: master.key().wrap(nonce, &bound, secret)?,
        })
    }

    /// The generation; `None`: it was sealed under another master key.
    pub(super) fn open(&self, master: &MasterKey) -> Option<Generation> {
        let bound = head(self.number, self.made_ms);
        let secret = master.key().open(self.nonce, &bound, &self.wrapped)?;
        let key = WrappingKey::new(secret);
        Some(Generation::of(self.number, self.made_ms, key))
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let head = head(self.number, self.made_ms);
        [&head[..], &self.nonce, &self.wrapped].concat()
    }

    /// What a file says; `None`: it is none of a generation.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (version, rest) = rest.split_first()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (made_ms, rest) = rest.split_first_chunk::<8>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let wrapped = rest.try_into().ok()?;
        (*version == VERSION).then(|| Self {
            number: u64::from_be_bytes(*number),
            made_ms: u64::from_be_bytes(*made_ms),
            nonce: *nonce,
            wrapped,
        })
    }
}

/// What stands before the nonce.
fn head(number: u64, made_ms: u64) -> Vec<u8> {
    let (number, made_ms) = (number.to_be_bytes(), made_ms.to_be_bytes());
    [&MAGIC[..], &[VERSION], &number, &made_ms].concat()
}

/// The folder of generations. Its methods wait for the disk.
pub struct GenerationFolder {
    path: PathBuf,
    master: MasterKey,
}

impl GenerationFolder {
    /// The folder at `path`, whose generations `master` opens.
    pub fn at(path: impl Into<PathBuf>, master: MasterKey) -> Self {
        Self {
            path: path.into(),
            master,
        }
    }

    /// Makes the folder, and in it the first generation.
    pub fn create(&self, now_ms: u64, random: &dyn SecureRandom) -> Result<Generation, StoreError> {
        const FIRST: u64 = 1;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&self.path)
            .map_err(at(&self.path))?;
        if let Some(above) = self.path.parent() {
            sync_folder(above)?;
        }
        self.make(FIRST, now_ms, random)
    }

    /// Every generation that is there, ascending. Nothing is touched.
    pub fn look(&self) -> Result<Vec<Generation>, StoreError> {
        let mut found = Vec::new();
        for path in self.files(IN_USE)? {
            if let Some(file) = read(&path)? {
                found.push(self.opened(&path, &file)?);
            }
        }
        found.sort_by_key(|generation| generation.number);
        Ok(found)
    }

    /// The generation of this number, and those below it, ascending; `None`: it is not there. It is read by its name: where the
    /// folder is another machine's, a listing may show what was there some seconds ago.
    pub(super) fn up_to(
        &self,
        number: u64,
    ) -> Result<Option<(Generation, Vec<Generation>)>, StoreError> {
        let place = self.place(number);
        let Some(file) = read(&place)? else {
            return Ok(None);
        };
        let generation = self.opened(&place, &file)?;
        let mut older = self.look()?;
        older.retain(|older| older.number < number);
        Ok(Some((generation, older)))
    }

    /// Finishes what was begun when a process ended: destroys what has the name for that, removes what was never used. A young
    /// draft is left: another node may be at it.
    pub fn tidy(&self, now_ms: u64) -> Result<(), StoreError> {
        for path in self.files(DESTROYING)? {
            self.wipe(&path)?;
        }
        for path in self.files(DRAFT)? {
            if is_young(&path, now_ms)? {
                continue;
            }
            // First of all it loses its name: another node may just be about to make a generation of it.
            let taken = path.with_extension(TAKEN);
            match std::fs::rename(&path, &taken) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                renamed => renamed.map_err(at(&path))?,
            }
        }
        for path in self.files(TAKEN)? {
            self.wipe_unless_used(&path)?;
        }
        Ok(())
    }

    /// Removes a name, and with its last one the bytes.
    fn wipe_unless_used(&self, path: &Path) -> Result<(), StoreError> {
        let used = OpenOptions::new()
            .write(true)
            .open(path)
            // By the open file: of a name, what is known of another machine's disk may be old.
            .and_then(|file| Ok(file.metadata()?.nlink() > 1));
        match used {
            Ok(false) => self.wipe(path),
            // It is a generation by another name.
            Ok(true) => remove(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(path)(error)),
        }
    }

    /// The generation with this number: a new one, durable when this returns, unless there is one already.
    pub fn make(
        &self,
        number: u64,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Generation, StoreError> {
        let generation = Generation::draw(number, now_ms, random)?;
        let place = self.place(number);
        let draft = self.write_draft(&generation, &self.master, random)?;
        // Unlike a renaming, a link takes nobody's place.
        match std::fs::hard_link(&draft, &place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at(&place)(error));
            }
            Ok(()) | Err(_) => {}
        }
        remove(&draft)?;
        sync_folder(&self.path)?;
        match read(&place)? {
            Some(file) => self.opened(&place, &file),
            None => Err(StoreError::Keys(format!(
                "{}: somebody has removed it just now",
                place.display()
            ))),
        }
    }

    /// Whether there is a generation with this number.
    pub fn has(&self, number: u64) -> Result<bool, StoreError> {
        let place = self.place(number);
        place.try_exists().map_err(at(&place))
    }

    /// Destroys a generation, if it is there: what is wrapped under it is unreadable when this returns.
    pub fn destroy(&self, number: u64) -> Result<(), StoreError> {
        let place = self.place(number);
        let marked = place.with_extension(DESTROYING);
        match std::fs::rename(&place, &marked) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(at(&place))?,
        }
        sync_folder(&self.path)?;
        self.wipe(&marked)
    }

    /// Wraps every generation under another master key, while no process uses them. Repeated after an interruption it does the
    /// rest.
    pub fn change_master(
        &self,
        new: &MasterKey,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<(), StoreError> {
        self.tidy(now_ms)?;
        for path in self.files(IN_USE)? {
            let Some(file) = read(&path)? else {
                continue;
            };
            let generation = match file.open(new) {
                Some(_) => continue,
                None => self.opened(&path, &file)?,
            };
            let draft = self.write_draft(&generation, new, random)?;
            // Another name for what is replaced: whoever ends here leaves it for the next one to overwrite.
            let former = path.with_extension(TAKEN);
            std::fs::hard_link(&path, &former).map_err(at(&former))?;
            sync_folder(&self.path)?;
            std::fs::rename(&draft, &path).map_err(at(&path))?;
            sync_folder(&self.path)?;
            self.wipe(&former)?;
        }
        Ok(())
    }

    fn place(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:08}.{IN_USE}"))
    }

    fn files(&self, kind: &str) -> Result<Vec<PathBuf>, StoreError> {
        let entries = std::fs::read_dir(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Keys(format!(
                "{}: the folder of generation keys is missing: put it back as it was when the homeserver ran last, or name \
                 the folder that holds them (store_keys.folder); without them nothing that waits here can be read",
                self.path.display()
            )),
            _ => at(&self.path)(error),
        })?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(&self.path))?.path();
            if path.extension().is_some_and(|end| end == kind) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn opened(&self, path: &Path, file: &GenerationFile) -> Result<Generation, StoreError> {
        file.open(&self.master).ok_or_else(|| {
            StoreError::Keys(format!(
                "{}: the master key does not open it: name the master key that it was wrapped under ([store_keys]), or, \
                 having changed that, run `homeserver store master-key`; nothing was changed",
                path.display()
            ))
        })
    }

    fn write_draft(
        &self,
        generation: &Generation,
        master: &MasterKey,
        random: &dyn SecureRandom,
    ) -> Result<PathBuf, StoreError> {
        let bytes = GenerationFile::seal(generation, master, random)?.encode();
        let name = hex::encode(drawn_nonce(random)?);
        let draft = self.path.join(format!("{name}.{DRAFT}"));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        written.map_err(at(&draft))?;
        Ok(draft)
    }

    fn wipe(&self, path: &Path) -> Result<(), StoreError> {
        let wiped = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| overwrite(&mut file))
            .and_then(|()| std::fs::remove_file(path));
        match wiped {
            // Another node was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(path)(error)),
            Ok(()) => sync_folder(&self.path),
        }
    }
}

/// Whether a file was written within the last minute; or has a time to come, by another machine's clock.
fn is_young(path: &Path, now_ms: u64) -> Result<bool, StoreError> {
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        about => about.map_err(at(path))?,
    };
    let written_ms = u64::try_from(about.mtime())
        .unwrap_or(0)
        .saturating_mul(1000);
    Ok(now_ms < written_ms.saturating_add(DRAFT_KEPT_MS))
}

/// Removes a name; another node that starts may have been quicker.
fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(at(path)),
    }
}

/// Puts zeros in the place of all that a file holds, durably.
fn overwrite(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len().min(FILE_BYTES_MAX);
    let zeros = vec![0; usize::try_from(length).unwrap_or_default()];
    file.write_all(&zeros)?;
    file.sync_all()
}

/// A generation's file, unless somebody has just taken it away.
fn read(path: &Path) -> Result<Option<GenerationFile>, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map(drop);
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
        Ok(()) => GenerationFile::decode(&bytes).map(Some).ok_or_else(|| {
            StoreError::Keys(format!(
                "{}: it is damaged: put it back as it was when the homeserver ran last; without it nothing that waits here \
                 can be read",
                path.display()
            ))
        }),
    }
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |error| StoreError::Keys(format!("{path}: {error}"))
}

/// Where a store's generations are.
#[derive(Clone)]
pub enum Generations {
    /// In a folder.
    Folder(Arc<GenerationFolder>),
    /// In this process alone: what a store in memory needs.
    Memory,
}

impl Generations {
    /// In a folder.
    pub fn in_folder(folder: GenerationFolder) -> Self {
        Self::Folder(Arc::new(folder))
    }

    /// See [`GenerationFolder::up_to`].
    pub(super) async fn up_to(
        &self,
        number: u64,
    ) -> Result<Option<(Generation, Vec<Generation>)>, StoreError> {
        match self.clone() {
            Self::Folder(folder) => aside(move || folder.up_to(number)).await,
            Self::Memory => Ok(None),
        }
    }

    /// See [`GenerationFolder::tidy`].
    pub(super) async fn tidy(&self) -> Result<(), StoreError> {
        match self.clone() {
            // The clock that the times of files are by.
            Self::Folder(folder) => aside(move || folder.tidy(SystemClock.now_ms())).await,
            Self::Memory => Ok(()),
        }
    }

    /// See [`GenerationFolder::make`].
    pub(super) async fn make(
        &self,
        number: u64,
        now_ms: u64,
        random: &Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Generation, StoreError> {
        match self.clone() {
            Self::Folder(folder) => {
                let random = Arc::clone(random);
                aside(move || folder.make(number, now_ms, random.as_ref())).await
            }
            Self::Memory => Generation::draw(number, now_ms, random.as_ref()),
        }
    }

    /// See [`GenerationFolder::has`].
    pub(super) async fn has(&self, number: u64) -> Result<bool, StoreError> {
        match self.clone() {
            Self::Folder(folder) => aside(move || folder.has(number)).await,
            Self::Memory => Ok(true),
        }
    }

    /// See [`GenerationFolder::destroy`].
    pub(super) async fn destroy(&self, number: u64) -> Result<(), StoreError> {
        match self.clone() {
            Self::Folder(folder) => aside(move || folder.destroy(number)).await,
            Self::Memory => Ok(()),
        }
    }
}

/// Waits for the disk on a thread of its own: the others serve people meanwhile.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Keys(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    fn random() -> SystemRandom {
        SystemRandom::new()
    }

    fn key() -> (MasterKey, impl Fn() -> MasterKey) {
        let text = MasterKey::draw(&random()).unwrap().text();
        let again = move || MasterKey::parse(&text).unwrap();
        (again(), again)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Goal: a generation is made once, whoever makes it again gets the same; another master key opens none and is told what
    /// to do, and so is whoever finds it damaged or the folder missing. Method: each in turn, in a folder.
    #[test]
    fn a_generation_is_made_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("generations");
        let (master, again) = key();
        let folder = GenerationFolder::at(&path, master);
        let missing = folder.look().err().unwrap().to_string();
        assert!(missing.contains("store_keys.folder"), "{missing}");
        assert_eq!(folder.create(5, &random()).unwrap().number, 1);
        assert!(folder.create(5, &random()).is_err(), "it is there");
        let made = folder.make(2, 7, &random()).unwrap();
        let same = GenerationFolder::at(&path, again());
        let same = same.make(2, 9, &random()).unwrap();
        assert_eq!((same.number, same.made_ms), (2, 7));
        assert_eq!(same.key.bytes(), made.key.bytes());
        assert_eq!(same.fingerprint, made.fingerprint);
        let another = Generation::draw(2, 7, &random()).unwrap();
        assert_ne!(another.fingerprint, made.fingerprint);
        assert_eq!(names(&path), ["00000001.generation", "00000002.generation"]);

        let (other, _) = key();
        let refused = GenerationFolder::at(&path, other).look().err().unwrap();
        let refused = refused.to_string();
        assert!(refused.contains("nothing was changed"), "{refused}");
        std::fs::write(path.join("00000002.generation"), b"?").unwrap();
        let damaged = folder.look().err().unwrap().to_string();
        assert!(damaged.contains("it is damaged"), "{damaged}");
    }

    /// Goal: what is destroyed is gone, and its bytes were overwritten before; what a crash leaves half-way is finished,
    /// whatever of it was overwritten by then. Method: another name for the file's bytes (a hard link) shows them afterwards.
    #[test]
    fn what_is_destroyed_is_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let (path, seen) = (place.path().join("generations"), place.path().join("seen"));
        let folder = GenerationFolder::at(&path, key().0);
        folder.create(5, &random()).unwrap();
        folder.make(2, 7, &random()).unwrap();
        std::fs::hard_link(path.join("00000001.generation"), &seen).unwrap();
        folder.destroy(1).unwrap();
        folder.destroy(1).unwrap();
        assert_eq!(names(&path), ["00000002.generation"]);
        assert_eq!(std::fs::read(&seen).unwrap(), vec![0; 85]);
        assert!(!folder.has(1).unwrap() && folder.has(2).unwrap());

        std::fs::write(path.join("00000001.destroying"), [7; 40]).unwrap();
        std::fs::write(path.join("0.draft"), [7; 40]).unwrap();
        std::fs::write(path.join("2.taken"), [7; 40]).unwrap();
        std::fs::hard_link(path.join("00000002.generation"), path.join("1.draft")).unwrap();
        let now_ms = SystemClock.now_ms();
        folder.tidy(now_ms).unwrap();
        let left = ["0.draft", "00000002.generation", "1.draft"];
        assert_eq!(names(&path), left, "another node may be at them");
        folder.tidy(now_ms + 2 * DRAFT_KEPT_MS).unwrap();
        assert_eq!(names(&path), ["00000002.generation"]);
        assert_eq!(folder.look().unwrap().len(), 1);
    }

    /// Goal: another master key takes over with every generation as it was, the former one's copies are overwritten, and an
    /// interruption in between does no harm. Method: one of two generations is changed beforehand.
    #[test]
    fn the_master_key_changes() {
        let place = tempfile::tempdir().unwrap();
        let (path, seen) = (place.path().join("generations"), place.path().join("seen"));
        let ((former, formers), (_, news)) = (key(), key());
        let folder = GenerationFolder::at(&path, former);
        folder.create(5, &random()).unwrap();
        folder.change_master(&news(), 7, &random()).unwrap();
        // Another of the former key, as if the change had ended there.
        GenerationFolder::at(&path, formers())
            .write_draft(
                &Generation::draw(2, 7, &random()).unwrap(),
                &formers(),
                &random(),
            )
            .map(|draft| std::fs::rename(draft, path.join("00000002.generation")).unwrap())
            .unwrap();
        std::fs::hard_link(path.join("00000002.generation"), &seen).unwrap();
        let changed = GenerationFolder::at(&path, news());
        assert!(changed.look().is_err());
        // As if it had ended before the former copy was overwritten.
        let former = path.join("00000001.taken");
        std::fs::write(&former, [7; 40]).unwrap();
        let mut left = File::open(&former).unwrap();
        folder.change_master(&news(), 7, &random()).unwrap();
        assert_eq!(names(&path), ["00000001.generation", "00000002.generation"]);
        let mut bytes = Vec::new();
        left.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![0; 40]);
        let numbers: Vec<_> = changed.look().unwrap().iter().map(|g| g.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert!(folder.look().is_err());
        assert_eq!(std::fs::read(&seen).unwrap(), vec![0; 85]);
    }

    /// Goal: the form of a file never changes unseen, and what is cut or longer is none. Method: the fields at their places.
    #[test]
    fn stored_form() {
        let generation = Generation::draw(258, 3, &random()).unwrap();
        let master = key().0;
        let file = GenerationFile::seal(&generation, &master, &random()).unwrap();
        let bytes = file.encode();
        assert_eq!(bytes.len(), 85);
        assert_eq!(bytes[..9], *b"ent-gen\n\x01");
        assert_eq!(
            bytes[9..25],
            [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3]
        );
        assert_eq!(GenerationFile::decode(&bytes), Some(file));
        assert_eq!(GenerationFile::decode(&bytes[..84]), None);
        assert_eq!(GenerationFile::decode(&[&bytes[..], &[0]].concat()), None);
        // Its number and time are authenticated.
        let mut other = bytes.clone();
        other[16] ^= 1;
        assert!(
            GenerationFile::decode(&other)
                .unwrap()
                .open(&master)
                .is_none()
        );
    }
}
