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
        let mut rows = vec![
            ("server", status.server.to_string()),
            ("version", status.version.clone()),
            ("root SHA-256", status.root_sha256.clone()),
        ];
        // An older homeserver does not tell the words.
        if !status.root_words.is_empty() {
            rows.push(("read aloud", status.root_words.clone()));
        }
        rows.extend([
            ("its clock", instant(status.server_time_ms)),
            ("accounts", status.accounts.to_string()),
            ("devices", status.devices.to_string()),
            ("open sessions", status.sessions.to_string()),
        ]);
        if let Some(keys) = &status.store_keys {
            let since = format!("{}, since {}", keys.generation, instant(keys.since_ms));
            rows.push(("store keys", since));
            let destroyed = keys.destroyed_ms.map_or_else(
                || "not since it started".to_owned(),
                |at_ms| format!("unreadable since {}", instant(at_ms)),
            );
            rows.push(("what was deleted", destroyed));
        }
        let mut text = facts(rows);
        for warning in &status.warnings {
            text.push_str("\n! ");
            text.push_str(warning);
        }
        text
    })
}
