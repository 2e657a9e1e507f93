//! What stands before the nodes of an organisation, as a load balancer does: it asks each node how it is, passes
//! connections on to one that serves, and cuts those of a node that says nothing any more.
//!
//! An address of it has a node that it prefers, so that the trial knows who is at which node as long as all are well.
//!
//! Deliberately absent: any look at what passes. TLS goes through untouched, from device or peer to node.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::ports::free_address;

/// Between two questions to a node.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long a node may take to answer one, or to accept a connection.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Questions without an answer after which a node counts as gone.
const SILENT_MAX: u32 = 2;
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Where a node is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) client: SocketAddr,
    pub(super) federation: SocketAddr,
    pub(super) health: SocketAddr,
}

/// Who is let in at an address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    Client,
    Federation,
}

/// A running one; ended when dropped.
pub(super) struct Front {
    nodes: Arc<Vec<Node>>,
    ending: Arc<AtomicBool>,
    /// Its own addresses.
    doors: Vec<SocketAddr>,
}

/// A node as the last questions have found it.
struct Node {
    place: Place,
    /// It answers at all.
    is_live: AtomicBool,
    /// It says that it can serve.
    is_ready: AtomicBool,
    connections: Mutex<Connections>,
}

/// Both ends of each connection to a node, under numbers.
#[derive(Default)]
struct Connections {
    last: u64,
    open: Vec<(u64, Arc<TcpStream>, Arc<TcpStream>)>,
}

impl Front {
    /// Before nodes that need not run yet.
    pub(super) fn before(places: impl IntoIterator<Item = Place>) -> Self {
        let node = |place| Node {
            place,
            is_live: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
            connections: Mutex::default(),
        };
        let front = Self {
            nodes: Arc::new(places.into_iter().map(node).collect()),
            ending: Arc::default(),
            doors: Vec::new(),
        };
        for number in 0..front.nodes.len() {
            let (nodes, ending) = (Arc::clone(&front.nodes), Arc::clone(&front.ending));
            thread::spawn(move || {
                if let Some(node) = nodes.get(number) {
                    node.watch(&ending);
                }
            });
        }
        front
    }

    /// Whether every node serves.
    pub(super) fn all_serve(&self) -> bool {
        let is_ready = |node: &Node| node.is_ready.load(Ordering::Acquire);
        self.nodes.iter().all(is_ready)
    }

    /// Opens an address that leads to the node with this number, or to another one while that does not serve.
    pub(super) fn open(&mut self, door: Door, preferred: usize) -> Result<SocketAddr> {
        let address = free_address()?;
        let listener = TcpListener::bind(address).map_err(|error| {
            Failure::Missing(format!("{address} can't be listened on: {error}"))
        })?;
        self.doors.push(address);
        let (nodes, ending) = (Arc::clone(&self.nodes), Arc::clone(&self.ending));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let nodes = Arc::clone(&nodes);
                // Reaching a node takes time that others need not wait.
                thread::spawn(move || pass(&nodes, door, preferred, stream));
            }
        });
        Ok(address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        for address in &self.doors {
            // So that who waits there looks whether this is the end.
            let _ = TcpStream::connect(address);
        }
        for node in self.nodes.iter() {
            node.cut();
        }
    }
}

impl Node {
    fn watch(&self, ending: &AtomicBool) {
        let mut silent = 0_u32;
        while !ending.load(Ordering::Acquire) {
            if ask(self.place.health, "/livez").is_ok() {
                silent = 0;
                self.is_live.store(true, Ordering::Release);
                // Whether it can serve it may not know for a while: then it does not.
                let ready = ask(self.place.health, "/readyz").is_ok_and(|status| status == 200);
                self.is_ready.store(ready, Ordering::Release);
            } else {
                silent = silent.saturating_add(1);
                if silent >= SILENT_MAX {
                    self.is_ready.store(false, Ordering::Release);
                    if self.is_live.swap(false, Ordering::AcqRel) {
                        self.cut();
                    }
                }
            }
            thread::sleep(ASK_EVERY);
        }
    }

    /// Ends every connection: whoever has one looks for another node then.
    fn cut(&self) {
        for (_, near, far) in self.connections().open.drain(..) {
            close(&near);
            close(&far);
        }
    }

