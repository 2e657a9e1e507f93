use std::collections::HashMap;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use rustls_pki_types::CertificateDer;
use time::{Duration as Days, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::KeyUsage;

use super::verifier::{Presented, authenticate};
use super::*;
use crate::organisation::{self, Keys};

const NOW_MS: u64 = 1_795_000_000_000;

struct Still(u64);

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// An authority of a test's own making, and leafs that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "some root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(
        &self,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![dns("b.example")];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let now =
            OffsetDateTime::from_unix_timestamp(i64::try_from(NOW_MS / 1000).unwrap()).unwrap();
        params.not_before = now - Days::days(1);
        params.not_after = now + Days::days(1);
        change(&mut params);
        params.signed_by(key, &self.0).unwrap().der().clone()
    }
}

fn pin(key: &KeyPair) -> [u8; 32] {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    hash.as_ref().try_into().unwrap()
}

fn peers<'a>(
    anchors: impl IntoIterator<Item = (&'a str, &'a Authority, Vec<[u8; 32]>)>,
) -> PeerRoots {
    let anchors = anchors.into_iter().map(|(server, authority, pins)| {
        let root = authority.0.der().clone();
        let roots = vec![root];
        (server.parse().unwrap(), PeerAnchor { roots, pins })
    });
    let peers = PeerRoots::default();
    peers.replace(anchors.collect());
    peers
}

fn judge(peers: &PeerRoots, leaf: &CertificateDer<'_>) -> Result<String, PeerRefusal> {
    let now = UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS));
    let others = [];
    let presented = Presented {
        leaf,
        others: &others,
        now,
    };
    authenticate(
        |server| peers.get(server),
        &presented,
        KeyUsage::client_auth(),
    )
    .map(|server| server.to_string())
}

