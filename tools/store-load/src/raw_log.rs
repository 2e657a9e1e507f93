//! A plain log in the place of a store: as much as the disk takes, for nothing else is done.
//!
//! One writer takes whatever waits, up to the commit path's cap, appends it to a file whose bytes are there already, syncs once,
//! and answers all. No index, no preconditions, no checksum; the file is begun anew when it is full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use homeserver::store::{BATCH_PARTS_MAX, Part};
use tokio::sync::{mpsc, oneshot};

use crate::counts::Counts;
use crate::rows::write_down;

/// Length of the file.
const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Zeros written at once before it is used.
const FILL_BYTES: usize = 1024 * 1024;
/// Most transactions that wait.
const QUEUE_MAX: usize = 8 * BATCH_PARTS_MAX;

type Answer = oneshot::Sender<Result<(), String>>;

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct RawLog(mpsc::Sender<(Part, Answer)>);

impl RawLog {
    /// Makes the log in `folder` and starts its writer, which ends with the last handle.
    pub(crate) fn start(folder: &Path, counts: Arc<Counts>) -> Result<Self, String> {
        let path = folder.join("log");
        let file = preallocated(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            file,
            at: 0,
            batch: Vec::new(),
            counts,
        };
        std::thread::Builder::new()
            .name("raw-log".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| error.to_string())?;
        Ok(Self(queue))
    }

    /// Writes what `part` writes; it is durable when this returns.
    pub(crate) async fn commit(&self, part: Part) -> Result<(), String> {
        let gone = || "the log's writer has ended".to_owned();
        let (answer, written) = oneshot::channel();
        self.0.send((part, answer)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

struct Writer {
    file: File,
    at: u64,
    batch: Vec<u8>,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<(Part, Answer)>) {
        while let Some(first) = waiting.blocking_recv() {
            let answers = self.gather(first, &mut waiting);
            self.counts.batch();
            let written = self.append().map_err(|error| error.to_string());
            for answer in answers {
                // Whoever has stopped waiting need not be told.
                let _ = answer.send(written.clone());
            }
        }
    }

    /// Takes `first` and what waits behind it into the batch.
    fn gather(
        &mut self,
        (part, answer): (Part, Answer),
        waiting: &mut mpsc::Receiver<(Part, Answer)>,
    ) -> Vec<Answer> {
        self.batch.clear();
        write_down(&part, &mut self.batch);
        let mut answers = vec![answer];
        while answers.len() < BATCH_PARTS_MAX {
            let Ok((part, answer)) = waiting.try_recv() else {
                break;
            };
            write_down(&part, &mut self.batch);
            answers.push(answer);
        }
        answers
    }

    fn append(&mut self) -> io::Result<()> {
        let bytes = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        if self.at.saturating_add(bytes) > LOG_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.batch, self.at)?;
        self.at += bytes;
        self.file.sync_data()
    }
}

/// A file of zeros that are on the disk: so a sync in it writes no metadata.
fn preallocated(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    let zeros = vec![0_u8; FILL_BYTES];
    let step = u64::try_from(FILL_BYTES).unwrap_or(u64::MAX);
    let mut at = 0;
    while at < LOG_BYTES {
        file.write_all_at(&zeros, at)?;
        at += step;
    }
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    /// Goal: what is answered is in the file, one transaction behind the other. Method: commit two and read the file.
    #[tokio::test]
    async fn what_is_answered_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let log = RawLog::start(folder.path(), Arc::default()).unwrap();
        let mut sender = rows::senders(1).remove(0);
        let mut expected = Vec::new();
        for _ in 0..2 {
            let part = sender.transaction();
            write_down(&part, &mut expected);
            log.commit(part).await.unwrap();
        }
        let bytes = std::fs::read(folder.path().join("log")).unwrap();
        assert_eq!(u64::try_from(bytes.len()), Ok(LOG_BYTES));
        assert!(bytes.starts_with(&expected));
    }
}
