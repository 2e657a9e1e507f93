//! A backup, read from its file piece by piece: opened, put together, and held to its order and its sum.

use std::io::{self, Read};

use super::contents::{ContentsError, Opening, Order, Piece, Pieces};
use super::sealing::{Opener, SEALED_CHUNK_BYTES, START_BYTES, SealError, Secret, header_bytes};
use crate::store::everything::Sum;

/// Why a backup can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What it holds is not right.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Something follows its end.
    #[error("something follows its end")]
    Longer,
}

/// Reads one backup. What it gives was not cut off or changed up to there; that nothing is missing shows at its end.
pub struct Reader<R> {
    input: R,
    opener: Opener,
    chunk: Vec<u8>,
    pieces: Pieces,
    order: Order,
}

impl<R: Read> Reader<R> {
    /// Reads the header and opens it. Takes a while for a passphrase.
    pub fn open(mut input: R, secret: &Secret) -> Result<Self, ReadError> {
        let mut start = [0; START_BYTES];
        read_whole(&mut input, &mut start)?;
        let mut header = start.to_vec();
        header.resize(header_bytes(&start)?, 0);
        let rest = header.get_mut(START_BYTES..).unwrap_or_default();
        read_whole(&mut input, rest)?;
        Ok(Self {
            input,
            opener: Opener::new(&header, secret)?,
            chunk: Vec::with_capacity(SEALED_CHUNK_BYTES),
            pieces: Pieces::default(),
            order: Order::default(),
        })
    }

    /// The next piece; none when all of it was read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        loop {
            if let Some(piece) = self.pieces.next_piece()? {
                self.order.take(&piece)?;
                return Ok(Some(piece));
            }
            if self.opener.has_ended() {
                if !self.pieces.is_empty() {
                    return Err(ContentsError::CutOff.into());
                }
                self.order.end()?;
                return Ok(None);
            }
            self.read_chunk()?;
        }
    }

    /// What was read, when all of it was.
    pub fn end(&self) -> Result<(Opening, Sum), ContentsError> {
        self.order.end()
    }

    /// Entries read so far.
    pub fn entries(&self) -> u64 {
        self.order.entries()
    }

    fn read_chunk(&mut self) -> Result<(), ReadError> {
        let most = u64::try_from(SEALED_CHUNK_BYTES).unwrap_or(u64::MAX);
        self.chunk.clear();
        self.input
            .by_ref()
            .take(most)
            .read_to_end(&mut self.chunk)?;
        if self.chunk.is_empty() {
            return Err(ContentsError::CutOff.into());
        }
        let plain = self.opener.open(&mut self.chunk)?;
        self.pieces.feed(plain);
        // A short chunk was cut off by the end of the file, which is then where it should be; a pipe may say more.
        if self.opener.has_ended() && self.input.read(&mut [0])? > 0 {
            return Err(ReadError::Longer);
        }
        Ok(())
    }
}

/// Fills `into`; a file that ends before is no backup.
fn read_whole(input: &mut impl Read, into: &mut [u8]) -> Result<(), ReadError> {
    input.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SealError::NotABackup.into(),
        _ => error.into(),
    })
}
