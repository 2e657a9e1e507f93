//! `peer quarantine`: what strangers have dropped.

use homeserver_api::admin::{PeeringDocument, Quarantine, Quarantined, QuarantinedDetail};

use super::document_file::Destination;
use super::peering_document::sheet;
use crate::cli::QuarantineCommand;
use crate::connection::{Admin, segment};
use crate::failure::Failure;
use crate::output::{Format, facts, list, print};
use crate::values::instant;

const PATH: &str = "/admin/v1/quarantine";

/// `peer quarantine …`.
pub(super) async fn run(
    admin: &Admin,
    command: QuarantineCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        QuarantineCommand::List => {
            let quarantine: Quarantine = admin.get(PATH).await?;
            format.show(&quarantine, |quarantine| table(&quarantine.documents))
        }
        QuarantineCommand::Show { document } => {
            let detail: QuarantinedDetail = admin.get(&path(&document)).await?;
            format.show(&detail, |detail| {
                let dropped = facts(vec![
                    ("dropped", instant(detail.entry.received_ms)),
                    ("from network", detail.entry.network.clone()),
                ]);
                format!("{dropped}\n{}", sheet(&detail.summary))
            })
        }
        QuarantineCommand::Take { document, output } => {
            let destination = Destination::open(&output)?;
            let taken: PeeringDocument = admin
                .post_empty(&format!("{}/take", path(&document)))
                .await?;
            let next = "Anybody may have dropped it: go on with `hsctl peer accept` (an offer) or `hsctl peer \
                        countersign` (an acceptance), and compare the fingerprint by telephone.";
            destination.write(&taken, format, next)
        }
        QuarantineCommand::Drop { document } => {
            admin.delete(&path(&document)).await?;
            if format == Format::Human {
                return print("It is gone.");
            }
            Ok(())
        }
    }
}

fn path(document: &str) -> String {
    format!("{PATH}/{}", segment(document))
}

fn table(documents: &[Quarantined]) -> String {
    let rows = documents
        .iter()
        .map(|document| {
            vec![
                document.kind.clone(),
                instant(document.received_ms),
                document.network.clone(),
                document.document.clone(),
            ]
        })
        .collect();
    list(
        &["kind", "dropped", "from network", "document"],
        rows,
        "Nothing was dropped here.",
    )
}
