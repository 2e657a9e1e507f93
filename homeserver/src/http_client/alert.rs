//! Whether a peer has ended a connection with a TLS alert, and when it was heard last.
//!
//! Libraries above pass on a text at most, and not even that when writing failed before the alert was read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::life::Life;

/// What is read behind a write that failed, in pieces of this size,
const LAST_PIECE_BYTES: usize = 1024;
/// and at most so many.
const LAST_PIECES_MAX: usize = 16;

/// Whether the other side has sent an alert.
pub(super) fn is_alert(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

/// A stream that notes an alert, and each sign of life.
pub(super) struct Watched<S> {
    stream: S,
    alert: Arc<AtomicBool>,
    life: Arc<Life>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    pub(super) fn new(stream: S, alert: Arc<AtomicBool>, life: Arc<Life>) -> Self {
        Self {
            stream,
            alert,
            life,
        }
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = result
            && is_alert(error)
        {
            self.alert.store(true, Ordering::Release);
        }
    }

    /// After a failed write: what the other side said before it closed is still to be read.
    fn note_last<T>(&mut self, context: &mut Context<'_>, result: &Poll<io::Result<T>>) {
        if !matches!(result, Poll::Ready(Err(_))) {
            return;
        }
        self.note(result);
        for _ in 0..LAST_PIECES_MAX {
            let mut piece = [0; LAST_PIECE_BYTES];
            let mut buffer = ReadBuf::new(&mut piece);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            self.note(&read);
            if !matches!(read, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.life.heard();
        }
        self.note(&read);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_last(context, &written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.note_last(context, &flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note_last(context, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
