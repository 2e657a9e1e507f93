//! An organisation of several homeservers over one database, with a load balancer before them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::database::Database;
use super::front::{Door, Front, Place};
use crate::failure::{self, Failure, Result};
use crate::ports::free_address;
use crate::process::Run as _;
use crate::trial::ground::Ground;
use crate::trial::homeserver::{Homeserver, Plan};
use crate::trial::stage::wait_until;

/// Its server name.
const NAME: &str = "a.example";
/// What its nodes are called, and their folders, which are short because paths of Unix sockets are.
pub(super) const NODES: [&str; 3] = ["one", "two", "three"];
/// What all nodes share, in the organisation's folder, long enough for a secret.
const SECRET_FILE: &str = "cluster-key";
const SECRET: &str = "a secret for this trial alone, and for all of its nodes\n";

/// How long nodes may take to serve, once they have started.
const SERVING_MAX: Duration = Duration::from_secs(30);

/// A running organisation; its processes end in this order when it is dropped.
pub(super) struct Organisation {
    pub(super) nodes: Vec<Homeserver>,
    front: Front,
    pub(super) database: Database,
    /// Nodes that have ended by themselves and were started again, as systemd does.
    pub(super) started_again: usize,
}

/// Addresses of a node's own, which only the load balancer and the other nodes use.
struct Addresses {
    place: Place,
    hints: SocketAddr,
}

impl Organisation {
    /// Makes it and starts all nodes; a fault is that of each.
    pub(super) fn found(
        ground: &Ground<'_>,
        folder: &Path,
        fault: Option<&'static str>,
        waits_for_standby: bool,
    ) -> Result<Self> {
        let program = ground.homeserver(fault);
        let mut database = Database::start(&ground.binaries, folder)?;
        if waits_for_standby {
            database.wait_for_standby()?;
        }
        let addresses = NODES
            .iter()
            .map(|_| Addresses::free())
            .collect::<Result<Vec<_>>>()?;
        let mut front = Front::before(addresses.iter().map(|own| own.place));
        let endpoint = front.open(Door::Federation, 0)?.to_string();
        let secret = folder.join(SECRET_FILE);
        fs::write(&secret, SECRET).map_err(failure::at(&secret))?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))
            .map_err(failure::at(&secret))?;
        let plan = |name: &str, own: &Addresses| Plan {
            name: NAME,
            binaries: &ground.binaries,
            program: &program,
            fault,
            namespace: None,
            client: own.place.client.to_string(),
            federation: own.place.federation.to_string(),
            folder: folder.join(name),
        };

        let mut nodes: Vec<Homeserver> = Vec::new();
        for (name, own) in NODES.into_iter().zip(&addresses) {
            let plan = plan(name, own);
            let node = match nodes.first() {
                None => {
                    let words = database.words();
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    Homeserver::make(plan, &endpoint, &words)?
                }
                Some(first) => {
                    copy(&first.folder, &plan.folder)?;
                    Homeserver::of(plan)
                }
            };
            nodes.push(node);
        }
        for (number, node) in nodes.iter().enumerate() {
            configure(&node.folder, number, &addresses, folder)?;
        }
        for (number, node) in nodes.iter_mut().enumerate() {
            node.start()?;
            // From here on devices go by the load balancer.
            node.client = front.open(Door::Client, number)?.to_string();
        }
        let organisation = Self {
            nodes,
            front,
            database,
            started_again: 0,
        };
        organisation.wait_serving()?;
        Ok(organisation)
    }

    /// Until the load balancer sends devices and peers to every node.
    pub(super) fn wait_serving(&self) -> Result {
        wait_until(SERVING_MAX, "all nodes serve", || {
            Ok(self.front.all_serve())
        })
    }

    /// The node with this number.
    pub(super) fn node(&mut self, number: usize) -> Result<&mut Homeserver> {
        let missing = || Failure::Missing(format!("there is no node {number}"));
        self.nodes.get_mut(number).ok_or_else(missing)
    }

    /// Starts again what has ended by itself.
    pub(super) fn supervise(&mut self) -> Result {
        for node in &mut self.nodes {
            if node.has_ended() {
                self.started_again = self.started_again.saturating_add(1);
                node.launch()?;
            }
        }
        Ok(())
    }
}

impl Addresses {
    fn free() -> Result<Self> {
        Ok(Self {
            place: Place {
                client: free_address()?,
                federation: free_address()?,
                health: free_address()?,
            },
            hints: free_address()?,
        })
    }
}

/// Gives another node what the first one has: the organisation's keys, the master key and the configuration.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to).map_err(failure::at(to))?;
    for name in ["data", "entente.toml"] {
        Command::new("cp")
            .arg("--archive")
            .arg(from.join(name))
            .arg(to.join(name))
            .captured()?;
    }
    Ok(())
}

/// What a node has of its own, and where it finds what all share: the generations of keys are those of the first.
fn configure(folder: &Path, number: usize, all: &[Addresses], shared: &Path) -> Result {
    let (Some(name), Some(own)) = (NODES.get(number), all.get(number)) else {
        return Err(Failure::Missing(format!("there is no node {number}")));
    };
    let others = all.iter().map(|other| other.hints);
    let others: Vec<String> = others
        .filter(|hints| *hints != own.hints)
        .map(|hints| format!("\"{hints}\""))
        .collect();
    let text = format!(
        "[server]\ndata_dir = \"{folder}/data\"\n\n\
         [listen]\nclient = \"{}\"\nfederation = \"{}\"\nmetrics = \"{}\"\nadmin_socket = \"{folder}/admin.sock\"\n\n\
         [store_keys]\nfolder = \"{shared}/one/data/generations\"\n\n\
         [cluster]\nnode = \"{name}\"\nlisten = \"{}\"\nothers = [{}]\nkey_file = \"{shared}/{SECRET_FILE}\"\n",
        own.place.client,
        own.place.federation,
        own.place.health,
        own.hints,
        others.join(", "),
        folder = folder.display(),
        shared = shared.display(),
    );
    let further: PathBuf = folder.join("conf.d");
    fs::create_dir_all(&further).map_err(failure::at(&further))?;
    let file = further.join("node.toml");
    fs::write(&file, text).map_err(failure::at(&file))
}
