//! What was deleted, and whether anything on the disk still opens it.
//!
//! Contents that nobody else has are written, half of them some seconds before the others, so that the index has some and the log
//! the rest. Every second one is deleted, and one rotation goes by. Before and after that every byte of the data folder is read.

use std::path::Path;
use std::time::Duration;

use homeserver::store::{Key, Part, PartOutcome, Store, Value};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::disk::{Disk, Secret, open_wrapped, sealed_content};
use crate::keys;

/// Messages in each half: each a payload, and an item in an inbox.
const HALF: u64 = 100;
/// Bytes of a payload, and of an item.
const PAYLOAD_BYTES: usize = 1024;
const ITEM_BYTES: usize = 64;
/// After this the log has handed over to the index what came before.
const INDEXED: Duration = Duration::from_secs(8);
const INBOX: [u8; 16] = [7; 16];
const NUMBER_BYTES: usize = 8;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// Contents that were written.
    written: usize,
    /// Of them, those that were deleted.
    deleted: usize,
    /// Of those, how many could be read from the disk while they were there,
    readable_before: usize,
    /// and after they were deleted and a generation had gone by.
    readable_after: usize,
    /// Their keys, and keys of generations that were destroyed, which lie on the disk as they are.
    bare_keys: usize,
    /// Contents that lie on the disk as they were written, before or after.
    bare_contents: usize,
    /// Of those that were not deleted, how many can be read afterwards.
    kept: usize,
    /// Of those that were deleted, how many are on the disk still, sealed.
    copies: usize,
}

impl Found {
    /// The numbers, in this order.
    pub(crate) fn line(&self) -> String {
        format!(
            "erased {} {} {} {} {} {} {} {}\n",
            self.written,
            self.deleted,
            self.readable_before,
            self.readable_after,
            self.bare_keys,
            self.bare_contents,
            self.kept,
            self.copies
        )
    }
}

/// A content, and what is known of it.
struct Content {
    key: Key,
    bytes: Value,
    is_deleted: bool,
    /// Its data key as it was stored first.
    wrapped: Value,
    /// The data key, once it was opened.
    secret: Option<Secret>,
}

impl Content {
    /// What it is sealed together with: for an item that is its inbox, without its number.
    fn bound(&self) -> &[u8] {
        match self.key.split_last_chunk::<NUMBER_BYTES>() {
            Some((inbox, _)) if self.key.starts_with(b"Q") => inbox,
            _ => &self.key,
        }
    }

    /// As it is stored, if its key is known.
    fn sealed(&self) -> Option<Vec<u8>> {
        sealed_content(&self.bytes, self.bound(), &self.secret?)
    }
}

/// Writes, deletes and looks.
pub(crate) async fn run(store: &Store, data: &Path) -> Result<Found, String> {
    let mut contents = write(store, 0).await?;
    tokio::time::sleep(INDEXED).await;
    contents.extend(write(store, HALF).await?);
    for content in &mut contents {
        content.wrapped = stored_key(store, &content.key).await?;
    }
    let mut found = Found {
        written: contents.len(),
        deleted: contents.iter().filter(|one| one.is_deleted).count(),
        ..Found::default()
    };
    let before = Disk::read(data)?;
    let generations = before.generations();
    for content in &mut contents {
        let opened = |under| open_wrapped(&content.wrapped, content.bound(), under);
        content.secret = generations.iter().find_map(opened);
    }
    found.readable_before = readable(&before, &contents, |one| one.is_deleted);
    found.bare_contents = bare(&before, &contents);

    delete(store, &contents).await?;
    keys::rotate(store).await?;
    let after = Disk::read(data)?;
    let left = after.generations();
    found.readable_after = opened_by(&after, &contents, &left);
    let destroyed = generations.iter().filter(|one| !left.contains(one));
    let secrets = contents.iter().filter(|one| one.is_deleted);
    let secrets = secrets.filter_map(|one| one.secret.as_ref());
    let secrets: Vec<&[u8]> = secrets.chain(destroyed).map(Secret::as_slice).collect();
    found.bare_keys = count(&after.has(&secrets));
    found.bare_contents = found.bare_contents.saturating_add(bare(&after, &contents));
    found.copies = lying(&after, &contents, |one| one.is_deleted);

    for content in contents.iter_mut().filter(|one| !one.is_deleted) {
        content.wrapped = stored_key(store, &content.key).await?;
        let opened = |under| open_wrapped(&content.wrapped, content.bound(), under);
        content.secret = left.iter().find_map(opened);
    }
    found.kept = readable(&after, &contents, |one| !one.is_deleted);
    Ok(found)
}

