//! Several nodes in one process, joined by a network that a test can break.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use federation_proto::ids::{Member, RoomId, ServerName};
use federation_proto::limits::TRANSACTION_BYTES_MAX;
use federation_proto::padding;
use futures_util::future::BoxFuture;
use homeserver_api::admin::{
    AcceptRequest, CountersignRequest, CreateUserRequest, OfferRequest, Terms,
};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::client::EnrolRequest;
use homeserver_api::session::{Commit, Outcome, Submission, SubmissionBody};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::audit::Actor;
use crate::config::Config;
use crate::delivery::submit::submit;
use crate::federation::outbound::{Network, ResponseBody};
use crate::federation::{inbound, peers};
use crate::http_client::ConnectionError;
use crate::identity::accounts;
use crate::identity::enrolment::{self, Enrolled};
use crate::node::Node;
use crate::node::testing::{ManualClock, founded_with};
use crate::rooms::mls_framing::testing::{
    application_message, commit_message, group_info_message, welcome_message,
};
use crate::rooms::testing;
use crate::store::device::DeviceOf;
use crate::store::inbox::{self, InboxBody};
use crate::tls::{self, Peer};

/// One organisation.
pub(crate) struct Side {
    pub(crate) node: Arc<Node>,
    pub(crate) clock: Arc<ManualClock>,
    pub(super) network: Arc<LocalNetwork>,
    pub(crate) root_key: Zeroizing<Vec<u8>>,
}

/// Requests go straight into the other nodes' routers, as coming from `us`.
pub(super) struct LocalNetwork {
    us: ServerName,
    routers: Mutex<HashMap<ServerName, Router>>,
    /// With these it is judged whether TLS would let a request through; none: it is not judged.
    judges: Mutex<HashMap<ServerName, Arc<Node>>>,
    /// How often TLS would not have.
    pub(super) turned_away: AtomicUsize,
    /// Nobody is reached.
    down: AtomicBool,
    /// Requests to this path arrive, their answers don't.
    mute: Mutex<Option<&'static str>>,
    /// What the bodies held that were sent, for replays.
    pub(super) sent: Mutex<Vec<(String, Bytes)>>,
}

impl LocalNetwork {
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// This one is not reached any more; others are.
    pub(super) fn lose(&self, server: &ServerName) {
        self.routers.lock().unwrap().remove(server);
    }

    /// From now on this node is reached in the place of a former one of its name.
    pub(super) fn reach(&self, node: &Arc<Node>) {
        let router = inbound::router(Arc::clone(node));
        let mut routers = self.routers.lock().unwrap();
        routers.insert(node.server.clone(), router);
    }

    pub(super) fn mute_from(&self, path: &'static str) {
        *self.mute.lock().unwrap() = Some(path);
    }

    pub(super) fn unmute(&self) {
        *self.mute.lock().unwrap() = None;
    }

    /// From now on nothing passes that TLS would not let through.
    pub(super) fn judge(&self, nodes: impl IntoIterator<Item = Arc<Node>>) {
        let nodes = nodes.into_iter().map(|node| (node.server.clone(), node));
        *self.judges.lock().unwrap() = nodes.collect();
    }

    fn would_connect(&self, server: &ServerName) -> bool {
        let judges = self.judges.lock().unwrap();
        let (Some(us), Some(peer)) = (judges.get(&self.us), judges.get(server)) else {
            return true;
        };
        let now_ms = us.clock.now_ms();
        tls::would_admit(&us.keys, false, &peer.peer_roots, now_ms).is_ok()
            && tls::would_admit(&peer.keys, true, &us.peer_roots, now_ms).is_ok()
    }

