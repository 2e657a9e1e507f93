//! Files: encrypted here in chunks, held by the homeserver, opened by whoever has the message.
//!
//! ```text
//! chunk: AES-256-GCM(file key, nonce = 7 zeros · chunk number (u32) · last (1 or 0), ≤ 64 KiB)
//! ```
//! The plaintext is the file and zeros up to a Padmé length. Each chunk is authenticated in its
//! place, the last one as the last; the whole encrypted file must have the SHA-256 that the message
//! names, so a sender can't give two people two files.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use homeserver_api::client::{FileInfo, TTL_HEADER};
use homeserver_api::policy::UserTypePolicy;
use homeserver_api::refusal::{Refusal, RefusalCode};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::shared::Shared;
use crate::content::{FileReference, is_file_name};
use crate::error::Error;
use crate::padding;
use crate::requests;

const CHUNK_BYTES: u64 = 64 * 1024;
const TAG_BYTES: u64 = 16;
/// How long a transfer may stand still before it is given up: it fails instead of hanging.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How long a download waits for the own homeserver to fetch the file from its peer.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// How long until a download asks again, when the homeserver does not say.
const FETCH_PAUSE: Duration = Duration::from_secs(1);
/// Bounds of what a homeserver may say about it.
const FETCH_PAUSE_MIN: Duration = Duration::from_millis(200);
const FETCH_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Whether a user type lets its people send this file; the homeserver asks the same when it comes.
pub(super) async fn check(path: &Path, policy: &UserTypePolicy) -> Result<(), Error> {
    let metadata = tokio::fs::metadata(path).await;
    let bytes = Shape::new(metadata.map_err(|e| file_error(path, e))?.len())?.encrypted_bytes();
    let reason = if !policy.files {
        "your user type may not send files: send the message without one".to_owned()
    } else if bytes > policy.file_bytes_max {
        format!(
            "{} is {bytes} bytes when it is encrypted, and your user type allows files of at most {} bytes: send a smaller one",
            path.display(),
            policy.file_bytes_max
        )
    } else {
        return Ok(());
    };
    Err(Error::Refused(Refusal::new(
        RefusalCode::FilesNotAllowed,
        reason,
    )))
}

/// Whether a file of this name goes with a message of this label (0: the usual one), before it is uploaded for nothing.
pub(super) fn check_name(path: &Path, policy: &UserTypePolicy, label: u8) -> Result<(), Error> {
    let label = match label {
        0 => policy.labels.default,
        chosen => chosen,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if policy.allows_file(label, &name) {
        return Ok(());
    }
    Err(Error::Refused(Refusal::new(
        RefusalCode::FilesNotAllowed,
        format!(
            "files like {name} don't go with messages of label {label} here: choose another file or label"
        ),
    )))
}

/// Encrypts and uploads a file that is kept for `ttl_seconds`.
pub(super) async fn upload(
    shared: &Arc<Shared>,
    path: &Path,
    ttl_seconds: u32,
) -> Result<FileReference, Error> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| is_file_name(name))
        .ok_or_else(|| file_error(path, "its name can't be sent: rename it"))?
        .to_owned();
    let file = File::open(path).await.map_err(|e| file_error(path, e))?;
    let metadata = file.metadata().await.map_err(|e| file_error(path, e))?;
    if !metadata.is_file() {
        return Err(file_error(path, "it is not a file"));
    }
    let mut key = [0; 32];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| Error::Store("no random bytes".to_owned()))?;
    let bytes = metadata.len();
    let shape = Shape::new(bytes)?;
    let hash = Arc::new(Mutex::new(digest::Context::new(&digest::SHA256)));
    let (moved, watching) = watch::channel(0);
    let sealing = Sealing {
        file,
        left: bytes,
        shape,
        next: 0,
        key: chunk_key(&key)?,
        hash: Arc::clone(&hash),
        moved,
    };
    let body = StreamBody::new(futures_util::stream::try_unfold(
        sealing,
        Sealing::next_chunk,
    ));
    let token = shared.identity.token.as_str();
    let request = requests::request(&shared.endpoint, Some(token), Method::POST, "/v1/files")?
        .header(CONTENT_LENGTH, shape.encrypted_bytes())
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(TTL_HEADER, ttl_seconds)
        .body(Box::pin(body))
        .map_err(|e| Error::Protocol(e.to_string()))?;
    let answer = async {
        let response = requests::start(&shared.endpoint, request).await?;
        requests::json::<FileInfo>(&shared.endpoint, response).await
    };
    let info = moving(answer, watching)
        .await
        .ok_or_else(|| standstill(shared))??;
    let mut sha256 = [0; 32];
    let finished = hash
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
        .finish();
    sha256.copy_from_slice(finished.as_ref());
    Ok(FileReference {
        server: info.server,
        file: info.file,
        name,
        bytes,
        key,
        sha256,
    })
}

