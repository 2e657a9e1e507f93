//! `keys root`.

use homeserver_api::keys::{
    AnnounceRootRequest, PartnerRoot, PartnerRootStanding, RootStatus, SwitchRootRequest,
};

use super::confirm;
use super::keys::second_root;
use crate::cli::RootCommand;
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};

/// `keys root …`.
pub(super) async fn run(
    admin: &Admin,
    command: RootCommand,
    format: Format,
) -> Result<(), Failure> {
    let status: RootStatus = match command {
        RootCommand::Show => admin.get("/admin/v1/keys/root").await?,
        RootCommand::Announce { partners } => {
            let request = AnnounceRootRequest { partners };
            admin.post("/admin/v1/keys/root/announce", &request).await?
        }
        RootCommand::Switch {
            fingerprint,
            without,
            yes,
        } => {
            if !yes {
                confirm(
                    "Let the new root take over? It can't be taken back: keep the new root key safe first.",
                    "--yes",
                )?;
            }
            let request = SwitchRootRequest {
                fingerprint,
                without,
            };
            admin.post("/admin/v1/keys/root/switch", &request).await?
        }
        RootCommand::Cancel => admin.post("/admin/v1/keys/root/cancel", &()).await?,
        RootCommand::Forget { yes } => {
            if !yes {
                confirm(
                    "Forget the former root? Devices that have not been here since the change have to be enrolled anew.",
                    "--yes",
                )?;
            }
            admin.post("/admin/v1/keys/root/forget", &()).await?
        }
    };
    format.show(&status, sheet)
}

fn sheet(status: &RootStatus) -> String {
    let mut known = vec![
        ("root", status.fingerprint.clone()),
        ("to read aloud", status.words.clone()),
        ("second root", second_root(status.change.as_ref())),
    ];
    if let Some(second) = &status.change {
        known.push(("to read aloud", second.words.clone()));
    }
    let known = facts(known);
    let standing = |partner: &PartnerRoot| {
        let standing = match (partner.standing, &partner.amendment) {
            (PartnerRootStanding::Consented, _) => "has consented",
            (PartnerRootStanding::Announced, None) => "knows, and has not consented",
            (PartnerRootStanding::Announced, Some(_)) => "not reached yet (the amendment: --json)",
            (PartnerRootStanding::NotAnnounced, _) => "has not been told",
        };
        vec![partner.server.to_string(), standing.to_owned()]
    };
    let partners = list(
        &["partner", "the newest root"],
        status.partners.iter().map(standing).collect(),
        "",
    );
    [known, partners]
        .map(|part| part.trim_end().to_owned())
        .join("\n\n")
}