/// Goal: a certificate's holder is a peer only with exactly one dNSName, the root pinned for that very
/// name, a pinned key, in its time and for this use; by a table of certificates that lack one of these.
#[test]
fn only_the_peer_itself() {
    let (b, c) = (Authority::new(), Authority::new());
    let (key, other_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let pins = vec![pin(&key)];
    let peers = peers([("b.example", &b, pins.clone()), ("c.example", &c, pins)]);
    let san = |names: Vec<SanType>| {
        move |params: &mut CertificateParams| params.subject_alt_names = names
    };

    assert_eq!(judge(&peers, &b.leaf(&key, |_| ())).unwrap(), "b.example");
    assert_eq!(
        judge(&peers, &c.leaf(&key, san(vec![dns("c.example")]))).unwrap(),
        "c.example"
    );
    // A common name is nothing: neither helps nor harms.
    let with_cn = |params: &mut CertificateParams| {
        params
            .distinguished_name
            .push(DnType::CommonName, "c.example");
    };
    assert_eq!(judge(&peers, &b.leaf(&key, with_cn)).unwrap(), "b.example");

    let names = [
        ("none", vec![]),
        ("two", vec![dns("b.example"), dns("c.example")]),
        ("twice the same", vec![dns("b.example"), dns("b.example")]),
        ("wildcard", vec![dns("*.example")]),
        ("wildcard below", vec![dns("*.b.example")]),
        ("upper case", vec![dns("B.example")]),
        ("trailing dot", vec![dns("b.example.")]),
        ("one label", vec![dns("example")]),
        ("NUL", vec![dns("b.example\0.c.example")]),
        (
            "address",
            vec![SanType::IpAddress("127.0.0.1".parse().unwrap())],
        ),
        ("address as text", vec![dns("127.0.0.1")]),
        (
            "URI",
            vec![SanType::URI("https://b.example".try_into().unwrap())],
        ),
        (
            "e-mail",
            vec![SanType::Rfc822Name("b@b.example".try_into().unwrap())],
        ),
        (
            "name and address",
            vec![
                dns("b.example"),
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
            ],
        ),
    ];
    for (what, names) in names {
        let refusal = judge(&peers, &b.leaf(&key, san(names))).unwrap_err();
        assert!(matches!(refusal, PeerRefusal::Name(_)), "{what}: {refusal}");
    }
    let cn_only = |params: &mut CertificateParams| {
        params.subject_alt_names = Vec::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "b.example");
    };
    let refusal = judge(&peers, &b.leaf(&key, cn_only)).unwrap_err();
    assert!(matches!(refusal, PeerRefusal::Name(_)), "{refusal}");
    let double_san = |params: &mut CertificateParams| {
        // A second extension of the same kind, naming c.example.
        let content = [&[0x30, 0x0b, 0x82, 0x09][..], b"c.example"].concat();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], content)];
    };
    let refusal = judge(&peers, &b.leaf(&key, double_san)).unwrap_err();
    assert!(matches!(refusal, PeerRefusal::Name(_)), "{refusal}");

    let unknown = judge(&peers, &b.leaf(&key, san(vec![dns("d.example")]))).unwrap_err();
    assert_eq!(unknown, PeerRefusal::Unknown("d.example".parse().unwrap()));
    let pinned = judge(&peers, &b.leaf(&other_key, |_| ())).unwrap_err();
    assert_eq!(pinned, PeerRefusal::Pin("b.example".parse().unwrap()));

    let day = Days::days(1);
    let chains: [(&str, CertificateDer<'_>); 9] = [
        (
            "b's root for c's name",
            b.leaf(&key, san(vec![dns("c.example")])),
        ),
        ("c's root for b's name", c.leaf(&key, |_| ())),
        ("a stranger's root", Authority::new().leaf(&key, |_| ())),
        (
            "expired",
            b.leaf(&key, |params| params.not_after -= day * 1.5),
        ),
        (
            "not yet valid",
            b.leaf(&key, |params| params.not_before += day * 1.5),
        ),
        (
            "for servers only",
            b.leaf(&key, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "for nothing that it says",
            b.leaf(&key, |params| params.extended_key_usages = Vec::new()),
        ),
        (
            "for anything",
            b.leaf(&key, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
            }),
        ),
        (
            "an authority itself",
            b.leaf(&key, |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
    ];
    for (what, leaf) in chains {
        let refusal = judge(&peers, &leaf).unwrap_err();
        assert!(
            matches!(refusal, PeerRefusal::Chain { .. }),
            "{what}: {refusal}"
        );
    }
    for noise in [&b""[..], b"noise", &[0x30; 100]] {
        assert!(judge(&peers, &CertificateDer::from(noise)).is_err());
    }
    let mut trailing = b.leaf(&key, |_| ()).to_vec();
    trailing.push(0);
    assert!(judge(&peers, &CertificateDer::from(trailing)).is_err());
}

/// Goal: a partner's authority makes nobody us, nor a peer whose name looks like another's. Method: certificates of b's
/// authority for our own name and for look-alikes of c, as A-labels and as the bytes themselves.
#[test]
fn partners_vouch_for_nobody_else() {
    let (a, b, c) = (Authority::new(), Authority::new(), Authority::new());
    let key = KeyPair::generate().unwrap();
    let pins = vec![pin(&key)];
    // We are a.example, and no peer of ourselves.
    let peers = peers([("b.example", &b, pins.clone()), ("c.example", &c, pins)]);
    for (authority, name) in [
        (&b, "a.example"),
        (&a, "a.example"),
        // The Cyrillic letter that looks like c, and c with a diacritic.
        (&b, "xn--q1a.example"),
        (&b, "xn--6ca.example"),
        (&c, "c.exarnple"),
    ] {
        let named = |params: &mut CertificateParams| params.subject_alt_names = vec![dns(name)];
        let refusal = judge(&peers, &authority.leaf(&key, named)).unwrap_err();
        assert_eq!(refusal, PeerRefusal::Unknown(name.parse().unwrap()));
    }
    for name in ["с.example", "ć.example", "ｃ.example", "c.examрle"] {
        let bytes = name.as_bytes();
        let length = u8::try_from(bytes.len()).unwrap();
        let content = [&[0x30, length + 2, 0x82, length][..], bytes].concat();
        let named = |params: &mut CertificateParams| {
            params.subject_alt_names = Vec::new();
            params.custom_extensions =
                vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], content)];
        };
        let refusal = judge(&peers, &b.leaf(&key, named)).unwrap_err();
        assert!(matches!(refusal, PeerRefusal::Name(_)), "{name}: {refusal}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn keys(server: &str) -> Keys {
    organisation::create(&server.parse().unwrap(), NOW_MS, &SystemRandom::new())
        .unwrap()
        .keys
}

fn roots(all: &[&Keys]) -> Arc<PeerRoots> {
    let anchor = |keys: &&Keys| {
        let root = keys.root().clone();
        let pins = keys.tls_pins().to_vec();
        let roots = vec![root];
        (keys.server().clone(), PeerAnchor { roots, pins })
    };
    let peers = PeerRoots::default();
    peers.replace(all.iter().map(anchor).collect::<HashMap<_, _>>());
    Arc::new(peers)
}

/// One connection from `from`, who calls `called`, to `to`: what the accepting side and the calling
/// side make of it.
async fn connect(
    (from, from_peers): (&Keys, Arc<PeerRoots>),
    called: &str,
    (to, to_peers): (&Keys, Arc<PeerRoots>),
) -> (io::Result<Option<Authenticated>>, io::Result<()>) {
    let clock: Arc<dyn Clock> = Arc::new(Still(NOW_MS));
    let listener = federation_listener(to, to_peers, clock.clone()).unwrap();
    let client = federation_client(from, &called.parse().unwrap(), from_peers, clock).unwrap();
    let (here, there) = tokio::io::duplex(64 * 1024);
    let accept = async {
        let mut stream = TlsAcceptor::from(listener).accept(there).await?;
        stream.write_all(b"!").await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_HTTP_2));
        assert_eq!(
            stream.get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        Ok(authenticated(stream.get_ref().1))
    };
    let call = async {
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, here).await?;
        // Under TLS 1.3 a refusal shows on the first read.
        stream.read_exact(&mut [0]).await?;
        assert_eq!(
            stream
                .get_ref()
                .1
                .negotiated_cipher_suite()
                .map(|suite| suite.suite()),
            Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256)
        );
        Ok(())
    };
    tokio::join!(accept, call)
}