/// Downloads and opens a file to `path`, which must not exist; what fails leaves nothing there.
pub(super) async fn download(
    shared: &Arc<Shared>,
    reference: &FileReference,
    path: &Path,
) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .await
        .map_err(|e| file_error(path, e))?;
    let saved = async {
        let response = fetch(shared, reference).await?;
        open_to(shared, reference, response, &mut file, path).await
    }
    .await;
    if saved.is_err() {
        drop(file);
        // The first error is the one to tell.
        let _ = tokio::fs::remove_file(path).await;
    }
    saved
}

async fn fetch(shared: &Arc<Shared>, reference: &FileReference) -> Result<Incoming, Error> {
    let path = format!("/v1/files/{}/{}", reference.server, reference.file);
    let give_up = Instant::now() + FETCH_WAIT_MAX;
    loop {
        let token = shared.identity.token.as_str();
        let request = requests::request(&shared.endpoint, Some(token), Method::GET, &path)?
            .body(http_body_util::Empty::<Bytes>::new())
            .map_err(|e| Error::Protocol(e.to_string()))?;
        let answer = requests::start(&shared.endpoint, request);
        let response = timeout(STANDSTILL_MAX, answer)
            .await
            .map_err(|_| standstill(shared))??;
        if response.status() != StatusCode::ACCEPTED {
            return Ok(response.into_body());
        }
        let pause = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .map_or(FETCH_PAUSE, Duration::from_secs)
            .clamp(FETCH_PAUSE_MIN, FETCH_PAUSE_MAX);
        if Instant::now() + pause > give_up {
            return Err(Error::Unreachable {
                endpoint: reference.server.to_string(),
                reason: "the homeserver could not fetch the file from there in time".to_owned(),
            });
        }
        sleep(pause).await;
    }
}

/// Lets an exchange go on for as long as something moves; `None` when nothing does.
async fn moving<T>(
    exchange: impl Future<Output = T>,
    mut moved: watch::Receiver<u32>,
) -> Option<T> {
    let mut exchange = std::pin::pin!(exchange);
    loop {
        tokio::select! {
            outcome = exchange.as_mut() => return Some(outcome),
            moved = timeout(STANDSTILL_MAX, moved.changed()) => match moved {
                Ok(Ok(())) => {}
                // All is sent: the answer has as long as a chunk has.
                Ok(Err(_)) => return timeout(STANDSTILL_MAX, exchange).await.ok(),
                Err(_) => return None,
            },
        }
    }
}

fn standstill(shared: &Shared) -> Error {
    Error::Unreachable {
        endpoint: shared.endpoint.address().to_owned(),
        reason: format!(
            "nothing of the file moved for {} s",
            STANDSTILL_MAX.as_secs()
        ),
    }
}

async fn open_to(
    shared: &Arc<Shared>,
    reference: &FileReference,
    mut body: Incoming,
    file: &mut File,
    path: &Path,
) -> Result<(), Error> {
    let shape = Shape::new(reference.bytes)?;
    let key = chunk_key(&reference.key)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = BytesMut::new();
    let mut left = reference.bytes;
    for number in 0..shape.chunks()? {
        let length = shape.encrypted_chunk(number)?;
        while buffer.len() < length {
            let frame = timeout(STANDSTILL_MAX, body.frame())
                .await
                .map_err(|_| standstill(shared))?
                .ok_or_else(not_the_file)?
                .map_err(|error| Error::Unreachable {
                    endpoint: shared.endpoint.address().to_owned(),
                    reason: error.to_string(),
                })?;
            if let Ok(data) = frame.into_data() {
                buffer.extend_from_slice(&data);
            }
        }
        let mut chunk = buffer.split_to(length);
        hash.update(&chunk);
        let content = open_chunk(&key, shape, number, left, &mut chunk)?;
        file.write_all(content)
            .await
            .map_err(|e| file_error(path, e))?;
        left = left.saturating_sub(u64::try_from(content.len()).unwrap_or(u64::MAX));
    }
    if !buffer.is_empty() || hash.finish().as_ref() != reference.sha256 {
        return Err(not_the_file());
    }
    file.sync_all().await.map_err(|e| file_error(path, e))
}

