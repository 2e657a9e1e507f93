//! A wire between two homeservers that carries little: what waits arrives nevertheless, in smaller pieces.

use std::sync::Mutex;
use std::time::Duration;

use faultproxy::{Direction, Fault};
use federation_proto::ids::ServerName;
use federation_proto::limits::TRANSACTION_BYTES_MAX;
use futures_util::future::BoxFuture;
use http::{Response, header};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;

use super::faulty_wires::wired;
use super::*;
use crate::config::Patience;
use crate::federation::outbound::request::{self, RequestError};
use crate::federation::outbound::{Network, ResponseBody};
use crate::federation::testing::{LocalNetwork, sides_with};
use crate::http_client::ConnectionError;

/// What bodies may take in these tests: as little beside the default as the wire carries little beside a real one.
const PATIENCE: Patience = Patience {
    least: Duration::from_millis(250),
    bytes_per_second_min: 4 * 1024 * 1024,
};
/// What the wire carries: a body of 128 KiB does not come through in its time.
const BYTES_PER_SECOND: u64 = 400 * 1000;
const MESSAGES: usize = 200;
const TEXT_BYTES: usize = 1000;
/// Tries, of which most fail after [`PATIENCE`] at once or not at all.
const TRIES_MAX: usize = 40;

/// Goal: a backlog that the wire does not carry in the time of its body is delivered whole, each message once, and none
/// is given up; and as much again when the wire is wide. Method: a fault proxy with a rate between two homeservers over
/// mutual TLS, with times that are short; and without the fault afterwards.
#[tokio::test]
async fn a_slow_wire_delivers_its_backlog() {
    let [a, b] = sides_with(["a.example", "b.example"], |config| {
        config.federation.patience = PATIENCE;
    });
    let (mut alice, bob) = acquainted(&a, &b).await;
    for _ in 0..MESSAGES {
        let said = alice.say(&a, ROOM, &[b'm'; TEXT_BYTES], 3600).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    }
    let (mut worker, proxy) = wired(&a, &b).await;
    proxy.set(Direction::Out, Fault::Rate(BYTES_PER_SECOND));
    let mut failures = 0;
    while drain(&mut worker).await != Step::Idle {
        failures += 1;
        assert!(
            failures < TRIES_MAX,
            "{} of {MESSAGES} have arrived",
            bob.heard(&b).await
        );
    }
    assert!(
        failures > 0,
        "the wire was not slow enough to show anything"
    );
    let found = (bob.heard(&b).await, waiting(&a, &b).await);
    assert_eq!(found, (MESSAGES, 0));
    assert_eq!(dead_letters::newest(&a.node.store, 9).await.unwrap(), []);

    proxy.set(Direction::Out, Fault::Pass);
    for _ in 0..MESSAGES {
        alice.say(&a, ROOM, &[b'm'; TEXT_BYTES], 3600).await;
    }
    // It may have to learn that a little more passes, and no more than that.
    let mut failures = 0;
    while drain(&mut worker).await != Step::Idle {
        failures += 1;
        assert!(failures < TRIES_MAX, "it stays slow");
    }
    assert_eq!(bob.heard(&b).await, 2 * MESSAGES);
}

/// A network on which the first transactions come too slowly, as the peer says.
struct Hurried {
    network: Arc<LocalNetwork>,
    late: Mutex<usize>,
}

impl Hurried {
    fn is_late(&self, request: &Request<Bytes>) -> bool {
        let mut left = self.late.lock().unwrap();
        let is_late = request.uri().path() == paths::TRANSACTIONS && *left > 0;
        *left -= usize::from(is_late);
        is_late
    }
}

impl Network for Hurried {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            if !self.is_late(&request) {
                return self.network.request(server, request).await;
            }
            let content = padding::unpad(request.body(), TRANSACTION_BYTES_MAX).unwrap();
            let sent = (paths::TRANSACTIONS.to_owned(), content);
            self.network.sent.lock().unwrap().push(sent);
            let body = Full::new(Bytes::from_static(b"{}"));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            let answer = Response::builder().status(StatusCode::REQUEST_TIMEOUT);
            Ok(answer.body(body).unwrap())
        })
    }

    fn cut(&self, _server: &ServerName) {}
}

/// Goal: a peer that says that a body came too slowly (408) gets less the next time, and gets all in the end. Method: a
/// network that says so twice; how much each transaction held.
#[tokio::test]
async fn what_came_too_slowly_is_halved() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    for _ in 0..40 {
        alice.say(&a, ROOM, &[b'm'; TEXT_BYTES], 3600).await;
    }
    a.network.sent.lock().unwrap().clear();
    let network = Arc::new(Hurried {
        network: Arc::clone(&a.network),
        late: Mutex::new(2),
    });
    let mut worker = Worker::new(Arc::clone(&a.node), network, b.node.server.clone());
    for _ in 0..2 {
        assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    }
    assert_eq!(drain(&mut worker).await, Step::Idle);
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (40, 0));
    let sent = a.network.sent.lock().unwrap();
    let held: Vec<usize> = sent
        .iter()
        .filter(|(path, _)| path == paths::TRANSACTIONS)
        .map(|(_, body)| transaction::decode(body.clone()).unwrap().size())
        .collect();
    assert_eq!(held[0], 40);
    assert!((18..=20).contains(&held[1]), "{held:?}");
    assert!((8..=10).contains(&held[2]), "{held:?}");
}

/// A network whose answers tell their length at once, and come after [`LATE`].
struct Late(usize);

const LATE: Duration = Duration::from_secs(40);

impl Network for Late {
    fn send<'a>(
        &'a self,
        _server: &'a ServerName,
        _endpoints: &'a [String],
        _request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let content = padding::pad(&vec![7; self.0]);
            let answer = Response::builder().header(header::CONTENT_LENGTH, content.len());
            let late = futures_util::stream::once(async move {
                tokio::time::sleep(LATE).await;
                Ok::<_, ConnectionError>(Frame::data(content))
            });
            Ok(answer.body(StreamBody::new(late).boxed_unsync()).unwrap())
        })
    }

    fn cut(&self, _server: &ServerName) {}
}

/// Goal: an answer has its time by the length that it tells (NET-033). Method: a short one and a long one that come
/// equally late, under virtual time.
#[tokio::test(start_paused = true)]
async fn answers_have_their_time() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let peer = a.node.peers.get(&b.node.server).unwrap();
    let ask = async |bytes: usize| {
        let network = Late(bytes);
        let patience = Patience::default();
        let (path, most) = (paths::TRANSACTIONS, RECEIPT_BYTES_MAX);
        let body = Bytes::new();
        request::send(&network, patience, &peer, Method::POST, path, body, most).await
    };
    assert_eq!(
        ask(RECEIPT_BYTES_MAX / 2 + 1).await.unwrap().len(),
        RECEIPT_BYTES_MAX / 2 + 1
    );
    let short = ask(1).await;
    assert!(
        matches!(
            &short,
            Err(RequestError::Unreachable(ConnectionError::Silent(after))) if after.as_secs() == 30
        ),
        "{short:?}"
    );
}
