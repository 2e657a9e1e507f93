//! Two hosts on this machine: network namespaces with a wire between them that can be cut.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};
use crate::process::Run as _;

/// The wire's name at both ends.
const WIRE: &str = "wire";
/// Addresses at both ends, out of the block that RFC 5737 sets aside for examples: they lead nowhere else.
pub(super) const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// Drops everything on the wire, in both directions.
const CUT: &str = "table inet cut {\n\
    chain in { type filter hook input priority 0; iifname \"wire\" drop; }\n\
    chain out { type filter hook output priority 0; oifname \"wire\" drop; }\n\
}\n";

/// Two namespaces and the wire; gone when dropped.
pub(super) struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Makes them.
    pub(super) fn new() -> Result<Self> {
        let names = ["a", "b"].map(|end| format!("entente-{}-{end}", std::process::id()));
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

    /// Cuts the wire: packets are lost in both directions, connections stay as they are.
    pub(super) fn cut(&self) -> Result {
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
            stdin.write_all(CUT.as_bytes()).map_err(start)?;
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
        ip(&["netns", "exec", a, "nft", "delete", "table", "inet", "cut"])
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