/// How a file of some length is cut.
#[derive(Debug, Clone, Copy)]
struct Shape {
    padded: u64,
}

impl Shape {
    fn new(bytes: u64) -> Result<Self, Error> {
        let shape = Self {
            padded: padding::padded(bytes),
        };
        shape.chunks()?;
        Ok(shape)
    }

    fn chunks(self) -> Result<u32, Error> {
        u32::try_from(self.padded.div_ceil(CHUNK_BYTES))
            .map_err(|_| Error::InvalidArgument("the file is too large".to_owned()))
    }

    fn encrypted_bytes(self) -> u64 {
        self.padded + self.padded.div_ceil(CHUNK_BYTES) * TAG_BYTES
    }

    fn plain_chunk(self, number: u32) -> Result<usize, Error> {
        let before = u64::from(number) * CHUNK_BYTES;
        usize::try_from(self.padded.saturating_sub(before).min(CHUNK_BYTES))
            .map_err(|_| Error::InvalidArgument("the file is too large".to_owned()))
    }

    fn encrypted_chunk(self, number: u32) -> Result<usize, Error> {
        Ok(self.plain_chunk(number)? + usize::try_from(TAG_BYTES).unwrap_or(16))
    }
}

struct Sealing {
    file: File,
    left: u64,
    shape: Shape,
    next: u32,
    key: LessSafeKey,
    hash: Arc<Mutex<digest::Context>>,
    /// Told the number of each chunk that is on its way.
    moved: watch::Sender<u32>,
}

impl Sealing {
    async fn next_chunk(mut self) -> Result<Option<(Frame<Bytes>, Self)>, std::io::Error> {
        let chunks = self.shape.chunks().map_err(std::io::Error::other)?;
        if self.next == chunks {
            return Ok(None);
        }
        let length = self
            .shape
            .plain_chunk(self.next)
            .map_err(std::io::Error::other)?;
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(length);
        let mut chunk = vec![0; take];
        // A file that was cut meanwhile fails here; one that grew is sent as it was.
        self.file.read_exact(&mut chunk).await?;
        self.left = self
            .left
            .saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
        chunk.resize(length, 0);
        seal_chunk(&self.key, self.next, self.next + 1 == chunks, &mut chunk)
            .map_err(std::io::Error::other)?;
        self.hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(&chunk);
        self.next += 1;
        self.moved.send_replace(self.next);
        Ok(Some((Frame::data(chunk.into()), self)))
    }
}

fn seal_chunk(
    key: &LessSafeKey,
    number: u32,
    last: bool,
    chunk: &mut Vec<u8>,
) -> Result<(), Error> {
    key.seal_in_place_append_tag(chunk_nonce(number, last), Aad::empty(), chunk)
        .map_err(|_| Error::Protocol("a chunk can't be sealed".to_owned()))
}

/// Opens a chunk in place: what of it belongs to a file of which `left` bytes are to come. What follows
/// the file is padding.
fn open_chunk<'a>(
    key: &LessSafeKey,
    shape: Shape,
    number: u32,
    left: u64,
    chunk: &'a mut [u8],
) -> Result<&'a [u8], Error> {
    let last = number.saturating_add(1) == shape.chunks()?;
    let plain = key
        .open_in_place(chunk_nonce(number, last), Aad::empty(), chunk)
        .map_err(|_| not_the_file())?;
    let take = usize::try_from(left).unwrap_or(usize::MAX).min(plain.len());
    Ok(plain.split_at(take).0)
}

/// Reads bytes as a file's chunks; none opens.
#[cfg(any(test, feature = "fuzzing"))]
#[expect(
    clippy::expect_used,
    reason = "tests and fuzzing stop at the first surprise"
)]
pub(crate) fn open_any_chunk(bytes: &[u8], length: u64, number: u32) {
    let Ok(shape) = Shape::new(length) else {
        return;
    };
    let _ = shape.encrypted_chunk(number);
    let key = chunk_key(&[1; 32]).expect("a key of the right length");
    let mut chunk = bytes.to_vec();
    let opened = open_chunk(&key, shape, number, length, &mut chunk);
    assert!(opened.is_err());
}

