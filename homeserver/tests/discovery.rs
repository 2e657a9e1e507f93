//! Discovery against a real authoritative server: knot, on a loopback port, with zones that are signed,
//! broken, unsigned, missing and lying.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by panicking, and makes what a node would hand it"
)]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use homeserver::clock::Clock;
use homeserver::config::{DiscoveryConfig, Dnssec};
use homeserver::federation::discovery::{Discovery, DiscoveryError, Route, Security};
use ring::rand::SystemRandom;

/// The signed zone, with what its owner publishes in it; `forged` is changed after signing.
const SIGNED: &str = "\
$ORIGIN test.
$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
_entente-fed._tcp.good SRV 20 0 8450 later
_entente-fed._tcp.good SRV 10 0 8448 chat
_entente-fed._tcp.forged SRV 10 0 8448 forged
_entente-fed._tcp.off SRV 0 0 0 .
_entente-fed._tcp.loopback SRV 0 0 8448 inside
_entente-fed._tcp.linklocal SRV 0 0 80 metadata
_entente-fed._tcp.mapped SRV 0 0 8448 mapped
_entente-fed._tcp.loop SRV 0 0 8448 ring1
_entente-fed._tcp.alias SRV 0 0 8448 alias
_entente-fed._tcp.empty SRV 0 0 8448 nowhere
_entente-fed._tcp.far SRV 0 0 8448 far1
_entente-fed._tcp.near SRV 0 0 8448 far2
chat A 8.8.8.8
chat AAAA 2a00::1
later A 8.8.4.4
forged A 8.8.8.8
inside A 127.0.0.1
metadata A 169.254.169.254
mapped AAAA ::ffff:127.0.0.1
alias CNAME chat
ring1 CNAME ring2
ring2 CNAME ring1
plain NS ns
";

/// Below the signed zone and not signed itself.
const PLAIN: &str = "\
$ORIGIN plain.test.
$TTL 300
@ SOA ns.test. admin.test. 1 3600 600 86400 60
@ NS ns.test.
_entente-fed._tcp SRV 0 0 8448 chat
_entente-fed._tcp.weak CNAME _entente-fed._tcp.good.test.
chat A 8.8.8.8
";

/// Below no trust anchor, and changed while the server runs.
const OTHER: &str = "\
$ORIGIN other.
$TTL 30
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
_entente-fed._tcp.b SRV 0 0 8448 chat
chat A 8.8.8.8
";

