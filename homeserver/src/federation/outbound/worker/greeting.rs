//! What a worker asks a peer apart from mail: whether it is there, its manifest, the end of a ceremony.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::ids::ServerName;
use federation_proto::limits::MANIFEST_BYTES_MAX;
use federation_proto::manifest::Manifest;
use federation_proto::version::{VersionSet, negotiate};
use http::Method;

use super::{Step, Worker};
use crate::federation::outbound::network::Network;
use crate::federation::outbound::request::{self, RequestError};
use crate::federation::paths;
use crate::federation::peers::{self, PeerView};
use crate::node::Node;
use crate::store::StoreError;

impl Worker {
    /// Learns whether the peer is there and which versions it speaks; a starting server greets its
    /// peers this way, which ends their delays towards it.
    pub(super) async fn greet(&mut self, peer: &PeerView) -> Result<(), RequestError> {
        let answer = request::send(
            self.network.as_ref(),
            self.node.config.federation.patience,
            peer,
            Method::GET,
            paths::PROBE,
            Bytes::new(),
            VersionSet::BYTES_MAX,
        )
        .await?;
        let theirs = VersionSet::from_bytes(answer)
            .map_err(|error| RequestError::Unusable(error.to_string()))?;
        let version = negotiate(&VersionSet::ours(), &theirs).ok_or_else(|| {
            RequestError::Unusable(format!(
                "{} speaks the protocol versions {theirs}, this homeserver {}: one of them needs \
                 an update",
                self.server,
                VersionSet::ours()
            ))
        })?;
        self.version = Some(version);
        self.backoff.reset();
        self.link.update(|status| {
            status.reachable = Some(Ok(()));
            status.last_error = None;
            status.next_attempt_ms = None;
        });
        Ok(())
    }

    pub(super) async fn deliver_countersignature(
        &mut self,
        peer: &PeerView,
        document: Bytes,
    ) -> Result<Step, StoreError> {
        let sent = request::send(
            self.network.as_ref(),
            self.node.config.federation.patience,
            peer,
            Method::POST,
            paths::COUNTERSIGNATURE,
            document.clone(),
            0,
        )
        .await;
        match sent {
            Ok(_) => {
                peers::countersignature_delivered(&self.node, &self.server, &document).await?;
                self.backoff.reset();
                Ok(Step::Again)
            }
            Err(error) => self.failed(&error).await,
        }
    }

    pub(super) async fn fetch_stale_manifest(&mut self) {
        let peer = self.node.peers.get(&self.server);
        let Some(peer) = peer.filter(|peer| peer.is_signed()) else {
            return;
        };
        if let Err(error) = self.renew_manifest(&peer).await {
            tracing::debug!(server = %self.server, %error, "its manifest could not be fetched");
        }
    }

    /// Fetches the peer's manifest when a newer one is missed: from itself, else, in the background, from a hub
    /// that has relayed its mail.
    pub(in crate::federation::outbound) async fn renew_manifest(
        &mut self,
        peer: &PeerView,
    ) -> Result<(), RequestError> {
        let is_stale = self.link.stale_manifest.load(Ordering::Acquire);
        if !is_stale || !self.link.may_ask_for_manifest(self.node.clock.now_ms()) {
            return Ok(());
        }
        self.link.stale_manifest.store(false, Ordering::Release);
        let network = self.network.as_ref();
        let Err(error) = fetch_manifest(&self.node, network, peer).await else {
            return Ok(());
        };
        self.link.stale_manifest.store(true, Ordering::Release);
        if !self.link.may_take_manifest(self.node.clock.now_ms()) {
            // It changes its keys too often to be asked: mail goes on with those that are known.
            return Ok(());
        }
        self.ask_hub(peer);
        Err(error)
    }

    /// Asks the hub for the peer's manifest. Nothing here waits for its answer: one peer that is slow must not
    /// hold up what is to be done for another.
    fn ask_hub(&mut self, peer: &PeerView) {
        while self.hub_asked.try_join_next().is_some() {}
        if !self.hub_asked.is_empty() {
            return;
        }
        let Some((hub, room)) = self.link.hub() else {
            return;
        };
        let Some(hub) = self.node.peers.get(&hub) else {
            return;
        };
        let known = peer.manifest.as_ref().map(|manifest| manifest.serial());
        let (node, network) = (Arc::clone(&self.node), Arc::clone(&self.network));
        let (link, server) = (Arc::clone(&self.link), self.server.clone());
        self.hub_asked.spawn(async move {
            let path = paths::room_manifest(room, &server);
            let taken = fetch_manifest_of(&node, network.as_ref(), &server, &hub, &path).await;
            if taken.is_ok_and(|taken| Some(taken.serial()) > known) {
                link.stale_manifest.store(false, Ordering::Release);
            }
        });
    }
}

/// Fetches the peer's manifest and keeps it, if it is newer.
pub(super) async fn fetch_manifest(
    node: &Arc<Node>,
    network: &dyn Network,
    peer: &PeerView,
) -> Result<Arc<Manifest>, RequestError> {
    fetch_manifest_of(node, network, &peer.server, peer, paths::MANIFEST).await
}

/// The manifest of `server`, from whoever keeps it under `path`.
async fn fetch_manifest_of(
    node: &Arc<Node>,
    network: &dyn Network,
    server: &ServerName,
    keeper: &PeerView,
    path: &str,
) -> Result<Arc<Manifest>, RequestError> {
    let bytes = request::send(
        network,
        node.config.federation.patience,
        keeper,
        Method::GET,
        path,
        Bytes::new(),
        MANIFEST_BYTES_MAX,
    )
    .await?;
    peers::take_manifest(node, server, bytes)
        .await
        .map_err(|error| RequestError::Unusable(error.to_string()))
}
