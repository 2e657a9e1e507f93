//! Who may connect: certificates right and wrong, and nothing older than TLS 1.3.

use super::{Case, World};
use crate::failure::Result;
use crate::link::{greet, raw, request};
use crate::organisation::{Identity, Organisation, dns};
use crate::report::{Finding, Level, Outcome};

/// A TLS 1.2 ClientHello: two suites of that version, P-256 and no `supported_versions`.
const TLS12_CLIENT_HELLO: &str = concat!(
    "16030100410100003d0303",
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
    "000004c02bc02f0100",
    "0010",
    "000a000400020017",
    "000d000400020403",
);
/// The alert `protocol_version`, fatal.
const PROTOCOL_VERSION: u8 = 70;

pub(super) async fn cases(world: &World) -> Result<Vec<Outcome>> {
    let name = world.peer.name.as_str();
    let stranger = Organisation::new("stranger.example")?;
    let impostor = Organisation::new(name)?;
    let peer = &world.peer;
    let wildcard = name
        .split_once('.')
        .map_or_else(|| "*".to_owned(), |(_, parent)| format!("*.{parent}"));
    let refused: [(&'static str, &'static str, &'static str, Option<Identity>); 7] = [
        (
            "connection.no-certificate",
            "NET-001",
            "a client without a certificate is refused",
            None,
        ),
        (
            "connection.unknown-peer",
            "NET-005",
            "a certificate of an organisation without an agreement is refused",
            Some(stranger.tls),
        ),
        (
            "connection.other-root",
            "NET-003",
            "a peer's name under another organisation's root is refused",
            Some(impostor.tls),
        ),
        (
            "connection.unpinned-key",
            "NET-004",
            "a key that the agreement does not pin is refused",
            Some(peer.certificate(&[dns(name)?], None)?),
        ),
        (
            "connection.common-name",
            "NET-002",
            "a name that stands in the common name alone is refused",
            Some(peer.certificate(&[], Some(name))?),
        ),
        (
            "connection.wildcard",
            "NET-002",
            "a wildcard is refused",
            Some(peer.certificate(&[dns(&wildcard)?], None)?),
        ),
        (
            "connection.two-names",
            "NET-002",
            "a certificate with more than one name is refused",
            Some(peer.certificate(&[dns(name)?, dns("other.example")?], None)?),
        ),
    ];
    let mut outcomes = Vec::new();
    for (id, requirement, must, identity) in refused {
        let seen = greet(&world.target, identity.as_ref()).await?;
        let finding = Finding::new(
            seen.before_any_byte(),
            format!(
                "{} bytes of HTTP came back: {}",
                seen.application_bytes, seen.how
            ),
        );
        let hint =
            "the certificate is judged in the handshake, before a byte of HTTP is read or written";
        outcomes.push(
            Case {
                id,
                requirement,
                level: Level::Must,
                must,
                hint,
            }
            .outcome(finding),
        );
    }
    outcomes.push(old_tls(world).await?);
    outcomes.push(known_peer(world).await?);
    Ok(outcomes)
}

async fn old_tls(world: &World) -> Result<Outcome> {
    let hello = hex::decode(TLS12_CLIENT_HELLO).unwrap_or_default();
    let answer = raw(&world.target, &hello).await?;
    // An alert record: type 21, then the version, the length, the level and the description.
    let refused = answer.is_empty()
        || (answer.first() == Some(&21) && answer.get(6) == Some(&PROTOCOL_VERSION));
    let case = Case {
        id: "connection.tls-1-2",
        requirement: "NET-001",
        level: Level::Must,
        must: "TLS 1.2 is refused",
        hint: "accept TLS 1.3 only",
    };
    Ok(case.outcome(Finding::new(
        refused,
        format!("answered {}", hex::encode(answer)),
    )))
}

/// The control of all of the above: the right certificate is let in.
async fn known_peer(world: &World) -> Result<Outcome> {
    let answer = request(
        &world.target,
        &world.peer.tls,
        "GET",
        "/federation/v1/manifest",
        Vec::new(),
    )
    .await?;
    let finding = match answer {
        Ok(reply) => Finding::new(reply.status == 200, format!("status {}", reply.status)),
        Err(how) => Finding::new(false, how),
    };
    let case = Case {
        id: "connection.peer",
        requirement: "NET-020",
        level: Level::Must,
        must: "a peer with a pinned key is let in and gets the server's manifest",
        hint: "is the agreement active, and are the pins those of the offer?",
    };
    Ok(case.outcome(finding))
}
