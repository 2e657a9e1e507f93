//! The audit log at Debian's rsyslog, and at log servers that don't read.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::audit::{self, Actor, Event};
use crate::node::testing;
use crate::server::cluster;
use crate::store::Part;

const NAME: &str = "log.example";
/// For a process to start, and to write what it has read.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A log server's certificate, its key and its root, as files.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (root_key, key) = (pair(), pair());
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "log root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_certificate = root.self_signed(&root_key).unwrap();
        let issuer = Issuer::from_params(&root, &root_key);
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        // As the manual clock of the tests has it: November 2026.
        (leaf.not_before, leaf.not_after) = (
            rcgen::date_time_ymd(2026, 1, 1),
            rcgen::date_time_ymd(2036, 1, 1),
        );
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        for (file, text) in [
            ("root.pem", root_certificate.pem()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn config(&self, port: u16) -> SyslogConfig {
        SyslogConfig {
            host: "127.0.0.1".to_owned(),
            port,
            server_name: NAME.to_owned(),
            root_certificates: self.path("root.pem"),
        }
    }
}

/// A running rsyslogd, killed when it is dropped.
struct Rsyslog(Child);

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Rsyslog {
    /// Started at this port, which it listens on from here on.
    async fn start(place: &Place, port: u16) -> Self {
        let file = |name: &str| place.path(name).display().to_string();
        let text = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\" DefaultNetstreamDriver=\"ossl\"\n\
             DefaultNetstreamDriverCAFile=\"{root}\" DefaultNetstreamDriverCertFile=\"{certificate}\"\n\
             DefaultNetstreamDriverKeyFile=\"{key}\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"parts\" type=\"string\" string=\"%hostname% %app-name% %msgid% %syslogfacility-text% \
             %structured-data% %msg%\\n\")\n\
             action(type=\"omfile\" file=\"{log}\" template=\"parts\")\n",
            folder = place.0.path().display(),
            root = file("root.pem"),
            certificate = file("server.pem"),
            key = file("server.key"),
            log = file("log"),
        );
        std::fs::write(place.path("rsyslog.conf"), text).unwrap();
        let child = Command::new(program())
            .arg("-n")
            .arg("-f")
            .arg(place.path("rsyslog.conf"))
            .arg("-iNONE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self(child);
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let listens = tokio::time::timeout(PATIENCE, listens).await;
        listens.expect("rsyslogd listens");
        started
    }
}

/// Where Debian has it: `/usr/sbin` is not on everybody's path.
fn program() -> PathBuf {
    let found = Path::new("/usr/sbin/rsyslogd");
    match found.exists() {
        true => found.to_owned(),
        false => PathBuf::from("rsyslogd"),
    }
}

/// A port that nobody listens on.
async fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

async fn record(node: &Node, numbers: std::ops::RangeInclusive<u64>) {
    let mut part = Part::default();
    for number in numbers {
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: Actor::System,
            action: "test.happened",
            subject: "a.example".to_owned(),
            detail: format!("as {number} \u{fc} \"quoted\" {}", "x".repeat(3000)),
        };
        audit::record(&mut part, &event);
    }
    node.store.commit(part).await.unwrap();
}

/// The lines of what rsyslog has written, once there are so many.
async fn lines(place: &Place, count: usize) -> Vec<String> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(place.path("log")).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("rsyslog has written it all")
}

