//! `restored`: what came back with a backup, and that it may be served.

use std::fmt::Write as _;

use homeserver_api::admin::RestoredStatus;

use super::confirm;
use super::peer::state;
use crate::cli::{RestoredArguments, RestoredCommand};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts};
use crate::values::instant;

const PATH: &str = "/admin/v1/restored";

/// `restored …`.
pub(super) async fn run(
    admin: &Admin,
    arguments: &RestoredArguments,
    format: Format,
) -> Result<(), Failure> {
    let status: RestoredStatus = admin.get(PATH).await?;
    let Some(RestoredCommand::Confirm { yes }) = &arguments.command else {
        return format.show(&status, sheet);
    };
    if !status.is_confirmed && !yes {
        let question = format!(
            "Has everything that ended after {} been ended again: devices, users, agreements?",
            instant(status.made_ms)
        );
        confirm(&question, "--yes")?;
    }
    admin.post_nothing(&format!("{PATH}/confirm")).await?;
    format
        .done("It is confirmed: people and partners are served within a second, without a restart.")
}

fn sheet(status: &RestoredStatus) -> String {
    let mut text = facts(vec![
        ("everything is as of", instant(status.made_ms)),
        ("restored", instant(status.restored_ms)),
        (
            "confirmed",
            match status.is_confirmed {
                true => "yes: everybody is served",
                false => "no: nobody is served",
            }
            .to_owned(),
        ),
        (
            "users",
            format!("{}, {} of them suspended", status.users, status.suspended),
        ),
        ("devices", status.devices.to_string()),
        ("agreements", status.agreements.len().to_string()),
    ]);
    for agreement in &status.agreements {
        let (server, state) = (&agreement.server, state(agreement.state));
        let _ = write!(text, "\n  {server}: {state}");
    }
    if !status.is_confirmed {
        text.push_str(
            "\n\nWhatever has ended since then has come back: end it again. `hsctl device remove`, `hsctl user suspend` and `hsctl \
             user delete`, `hsctl peer suspend` and `hsctl peer revoke`; `hsctl user show` and `hsctl peer show` tell more of \
             each. Then: `hsctl restored confirm`.",
        );
    }
    text
}