    pub(super) async fn request(
        &self,
        server: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Response<ResponseBody>, ConnectionError> {
        let broken = || ConnectionError::Broken("the test has cut the network".to_owned());
        if self.down.load(Ordering::SeqCst) {
            return Err(broken());
        }
        if !self.would_connect(server) {
            self.turned_away.fetch_add(1, Ordering::SeqCst);
            return Err(ConnectionError::TurnedAway);
        }
        let path = request.uri().path().to_owned();
        self.sent
            .lock()
            .unwrap()
            .push((path.clone(), held(request.body())));
        let router = self.routers.lock().unwrap().get(server).cloned();
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(Peer(self.us.clone()));
        let response = router.ok_or_else(broken)?.oneshot(request).await.unwrap();
        if *self.mute.lock().unwrap() == Some(path.as_str()) {
            return Err(broken());
        }
        Ok(response.map(|body| {
            body.map_err(|error| ConnectionError::Broken(error.to_string()))
                .boxed_unsync()
        }))
    }
}

/// What a body holds: it is padded, unless it is empty.
fn held(body: &Bytes) -> Bytes {
    if body.is_empty() {
        return Bytes::new();
    }
    padding::unpad(body, TRANSACTION_BYTES_MAX).unwrap()
}

impl Network for LocalNetwork {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(self.request(server, request))
    }

    fn cut(&self, _server: &ServerName) {}
}

/// Nodes that can reach each other, without agreements.
pub(crate) fn sides<const N: usize>(names: [&str; N]) -> [Side; N] {
    sides_with(names, |_| ())
}

/// As [`sides`], with something else set than what is by default.
pub(crate) fn sides_with<const N: usize>(
    names: [&str; N],
    change: impl Fn(&mut Config),
) -> [Side; N] {
    let sides = names.map(|name| {
        let (node, clock, root_key) = founded_with(name, &change);
        let node = Arc::new(node);
        let network = Arc::new(LocalNetwork {
            us: node.server.clone(),
            routers: Mutex::default(),
            judges: Mutex::default(),
            turned_away: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            mute: Mutex::default(),
            sent: Mutex::default(),
        });
        Side {
            node,
            clock,
            network,
            root_key,
        }
    });
    for side in &sides {
        let mut routers = side.network.routers.lock().unwrap();
        for other in &sides {
            let router = inbound::router(Arc::clone(&other.node));
            routers.insert(other.node.server.clone(), router);
        }
    }
    sides
}

pub(crate) fn admin() -> Actor {
    Actor::Local(0)
}

/// Offer and acceptance: `b` has accepted, `a` has yet to countersign. Returns the acceptance.
pub(crate) async fn accepted(a: &Side, b: &Side, terms: Option<Terms>) -> String {
    let offer = peers::offer(
        &a.node,
        &admin(),
        &OfferRequest {
            server: b.node.server.clone(),
            terms: terms.clone(),
            endpoints: vec!["192.0.2.1:8448".to_owned()],
            contact: String::new(),
        },
    )
    .await
    .unwrap();
    let seen = peers::inspect(&b.node, &offer).await.unwrap();
    peers::accept(
        &b.node,
        &admin(),
        &AcceptRequest {
            document: offer,
            fingerprint: seen.fingerprint,
            terms,
            endpoints: vec!["192.0.2.2:8448".to_owned()],
            contact: String::new(),
        },
    )
    .await
    .unwrap()
}

/// Countersigns; the partner is told by `a`'s worker.
pub(crate) async fn countersigned(a: &Side, acceptance: String) -> String {
    let seen = peers::inspect(&a.node, &acceptance).await.unwrap();
    peers::countersign(
        &a.node,
        &admin(),
        &CountersignRequest {
            document: acceptance,
            fingerprint: seen.fingerprint,
        },
    )
    .await
    .unwrap()
}

/// An agreement in force on both sides.
pub(crate) async fn peered(a: &Side, b: &Side) {
    let acceptance = accepted(a, b, None).await;
    let countersignature = countersigned(a, acceptance).await;
    peers::take(&b.node, &admin(), &countersignature)
        .await
        .unwrap();
}

/// A person with one device.
pub(super) struct Person {
    pub(super) of: DeviceOf,
    pub(super) member: Member,
    counter: u64,
}

pub(super) async fn person(side: &Side, name: &str) -> Person {
    create_account(side, name).await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    enrol(side, name, &key).await.0
}

/// An account without a device.
pub(super) async fn create_account(side: &Side, name: &str) {
    let password = "a long password".to_owned();
    let request = CreateUserRequest {
        handle: name.parse().unwrap(),
        user_type: None,
        password: Some(password.as_str().into()),
    };
    accounts::create(&side.node, &admin(), request)
        .await
        .unwrap();
}

