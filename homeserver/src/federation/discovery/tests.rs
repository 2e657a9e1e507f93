//! Discovery as a whole, with answers made up and a clock that is moved.

#![allow(
    clippy::disallowed_methods,
    reason = "a test hands out randomness as the node does"
)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use ring::rand::SystemRandom;

use super::address::Unfit;
use super::dns::Answer;
use super::*;

/// Made-up answers.
#[derive(Default)]
struct Told {
    services: Mutex<Vec<Service>>,
    hosts: Mutex<HashMap<String, Vec<IpAddr>>>,
    ttl_seconds: u32,
    insecure: bool,
    silent: bool,
    asked: AtomicUsize,
}

impl Told {
    fn answer<T>(&self, records: Vec<T>) -> Result<Answer<T>, DiscoveryError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Answer {
            records,
            ttl_seconds: self.ttl_seconds,
            security: if self.insecure {
                Security::Insecure
            } else {
                Security::Secure
            },
        })
    }

    fn host(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.hosts
            .lock()
            .unwrap()
            .insert(host.to_owned(), addresses);
    }
}

impl Names for Told {
    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Answer<Service>, DiscoveryError>> {
        Box::pin(async move {
            assert_eq!(name, "_entente-fed._tcp.b.example");
            if self.silent {
                std::future::pending::<()>().await;
            }
            self.answer(self.services.lock().unwrap().clone())
        })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
        v6: bool,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, DiscoveryError>> {
        Box::pin(async move {
            let hosts = self.hosts.lock().unwrap().get(host).cloned();
            let of_family = |all: Vec<IpAddr>| all.into_iter().filter(|a| a.is_ipv6() == v6);
            self.answer(
                hosts
                    .map(|all| of_family(all).collect())
                    .unwrap_or_default(),
            )
        })
    }
}

#[derive(Default)]
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Case {
    told: Arc<Told>,
    clock: Arc<Moved>,
    discovery: Discovery,
}

impl Case {
    fn new(told: Told, change: impl FnOnce(&mut DiscoveryConfig)) -> Self {
        let told = Arc::new(told);
        let clock = Arc::<Moved>::default();
        let mut config = DiscoveryConfig::default();
        change(&mut config);
        let names: Arc<dyn Names> = told.clone();
        let time: Arc<dyn Clock> = clock.clone();
        let random = Arc::new(SystemRandom::new());
        let discovery = Discovery::with_names(names, &config, time, random);
        Self {
            told,
            clock,
            discovery,
        }
    }

    async fn find(&self, endpoints: &[&str]) -> Result<Route, DiscoveryError> {
        let endpoints: Vec<_> = endpoints.iter().map(|e| (*e).to_owned()).collect();
        let server = "b.example".parse().unwrap();
        self.discovery.find(&server, &endpoints).await
    }