/// Goal: two peers reach each other and know each other; a stranger is refused within the handshake and
/// the refusing side knows who and why; so is an answer by another than was called.
#[tokio::test]
async fn handshakes_between_peers() {
    let (a, b, c) = (keys("a.example"), keys("b.example"), keys("c.example"));
    let (accepted, called) = connect((&a, roots(&[&b])), "b.example", (&b, roots(&[&a]))).await;
    let authenticated = accepted.unwrap().unwrap();
    assert_eq!(authenticated.peer, Peer("a.example".parse().unwrap()));
    let days = (authenticated.not_after_ms - NOW_MS) / (24 * 60 * 60 * 1000);
    assert_eq!(days, 89);
    called.unwrap();

    let (accepted, called) = connect((&c, roots(&[&b])), "b.example", (&b, roots(&[&a]))).await;
    let refusal = accepted.unwrap_err();
    let unknown = PeerRefusal::Unknown("c.example".parse().unwrap());
    assert_eq!(refusal_of(&refusal), Some(&unknown));
    called.unwrap_err();

    let (accepted, called) = connect((&a, roots(&[&b, &c])), "b.example", (&c, roots(&[&a]))).await;
    accepted.unwrap_err();
    let other = PeerRefusal::Other {
        called: "b.example".parse().unwrap(),
        named: "c.example".parse().unwrap(),
    };
    assert_eq!(refusal_of(&called.unwrap_err()), Some(&other));
}

/// Goal: no connection without a client certificate reaches the federation listener; by a client that shows none.
#[tokio::test]
async fn a_certificate_is_mandatory() {
    let (a, b) = (keys("a.example"), keys("b.example"));
    let clock: Arc<dyn Clock> = Arc::new(Still(NOW_MS));
    let listener = federation_listener(&b, roots(&[&a]), clock.clone()).unwrap();
    let mut anchors = rustls::RootCertStore::empty();
    anchors.add(b.root().clone()).unwrap();
    let mut client = ClientConfig::builder_with_details(ring(), time(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(anchors)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
    let (here, there) = tokio::io::duplex(64 * 1024);
    let accept = TlsAcceptor::from(listener).accept(there);
    let call = async {
        let name = rustls_pki_types::ServerName::try_from("b.example").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, here)
            .await?;
        stream.read_exact(&mut [0]).await
    };
    let (accepted, called) = tokio::join!(accept, call);
    let refused = accepted.map(drop).unwrap_err();
    assert_eq!(refusal_of(&refused), Some(&PeerRefusal::NoCertificate));
    called.unwrap_err();
}
