//! A wire between two homeservers that spoils what passes: messages are neither lost nor taken twice.

use faultproxy::{Direction, Fault, Proxy};

use super::bad_peers::To;
use super::*;

/// A worker of a towards b through a proxy, over mutual TLS.
pub(super) async fn wired(a: &Side, b: &Side) -> (Worker, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(serve(Arc::clone(&b.node), listener));
    let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), target)
        .await
        .unwrap();
    let network = TlsNetwork::new(
        Arc::clone(&a.node.keys),
        Arc::clone(&a.node.peer_roots),
        Arc::clone(&a.node.clock),
        Arc::clone(&a.node.random),
        &a.node.config.discovery,
        Arc::clone(&a.node.links),
    );
    let network = Arc::new(To(proxy.address().to_string(), network));
    let worker = Worker::new(Arc::clone(&a.node), network, b.node.server.clone());
    (worker, proxy)
}

/// Goal: whatever a wire does to bytes, in either direction, at once or in the middle of what is sent: everything
/// arrives once when it is whole again, and nothing is given up. Method: a fault proxy between two homeservers over
/// mutual TLS; each fault, a message under it, and one after it.
#[tokio::test]
async fn spoilt_wires_lose_and_double_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let (mut worker, proxy) = wired(&a, &b).await;
    let mut said = 0;
    for direction in [Direction::Out, Direction::Back] {
        for fault in [
            Fault::Delay(std::time::Duration::from_millis(5)),
            Fault::Reorder,
            Fault::Duplicate,
            Fault::Garbage(0),
            Fault::Garbage(100),
            Fault::Truncate(0),
            Fault::Truncate(200),
            Fault::Truncate(700),
            Fault::HalfClose(0),
            Fault::HalfClose(300),
        ] {
            // Half of the faults meet a connection that is open, half a new one.
            if said % 4 == 0 {
                proxy.cut();
            }
            proxy.set(direction, fault);
            alice.say(&a, ROOM, b"under it", 3600).await;
            worker.mail();
            said += 1;
            // One try is enough to meet the fault; it may get through.
            while worker.go_on().await.unwrap() == Step::Again {}
            proxy.set(direction, Fault::Pass);
            proxy.cut();
            alice.say(&a, ROOM, b"after it", 3600).await;
            said += 1;
            // What is broken shows when it is used: a second try makes a new connection.
            for _ in 0..3 {
                if drain(&mut worker).await == Step::Idle {
                    break;
                }
            }
            let found = (bob.heard(&b).await, waiting(&a, &b).await);
            assert_eq!(found, (said, 0), "{direction:?} {fault}");
        }
    }
    assert_eq!(dead_letters::newest(&a.node.store, 9).await.unwrap(), []);
}

/// Goal: an answer that is lost makes the same mail go out again, and it is taken once. Method: the way back stalls
/// until the peer has taken it, and then the connection is cut.
#[tokio::test]
async fn lost_answers_double_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let (mut worker, proxy) = wired(&a, &b).await;
    for said in 1..=5 {
        // The first message opens the connection; then only answers are held back.
        alice.say(&a, ROOM, b"once", 3600).await;
        if said == 1 {
            assert_eq!(drain(&mut worker).await, Step::Idle);
            continue;
        }
        proxy.set(Direction::Back, Fault::Stall);
        worker.mail();
        {
            let sending = async { while worker.go_on().await.unwrap() == Step::Again {} };
            let taken = async {
                while bob.heard(&b).await < said {
                    tokio::task::yield_now().await;
                }
                proxy.cut();
            };
            tokio::join!(sending, taken);
        }
        assert_eq!(waiting(&a, &b).await, 1);
        proxy.set(Direction::Back, Fault::Pass);
        assert_eq!(drain(&mut worker).await, Step::Idle);
        assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (said, 0));
    }
}
