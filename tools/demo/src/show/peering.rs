//! Act one: a.example and b.example make an agreement; c.example stays a stranger.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Stage;
use crate::failure::{Failure, Result};
use crate::homeserver::Homeserver;

/// How long the two may take to agree that the agreement is active.
const ACTIVE_MAX: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Peers {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    state: String,
}

#[derive(Deserialize)]
struct Inspection {
    lines: Vec<String>,
}

impl Stage<'_> {
    /// The ceremony, as two administrators do it: files travel, fingerprints are read aloud.
    pub(super) async fn peering(&self) -> Result {
        self.display.act("Two of them make an agreement");
        let file = |name: &str| self.folder.join(name).display().to_string();
        let (offer, acceptance) = (file("offer.txt"), file("acceptance.txt"));
        let countersignature = file("countersignature.txt");
        let (a, b) = (&self.a, &self.b);
        self.display
            .step(
                "a.example offers, messages living at most 14 days",
                a.hsctl
                    .done(&["peer", "offer", b.name, "--ttl-max", "14d", "-o", &offer]),
            )
            .await?;
        let inspection: Inspection = b.hsctl.ask(&["peer", "inspect", &offer]).await?;
        for line in &inspection.lines {
            self.display.note(line);
        }
        self.display
            .step("b.example compares the fingerprint and accepts", async {
                // What a's administrator reads aloud is what a's homeserver says of itself.
                let aloud = a.root_sha256();
                b.hsctl
                    .done(&[
                        "peer",
                        "accept",
                        &offer,
                        "--fingerprint",
                        aloud,
                        "-o",
                        &acceptance,
                    ])
                    .await
            })
            .await?;
        self.display
            .step(
                "a.example compares the other fingerprint and countersigns",
                async {
                    let aloud = b.root_sha256();
                    a.hsctl
                        .done(&[
                            "peer",
                            "countersign",
                            &acceptance,
                            "--fingerprint",
                            aloud,
                            "-o",
                            &countersignature,
                        ])
                        .await
                },
            )
            .await?;
        self.display
            .step("both say that the agreement is active", async {
                wait_until_active(a, b.name).await?;
                wait_until_active(b, a.name).await
            })
            .await?;
        let strangers: Peers = self.c.hsctl.ask(&["peer", "list"]).await?;
        if strangers.peers.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(
                "c.example has a peer, though nobody made an agreement with it",
            ))
        }
    }
}

async fn wait_until_active(server: &Homeserver, peer: &str) -> Result {
    let deadline = Instant::now() + ACTIVE_MAX;
    loop {
        let shown: Peer = server.hsctl.ask(&["peer", "show", peer]).await?;
        if shown.state == "active" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "{} still says that the agreement with {peer} is {} after {} s",
                server.name,
                shown.state,
                ACTIVE_MAX.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