    fn asked(&self) -> usize {
        self.told.asked.swap(0, Ordering::SeqCst)
    }
}

fn service(priority: u16, port: u16, target: &str) -> Service {
    Service {
        priority,
        weight: 0,
        port,
        target: target.to_owned(),
    }
}

fn shown(route: &Route) -> Vec<String> {
    route.addresses.iter().map(SocketAddr::to_string).collect()
}

/// Goal: endpoints of the agreement come first, in their order, and the SRV records are not even asked
/// for; by names and literal addresses mixed.
#[tokio::test]
async fn endpoints_before_services() {
    let case = Case::new(Told::default(), |_| {});
    case.told.host("chat.b.example", &["8.8.8.8", "2a00::1"]);
    case.told.services.lock().unwrap().push(service(0, 1, "x"));
    let endpoints = ["127.0.0.1:1", "chat.b.example:2", "[2a00::2]:3"];
    let route = case.find(&endpoints).await.unwrap();
    assert_eq!(
        shown(&route),
        ["127.0.0.1:1", "[2a00::1]:2", "8.8.8.8:2", "[2a00::2]:3"]
    );
    assert!(!route.by_service);
    assert_eq!(case.asked(), 2);
    let bad = case.find(&["nonsense", "b.example:0"]).await.unwrap_err();
    assert!(matches!(bad, DiscoveryError::BadEndpoint(_)), "{bad}");
}

/// Goal: SRV targets come by priority; those that lie are left out, and a lie alone is an error that says
/// which address and why; by targets within this machine.
#[tokio::test]
async fn lying_targets() {
    let case = Case::new(Told::default(), |_| {});
    case.told.host("good", &["8.8.8.8"]);
    case.told.host("later", &["8.8.4.4"]);
    case.told
        .host("lie", &["127.0.0.1", "169.254.169.254", "::ffff:7f00:1"]);
    case.told.services.lock().unwrap().extend([
        service(9, 3, "later"),
        service(0, 1, "lie"),
        service(5, 2, "good"),
        service(5, 2, "nowhere"),
    ]);
    let route = case.find(&[]).await.unwrap();
    assert_eq!(shown(&route), ["8.8.8.8:2", "8.8.4.4:3"]);
    assert_eq!(route.to_string(), "SRV records; DNSSEC: secure");

    let lie = Case::new(Told::default(), |_| {});
    lie.told.host("lie", &["127.0.0.1"]);
    lie.told.services.lock().unwrap().push(service(0, 1, "lie"));
    let refused = lie.find(&[]).await.unwrap_err();
    let reason = Unfit::Loopback;
    let (host, address) = ("lie".to_owned(), "127.0.0.1".parse().unwrap());
    assert_eq!(
        refused,
        DiscoveryError::Refused {
            host,
            address,
            reason
        }
    );
    // `localhost` may stand in an agreement and not behind an SRV record; an address may be no target.
    let local = Case::new(Told::default(), |_| {});
    local.told.host("localhost", &["127.0.0.1"]);
    assert!(local.find(&["localhost:1"]).await.is_ok());
    local
        .told
        .services
        .lock()
        .unwrap()
        .push(service(0, 1, "localhost"));
    assert!(local.find(&[]).await.is_err());
}

/// Goal: no service, a service decidedly not offered, and a target without addresses are told apart; by
/// each answer.
#[tokio::test]
async fn what_is_missing() {
    let find = |services: Vec<Service>| async move {
        let case = Case::new(Told::default(), |_| {});
        *case.told.services.lock().unwrap() = services;
        case.find(&[]).await.unwrap_err()
    };
    assert!(matches!(find(vec![]).await, DiscoveryError::NoService(..)));
    let dot = find(vec![service(0, 0, "")]).await;
    assert!(matches!(dot, DiscoveryError::NotOffered(_)));
    let empty = find(vec![service(0, 1, "nowhere")]).await;
    assert!(
        matches!(&empty, DiscoveryError::NoAddress(host, _) if host == "nowhere"),
        "{empty}"
    );
}

/// Goal: an answer is kept for its time to live and no longer, within bounds, and a failure shortly; by
/// moving the clock and counting questions.
#[tokio::test]
async fn kept_for_its_time() {
    for (ttl_seconds, kept_ms) in [(0, 5_000), (60, 60_000), (u32::MAX, 3_600_000)] {
        let told = Told {
            ttl_seconds,
            ..Told::default()
        };
        let case = Case::new(told, |_| {});
        case.told.host("good", &["8.8.8.8"]);
        case.told
            .services
            .lock()
            .unwrap()
            .push(service(0, 1, "good"));
        case.find(&[]).await.unwrap();
        assert_eq!(case.asked(), 3);
        case.told.host("good", &["8.8.4.4"]);
        case.clock.0.store(kept_ms - 1, Ordering::SeqCst);
        assert_eq!(shown(&case.find(&[]).await.unwrap()), ["8.8.8.8:1"]);
        assert_eq!(case.asked(), 0);
        case.clock.0.store(kept_ms, Ordering::SeqCst);
        assert_eq!(shown(&case.find(&[]).await.unwrap()), ["8.8.4.4:1"]);
        assert_eq!(case.asked(), 3);
        // A new agreement is a new question.
        assert!(case.find(&["good:7"]).await.is_ok());
        assert_eq!(case.asked(), 2);
    }
    let case = Case::new(Told::default(), |_| {});
    assert!(case.find(&[]).await.is_err());
    case.clock.0.store(4_999, Ordering::SeqCst);
    assert!(case.find(&[]).await.is_err());
    assert_eq!(case.asked(), 1);
    case.clock.0.store(5_000, Ordering::SeqCst);
    assert!(case.find(&[]).await.is_err());
    assert_eq!(case.asked(), 1);
}

/// Goal: what is kept stays bounded however many peers fail; by more names than the bound.
#[test]
fn bounded() {
    let case = Case::new(Told::default(), |_| {});
    let failure = || {
        Err(DiscoveryError::NoAddress(
            String::new(),
            super::Security::Unchecked,
        ))
    };
    for number in 0..CACHED_PEERS_MAX + 10 {
        let server = format!("b{number}.example").parse().unwrap();
        case.discovery.keep(&server, &[], failure(), 0);
    }
    assert_eq!(case.discovery.kept().len(), CACHED_PEERS_MAX);
    let server = "late.example".parse().unwrap();
    case.discovery
        .keep(&server, &[], failure(), NEGATIVE_TTL_MS);
    assert_eq!(case.discovery.kept().len(), 1);
}

/// Goal: a long list is cut to the limits, and a DNS that never answers ends in time; by many targets and
/// silence under virtual time.
#[tokio::test(start_paused = true)]
async fn hostile_sizes_and_silence() {
    let case = Case::new(Told::default(), |_| {});
    let many: Vec<_> = (1..200).map(|n| format!("8.8.{n}.8")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for number in 0..32 {
        let target = format!("t{number}");
        case.told.host(&target, &many);
        case.told
            .services
            .lock()
            .unwrap()
            .push(service(0, 1, &target));
    }
    assert_eq!(case.find(&[]).await.unwrap().addresses.len(), ADDRESSES_MAX);
    assert_eq!(case.asked(), 1 + 2 * TARGETS_MAX);

    let told = Told {
        silent: true,
        ..Told::default()
    };
    let start = tokio::time::Instant::now();
    let silent = Case::new(told, |_| {}).find(&[]).await.unwrap_err();
    assert_eq!(silent, DiscoveryError::Timeout("b.example".to_owned()));
    assert_eq!(start.elapsed(), DISCOVERY_TIME_MAX);
}

/// Goal: `require` takes secure answers only, `report` shows what they are; by an insecure zone.
#[tokio::test]
async fn required_signatures() {
    for (dnssec, fine) in [(Dnssec::Report, true), (Dnssec::Require, false)] {
        let told = Told {
            insecure: true,
            ..Told::default()
        };
        let case = Case::new(told, |config| config.dnssec = dnssec);
        case.told.host("good", &["8.8.8.8"]);
        match case.find(&["good:1"]).await {
            Ok(route) => assert!(fine && route.security == Some(Security::Insecure)),
            Err(error) => assert!(!fine && error.to_string().contains("report"), "{error}"),
        }
    }
}