    fn keep(&self, near: &Arc<TcpStream>, far: &Arc<TcpStream>) -> u64 {
        let mut connections = self.connections();
        connections.last = connections.last.saturating_add(1);
        let number = connections.last;
        let both = (number, Arc::clone(near), Arc::clone(far));
        connections.open.push(both);
        number
    }

    fn forget(&self, number: u64) {
        self.connections().open.retain(|(own, _, _)| *own != number);
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes one connection on, until either side ends it.
fn pass(nodes: &[Node], door: Door, preferred: usize, near: TcpStream) {
    for node in in_turn(nodes, preferred) {
        let to = match door {
            Door::Client => node.place.client,
            Door::Federation => node.place.federation,
        };
        let Ok(far) = TcpStream::connect_timeout(&to, ANSWER_MAX) else {
            continue;
        };
        // A message may be one small packet.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (near, far) = (Arc::new(near), Arc::new(far));
        let number = node.keep(&near, &far);
        let (near_again, far_again) = (Arc::clone(&near), Arc::clone(&far));
        let outward = thread::spawn(move || {
            let _ = io::copy(&mut &*near_again, &mut &*far_again);
            let _ = far_again.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut &*far, &mut &*near);
        // A node that has said its last word hears nothing more.
        close(&near);
        close(&far);
        let _ = outward.join();
        node.forget(number);
        return;
    }
}

/// The nodes to be tried, one after the other: the preferred one first, those that serve before those that only live. While a
/// database fails over none serves, and all will.
fn in_turn(nodes: &[Node], preferred: usize) -> Vec<&Node> {
    let around = || nodes.iter().cycle().skip(preferred).take(nodes.len());
    let is_ready = |node: &&Node| node.is_ready.load(Ordering::Acquire);
    let is_live = |node: &&Node| node.is_live.load(Ordering::Acquire);
    around()
        .filter(is_ready)
        .chain(around().filter(|node| is_live(node) && !is_ready(node)))
        .collect()
}

fn close(stream: &TcpStream) {
    // The other side may have been quicker.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Asks a node for a page; the status.
fn ask(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| io::Error::other("no HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(is_live: bool, is_ready: bool) -> Node {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Node {
            place: Place {
                client: nowhere,
                federation: nowhere,
                health: nowhere,
            },
            is_live: AtomicBool::new(is_live),
            is_ready: AtomicBool::new(is_ready),
            connections: Mutex::default(),
        }
    }

    /// Goal: the preferred node is tried first, then the others that serve, then those that only live, and never one
    /// that is gone. Method: nodes of each kind.
    #[test]
    fn nodes_have_their_turn() {
        let nodes = [
            node(true, true),
            node(true, false),
            node(true, true),
            node(false, false),
        ];
        let turn = |preferred| -> Vec<usize> {
            let order = in_turn(&nodes, preferred);
            let place = |one: &&Node| nodes.iter().position(|node| std::ptr::eq(node, *one));
            order.iter().filter_map(place).collect()
        };
        assert_eq!(turn(0), [0, 2, 1]);
        assert_eq!(turn(1), [2, 0, 1]);
        assert_eq!(turn(2), [2, 0, 1]);
        assert_eq!(turn(3), [0, 2, 1]);
    }

    /// Goal: what is said at a door reaches the node that serves and comes back; when the node says nothing any more the
    /// connection is cut. Method: a node of a few lines that answers its health and echoes, until it is told to stop.
    #[test]
    fn a_silent_node_is_cut_off() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let health = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place {
            client: echo.local_addr().unwrap(),
            federation: echo.local_addr().unwrap(),
            health: health.local_addr().unwrap(),
        };
        let is_silent = Arc::new(AtomicBool::new(false));
        let silence = Arc::clone(&is_silent);
        thread::spawn(move || {
            for stream in health.incoming() {
                if silence.load(Ordering::Acquire) {
                    continue;
                }
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok\n");
            }
        });
        thread::spawn(move || {
            for stream in echo.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let mut front = Front::before([place]);
        let door = front.open(Door::Client, 0).unwrap();
        let mut word = [0; 4];
        let mut stream = loop {
            let mut stream = TcpStream::connect(door).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream.write_all(b"word").unwrap();
            // Until it was asked, the node is not known to live.
            if stream.read_exact(&mut word).is_ok() {
                break stream;
            }
        };
        assert_eq!(&word, b"word");
        is_silent.store(true, Ordering::Release);
        assert_eq!(stream.read(&mut word).unwrap(), 0);
    }
}