/// A device with this key of an account that is there, and its certificate chain.
pub(super) async fn enrol(side: &Side, name: &str, key: &rcgen::KeyPair) -> (Person, Vec<Vec<u8>>) {
    let csr = rcgen::CertificateParams::default()
        .serialize_request(key)
        .unwrap();
    let enrolled = enrolment::enrol(
        &side.node,
        EnrolRequest {
            handle: name.parse().unwrap(),
            password: "a long password".to_owned().into(),
            csr: homeserver_api::Base64(csr.der().to_vec()),
            device_name: "laptop".to_owned(),
            reset: true,
        },
    )
    .await
    .unwrap();
    let Enrolled::Now(enrolled) = enrolled else {
        panic!("a reset does not wait");
    };
    let (account, device) = (enrolled.account, enrolled.device);
    let person = Person {
        of: DeviceOf { account, device },
        member: Member {
            server: side.node.server.clone(),
            account,
            device,
        },
        counter: 0,
    };
    let chain: Vec<Vec<u8>> = enrolled.chain.into_iter().map(|der| der.0).collect();
    testing::certified(&side.node.keys, device, key, &chain);
    (person, chain)
}

impl Person {
    /// A further device of somebody.
    pub(super) fn at(side: &Side, of: DeviceOf) -> Self {
        Self {
            of,
            member: Member {
                server: side.node.server.clone(),
                account: of.account,
                device: of.device,
            },
            counter: 0,
        }
    }

    /// Submits one thing on the person's own homeserver.
    pub(super) async fn submit(&mut self, side: &Side, mut body: SubmissionBody) -> Outcome {
        self.counter += 1;
        testing::fill(&side.node, self.of, &mut body);
        let submission = Submission {
            counter: self.counter,
            body,
        };
        let results = submit(&side.node, self.of, std::slice::from_ref(&submission)).await;
        let outcome = results.unwrap().pop().unwrap().outcome;
        testing::submitted(self.of, &submission.body, &outcome);
        outcome
    }

    /// Creates a room with `others` in it.
    pub(super) async fn create_room(
        &mut self,
        side: &Side,
        room: RoomId,
        others: &[&Person],
    ) -> Outcome {
        let commit = Commit {
            room,
            hub: side.node.server.clone(),
            epoch: 0,
            commit: commit_message(room, 0, &[1; 40]).into(),
            adds: others.iter().map(|person| person.member.clone()).collect(),
            removes: Vec::new(),
            welcome: Some(welcome_message().into()),
            group_info: group_info_message(room, 1).into(),
            founding: None,
        };
        self.submit(side, SubmissionBody::Commit(commit)).await
    }

    /// Sends a message that lives for `ttl_seconds`.
    pub(super) async fn say(
        &mut self,
        side: &Side,
        room: RoomId,
        text: &[u8],
        ttl_seconds: u32,
    ) -> Outcome {
        let attributes = MessageAttributes {
            ttl_seconds,
            burn_seconds: 0,
            label: 0,
            file: false,
        };
        self.say_with(side, room, text, attributes).await
    }

    /// Sends a message with these attributes.
    pub(super) async fn say_with(
        &mut self,
        side: &Side,
        room: RoomId,
        text: &[u8],
        attributes: MessageAttributes,
    ) -> Outcome {
        let message = application_message(room, 1, attributes, text).into();
        self.submit(side, SubmissionBody::Message { room, message })
            .await
    }

    /// What waits for the person's device.
    pub(super) async fn inbox(&self, side: &Side) -> Vec<InboxBody> {
        inbox::range(&side.node.store, self.of.device, 0, 1000)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, record, _)| record.body)
            .collect()
    }

    /// The messages that wait for the person's device: how they end.
    pub(super) async fn heard(&self, side: &Side) -> usize {
        let inbox = self.inbox(side).await;
        let messages = inbox
            .iter()
            .filter(|body| matches!(body, InboxBody::Message { .. }));
        messages.count()
    }
}
