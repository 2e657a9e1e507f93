//! `status`: the homeserver at a glance.

use homeserver_api::admin::ServerStatus;

use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts};
use crate::values::instant;

/// `GET /admin/v1/server`.
pub(super) async fn status(admin: &Admin, format: Format) -> Result<(), Failure> {
    let status: ServerStatus = admin.get("/admin/v1/server").await?;
    format.show(&status, |status| {
        let mut text = facts(vec![
            ("server", status.server.to_string()),
            ("version", status.version.clone()),
            ("root SHA-256", status.root_sha256.clone()),
            ("its clock", instant(status.server_time_ms)),
            ("accounts", status.accounts.to_string()),
            ("devices", status.devices.to_string()),
            ("open sessions", status.sessions.to_string()),
        ]);
        for warning in &status.warnings {
            text.push_str("\n! ");
            text.push_str(warning);
        }
        text
    })
}
