//! Encrypted files: streamed into the store in chunks, streamed out, gone when their time is over.
//!
//! A file that was uploaded here lies under its own id; a peer's copy under a hash of the peer's name
//! and its id there, so that no peer can put its bytes in another file's place. A record is written
//! first, incomplete and with its place in the expiry index: whatever is cut off is swept away.

use bytes::{Bytes, BytesMut};
use federation_proto::ids::{AccountId, FileId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::client::FileInfo;
use ring::digest::{SHA256, digest};

use super::batch::{Batch, NotTaken, policy_links};
use super::limits::{CONFLICT_ATTEMPTS_MAX, DOWNLOADS_MS, FILE_CHUNK_BYTES};
use crate::audit::Actor;
use crate::node::Node;
use crate::policy::{self, Input, Rules};
use crate::store::allowance::{Purpose, Whose as Counted};
use crate::store::device::DeviceOf;
use crate::store::expiry::{self, Place};
use crate::store::file::{self, FileRecord, Whose};
use crate::store::{Part, PartOutcome, Precondition, StoreError, Value};

/// What downloads are counted in.
const KIB: u64 = 1024;
/// Most chunks written in one part.
const CHUNKS_AT_ONCE: usize = 4;
/// An upload that takes longer than this is swept away half-way.
const UPLOAD_MS_MAX: u64 = 60 * 60 * 1000;
/// Chunks deleted in one part.
const CHUNKS_DELETED_AT_ONCE: u32 = 256;

/// A file on its way in. Dropped half-way, it is swept away.
pub struct Incoming<'n> {
    node: &'n Node,
    place: FileId,
    record: FileRecord,
    /// The record as stored: without it nothing is written any more.
    stored: Value,
    waiting: BytesMut,
    chunks: u32,
    received: u64,
}

/// Begins an upload by an own device: policy and quota are held to the announced length.
pub async fn begin_upload(
    node: &Node,
    device: DeviceOf,
    bytes: u64,
    ttl_seconds: u32,
) -> Result<Incoming<'_>, NotTaken> {
    room_left(node)?;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let account = batch.account(device.account).await?.ok_or_else(|| {
            NotTaken::refused(RefusalCode::AccountSuspended, "this account is gone")
        })?;
        let rules = Rules {
            party: account.party(),
            links: &[],
            now_ms: batch.now_ms,
        };
        policy::evaluate(&rules, &Input::Upload { bytes, ttl_seconds }).into_result()?;
        let whose = Whose::Account(device.account);
        let (used, read) = file::usage(&node.store, &whose).await?;
        let total = used.saturating_add(bytes);
        let most = node.config.limits.account_file_bytes_max;
        if total > most {
            return Err(NotTaken::refused(
                RefusalCode::Quota,
                format!(
                    "your files here have {used} of {most} bytes: wait until some expire, or send a smaller one"
                ),
            ));
        }
        file::put_usage(&mut batch.part, &whose, read, total)?;
        let id = FileId::from_bytes(node.random_id()?);
        let ttl_ms = u64::from(ttl_seconds).saturating_mul(1000);
        let record = FileRecord {
            server: node.server.clone(),
            file: id,
            bytes,
            expires_ms: batch.now_ms.saturating_add(ttl_ms),
            owner: Some(device.account),
            complete: false,
        };
        let stored = begin(&mut batch.part, id, &record, batch.now_ms)?;
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(Incoming::new(node, id, record, stored));
        }
    }
    Err(NotTaken::refused(
        RefusalCode::RateLimited,
        "the rules change too fast just now: send the file again in a moment",
    ))
}