/// Half of the messages, the first of which has this number.
async fn write(store: &Store, first: u64) -> Result<Vec<Content>, String> {
    let mut contents = Vec::new();
    let tail: Key = [&b"T"[..], &INBOX].concat().into();
    let inbox: Key = [&b"Q"[..], &INBOX].concat().into();
    for number in first..first.saturating_add(HALF) {
        // Every second one, of each kind.
        let is_deleted = number.is_multiple_of(2);
        let place = u128::from(number).to_be_bytes();
        let payload: Key = [&b"P"[..], &place].concat().into();
        // The first item of an inbox has the number 1.
        let item = number.saturating_add(1).to_be_bytes();
        let item: Key = [inbox.as_ref(), &item].concat().into();
        let (words, reference) = (drawn(PAYLOAD_BYTES)?, drawn(ITEM_BYTES)?);
        let mut part = Part::default();
        part.put(payload.clone(), words.clone());
        part.append(tail.clone(), inbox.clone(), reference.clone());
        commit(store, part).await?;
        for (key, bytes) in [(payload, words), (item, reference)] {
            contents.push(Content {
                key,
                bytes,
                is_deleted,
                wrapped: Value::new(),
                secret: None,
            });
        }
    }
    Ok(contents)
}

async fn delete(store: &Store, contents: &[Content]) -> Result<(), String> {
    for content in contents.iter().filter(|one| one.is_deleted) {
        let mut part = Part::default();
        part.delete(content.key.clone());
        commit(store, part).await?;
    }
    Ok(())
}

async fn commit(store: &Store, part: Part) -> Result<(), String> {
    let outcome = store.commit(part).await;
    match outcome.map_err(|error| error.to_string())? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err("a commit was refused".to_owned()),
    }
}

/// The wrapped key of the content at `key`, as the store has it now.
async fn stored_key(store: &Store, key: &[u8]) -> Result<Value, String> {
    let row = [&b"1"[..], key].concat();
    let moment = store.snapshot().await.map_err(|error| error.to_string())?;
    let found = moment.get(&row).await.map_err(|error| error.to_string())?;
    found.ok_or_else(|| "a content has no key".to_owned())
}

/// Bytes that nobody else has.
fn drawn(count: usize) -> Result<Value, String> {
    let mut bytes = vec![0; count];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system has no randomness".to_owned())?;
    Ok(bytes.into())
}

/// How many of these can be read by what is on the disk alone: the content, its wrapped key, and the generation that opens it.
fn readable(disk: &Disk, contents: &[Content], of: impl Fn(&Content) -> bool) -> usize {
    let chosen: Vec<&Content> = contents.iter().filter(|one| of(one)).collect();
    let sealed: Vec<Vec<u8>> = chosen
        .iter()
        .map(|one| one.sealed().unwrap_or_default())
        .collect();
    // Behind version and generation: what lies before may be compressed.
    let wrapped: Vec<&[u8]> = chosen
        .iter()
        .map(|one| one.wrapped.get(9..).unwrap_or_default())
        .collect();
    let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
    let both = disk.has(&sealed).into_iter().zip(disk.has(&wrapped));
    both.filter(|(content, key)| *content && *key).count()
}

/// How many of those that were deleted have a key that one of these generations opens: the one that was stored with it, or any that
/// lies on the disk.
fn opened_by(disk: &Disk, contents: &[Content], generations: &[Secret]) -> usize {
    let on_disk = disk.wrapped_keys();
    let is_open = |content: &&Content| {
        let stored = std::iter::once(content.wrapped.as_ref());
        stored.chain(on_disk.iter().copied()).any(|wrapped| {
            let mut secrets = generations
                .iter()
                .filter_map(|under| open_wrapped(wrapped, content.bound(), under));
            // One of another item of the inbox opens too, and opens nothing of this one.
            secrets.any(|secret| Some(secret) == content.secret)
        })
    };
    let deleted = contents.iter().filter(|one| one.is_deleted);
    deleted.filter(is_open).count()
}

/// How many lie on the disk as they were written.
fn bare(disk: &Disk, contents: &[Content]) -> usize {
    let all: Vec<&[u8]> = contents.iter().map(|one| one.bytes.as_ref()).collect();
    count(&disk.has(&all))
}

/// How many of these lie on the disk, sealed.
fn lying(disk: &Disk, contents: &[Content], of: impl Fn(&Content) -> bool) -> usize {
    let chosen = contents.iter().filter(|one| of(one));
    let sealed: Vec<Vec<u8>> = chosen.filter_map(Content::sealed).collect();
    let sealed: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
    count(&disk.has(&sealed))
}

fn count(found: &[bool]) -> usize {
    found.iter().filter(|found| **found).count()
}
