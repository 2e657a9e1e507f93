//! Two organisations with an agreement, and one person in each who know each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::homeserver::{Homeserver, Plan};
use super::namespaces::{ADDRESSES, Hosts};
use super::person::{Person, Talking};
use super::record::Record;
use crate::failure::{Failure, Result};
use crate::ports::free_address;

/// How long an agreement may take to become active.
const ACTIVE_MAX: Duration = Duration::from_secs(20);

/// What to build a stage from.
pub(super) struct Setting<'a> {
    /// The folder with the binaries.
    pub(super) binaries: &'a Path,
    /// The homeservers' binary.
    pub(super) homeserver: &'a Path,
    /// The protection that is off, in a test build.
    pub(super) fault: Option<&'static str>,
    /// The hosts, if they are two.
    pub(super) hosts: Option<&'a Hosts>,
    /// A folder for everything.
    pub(super) folder: PathBuf,
}

/// Two homeservers that are peers.
pub(super) struct Stage {
    pub(super) a: Homeserver,
    pub(super) b: Homeserver,
    binaries: PathBuf,
}

impl Stage {
    /// Starts both and makes the agreement, with the steps that administrators take.
    pub(super) fn set(setting: &Setting<'_>) -> Result<Self> {
        let a = server(setting, 0, "a.example")?;
        let b = server(setting, 1, "b.example")?;
        let stage = Self {
            a,
            b,
            binaries: setting.binaries.to_path_buf(),
        };
        agree(&stage.a, &stage.b, &setting.folder, None)?;
        Ok(stage)
    }

    /// Alice at a, Bob at b; they have exchanged their first message.
    pub(super) fn people(&self) -> Result<(Person, Person)> {
        self.couple(0)
    }

    /// As [`Stage::people`], with names of their own for each number.
    pub(super) fn couple(&self, number: usize) -> Result<(Person, Person)> {
        let alice = Person::enrol(&self.a, &format!("alice{number}"), &self.binaries)?;
        let bob = Person::enrol(&self.b, &format!("bob{number}"), &self.binaries)?;
        introduce(&alice, &bob)?;
        Ok((alice, bob))
    }

    /// Both on line.
    pub(super) fn talk(
        &self,
        alice: &Person,
        bob: &Person,
        record: &Arc<Record>,
    ) -> Result<(Talking, Talking)> {
        Ok((
            alice.talk(&bob.address, record)?,
            bob.talk(&alice.address, record)?,
        ))
    }
}

/// Two people exchange their first message.
pub(super) fn introduce(alice: &Person, bob: &Person) -> Result {
    alice.send(&bob.address, "hello")?;
    let received = bob.receive(1)?;
    if received.contains("hello") {
        return Ok(());
    }
    Err(Failure::DidNotHold(format!(
        "{} did not get {}'s first message: {received}",
        bob.name, alice.name
    )))
}

/// Makes an agreement with the steps that administrators take: `a` offers, `b` accepts and says where it is reached,
/// if that is not as configured.
pub(super) fn agree(a: &Homeserver, b: &Homeserver, folder: &Path, b_at: Option<&str>) -> Result {
    agree_at(a, b, folder, None, b_at)
}

/// As [`agree`]; both say where they are reached, if that is not as configured.
pub(super) fn agree_at(
    a: &Homeserver,
    b: &Homeserver,
    folder: &Path,
    a_at: Option<&str>,
    b_at: Option<&str>,
) -> Result {
    let paper = |name: &str| {
        let name = format!("{name}-{}-{}", a.name, b.name);
        folder.join(name).display().to_string()
    };
    let (offer, acceptance, countersignature) = (
        paper("offer"),
        paper("acceptance"),
        paper("countersignature"),
    );
    let mut make_offer = vec!["peer", "offer", b.name, "--out", &offer];
    if let Some(endpoint) = a_at {
        make_offer.extend(["--endpoint", endpoint]);
    }
    a.hsctl(&make_offer)?;
    let mut accept = vec![
        "peer",
        "accept",
        &offer,
        "--fingerprint",
        &a.root_sha256,
        "--out",
        &acceptance,
    ];
    if let Some(endpoint) = b_at {
        accept.extend(["--endpoint", endpoint]);
    }
    b.hsctl(&accept)?;
    a.hsctl(&[
        "peer",
        "countersign",
        &acceptance,
        "--fingerprint",
        &b.root_sha256,
        "--out",
        &countersignature,
    ])?;
    wait_until(ACTIVE_MAX, "the agreement is active at both ends", || {
        Ok(is_active(a, b.name)? && is_active(b, a.name)?)
    })
}

fn server(setting: &Setting<'_>, host: usize, name: &'static str) -> Result<Homeserver> {
    let namespace = setting
        .hosts
        .and_then(|hosts| hosts.name(host))
        .map(str::to_owned);
    let (client, federation) = match (&namespace, ADDRESSES.get(host)) {
        (Some(_), Some(address)) => ("127.0.0.1:8443".to_owned(), format!("{address}:8448")),
        _ => (free_address()?.to_string(), free_address()?.to_string()),
    };
    // Short names: the path of a Unix socket has at most 107 bytes.
    let folder = setting.folder.join(name.split('.').next().unwrap_or(name));
    Homeserver::start_new(Plan {
        name,
        binaries: setting.binaries,
        program: setting.homeserver,
        fault: setting.fault,
        namespace,
        client,
        federation,
        folder,
    })
}

fn is_active(server: &Homeserver, peer: &str) -> Result<bool> {
    let shown: serde_json::Value =
        super::homeserver::read("hsctl peer show", &server.hsctl(&["peer", "show", peer])?)?;
    Ok(shown.get("state").and_then(serde_json::Value::as_str) == Some("active"))
}

/// Asks again and again until it is so.
pub(super) fn wait_until(
    patience: Duration,
    what: &str,
    mut so: impl FnMut() -> Result<bool>,
) -> Result {
    let deadline = Instant::now() + patience;
    while !so()? {
        if Instant::now() > deadline {
            return Err(Failure::DidNotHold(format!(
                "not within {patience:?}: {what}"
            )));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
