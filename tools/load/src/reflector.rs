//! A stand-in for both homeservers that does nothing: it accepts every message and hands it to the
//! receiver at once. What the generator reaches against it is the generator's own ceiling, and what
//! it reports about faults made on purpose shows that its books can be believed.
//!
//! Deliberately absent: everything a homeserver does. It speaks the session protocol over TLS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use entente_sdk::frames::{
    ClientFrame, Delivery, DeliveryBody, Hello, Outcome, SUBPROTOCOL, ServerFrame, Submission,
    SubmissionBody, SubmissionResult,
};
use entente_sdk::ids::RoomId;
use entente_sdk::refusal::{Refusal, RefusalCode};
use entente_sdk::session::Endpoint;
use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::prepare::{Device, Prepared};

/// The name in its certificate.
const NAME: &str = "reflector.example";
/// As long as an MLS PrivateMessage of 1 KiB of text.
const MESSAGE_BYTES: usize = 1_400;
/// Messages in each pair's pool.
const POOL_MESSAGES: usize = 256;
/// Buffers of a connection.
const BUFFER_BYTES: usize = 8 * 1024;
/// How long it puts a submission off when told to.
const DEFERRED_MS: u64 = 20;

/// What it does wrong, on purpose, to submission number `counter` of every sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Accepted, and never delivered.
    Lost { counter: u64 },
    /// Delivered twice.
    Duplicated { counter: u64 },
    /// Delivered before the one in front of it.
    Swapped { counter: u64 },
    /// Refused.
    Refused { counter: u64 },
    /// Put off once, with everything after it.
    Deferred { counter: u64 },
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;
type Inboxes = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Vec<(RoomId, Bytes)>>>>>;

/// A running reflector; ends with its runtime.
pub(crate) struct Reflector {
    endpoint: Endpoint,
}

impl Reflector {
    /// Starts it on a runtime and a thread of its own, so that the generator's stays the generator's.
    pub(crate) fn start(fault: Option<Fault>) -> Result<Self, Boxed> {
        let (acceptor, root_sha256) = tls()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("reflector".into())
            .spawn(move || {
                runtime.block_on(async move {
                    if let Err(error) = serve(listener, acceptor, fault).await {
                        eprintln!("error: the reflector ended: {error}");
                    }
                });
            })?;
        let endpoint = Endpoint::new(address.to_string(), NAME.parse()?, &root_sha256)?;
        Ok(Self { endpoint })
    }

    /// Pairs whose messages are random bytes.
    #[expect(clippy::disallowed_methods, reason = "stands in for ciphertext")]
    pub(crate) fn pairs(&self, count: usize) -> Result<Vec<Prepared>, String> {
        let random = SystemRandom::new();
        let fill = |bytes: &mut [u8]| {
            random
                .fill(bytes)
                .map_err(|_| "the system gives no random numbers".to_owned())
        };
        (0..count)
            .map(|index| {
                let mut room = [0; 16];
                fill(&mut room)?;
                let mut pool = Vec::with_capacity(POOL_MESSAGES);
                for _ in 0..POOL_MESSAGES {
                    let mut message = vec![0; MESSAGE_BYTES];
                    fill(&mut message)?;
                    pool.push(message.into());
                }
                let device = |side| Device {
                    endpoint: self.endpoint.clone(),
                    token: format!("{side}-{index}"),
                };
                Ok(Prepared {
                    sender: device("from"),
                    receiver: device("to"),
                    ciphers: None,
                    room: RoomId::from_bytes(room),
                    pool,
                })
            })
            .collect()
    }
}

/// A root, a certificate that it signed, and the root's SHA-256.
fn tls() -> Result<(TlsAcceptor, String), Boxed> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &root)?;
    let root_der: &CertificateDer<'static> = root.der();
    let hash = digest(&SHA256, root_der);
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), root_der.clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    Ok((TlsAcceptor::from(Arc::new(config)), hex))
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    fault: Option<Fault>,
) -> Result<(), Boxed> {
    let listener = TcpListener::from_std(listener)?;
    let inboxes = Inboxes::default();
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, inboxes) = (acceptor.clone(), Arc::clone(&inboxes));
        tokio::spawn(async move {
            // A connection that breaks is the generator's to report.
            let _ = session(tcp, acceptor, inboxes, fault).await;
        });
    }
}

