//! A homeserver on loopback: TLS, HTTP and WebSocket around [`Network`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use homeserver_api::client::{
    AccountHistory, AccountInfo, Anchor, Anchors, ApproveRequest, EnrolPending, EnrolRequest,
    EnrolResponse, FileInfo, KeyPackageCount, KeyPackages, LogHead, LogStatements, RenewRequest,
    RenewResponse, RoomCertificate, WaitingDevice,
};
use homeserver_api::codec::Wire as _;
use homeserver_api::contacts::{
    ContactAct, ContactInfo, ContactRequest, ContactStanding, Contacts,
};
use homeserver_api::device_log::DeviceStatement;
use homeserver_api::ids::{AccountId, Address, DeviceId, FileId, Member};
use homeserver_api::password::ChangePasswordRequest;
use homeserver_api::policy::{OwnRules, UserTypePolicy};
use homeserver_api::problem::Problem;
use homeserver_api::session::{ClientFrame, Hello, SUBPROTOCOL, ServerFrame};
use http::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Network, Organisation};
use crate::clock::tests::TestClock;
use crate::clock::{Clock as _, SystemClock};

pub(crate) const PASSWORD: &str = "correct horse";

/// What the homeserver keeps while its process comes and goes.
pub(crate) struct Loopback {
    pub(crate) organisation: Organisation,
    pub(crate) address: SocketAddr,
    pub(crate) clock: TestClock,
    network: Mutex<Network>,
    files: Mutex<BTreeMap<FileId, Bytes>>,
    /// Something was put into an inbox.
    mail: Notify,
    tls: TlsAcceptor,
    /// Answers `GET /v1/files` with "not yet" this often.
    pub(crate) fetches: Mutex<u32>,
    stop: watch::Sender<u32>,
    /// Devices that were removed.
    pub(crate) removed: Mutex<BTreeSet<DeviceId>>,
    /// Devices that wait for approval, as the homeserver shows them.
    pub(crate) waiting: Mutex<Vec<WaitingDevice>>,
    /// Whether the next device has to wait, and the answer that it gets in the end.
    pub(crate) next_waits: Mutex<bool>,
    approved: Mutex<Option<EnrolResponse>>,
    /// What was asked and decided about whom.
    pub(crate) contacts: Mutex<Vec<(Address, ContactRequest)>>,
    /// How many certificates were renewed.
    pub(crate) renewals: watch::Sender<u32>,
}

type Answer = Response<Full<Bytes>>;

impl Loopback {
    pub(crate) async fn start(server: &str) -> Arc<Self> {
        let organisation = Organisation::new(server);
        let (chain, key) = organisation.tls(server);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                chain.into_iter().map(CertificateDer::from).collect(),
                PrivateKeyDer::try_from(key).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clock = TestClock::at(SystemClock.now_ms());
        let this = Arc::new(Self {
            organisation,
            address: listener.local_addr().unwrap(),
            network: Mutex::new(Network::new(&clock)),
            clock,
            files: Mutex::default(),
            mail: Notify::new(),
            tls: TlsAcceptor::from(Arc::new(tls)),
            fetches: Mutex::default(),
            removed: Mutex::default(),
            waiting: Mutex::default(),
            next_waits: Mutex::default(),
            approved: Mutex::default(),
            contacts: Mutex::default(),
            stop: watch::Sender::new(0),
            renewals: watch::Sender::new(0),
        });
        this.serve(listener);
        this
    }

    /// Cuts every connection, as a kill does, and stays away.
    pub(crate) fn kill(&self) {
        self.stop.send_modify(|kills| *kills += 1);
    }