/// Begins to take in a peer's file, for the devices here; an own copy, which expires no later than
/// the peer says.
pub async fn begin_copy<'n>(
    node: &'n Node,
    server: &ServerName,
    file: FileId,
    bytes: u64,
    expires_ms: u64,
) -> Result<Incoming<'n>, NotTaken> {
    room_left(node)?;
    let place = place(node, server, file);
    remove(node, place).await?;
    let record = FileRecord {
        server: server.clone(),
        file,
        bytes,
        expires_ms,
        owner: None,
        complete: false,
    };
    let whose = record.whose();
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let (used, read) = file::usage(&node.store, &whose).await?;
        let total = used.saturating_add(bytes);
        if total > node.config.limits.peer_file_bytes_max {
            return Err(NotTaken::refused(
                RefusalCode::Quota,
                format!(
                    "this homeserver holds as much of {server}'s files as it may: try again later"
                ),
            ));
        }
        let mut part = Part::default();
        // Another copy of it must not have been begun in the meantime.
        file::require(&mut part, place, None);
        file::put_usage(&mut part, &whose, read, total)?;
        let stored = begin(&mut part, place, &record, node.clock.now_ms())?;
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(Incoming::new(node, place, record, stored));
        }
    }
    Err(NotTaken::refused(
        RefusalCode::Unavailable,
        "the file is being fetched already: try again in a moment",
    ))
}

/// Whether the disk takes more. Also asked on the way: a file is longer than what is kept back.
fn room_left(node: &Node) -> Result<(), NotTaken> {
    node.space.refusal().map_or(Ok(()), |full| Err(full.into()))
}

fn begin(
    part: &mut Part,
    place: FileId,
    record: &FileRecord,
    now_ms: u64,
) -> Result<Value, StoreError> {
    let stored = file::put(part, place, record)?;
    expiry::put(
        part,
        now_ms.saturating_add(UPLOAD_MS_MAX),
        Place::File(place),
    );
    expiry::put(part, record.expires_ms, Place::File(place));
    Ok(stored)
}

impl<'n> Incoming<'n> {
    fn new(node: &'n Node, place: FileId, record: FileRecord, stored: Value) -> Self {
        Self {
            node,
            place,
            record,
            stored,
            waiting: BytesMut::new(),
            chunks: 0,
            received: 0,
        }
    }

    /// Takes the next bytes; more than announced are refused.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), NotTaken> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(length);
        if self.received > self.record.bytes {
            return Err(NotTaken::refused(
                RefusalCode::TooLarge,
                "the file is longer than announced: send its true length",
            ));
        }
        while !bytes.is_empty() {
            let room = (CHUNKS_AT_ONCE * FILE_CHUNK_BYTES).saturating_sub(self.waiting.len());
            self.waiting
                .extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if self.waiting.len() == CHUNKS_AT_ONCE * FILE_CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// The whole file is here and durable; fewer bytes than announced are refused.
    pub async fn finish(self) -> Result<FileInfo, NotTaken> {
        self.finish_if(None).await
    }

    /// As [`Incoming::finish`], if `condition` holds then; else nothing of the file is left.
    pub async fn finish_if(
        mut self,
        condition: Option<Precondition>,
    ) -> Result<FileInfo, NotTaken> {
        let done = self.complete(condition).await;
        if done.is_err() {
            remove(self.node, self.place).await?;
        }
        done
    }

    async fn complete(&mut self, condition: Option<Precondition>) -> Result<FileInfo, NotTaken> {
        if self.received != self.record.bytes {
            return Err(NotTaken::refused(
                RefusalCode::Malformed,
                "the file is shorter than announced: send it again",
            ));
        }
        self.flush().await?;
        let mut record = self.record.clone();
        record.complete = true;
        let mut part = Part::default();
        file::require(&mut part, self.place, Some(self.stored.clone()));
        part.preconditions.extend(condition);
        file::put(&mut part, self.place, &record)?;
        self.write_part(part).await?;
        Ok(FileInfo {
            server: record.server,
            file: record.file,
            bytes: record.bytes,
            expires_ms: record.expires_ms,
        })
    }

    /// Gives up: what has arrived is deleted at once.
    pub async fn abandon(self) -> Result<(), StoreError> {
        remove(self.node, self.place).await
    }

    async fn flush(&mut self) -> Result<(), NotTaken> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        room_left(self.node)?;
        let mut part = Part::default();
        // Swept in the meantime, nobody would ever delete what is written now.
        file::require(&mut part, self.place, Some(self.stored.clone()));
        let mut bytes = std::mem::take(&mut self.waiting).freeze();
        while !bytes.is_empty() {
            let chunk = bytes.split_to(FILE_CHUNK_BYTES.min(bytes.len()));
            file::put_chunk(&mut part, self.place, self.chunks, &chunk);
            self.chunks = self.chunks.saturating_add(1);
        }
        self.write_part(part).await
    }