async fn session(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    inboxes: Inboxes,
    fault: Option<Fault>,
) -> Result<(), Boxed> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    let mut token = String::new();
    #[expect(
        clippy::result_large_err,
        reason = "the type that tungstenite asks for"
    )]
    let callback = |request: &Request, mut response: Response| {
        let authorization = request.headers().get("authorization");
        let bearer = authorization.and_then(|value| value.to_str().ok());
        token = bearer
            .unwrap_or_default()
            .trim_start_matches("Bearer ")
            .to_owned();
        response.headers_mut().insert(
            "sec-websocket-protocol",
            HeaderValue::from_static(SUBPROTOCOL),
        );
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0);
    let mut socket = accept_hdr_async_with_config(tls, callback, Some(config)).await?;
    let hello = ServerFrame::Hello(Hello {
        server_time_ms: 0,
        last_counter: 0,
    });
    socket.send(Message::Binary(hello.encode()?.into())).await?;

    let (to_self, mut inbox) = mpsc::unbounded_channel();
    lock(&inboxes).insert(token.clone(), to_self);
    let peer = token.replace("from-", "to-");
    let mut home = Home::new(fault);
    let mut number = 0;
    loop {
        let frame = tokio::select! {
            message = socket.next() => match message {
                Some(message) => match message? {
                    Message::Binary(bytes) => match ClientFrame::decode(&bytes)? {
                        ClientFrame::Submit(submissions) => {
                            let (results, messages) = home.take(submissions);
                            if let Some(peer) = lock(&inboxes).get(&peer) {
                                let _ = peer.send(messages);
                            }
                            ServerFrame::Results(results)
                        }
                        ClientFrame::Acknowledge(_) => continue,
                    },
                    _ => continue,
                },
                None => return Ok(()),
            },
            Some(messages) = inbox.recv() => deliveries(&mut number, messages),
        };
        socket.send(Message::Binary(frame.encode()?.into())).await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn deliveries(number: &mut u64, messages: Vec<(RoomId, Bytes)>) -> ServerFrame {
    let numbered = messages.into_iter().map(|(room, message)| {
        *number += 1;
        Delivery {
            number: *number,
            body: DeliveryBody::Message {
                room,
                message,
                accepted_ms: 0,
                expires_ms: u64::MAX,
            },
        }
    });
    ServerFrame::Deliver(numbered.collect())
}

/// What a sender's homeserver remembers.
struct Home {
    fault: Option<Fault>,
    last_counter: u64,
    /// Kept back so that the next one overtakes it.
    kept_back: Option<(RoomId, Bytes)>,
}

impl Home {
    const fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            last_counter: 0,
            kept_back: None,
        }
    }

    /// Results, and what is delivered.
    fn take(
        &mut self,
        submissions: Vec<Submission>,
    ) -> (Vec<SubmissionResult>, Vec<(RoomId, Bytes)>) {
        let mut results = Vec::with_capacity(submissions.len());
        let mut messages = Vec::with_capacity(submissions.len());
        for Submission { counter, body } in submissions {
            let outcome = self.judge(counter);
            let accepted = matches!(outcome, Outcome::Accepted { .. });
            results.push(SubmissionResult { counter, outcome });
            if let SubmissionBody::Message { room, message } = body
                && accepted
            {
                self.deliver(counter, (room, message), &mut messages);
            }
        }
        (results, messages)
    }

    fn judge(&mut self, counter: u64) -> Outcome {
        let refusal = |code| Refusal::new(code, "on purpose");
        if counter != self.last_counter + 1 {
            return Outcome::Refused(refusal(RefusalCode::CounterGap));
        }
        if self.fault == Some(Fault::Deferred { counter }) {
            self.fault = None;
            return Outcome::Deferred {
                retry_after_ms: DEFERRED_MS,
                refusal: refusal(RefusalCode::RateLimited),
            };
        }
        self.last_counter = counter;
        if self.fault == Some(Fault::Refused { counter }) {
            return Outcome::Refused(refusal(RefusalCode::Quota));
        }
        Outcome::Accepted { accepted_ms: 0 }
    }

    fn deliver(
        &mut self,
        counter: u64,
        message: (RoomId, Bytes),
        messages: &mut Vec<(RoomId, Bytes)>,
    ) {
        if self.fault == Some(Fault::Lost { counter }) {
            return;
        }
        if self.fault
            == Some(Fault::Swapped {
                counter: counter + 1,
            })
        {
            self.kept_back = Some(message);
            return;
        }
        if self.fault == Some(Fault::Duplicated { counter }) {
            messages.push(message.clone());
        }
        messages.push(message);
        messages.extend(self.kept_back.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::Progress;
    use crate::report::PhaseReport;
    use crate::run::{Kind, Run, Timing};

    /// Two pairs for a moment, closed or open loop, with a fault or without.
    async fn run(kind: Kind, fault: Option<Fault>) -> PhaseReport {
        let reflector = Reflector::start(fault).unwrap();
        let pairs = reflector.pairs(2).unwrap();
        let run = Run::start(pairs, 1, Vec::new()).await.unwrap();
        let timing = Timing {
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(300),
            drain: Duration::from_millis(300),
        };
        run.phase(kind, timing, &Progress::new()).await.unwrap()
    }

    const CLOSED: Kind = Kind::Closed { window: 16 };
    const OPEN: Kind = Kind::Open { rate: 2_000 };

    /// Goal: with nothing wrong nothing is reported wrong, and every message counts once; through
    /// real sessions, closed and open loop.
    #[tokio::test]
    async fn nothing_wrong() {
        for kind in [CLOSED, OPEN] {
            let report = run(kind, None).await;
            assert!(report.ok(), "{report:?}");
            assert!(report.sent > 200, "{report:?}");
            assert_eq!(report.sent, report.delivered);
            assert_eq!(report.sent, report.accepted);
        }
    }

    /// Goal: an open loop sends what was asked for, no more and no less, however the pairs share it;
    /// by counting.
    #[tokio::test]
    async fn open_loop_keeps_its_rate() {
        let report = run(OPEN, None).await;
        assert_eq!(report.sent, 600, "{report:?}");
    }

    /// Goal: one lost, duplicated, overtaken or refused message in each pair is reported as just that;
    /// by a reflector that does each.
    #[tokio::test]
    async fn faults_are_found() {
        let counter = 50;
        let faults = [
            (Fault::Lost { counter }, (2, 0, 0, 0)),
            (Fault::Duplicated { counter }, (0, 2, 0, 0)),
            (Fault::Swapped { counter }, (0, 0, 2, 0)),
            (Fault::Refused { counter }, (0, 0, 0, 2)),
        ];
        for kind in [CLOSED, OPEN] {
            for (fault, expected) in faults {
                let report = run(kind, Some(fault)).await;
                let refused = report.refused.values().sum::<u64>();
                let found = (report.lost, report.duplicated, report.out_of_order, refused);
                assert_eq!(found, expected, "{fault:?} {report:?}");
                assert!(!report.ok());
            }
        }
    }

    /// Goal: what a homeserver puts off is sent again and arrives once; by putting one off in the
    /// middle of a frame.
    #[tokio::test]
    async fn put_off_is_sent_again() {
        for kind in [CLOSED, OPEN] {
            let report = run(kind, Some(Fault::Deferred { counter: 50 })).await;
            assert!(report.ok(), "{report:?}");
            assert_eq!(report.deferred, 2);
            assert_eq!(report.sent, report.delivered);
        }
    }
}
