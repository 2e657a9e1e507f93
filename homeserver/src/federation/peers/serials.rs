//! What two homeservers tell each other of their manifests with every request and answer: which of one's own
//! is the newest, and which of the other's one knows.

use federation_proto::ids::ServerName;
use http::HeaderMap;

use super::directory::Directory;
use crate::federation::paths::{self, MANIFEST_KNOWN_HEADER, MANIFEST_SERIAL_HEADER};
use crate::node::Node;

impl Directory {
    /// What `server` says: a newer manifest of it than the known one is fetched.
    pub fn hear_serials(&self, node: &Node, server: &ServerName, headers: &HeaderMap) {
        let number = |name| paths::number(headers, name);
        if let Some(known) = number(MANIFEST_KNOWN_HEADER) {
            node.links.knows_our_manifest(server, known);
        }
        if let (Some(theirs), Some(known)) = (number(MANIFEST_SERIAL_HEADER), self.serial(server))
            && theirs > known
        {
            node.links.fetch_manifest(server);
        }
    }

    /// What `server` is told.
    pub fn say_serials(&self, node: &Node, server: &ServerName, headers: &mut HeaderMap) {
        let ours = node.keys.manifest().serial();
        headers.insert(MANIFEST_SERIAL_HEADER, ours.into());
        if let Some(known) = self.serial(server) {
            headers.insert(MANIFEST_KNOWN_HEADER, known.into());
        }
    }

    fn serial(&self, server: &ServerName) -> Option<u64> {
        let manifest = self.get(server)?.manifest.clone()?;
        Some(manifest.serial())
    }
}
