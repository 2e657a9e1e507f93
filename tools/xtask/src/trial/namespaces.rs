//! Two hosts on this machine: network namespaces with a wire between them that fails on command.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};
use crate::process::Run as _;

/// The wire's name at both ends.
const WIRE: &str = "wire";
/// Addresses at both ends, out of the block that RFC 5737 sets aside for examples: they lead nowhere else.
pub(super) const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The table that holds the rules, at host 0.
const TABLE: &str = "trouble";

/// What is wrong with the wire. Packets are lost; connections stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Everything is lost, in both directions.
    Cut,
    /// Everything from host 1 to host 0 is lost, nothing the other way.
    OneWay,
    /// One packet in five is lost, in each direction.
    Loss,
}

impl Trouble {
    /// What host 0 drops of what comes in and of what goes out.
    const fn drops(self) -> (&'static str, &'static str) {
        match self {
            Self::Cut => ("drop", "drop"),
            Self::OneWay => ("drop", "accept"),
            Self::Loss => (
                "numgen random mod 100 < 20 drop",
                "numgen random mod 100 < 20 drop",
            ),
        }
    }

    /// The rules of host 0, as nft reads them.
    fn rules(self) -> String {
        let (inward, outward) = self.drops();
        format!(
            "table inet {TABLE} {{\n\
             chain in {{ type filter hook input priority 0; iifname \"{WIRE}\" {inward}; }}\n\
             chain out {{ type filter hook output priority 0; oifname \"{WIRE}\" {outward}; }}\n\
             }}\n"
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "nothing passes",
            Self::OneWay => "nothing passes from b to a",
            Self::Loss => "one packet in five is lost each way",
        })
    }
}

/// Two namespaces and the wire; gone when dropped.
pub(super) struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Makes them; `name` tells those of one run apart.
    pub(super) fn new(name: &str) -> Result<Self> {
        let names = ["a", "b"].map(|end| format!("entente-{}-{name}-{end}", std::process::id()));
        let [a, b] = &names;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        let hosts = Self { names };
        let [a, b] = &hosts.names;
        ip(&[
            "link", "add", "name", WIRE, "netns", a, "type", "veth", "peer", "name", WIRE, "netns",
            b,
        ])?;
        for (name, address) in hosts.names.iter().zip(ADDRESSES) {
            ip(&[
                "-n",
                name,
                "address",
                "add",
                &format!("{address}/30"),
                "dev",
                WIRE,
            ])?;
            ip(&["-n", name, "link", "set", WIRE, "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(hosts)
    }

    /// The namespace of one host.
    pub(super) fn name(&self, host: usize) -> Option<&str> {
        self.names.get(host).map(String::as_str)
    }

    /// Makes trouble on the wire.
    pub(super) fn trouble(&self, trouble: Trouble) -> Result {
        let [a, _] = &self.names;
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", a, "nft", "--file", "-"])
            .stdin(Stdio::piped());
        let start = |source| Failure::Start {
            program: "nft".to_owned(),
            source,
        };
        let mut child = nft.spawn().map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(trouble.rules().as_bytes()).map_err(start)?;
        }
        let status = child.wait().map_err(start)?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::Ended {
                command: "nft --file -".to_owned(),
                status: status.to_string(),
            })
        }
    }

    /// Mends it.
    pub(super) fn heal(&self) -> Result {
        let [a, _] = &self.names;
        ip(&["netns", "exec", a, "nft", "delete", "table", "inet", TABLE])
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            // Best effort: what runs inside has ended before.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result {
    Command::new("ip").args(arguments).shown()
}