    async fn write_part(&self, part: Part) -> Result<(), NotTaken> {
        let store = &self.node.store;
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            if store.commit(part.clone()).await? == PartOutcome::Committed {
                return Ok(());
            }
            // While the file is as it was, another node may just have taken other keys into use.
            let now = file::get(store, self.place).await?;
            if now.is_none_or(|(_, now)| now != self.stored) {
                break;
            }
        }
        Err(NotTaken::refused(
            RefusalCode::Expired,
            "the file took too long to arrive, or may no longer: send it again",
        ))
    }
}

/// A file on its way out.
pub struct Outgoing {
    /// What it is.
    pub info: FileInfo,
    /// Who uploaded it here.
    pub owner: Option<AccountId>,
    place: FileId,
    next: u32,
    left: u64,
}

impl Outgoing {
    /// The next bytes; `None` at the end. An error when the file expires half-way.
    pub async fn next(&mut self, node: &Node) -> Result<Option<Bytes>, NotTaken> {
        if self.left == 0 {
            return Ok(None);
        }
        let gone = || NotTaken::Refused(expired());
        if self.info.expires_ms <= node.clock.now_ms() {
            return Err(gone());
        }
        let chunk = file::chunk(&node.store, self.place, self.next)
            .await?
            .ok_or_else(gone)?;
        self.next = self.next.saturating_add(1);
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(length);
        Ok(Some(chunk))
    }
}

/// The file, when all of it is here and its time is not over.
pub async fn open(
    node: &Node,
    server: &ServerName,
    id: FileId,
) -> Result<Option<Outgoing>, StoreError> {
    let place = place(node, server, id);
    let now_ms = node.clock.now_ms();
    let found = file::get(&node.store, place).await?;
    Ok(found
        .map(|(record, _)| record)
        .filter(|record| record.complete && record.expires_ms > now_ms)
        .filter(|record| record.server == *server && record.file == id)
        .map(|record| Outgoing {
            place,
            next: 0,
            left: record.bytes,
            owner: record.owner,
            info: FileInfo {
                server: record.server,
                file: record.file,
                bytes: record.bytes,
                expires_ms: record.expires_ms,
            },
        }))
}