    /// Comes back after [`Self::kill`].
    pub(crate) async fn revive(self: &Arc<Self>) {
        let listener = loop {
            // The killed listener gives its port back when its task has ended.
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    pub(crate) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap()
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let this = Arc::clone(self);
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (tcp, _) = accepted.unwrap();
                        let this = Arc::clone(&this);
                        connections.spawn(async move {
                            let Ok(tls) = this.tls.accept(tcp).await else {
                                return;
                            };
                            let service = service_fn(|request| {
                                let this = Arc::clone(&this);
                                async move { Ok::<_, Infallible>(this.answer(request).await) }
                            });
                            let _ = hyper::server::conn::http1::Builder::new()
                                .serve_connection(TokioIo::new(tls), service)
                                .with_upgrades()
                                .await;
                        });
                    }
                    _ = stop.changed() => return,
                }
            }
        });
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        if path == "/v1/devices" {
            return self.enrol(request).await;
        }
        if path == "/v1/devices/waiting" {
            let approved = self.approved.lock().unwrap().clone();
            return json(201, &approved.unwrap());
        }
        let Some(member) = self.member(&request) else {
            return problem(401, "unauthorised", "sign in again");
        };
        match (method, path.as_str()) {
            (Method::GET, "/v1/session") => self.session(request, member),
            (Method::POST, "/v1/account/password") => {
                let body: ChangePasswordRequest = read(request).await;
                match body.old.as_str() == PASSWORD {
                    true => no_content(),
                    false => problem(403, "wrong-password", "the present password is wrong"),
                }
            }
            (Method::DELETE, path) if path == format!("/v1/devices/{}", member.device) => {
                self.removed.lock().unwrap().insert(member.device);
                no_content()
            }
            (Method::POST, path) if path.starts_with("/v1/devices/waiting/") => {
                let body: ApproveRequest = read(request).await;
                let statement = DeviceStatement::from_bytes(body.statement.0).unwrap();
                assert!(path.ends_with(&statement.device.to_string()));
                let mut network = self.network();
                let log = network.logs.get_mut(&self.organisation.server).unwrap();
                // Panics when it is no approval that everybody would take.
                log.write(statement);
                no_content()
            }
            (Method::DELETE, path) if path.starts_with("/v1/devices/waiting/") => {
                let id = path.rsplit('/').next().unwrap().parse().unwrap();
                let mut waiting = self.waiting.lock().unwrap();
                waiting.retain(|device| device.device != id);
                no_content()
            }
            (Method::GET, "/v1/account") => json(200, &self.account(&member)),
            (Method::GET, "/v1/contacts") => {
                let noted = self.contacts.lock().unwrap();
                let contacts = noted.iter().map(|(of, request)| contact(of, request));
                let contacts = contacts.collect();
                json(200, &Contacts { contacts })
            }
            (Method::PUT, path) if path.starts_with("/v1/contacts/") => {
                let of: Address = path.rsplit('/').next().unwrap().parse().unwrap();
                let request: ContactRequest = read(request).await;
                let answer = json(200, &contact(&of, &request));
                self.contacts.lock().unwrap().push((of, request));
                answer
            }
            (Method::DELETE, path) if path.starts_with("/v1/contacts/") => no_content(),
            (Method::GET, "/v1/anchors") => json(
                200,
                &Anchors {
                    anchors: vec![Anchor {
                        server: self.organisation.server.clone(),
                        root: self.organisation.root.clone().into(),
                        former: Vec::new(),
                        handover: None,
                        log_head: None,
                    }],
                    ended: Vec::new(),
                },
            ),
            (Method::GET, "/v1/room-certificate") => {
                let chain = self.organisation.hub_chain();
                let chain = chain.into_iter().map(Into::into).collect();
                json(200, &RoomCertificate { chain })
            }
            (Method::GET, path) if path.starts_with("/v1/device-log/head/") => {
                let head = self.network().logs[&self.organisation.server].head();
                let head = head.to_bytes().unwrap().to_vec().into();
                json(200, &LogHead { head, growth: None })
            }
            (Method::GET, path) if path.starts_with("/v1/device-log/statements/") => {
                let after = path.rsplit('/').next().unwrap().parse().unwrap();
                let network = self.network();
                let statements = &network.logs[&self.organisation.server].statements;
                let listed = statements.iter().skip(after);
                let listed = listed.map(|statement| statement.to_bytes().unwrap().to_vec().into());
                let statements = listed.collect();
                json(200, &LogStatements { statements })
            }
            (Method::GET, path) if path.starts_with("/v1/device-log/accounts/") => {
                let known = path.rsplit('/').next().unwrap();
                let known: Vec<u64> = known.split(',').map(|size| size.parse().unwrap()).collect();
                let server = &self.organisation.server;
                let history = self
                    .network()
                    .history(&member, server, member.account, &known);
                let history = history.to_vec().into();
                json(200, &AccountHistory { history })
            }
            (Method::GET, "/v1/key-packages") => json(200, &self.count(&member)),
            (Method::PUT, "/v1/key-packages") => {
                let body: KeyPackages = read(request).await;
                self.network().put_key_packages(
                    &member,
                    body.single_use.into_iter().map(|k| k.0).collect(),
                    body.last_resort.map(|k| k.0),
                );
                json(200, &self.count(&member))
            }
            (Method::POST, "/v1/certificate") => {
                let body: RenewRequest = read(request).await;
                self.network().withdraw_key_packages(&member);
                self.renew(&member, &body)
            }
            (Method::POST, "/v1/files") => {
                assert!(request.headers().contains_key("entente-ttl-seconds"));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut files = self.files.lock().unwrap();
                let file = FileId::from_bytes([u8::try_from(files.len()).unwrap(); 16]);
                let info = FileInfo {
                    server: self.organisation.server.clone(),
                    file,
                    bytes: u64::try_from(body.len()).unwrap(),
                    expires_ms: u64::MAX,
                };
                files.insert(file, body);
                json(201, &info)
            }
            (Method::GET, path) if path.starts_with("/v1/files/") => self.file(path),
            _ => problem(404, "unknown-path", "there is nothing here"),
        }
    }

    fn file(&self, path: &str) -> Answer {
        let mut fetches = self.fetches.lock().unwrap();
        if *fetches > 0 {
            *fetches -= 1;
            return Response::builder()
                .status(StatusCode::ACCEPTED)
                .header(RETRY_AFTER, "0")
                .body(Full::default())
                .unwrap();
        }
        let id = path.rsplit('/').next().unwrap().parse().unwrap();
        let files = self.files.lock().unwrap();
        Response::new(Full::new(files[&id].clone()))
    }

    /// Changes one byte of every file.
    pub(crate) fn damage_files(&self) {
        for bytes in self.files.lock().unwrap().values_mut() {
            let mut changed = bytes.to_vec();
            changed[0] ^= 1;
            *bytes = changed.into();
        }
    }

    fn count(&self, member: &Member) -> KeyPackageCount {
        let (single_use, last_resort) = self.network().key_package_count(member);
        KeyPackageCount {
            single_use,
            last_resort,
        }
    }

    fn account(&self, member: &Member) -> AccountInfo {
        AccountInfo {
            address: self.network().address(member),
            account: member.account,
            user_type: "standard".to_owned(),
            policy: UserTypePolicy::default(),
            own: OwnRules::default(),
            banner_sha256: None,
            devices: Vec::new(),
            waiting: self.waiting.lock().unwrap().clone(),
        }
    }

    async fn enrol(&self, request: Request<Incoming>) -> Answer {
        let body: EnrolRequest = read(request).await;
        if body.password.as_str() != PASSWORD {
            return problem(401, "sign-in-failed", "the handle or the password is wrong");
        }
        let csr = CertificateSigningRequestParams::from_der(&body.csr.0.as_slice().into()).unwrap();
        let address: Address = format!("{}@{}", body.handle, self.organisation.server)
            .parse()
            .unwrap();
        let mut network = self.network();
        let mut account = [0; 16];
        for (to, from) in account.iter_mut().zip(body.handle.as_str().bytes()) {
            *to = from;
        }
        let number = u8::try_from(network.device_count() + 1).unwrap();
        let member = Member {
            server: self.organisation.server.clone(),
            account: AccountId::from_bytes(account),
            device: DeviceId::from_bytes([number; 16]),
        };
        let now_ms = self.clock.now_ms();
        let key = csr.public_key.der_bytes();
        network.enrol(&address, &member, key, None, &self.organisation);
        let chain = self.organisation.issue(&member, &address, key, now_ms);
        let response = EnrolResponse {
            address: address.clone(),
            account: member.account,
            device: member.device,
            token: member.device.to_string(),
            chain: chain.into_iter().map(Into::into).collect(),
            root: self.organisation.root.clone().into(),
            not_after_ms: now_ms + 30 * 86_400_000,
        };
        if !std::mem::take(&mut *self.next_waits.lock().unwrap()) {
            return json(201, &response);
        }
        *self.approved.lock().unwrap() = Some(response);
        json(
            202,
            &EnrolPending {
                address,
                account: member.account,
                device: member.device,
                token: member.device.to_string(),
                root: self.organisation.root.clone().into(),
                until_ms: now_ms + 3_600_000,
            },
        )
    }

    fn renew(&self, member: &Member, body: &RenewRequest) -> Answer {
        let csr = CertificateSigningRequestParams::from_der(&body.csr.0.as_slice().into()).unwrap();
        let address = self.network().address(member);
        let now_ms = self.clock.now_ms();
        let key = csr.public_key.der_bytes();
        let chain = self.organisation.issue(member, &address, key, now_ms);
        self.renewals.send_modify(|renewals| *renewals += 1);
        json(
            200,
            &RenewResponse {
                chain: chain.into_iter().map(Into::into).collect(),
                not_after_ms: now_ms + 30 * 86_400_000,
            },
        )
    }

    fn member(&self, request: &Request<Incoming>) -> Option<Member> {
        let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
        let device: DeviceId = value.strip_prefix("Bearer ")?.parse().ok()?;
        if self.removed.lock().unwrap().contains(&device) {
            return None;
        }
        self.network().member(device)
    }

    fn session(self: Arc<Self>, request: Request<Incoming>, member: Member) -> Answer {
        let headers = request.headers();
        assert_eq!(headers["sec-websocket-protocol"], SUBPROTOCOL);
        let accept = derive_accept_key(headers["sec-websocket-key"].as_bytes());
        let stop = self.stop.subscribe();
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else {
                return;
            };
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            self.run_session(socket, member, stop).await;
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, accept)
            .header("sec-websocket-protocol", SUBPROTOCOL)
            .body(Full::default())
            .unwrap()
    }

    async fn run_session<S>(
        &self,
        mut socket: WebSocketStream<S>,
        member: Member,
        mut stop: watch::Receiver<u32>,
    ) where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let hello = ServerFrame::Hello(Hello {
            server_time_ms: SystemClock.now_ms(),
            last_counter: self.network().last_counter(&member),
        });
        let mut sent = 0;
        let mut caught_up = false;
        let mut to_send = vec![hello];
        loop {
            for frame in to_send.drain(..) {
                let bytes = Bytes::from(frame.encode().unwrap());
                if socket.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
            let mail = self.mail.notified();
            let waiting: Vec<_> = {
                let inbox = self.network().inbox(&member);
                inbox.into_iter().filter(|d| d.number > sent).collect()
            };
            if let Some(last) = waiting.last() {
                sent = last.number;
                to_send.push(ServerFrame::Deliver(waiting));
                continue;
            }
            if !caught_up {
                caught_up = true;
                to_send.push(ServerFrame::CaughtUp);
                continue;
            }
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        to_send.extend(self.take(&member, ClientFrame::decode(&bytes).unwrap()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                () = mail => {}
                _ = stop.changed() => return,
            }
        }
    }

    fn take(&self, member: &Member, frame: ClientFrame) -> Option<ServerFrame> {
        match frame {
            ClientFrame::Submit(submissions) => {
                let results = self.network().submit(member, submissions);
                self.mail.notify_waiters();
                Some(ServerFrame::Results(results))
            }
            ClientFrame::Acknowledge(number) => {
                self.network().acknowledge(member, number);
                None
            }
        }
    }
}

fn no_content() -> Answer {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .body(Full::default())
        .unwrap()
}

fn contact(of: &Address, request: &ContactRequest) -> ContactInfo {
    ContactInfo {
        address: of.clone(),
        standing: match request.act {
            ContactAct::Ask => ContactStanding::Asked,
            ContactAct::Allow => ContactStanding::Allowed,
            ContactAct::Block => ContactStanding::Blocked,
        },
        allows_you: false,
        text: String::new(),
        since_ms: 0,
        expires_ms: None,
    }
}

async fn read<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> T {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

fn json(status: u16, body: &impl Serialize) -> Answer {
    Response::builder()
        .status(status)
        .body(Full::new(serde_json::to_vec(body).unwrap().into()))
        .unwrap()
}

fn problem(status: u16, code: &str, detail: &str) -> Answer {
    json(status, &Problem::new(status, code, code, detail))
}

/// Ends a test that hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it hangs")
}