fn number(line: &str) -> u64 {
    let (_, rest) = line.split_once("number=\"").unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

/// Goal: Debian's rsyslog gets every entry once and in order, reads each as what it is, and what happens while it is away it
/// gets afterwards. Method: entries before, during and after a kill of a real rsyslogd.
#[tokio::test]
async fn rsyslog_gets_every_entry() {
    let (place, port) = (Place::new(), free_port().await);
    let (node, _) = testing::node("a.example");
    let config = place.config(port);
    let rsyslog = Rsyslog::start(&place, port).await;
    record(&node, 1..=600).await;
    round(&node, &config).await.unwrap();
    let got = lines(&place, 600).await;
    assert_eq!(
        got.iter().map(|line| number(line)).collect::<Vec<_>>(),
        (1..=600).collect::<Vec<_>>()
    );
    let (head, json) = got[41].split_once("] ").unwrap();
    assert!(
        head.starts_with("a.example entente test.happened audit [entente@32473 number=\"42\""),
        "{head}"
    );
    let event: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(event["metadata"]["sequence"], 42);
    let detail = event["status_detail"].as_str().unwrap();
    assert!(detail.starts_with("as 42 \u{fc} \"quoted\" x"), "{detail}");

    drop(rsyslog);
    record(&node, 601..=700).await;
    round(&node, &config).await.unwrap_err();
    assert_eq!(syslog::waiting(&node.store).await.unwrap().0, 100);
    let _rsyslog = Rsyslog::start(&place, port).await;
    round(&node, &config).await.unwrap();
    let got = lines(&place, 700).await;
    assert_eq!(
        got.iter().map(|line| number(line)).collect::<Vec<_>>(),
        (1..=700).collect::<Vec<_>>()
    );
    assert_eq!(syslog::waiting(&node.store).await.unwrap().0, 0);
}

/// A log server that reads so many bytes and then ends the connection; how many it has read.
async fn reads(place: &Place, bytes_max: usize) -> u16 {
    use rustls_pki_types::pem::PemObject as _;
    let certificate = rustls_pki_types::CertificateDer::from_pem_file(place.path("server.pem"));
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(place.path("server.key"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap()], key.unwrap())
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(tls.clone()))
                .accept(stream)
                .await
            else {
                continue;
            };
            let (mut left, mut buffer) = (bytes_max, [0; 4096]);
            while left > 0 {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        }
    });
    port
}

/// Goal: what a log server has not read to its end is sent again, and nothing is sent to one that does not prove who it is.
/// Method: servers that break off, have another name, and stand under another root.
#[tokio::test]
async fn what_was_not_read_is_sent_again() {
    let (place, other) = (Place::new(), Place::new());
    let (node, _) = testing::node("a.example");
    record(&node, 1..=2000).await;
    let breaks_off = reads(&place, 100_000).await;
    let reads_all = reads(&place, usize::MAX).await;
    let mut renamed = place.config(reads_all);
    renamed.server_name = "other.example".to_owned();
    let mut under_another_root = place.config(reads_all);
    under_another_root.root_certificates = other.path("root.pem");
    let nobody = place.config(free_port().await);
    for config in [
        place.config(breaks_off),
        renamed,
        under_another_root,
        nobody,
    ] {
        round(&node, &config).await.unwrap_err();
        let waiting = syslog::waiting(&node.store).await.unwrap();
        assert_eq!(waiting, (2000, None));
    }
    round(&node, &place.config(reads_all)).await.unwrap();
    assert_eq!(syslog::waiting(&node.store).await.unwrap().0, 0);
}

/// Goal: of two nodes the one sends that does what the clock asks for. Method: a round of each.
#[tokio::test]
async fn one_of_two_nodes_sends() {
    let place = Place::new();
    let config = place.config(reads(&place, usize::MAX).await);
    let (founder, _) = testing::node("a.example");
    record(&founder, 1..=3).await;
    // They get their numbers.
    let (store, random) = (&founder.store, founder.random.as_ref());
    audit::page(store, random, 0, 9).await.unwrap();
    let nodes = [
        testing::beside(&founder, "one").await,
        testing::beside(&founder, "two").await,
    ];
    for _ in 0..3 {
        for node in &nodes {
            cluster::round(node).await.unwrap();
        }
    }
    let (sends, idle): (Vec<_>, Vec<_>) = nodes
        .iter()
        .partition(|node| node.cluster.holds(&Duty::Tasks));
    assert_eq!((sends.len(), idle.len()), (1, 1));
    round(idle[0], &config).await.unwrap();
    assert_eq!(syslog::waiting(store).await.unwrap(), (3, None));
    round(sends[0], &config).await.unwrap();
    assert_eq!(syslog::waiting(store).await.unwrap().0, 0);
}
