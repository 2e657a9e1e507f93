//! `[cluster]`: the other homeserver processes of this organisation, over the same database.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::federation::endpoint;
use super::listen::socket_address;
use super::server::absolute_path;
use super::settings::Section;

/// Longest name of a node.
const NODE_BYTES_MAX: usize = 32;
/// Most other nodes: each is told of whatever happens at this one.
const OTHERS_MAX: usize = 15;
/// Shortest secret: 32 random bytes have 44 characters in base64.
const SECRET_BYTES_MIN: u64 = 32;
/// Longest secret.
const SECRET_BYTES_MAX: u64 = 4096;
/// Keys of `[cluster]` that have no default once any of them is set.
const NEEDED: [&str; 3] = ["node", "listen", "key_file"];

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What this node is called among the others.
    pub node: String,
    /// Where their hints arrive (UDP).
    pub listen: SocketAddr,
    /// Where theirs do, `host:port` each.
    pub others: Vec<String>,
    /// The file of the secret that all nodes share.
    pub key_file: PathBuf,
}

impl ClusterConfig {
    /// All keys are read, whatever the others hold: all mistakes at once. `None`: there is one node alone.
    pub(super) fn read(section: &mut Section<'_>, has_database: bool) -> Option<Self> {
        let node = section.optional("node", node);
        let listen = section.optional("listen", socket_address);
        let others = section.list("others", endpoint);
        let key_file = section.optional("key_file", secret_file);
        let set = ["node", "listen", "others", "key_file"].map(|key| section.is_set(key));
        if !set.contains(&true) {
            return None;
        }
        for key in NEEDED {
            if !section.is_set(key) {
                section.blame_missing(key);
            }
        }
        if !has_database {
            section.blame(
                &["node", "listen", "others", "key_file"],
                "several homeservers need one database: set engine = \"postgresql\" in [store], or \
                 leave [cluster] out"
                    .to_owned(),
            );
        }
        let others = others.unwrap_or_default();
        if others.len() > OTHERS_MAX {
            section.blame(
                &["others"],
                format!("at most {OTHERS_MAX} other nodes can be named"),
            );
        }
        if listen.is_some_and(|own: SocketAddr| others.contains(&own.to_string())) {
            section.blame(
                &["others"],
                "this node's own address is among them: name the other nodes alone".to_owned(),
            );
        }
        Some(Self {
            node: node?,
            listen: listen?,
            others,
            key_file: key_file?,
        })
    }
}

fn node(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    if text.is_empty() || text.len() > NODE_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err(format!(
            "`{text}` is no name of a node: use 1 to {NODE_BYTES_MAX} of a-z, 0-9, - and ., such as one"
        ));
    }
    Ok(text.to_owned())
}

fn secret_file(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    let about = secret_length(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&about) {
        return Ok(path);
    }
    Err(format!(
        "{} has {about} bytes: a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}; make one with `openssl rand \
         -base64 32`, and give the same to every node",
        path.display()
    ))
}

/// The file has to be readable, not only there.
fn secret_length(path: &Path) -> std::io::Result<u64> {
    std::fs::File::open(path)?
        .metadata()
        .map(|about| about.len())
}