/// Whether an own account may have a file of `server`.
pub async fn may_download(
    node: &Node,
    account: AccountId,
    server: &ServerName,
) -> Result<(), NotTaken> {
    let mut batch = Batch::open(node).await?;
    let account = batch
        .account(account)
        .await?
        .ok_or_else(|| NotTaken::refused(RefusalCode::AccountSuspended, "this account is gone"))?;
    let links = batch.links([server]);
    let rules = Rules {
        party: account.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    Ok(policy::evaluate(&rules, &Input::Download).into_result()?)
}

/// Whether an own account may have so many bytes more today; counts them. An account whose user type bounds nothing is not
/// counted.
pub async fn count_download(node: &Node, id: AccountId, bytes: u64) -> Result<(), NotTaken> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let account = batch.account(id).await?.ok_or_else(|| {
            NotTaken::refused(RefusalCode::AccountSuspended, "this account is gone")
        })?;
        let rules = account.policy.downloads;
        if let Some(most) = rules.file_bytes_max.filter(|most| bytes > *most) {
            return Err(NotTaken::refused(
                RefusalCode::FilesNotAllowed,
                format!(
                    "your user type lets files of at most {most} bytes be downloaded, as they are encrypted: this one has {bytes}"
                ),
            ));
        }
        let Some(most) = rules.day_bytes_max else {
            return Ok(());
        };
        let kib = |bytes: u64| u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let (whose, most, asked) = (Counted::Account(id), kib(most), kib(bytes));
        if asked > most {
            return Err(NotTaken::refused(
                RefusalCode::FilesNotAllowed,
                format!(
                    "your user type lets {most} KiB be downloaded in a day: this file has {asked}"
                ),
            ));
        }
        // Whether all of it still fits.
        let begun_below = most - asked + 1;
        let left = batch.allows(Purpose::Download, &whose, begun_below, DOWNLOADS_MS);
        if let Err(wait_ms) = left.await? {
            let seconds = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX);
            let wait = policy::in_words(seconds.div_ceil(60).saturating_mul(60));
            return Err(NotTaken::refused(
                RefusalCode::Quota,
                format!(
                    "that is more than you may still download within a day: try again in {wait}"
                ),
            ));
        }
        if batch.use_up(Purpose::Download, &whose, asked, most) {
            let detail =
                format!("{most} KiB within a day: further downloads are refused until it is over");
            let subject = format!("account {id}");
            batch.audit(Actor::System, "file.downloads-limited", subject, detail);
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Err(NotTaken::refused(
        RefusalCode::RateLimited,
        "too many downloads at the same moment: try again",
    ))
}

/// What somebody is told who asks for a file whose time is over, or that never was.
pub fn expired() -> Refusal {
    Refusal::new(
        RefusalCode::Expired,
        "there is no such file, or its time is over: ask its sender to send it again",
    )
}

/// Sweeps a file that has expired, or whose upload took too long.
pub(super) async fn sweep(
    node: &Node,
    place: FileId,
    now_ms: u64,
    due_ms: u64,
) -> Result<(), StoreError> {
    match file::get(&node.store, place).await? {
        Some((record, _)) if record.expires_ms <= now_ms => remove(node, place).await,
        // This entry stood for the end of the upload.
        Some((record, _)) if !record.complete && due_ms != record.expires_ms => {
            remove(node, place).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Deletes a file, its chunks before its record: a crash half-way leaves a record to sweep again. The
/// record is marked first, so that whoever still writes chunks stops.
async fn remove(node: &Node, place: FileId) -> Result<(), StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some((mut record, read)) = file::get(&node.store, place).await? else {
            return Ok(());
        };
        let mut part = Part::default();
        file::require(&mut part, place, Some(read));
        record.complete = false;
        record.expires_ms = 0;
        let read = file::put(&mut part, place, &record)?;
        if node.store.commit(part).await? == PartOutcome::Conflict {
            continue;
        }
        let chunk_bytes = u64::try_from(FILE_CHUNK_BYTES).unwrap_or(u64::MAX);
        let chunks = u32::try_from(record.bytes.div_ceil(chunk_bytes)).unwrap_or(u32::MAX);
        let mut next = 0;
        while next < chunks {
            let mut part = Part::default();
            let end = next.saturating_add(CHUNKS_DELETED_AT_ONCE).min(chunks);
            for number in next..end {
                file::delete_chunk(&mut part, place, number);
            }
            node.store.commit(part).await?;
            next = end;
        }
        let mut part = Part::default();
        file::require(&mut part, place, Some(read));
        file::delete(&mut part, place);
        let whose = record.whose();
        let (used, read) = file::usage(&node.store, &whose).await?;
        file::put_usage(&mut part, &whose, read, used.saturating_sub(record.bytes))?;
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Ok(())
}

fn place(node: &Node, server: &ServerName, file: FileId) -> FileId {
    if *server == node.server {
        return file;
    }
    let named = [server.as_str().as_bytes(), &[0], file.as_bytes()].concat();
    let mut place = [0; 16];
    for (to, from) in place.iter_mut().zip(digest(&SHA256, &named).as_ref()) {
        *to = *from;
    }
    FileId::from_bytes(place)
}
