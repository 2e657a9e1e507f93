//! Listens, connects, and moves bytes through two [`Line`]s a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::fault::Fault;
use crate::line::{Line, Next};
use crate::tape::{Seen, Tape};

/// Most bytes read at once.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connects to the target.
    Out,
    /// From the target to whoever connected.
    Back,
}

/// A running proxy; ends with all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    out: watch::Sender<Fault>,
    back: watch::Sender<Fault>,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
    tape: Tape,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens at `listen` and connects each caller to `target`.
    ///
    /// # Errors
    /// When it can't listen there.
    pub async fn start(listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (out, back) = (watch::Sender::default(), watch::Sender::default());
        let cuts = watch::Sender::new(0);
        let tape = Tape::default();
        let faults = Faults {
            out: out.subscribe(),
            back: back.subscribe(),
            cuts: cuts.subscribe(),
            tape: tape.clone(),
        };
        let task = tokio::spawn(accept(listener, target, faults));
        Ok(Self {
            address,
            out,
            back,
            cuts,
            tape,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this happens to that direction of every connection, of those that are open too.
    pub fn set(&self, direction: Direction, fault: Fault) {
        match direction {
            Direction::Out => self.out.send_replace(fault),
            Direction::Back => self.back.send_replace(fault),
        };
    }

    /// Keeps what comes in, in both directions, from now on.
    pub fn record(&self) {
        self.tape.start();
    }

    /// Stops keeping, and says what came in meanwhile.
    #[must_use]
    pub fn recorded(&self) -> Vec<Seen> {
        self.tape.stop()
    }

    /// Ends every open connection; new ones are taken as before.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts = cuts.wrapping_add(1));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Clone)]
struct Faults {
    out: watch::Receiver<Fault>,
    back: watch::Receiver<Fault>,
    cuts: watch::Receiver<u64>,
    tape: Tape,
}

async fn accept(listener: TcpListener, target: SocketAddr, faults: Faults) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((caller, _)) = accepted else { continue };
                connections.spawn(connect(caller, target, faults.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(caller: TcpStream, target: SocketAddr, mut faults: Faults) {
    faults.cuts.mark_unchanged();
    let tape = faults.tape;
    let copying = async {
        let target = TcpStream::connect(target).await?;
        for stream in [&caller, &target] {
            stream.set_nodelay(true)?;
        }
        let (from_caller, to_caller) = caller.into_split();
        let (from_target, to_target) = target.into_split();
        tokio::try_join!(
            copy(from_caller, to_target, faults.out, |bytes| tape
                .note(Direction::Out, bytes)),
            copy(from_target, to_caller, faults.back, |bytes| tape
                .note(Direction::Back, bytes)),
        )
    };
    // However it ends, both sockets are closed by being dropped; whoever is concerned sees that.
    tokio::select! {
        _ = copying => {}
        _ = faults.cuts.changed() => {}
    }
}

/// Moves one direction until it has ended; an error ends the connection.
pub(crate) async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Fault>,
    seen: impl Fn(&[u8]),
) -> io::Result<()> {
    let start = Instant::now();
    let mut line = Line::default();
    // A read fills the spare capacity at most.
    let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
    let mut has_ended = false;
    loop {
        line.set(*faults.borrow_and_update());
        let until = match line.next(start.elapsed()) {
            Next::Write(bytes) => {
                to.write_all(&bytes).await?;
                continue;
            }
            Next::HalfClose => {
                to.shutdown().await?;
                if has_ended {
                    return Ok(());
                }
                continue;
            }
            Next::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            // Nothing more comes in, and nothing is held: it has been said.
            Next::Wait(None) if has_ended => return Ok(()),
            Next::Wait(until) => until,
        };
        tokio::select! {
            read = from.read_buf(&mut piece), if line.wants_more() && !has_ended => {
                // A fault that was set before these bytes came concerns them.
                line.set(*faults.borrow_and_update());
                if read? == 0 {
                    has_ended = true;
                    line.ended();
                } else {
                    seen(&piece);
                    line.take(std::mem::take(&mut piece), start.elapsed());
                    piece.reserve(PIECE_BYTES_MAX);
                }
            }
            changed = faults.changed() => {
                if changed.is_err() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            () = at(start, until) => {}
        }
    }
}

/// Waits until this moment (`None`: for ever).
async fn at(start: Instant, until: Option<Duration>) {
    match until {
        Some(until) => sleep_until(start + until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    /// One direction under a fault: where to write, where to read, and the switch.
    fn direction(fault: Fault) -> (DuplexStream, DuplexStream, watch::Sender<Fault>) {
        let (near, from) = duplex(1024);
        let (to, far) = duplex(1024);
        let switch = watch::Sender::new(fault);
        tokio::spawn(copy(from, to, switch.subscribe(), |_| ()));
        (near, far, switch)
    }

    /// Goal: a delay delays by its length and ends with it. Method: paused time, which the wait itself moves.
    #[tokio::test(start_paused = true)]
    async fn a_delay_takes_its_time() {
        let (mut near, mut far, _switch) = direction(Fault::Delay(Duration::from_secs(30)));
        let begun = Instant::now();
        near.write_all(b"later").await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(
            (heard.as_slice(), begun.elapsed().as_secs()),
            (&b"later"[..], 30)
        );
    }

    /// Goal: a stall holds everything back, its sender too, and loses nothing. Method: more than all buffers under
    /// paused time, released after a minute.
    #[tokio::test(start_paused = true)]
    async fn a_stall_holds_back_and_keeps() {
        let (mut near, mut far, switch) = direction(Fault::Stall);
        let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { near.write_all(&sent).await });
        let minute = Duration::from_secs(60);
        assert!(timeout(minute, far.read_u8()).await.is_err());
        assert!(!writing.is_finished());
        switch.send_replace(Fault::Pass);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert!(heard == expected);
    }

    /// Goal: a fault that is set applies to connections that are open. Method: one that passed before.
    #[tokio::test(start_paused = true)]
    async fn open_connections_are_concerned() {
        let (mut near, mut far, switch) = direction(Fault::Pass);
        near.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        switch.send_replace(Fault::HalfClose(1));
        near.write_all(b"bc").await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"b");
        // The sender is not told.
        near.write_all(b"d").await.unwrap();
    }

    /// A server that answers every byte with the same one.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    /// Goal: over real sockets both directions pass and are spoilt apart; a truncation ends both; a cut ends what is
    /// open and nothing else; what passes is recorded. Method: an echo behind the proxy.
    #[tokio::test]
    async fn over_real_sockets() {
        let local = "127.0.0.1:0".parse().unwrap();
        let proxy = Proxy::start(local, echo().await).await.unwrap();
        let call = async || TcpStream::connect(proxy.address()).await.unwrap();
        let mut heard = [0; 4];
        let mut first = call().await;
        proxy.record();
        first.write_all(b"abcd").await.unwrap();
        first.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"abcd");
        let seen = proxy.recorded();
        for direction in [Direction::Out, Direction::Back] {
            let bytes = seen.iter().filter(|seen| seen.direction == direction);
            let bytes: Vec<u8> = bytes.flat_map(|seen| seen.bytes.clone()).collect();
            assert_eq!(bytes, b"abcd");
        }

        proxy.set(Direction::Back, Fault::Duplicate);
        let mut second = call().await;
        second.write_all(b"ab").await.unwrap();
        second.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"abab");

        proxy.set(Direction::Back, Fault::Pass);
        proxy.cut();
        for stream in [&mut first, &mut second] {
            assert!(matches!(stream.read(&mut heard).await, Ok(0) | Err(_)));
        }
        proxy.set(Direction::Back, Fault::Truncate(3));
        let mut third = call().await;
        third.write_all(b"abcdef").await.unwrap();
        let mut all = Vec::new();
        third.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abc");
    }

    /// Goal: nothing outlives the proxy. Method: drop it with a connection open.
    #[tokio::test]
    async fn dropping_it_ends_everything() {
        let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), echo().await)
            .await
            .unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        drop(proxy);
        assert!(stream.read_u8().await.is_err());
    }
}
