//! `reports`.

use std::num::NonZeroU32;

use clap::Subcommand;
use homeserver_api::ids::ReportId;

#[derive(Debug, Subcommand)]
pub(crate) enum ReportsCommand {
    /// Reports that nobody has closed, newest first.
    List {
        /// Closed ones too.
        #[arg(long)]
        all: bool,
        /// How many at most.
        #[arg(long, value_name = "N", default_value = "100")]
        limit: NonZeroU32,
    },
    /// One report, with what the reporter discloses; that you read it is in the audit log.
    Show {
        /// The report's id.
        report: ReportId,
    },
    /// Note that a report has been dealt with.
    Close {
        /// The report's id.
        report: ReportId,
        /// What came of it; kept with the report and in the audit log.
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
    },
}
