//! What somebody sees who watches the network between two homeservers.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::*;
use crate::federation::outbound::{Network, ResponseBody};
use crate::http_client::ConnectionError;

/// TLS records as they pass: which way, and how many bytes.
type Seen = Arc<Mutex<Vec<(Way, usize)>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

/// The real network, through somebody who watches.
struct Watched(TlsNetwork, String);

impl Network for Watched {
    fn send<'a>(
        &'a self,
        server: &'a federation_proto::ids::ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        let endpoints = std::slice::from_ref(&self.1);
        self.0.send(server, endpoints, request, within)
    }

    fn cut(&self, server: &federation_proto::ids::ServerName) {
        self.0.cut(server);
    }
}

async fn watch(listener: TcpListener, to: String, seen: Seen) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(&to).await.unwrap();
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::spawn(pass_on(near_in, far_out, Way::Out, Arc::clone(&seen)));
        tokio::spawn(pass_on(far_in, near_out, Way::Back, Arc::clone(&seen)));
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, seen: Seen) {
    let mut head = [0; 5];
    while from.read_exact(&mut head).await.is_ok() {
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let mut record = vec![0; length];
        from.read_exact(&mut record).await.unwrap();
        seen.lock().unwrap().push((way, length));
        to.write_all(&head).await.unwrap();
        to.write_all(&record).await.unwrap();
    }
}

/// Alice of a invites `others` of b into a room and says `texts` there, one after the other: the records that each of
/// these steps sent, in their order.
async fn steps(others: &[&str], texts: &[&[u8]]) -> Vec<Vec<(Way, usize)>> {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(serve(Arc::clone(&b.node), listener));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watcher = listener.local_addr().unwrap().to_string();
    let seen = Seen::default();
    let watching = tokio::spawn(watch(listener, server, Arc::clone(&seen)));
    let network = TlsNetwork::new(
        Arc::clone(&a.node.keys),
        Arc::clone(&a.node.peer_roots),
        Arc::clone(&a.node.clock),
        Arc::clone(&a.node.random),
        &a.node.config.discovery,
        Arc::clone(&a.node.links),
    );
    let mut worker = Worker::new(
        Arc::clone(&a.node),
        Arc::new(Watched(network, watcher)),
        b.node.server.clone(),
    );
    let mut alice = person(&a, "alice").await;
    let mut people = Vec::new();
    for other in others {
        people.push(person(&b, other).await);
    }
    let people: Vec<&Person> = people.iter().collect();
    drain(&mut worker).await;
    let mut records = Vec::new();
    let mut note = || records.push(std::mem::take(&mut *seen.lock().unwrap()));
    note();
    assert!(matches!(
        alice.create_room(&a, ROOM, &people).await,
        Outcome::Accepted { .. }
    ));
    drain(&mut worker).await;
    note();
    for text in texts {
        alice.say(&a, ROOM, text, 3600).await;
        drain(&mut worker).await;
        note();
    }
    for person in people {
        assert_eq!(person.heard(&b).await, texts.len());
    }
    serving.abort();
    watching.abort();
    // The handshake holds signatures whose lengths differ by themselves, and a welcome the room's tree.
    records.split_off(2)
}

/// Goal: once a room stands, who watches does not see how long a message is, nor how many people get it, while the steps of
/// padding are the same: each record is as long, goes the same way and has the same place among the others; by two conversations, and as a control one with a message of the next step.
#[tokio::test]
async fn conversations_look_alike() {
    let short = steps(&["bob"], &[b"x", b"yes"]).await;
    let long = steps(&["bob", "bert", "bea"], &[&[7; 900], &[7; 300]]).await;
    assert_eq!(short, long);
    let longer = steps(&["bob"], &[&[7; 3000], b"yes"]).await;
    assert_ne!(short, longer);
}