fn chunk_key(key: &[u8; 32]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| Error::InvalidArgument("a file's key has the wrong length".to_owned()))
}

fn chunk_nonce(number: u32, last: bool) -> Nonce {
    let [a, b, c, d] = number.to_be_bytes();
    let nonce: [u8; NONCE_LEN] = [0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(last)];
    Nonce::assume_unique_for_key(nonce)
}

fn not_the_file() -> Error {
    Error::Protocol("the file is not the one that was sent: nothing was saved".to_owned())
}

fn file_error(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a file that the user type doesn't allow is refused before anything is encrypted, with the homeserver's own
    /// code; by sizes around the limit, counted as they are sent.
    #[tokio::test]
    async fn files_are_checked_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0; 1000]).unwrap();
        let sent = Shape::new(1000).unwrap().encrypted_bytes();
        let policy = |files, file_bytes_max| UserTypePolicy {
            files,
            file_bytes_max,
            ..UserTypePolicy::default()
        };
        check(&path, &policy(true, sent)).await.unwrap();
        for policy in [policy(true, sent - 1), policy(false, sent)] {
            let error = check(&path, &policy).await.unwrap_err();
            assert_eq!(error.code(), "files-not-allowed");
        }
        let missing = check(&folder.path().join("no"), &policy(true, sent)).await;
        assert!(matches!(missing, Err(Error::File { .. })));
    }

    /// Goal: a transfer may take as long as it likes while it moves, and is given up when it stands still, also
    /// when all is sent and no answer comes. Method: one that moves now and then, with the time moved.
    #[tokio::test(start_paused = true)]
    async fn transfers_that_stand_still() {
        let almost = STANDSTILL_MAX - Duration::from_secs(1);
        let (sender, receiver) = watch::channel(0);
        let slow = async {
            for number in 1..9 {
                sleep(almost).await;
                sender.send_replace(number);
            }
            drop(sender);
            sleep(almost).await;
            "done"
        };
        assert_eq!(moving(slow, receiver).await, Some("done"));

        let began = Instant::now();
        let (_sender, receiver) = watch::channel(0);
        assert_eq!(moving(std::future::pending::<()>(), receiver).await, None);
        assert_eq!(began.elapsed(), STANDSTILL_MAX);

        let (sender, receiver) = watch::channel(0);
        drop(sender);
        assert_eq!(moving(std::future::pending::<()>(), receiver).await, None);
        assert_eq!(began.elapsed(), STANDSTILL_MAX * 2);
    }

    proptest::proptest! {
        /// Goal: a chunk comes back as it was in its place only; no bytes and no length make the reader
        /// panic, and the chunks of every length add up to what is announced.
        #[test]
        fn chunks(
            content in proptest::collection::vec(0_u8.., 1..2000),
            number in 0_u32..3,
            length in 0_u64..(8 << 20),
            any in 0_u64..,
            flip in 0_usize..4000,
        ) {
            open_any_chunk(&content, length, number);
            open_any_chunk(&content, any, number);
            let shape = Shape::new(length).unwrap();
            let chunks = shape.chunks().unwrap();
            let sum: usize = (0..chunks).map(|n| shape.encrypted_chunk(n).unwrap()).sum();
            proptest::prop_assert_eq!(u64::try_from(sum).unwrap(), shape.encrypted_bytes());

            let key = chunk_key(&[2; 32]).unwrap();
            let left = u64::try_from(content.len()).unwrap();
            let last = number + 1 == chunks;
            let mut sealed = content.clone();
            seal_chunk(&key, number, last, &mut sealed).unwrap();
            let open = |number, mut bytes: Vec<u8>| {
                open_chunk(&key, shape, number, left, &mut bytes).map(<[u8]>::to_vec)
            };
            proptest::prop_assert_eq!(open(number, sealed.clone()).unwrap(), content);
            proptest::prop_assert!(open(number + 1, sealed.clone()).is_err());
            let at = flip % sealed.len();
            sealed[at] ^= 1;
            proptest::prop_assert!(open(number, sealed).is_err());
        }
    }
}