struct Knot {
    server: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The machine's clock stands still here unless it is moved.
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Runs a command of knot's to its end.
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Knot {
    /// The server once it answers, or `None` where it is not installed, which continuous integration does
    /// not forgive.
    fn start() -> Option<Self> {
        let (Some(knotd), Some(sign)) = (program("knotd"), program("kzonesign")) else {
            assert!(
                !std::env::var("CI").is_ok_and(|value| value == "true" || value == "1"),
                "knotd and kzonesign are needed: apt-get install knot knot-dnssecutils"
            );
            eprintln!("skipped: no knotd or kzonesign (apt-get install knot knot-dnssecutils)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago: the system gives each once in a while only.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let at = folder.path();
        write_zones(at);
        std::fs::write(at.join("knot.conf"), configuration(at, address)).unwrap();
        let mut signing = Command::new(sign);
        run(signing
            .arg("-c")
            .arg(at.join("knot.conf"))
            .arg("-o")
            .arg(at.join("signed"))
            .arg("test."));
        forge(&at.join("signed/test.zone"));
        let mut server = Command::new(knotd)
            .arg("-c")
            .arg(at.join("knot.conf"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let log = BufReader::new(server.stdout.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let started = lines.any(|line| line.contains("server started"));
        // It goes on talking, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let knot = Self {
            server,
            folder,
            address,
        };
        assert!(started, "knotd did not start");
        Some(knot)
    }

    fn control(&self, words: &[&str]) {
        let control = program("knotc").unwrap();
        let conf = self.folder.path().join("knot.conf");
        run(Command::new(control)
            .arg("-b")
            .arg("-c")
            .arg(conf)
            .args(words));
    }

    fn config(&self, dnssec: Dnssec) -> DiscoveryConfig {
        DiscoveryConfig {
            servers: vec![self.address],
            dnssec,
            trust_anchors: (dnssec != Dnssec::Off).then(|| self.folder.path().join("anchors")),
            ..DiscoveryConfig::default()
        }
    }
}

fn write_zones(at: &Path) {
    for folder in ["signed", "keys", "run"] {
        std::fs::create_dir(at.join(folder)).unwrap();
    }
    let mut signed = SIGNED.to_owned();
    // Nine aliases in a row, and more service records than anybody has.
    for step in 1..=9 {
        signed += &format!("far{step} CNAME far{}\n", step + 1);
    }
    signed += "far10 A 8.8.8.8\n";
    // The service's name is an alias: of another, of a chain that is just short enough and one that is not, of one in
    // another zone, of itself, and of nothing.
    signed += "_entente-fed._tcp.moved CNAME _entente-fed._tcp.good\n";
    signed += "_entente-fed._tcp.away CNAME _entente-fed._tcp.b.other.\n";
    signed += "_entente-fed._tcp.gone CNAME _entente-fed._tcp.none\n";
    for step in 1..=9 {
        signed += &format!(
            "_entente-fed._tcp.step{step} CNAME _entente-fed._tcp.step{}\n",
            step + 1
        );
    }
    signed += "_entente-fed._tcp.step10 SRV 0 0 8448 chat\n";
    signed += "_entente-fed._tcp.ring CNAME _entente-fed._tcp.ring2\n";
    signed += "_entente-fed._tcp.ring2 CNAME _entente-fed._tcp.ring\n";
    for port in 1..=200 {
        signed += &format!("_entente-fed._tcp.huge SRV 0 0 {port} chat\n");
    }
    std::fs::write(at.join("test.zone"), signed).unwrap();
    std::fs::write(at.join("plain.test.zone"), PLAIN).unwrap();
    std::fs::write(at.join("other.zone"), OTHER).unwrap();
}

fn configuration(at: &Path, address: SocketAddr) -> String {
    let (at, port) = (at.display(), address.port());
    // The server answers with what `kzonesign` left in `signed`; `missing.` has no file: SERVFAIL.
    format!(
        "server:\n  rundir: {at}/run\n  listen: 127.0.0.1@{port}\n  tcp-workers: 1\n  udp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: {at}/keys\n\
         log:\n  - target: stdout\n    any: info\n\
         policy:\n  - id: once\n    manual: off\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n\
         template:\n  - id: default\n    zonefile-load: whole\n    zonefile-sync: -1\n    journal-content: none\n\
         zone:\n  - domain: test.\n    file: {at}/test.zone\n    dnssec-policy: once\n\
         \x20 - domain: plain.test.\n    file: {at}/plain.test.zone\n\
         \x20 - domain: other.\n    file: {at}/other.zone\n\
         \x20 - domain: missing.\n    file: {at}/none.zone\n"
    )
}

/// Takes the trust anchor from the signed zone, changes an address in it without signing it again, and lets
/// the server serve the result.
fn forge(signed: &Path) {
    let at = signed.parent().unwrap().parent().unwrap();
    let zone = std::fs::read_to_string(signed).unwrap();
    let mut anchors = String::new();
    let mut forged = String::new();
    for line in zone.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.get(2) == Some(&"DNSKEY") {
            anchors += &format!("{} {} IN {}\n", words[0], words[1], words[2..].join(" "));
        }
        let changed = words.first() == Some(&"forged.test.") && words.get(2) == Some(&"A");
        let line = if changed {
            line.replace("8.8.8.8", "9.9.9.9")
        } else {
            line.to_owned()
        };
        forged += &line;
        forged.push('\n');
    }
    assert!(!anchors.is_empty(), "{zone}");
    assert_ne!(zone.trim_end(), forged.trim_end());
    std::fs::write(at.join("anchors"), anchors).unwrap();
    std::fs::write(at.join("test.zone"), forged).unwrap();
    let conf = at.join("knot.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replace("    dnssec-policy: once\n", "")).unwrap();
}

/// What becomes of a question for keys.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Told,
    Forgotten,
    Lost,
}

/// A server before the real one that forgets or loses the first so many questions for keys.
struct Between {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Between {
    fn start(real: SocketAddr, mut rule: impl FnMut() -> Keys + Send + 'static) -> Self {
        let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = asked.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        std::thread::spawn(move || {
            let onwards = UdpSocket::bind("127.0.0.1:0").unwrap();
            onwards.connect(real).unwrap();
            let mut bytes = vec![0; 65_535];
            while let Ok((length, from)) = asked.recv_from(&mut bytes) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let keys = if is_for_keys(&bytes[..length]) {
                    rule()
                } else {
                    Keys::Told
                };
                if keys == Keys::Lost {
                    continue;
                }
                onwards.send(&bytes[..length]).unwrap();
                let length = onwards.recv(&mut bytes).unwrap();
                if keys == Keys::Forgotten {
                    // SERVFAIL
                    bytes[3] = bytes[3] & 0xF0 | 2;
                }
                asked.send_to(&bytes[..length], from).unwrap();
            }
        });
        Self { address, ended }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let wake = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = wake.send_to(&[], self.address);
    }
}

/// Whether a DNS message asks for the type DNSKEY: behind the header stand the labels of the name, then the type.
fn is_for_keys(message: &[u8]) -> bool {
    let mut at = 12;
    while let Some(length) = message.get(at).filter(|length| **length > 0) {
        at += 1 + usize::from(*length);
    }
    message.get(at + 1..at + 3) == Some(&[0, 48])
}

async fn find_with(config: &DiscoveryConfig, server: &str) -> Result<Route, DiscoveryError> {
    let clock = Arc::new(Moved(AtomicU64::new(0)));
    let discovery = Discovery::new(config, clock, Arc::new(SystemRandom::new()));
    discovery.find(&server.parse().unwrap(), &[]).await
}

fn shown(route: &Route) -> Vec<String> {
    route.addresses.iter().map(SocketAddr::to_string).collect()
}

/// Goal: each state of DNSSEC is told as it is, and a bogus answer is never used. Method: a good, a forged
/// and an unsigned zone, and one below no trust anchor, with validation reported and required.
#[tokio::test]
async fn dnssec_states() {
    let Some(knot) = Knot::start() else { return };
    for dnssec in [Dnssec::Report, Dnssec::Require] {
        let config = knot.config(dnssec);
        let good = find_with(&config, "good.test").await.unwrap();
        assert_eq!(
            shown(&good),
            ["[2a00::1]:8448", "8.8.8.8:8448", "8.8.4.4:8450"]
        );
        assert_eq!(good.security, Some(Security::Secure));
        let alias = find_with(&config, "alias.test").await.unwrap();
        assert_eq!(shown(&alias), ["[2a00::1]:8448", "8.8.8.8:8448"]);
        assert_eq!(alias.security, Some(Security::Secure));
        // Eight aliases in a row.
        let near = find_with(&config, "near.test").await.unwrap();
        assert_eq!(shown(&near), ["8.8.8.8:8448"]);
        assert_eq!(near.security, Some(Security::Secure));
        let forged = find_with(&config, "forged.test").await.unwrap_err();
        assert_eq!(forged, DiscoveryError::Bogus("forged.test".to_owned()));
    }
    let plain = find_with(&knot.config(Dnssec::Report), "plain.test")
        .await
        .unwrap();
    assert_eq!(plain.security, Some(Security::Insecure));
    let plain = find_with(&knot.config(Dnssec::Require), "plain.test").await;
    assert!(
        matches!(plain, Err(DiscoveryError::NotSecure(_, Security::Insecure))),
        "{plain:?}"
    );
    // Nothing vouches for `other.`: that is no proof of being unsigned, and not used.
    let other = find_with(&knot.config(Dnssec::Report), "b.other").await;
    assert!(matches!(other, Err(DiscoveryError::Bogus(_))), "{other:?}");
    // Control: without validation the forged address is believed.
    let forged = find_with(&knot.config(Dnssec::Off), "forged.test")
        .await
        .unwrap();
    assert_eq!(shown(&forged), ["9.9.9.9:8448"]);
    assert_eq!(forged.security, Some(Security::Unchecked));
}

/// Goal: answers that would lead into this machine, nowhere or round in circles end in an error that names
/// the lie, validated or not. Method: records of that kind, correctly signed.
#[tokio::test]
async fn lying_answers() {
    let Some(knot) = Knot::start() else { return };
    for dnssec in [Dnssec::Off, Dnssec::Report] {
        let config = knot.config(dnssec);
        let failure = async |server: &str| find_with(&config, server).await.unwrap_err();
        for (server, address) in [
            ("loopback.test", "127.0.0.1"),
            ("linklocal.test", "169.254.169.254"),
            ("mapped.test", "::ffff:127.0.0.1"),
        ] {
            let refused = failure(server).await;
            let DiscoveryError::Refused { address: found, .. } = &refused else {
                panic!("{server}: {refused}");
            };
            assert_eq!(found.to_string(), address);
        }
        let off = failure("off.test").await;
        assert!(matches!(off, DiscoveryError::NotOffered(_)), "{off}");
        let none = failure("none.test").await;
        assert!(matches!(none, DiscoveryError::NoService(..)), "{none}");
        let huge = failure("huge.test").await;
        assert!(matches!(huge, DiscoveryError::TooMany(_)), "{huge}");
        for server in ["far.test", "loop.test"] {
            let aliases = failure(server).await;
            assert!(matches!(aliases, DiscoveryError::Aliases(_)), "{aliases}");
        }
        let empty = failure("empty.test").await;
        assert!(
            matches!(&empty, DiscoveryError::NoAddress(host, _) if host == "nowhere.test"),
            "{empty}"
        );
        assert!(!empty.to_string().contains("alias"), "{empty}");
    }
}

/// Goal: SRV records whose name is an alias are found as others are, with the weakest state of all answers on the way; a
/// chain that is too long, a circle, and an alias of nothing end in an error that says so, and that there is nothing is told
/// with its DNSSEC state. Method: aliases in a signed zone, in and out of it, validated or not.
#[tokio::test]
async fn the_service_is_an_alias() {
    let Some(knot) = Knot::start() else { return };
    for (dnssec, state) in [
        (Dnssec::Off, Security::Unchecked),
        (Dnssec::Require, Security::Secure),
    ] {
        let config = knot.config(dnssec);
        let good = find_with(&config, "good.test").await.unwrap();
        let moved = find_with(&config, "moved.test").await.unwrap();
        assert_eq!(shown(&moved), shown(&good));
        assert_eq!(moved.security, Some(state));
        assert!(
            find_with(&config, "step2.test").await.is_ok(),
            "eight aliases"
        );
        for server in ["step1.test", "ring.test"] {
            let refused = find_with(&config, server).await;
            assert!(
                matches!(refused, Err(DiscoveryError::Aliases(_))),
                "{refused:?}"
            );
        }
        for server in ["gone.test", "none.test"] {
            let nothing = find_with(&config, server).await.unwrap_err();
            let name = format!("_entente-fed._tcp.{server}");
            assert_eq!(nothing, DiscoveryError::NoService(name, state));
            assert!(nothing.to_string().contains(&format!("DNSSEC: {state}")));
        }
    }
    let away = find_with(&knot.config(Dnssec::Off), "away.test")
        .await
        .unwrap();
    assert_eq!(shown(&away), ["8.8.8.8:8448"]);
    // Nothing vouches for the zone that it leads to.
    let away = find_with(&knot.config(Dnssec::Report), "away.test").await;
    assert!(matches!(away, Err(DiscoveryError::Bogus(_))), "{away:?}");
    let weak = find_with(&knot.config(Dnssec::Report), "weak.plain.test").await;
    assert_eq!(weak.unwrap().security, Some(Security::Insecure));
    let plain = find_with(&knot.config(Dnssec::Report), "nothing.plain.test").await;
    assert!(
        matches!(plain, Err(DiscoveryError::NoService(_, Security::Insecure))),
        "{plain:?}"
    );
}

/// Goal: an answer that can't be validated because no server tells the keys is not called forged, and is asked for again by
/// itself; a forged one is called so. Method: a server in between that forgets or loses questions for keys, all or the first.
#[tokio::test]
async fn what_is_not_validated_is_not_forged() {
    let Some(knot) = Knot::start() else { return };
    let with = |between: &Between| DiscoveryConfig {
        servers: vec![between.address],
        ..knot.config(Dnssec::Report)
    };
    let told = Between::start(knot.address, || Keys::Told);
    let good = find_with(&with(&told), "good.test").await.unwrap();
    assert_eq!(good.security, Some(Security::Secure));
    let forged = find_with(&with(&told), "forged.test").await.unwrap_err();
    assert_eq!(forged, DiscoveryError::Bogus("forged.test".to_owned()));

    // hickory asks a failing server twice.
    let mut left = 2;
    let forgetful = Between::start(knot.address, move || {
        left -= i32::from(left > -1);
        if left >= 0 {
            Keys::Forgotten
        } else {
            Keys::Told
        }
    });
    let good = find_with(&with(&forgetful), "good.test").await.unwrap();
    assert_eq!(good.security, Some(Security::Secure), "asked again");

    let clock = Arc::new(Moved(AtomicU64::new(0)));
    let unvalidated = |host: &str| DiscoveryError::Unvalidated {
        host: host.to_owned(),
        question: "test. DNSKEY".to_owned(),
    };
    for keys in [Keys::Forgotten, Keys::Lost] {
        let never = Between::start(knot.address, move || keys);
        let random = Arc::new(SystemRandom::new());
        let discovery = Discovery::new(&with(&never), clock.clone(), random);
        let (server, endpoints) = ("good.test".parse().unwrap(), ["chat.test:8448".to_owned()]);
        let found = discovery.find(&server, &endpoints).await;
        assert_eq!(found.unwrap_err(), unvalidated("chat.test"));
    }
}

/// Goal: a server that refuses, fails or is silent is told apart. Method: a zone that is not served, one
/// whose file is missing, and a socket that nobody reads.
#[tokio::test]
async fn lame_servers() {
    let Some(knot) = Knot::start() else { return };
    let mut config = knot.config(Dnssec::Off);
    for (server, expected) in [("b.example", "Refused"), ("b.missing", "Server Failure")] {
        let lame = find_with(&config, server).await.unwrap_err();
        let DiscoveryError::Lame { code, .. } = &lame else {
            panic!("{server}: {lame}");
        };
        assert!(code.contains(expected), "{code}");
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    config.servers = vec![silent.local_addr().unwrap()];
    let silent = find_with(&config, "good.test").await.unwrap_err();
    assert!(
        matches!(
            silent,
            DiscoveryError::Timeout(_) | DiscoveryError::Unusable { .. }
        ),
        "{silent}"
    );
}

/// Goal: a changed zone counts when the old answer's time to live is over, and not before. Method: reload the
/// zone, move the clock.
#[tokio::test]
async fn a_changed_zone() {
    let Some(knot) = Knot::start() else { return };
    let clock = Arc::new(Moved(AtomicU64::new(0)));
    let time: Arc<dyn Clock> = clock.clone();
    let random = Arc::new(SystemRandom::new());
    let discovery = Discovery::new(&knot.config(Dnssec::Off), time, random);
    let server = "b.other".parse().unwrap();
    let before = discovery.find(&server, &[]).await.unwrap();
    assert_eq!(shown(&before), ["8.8.8.8:8448"]);
    let changed = OTHER
        .replace("admin 1", "admin 2")
        .replace("8.8.8.8", "8.8.4.4");
    std::fs::write(knot.folder.path().join("other.zone"), changed).unwrap();
    knot.control(&["zone-reload", "other."]);
    clock.0.store(29_999, Ordering::SeqCst);
    assert_eq!(
        shown(&discovery.find(&server, &[]).await.unwrap()),
        ["8.8.8.8:8448"]
    );
    clock.0.store(30_000, Ordering::SeqCst);
    assert_eq!(
        shown(&discovery.find(&server, &[]).await.unwrap()),
        ["8.8.4.4:8448"]
    );
}
