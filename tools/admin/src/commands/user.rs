//! `user` and `device`.

use homeserver_api::admin::{
    AccountUsage, Amount, ChangeUserRequest, CreateUserRequest, CreatedUser, ResetPasswordRequest,
    UserDetail, UserSummary, Users,
};
use homeserver_api::client::Came;
use homeserver_api::ids::Handle;

use super::{confirm, new_password};
use crate::cli::{DeviceCommand, UserCommand};
use crate::connection::Admin;
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{instant_and_distance, size};

/// `user …`.
pub(super) async fn run(
    admin: &Admin,
    command: UserCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        UserCommand::List => {
            let users: Users = admin.get("/admin/v1/users").await?;
            format.show(&users, |users| user_list(&users.users))
        }
        UserCommand::Show { handle } => {
            let user: UserDetail = admin.get(&path(&handle)).await?;
            format.show(&user, user_sheet)
        }
        UserCommand::Create {
            handle,
            user_type,
            password,
        } => {
            let request = CreateUserRequest {
                handle,
                user_type: Some(user_type),
                password: new_password(&password)?,
            };
            let created: CreatedUser = admin.post("/admin/v1/users", &request).await?;
            format.show(&created, |created| {
                with_password(
                    format!("{} is created ({}).", created.address, created.user_type),
                    created,
                )
            })
        }
        UserCommand::Change { handle, user_type } => {
            let change = ChangeUserRequest {
                user_type: Some(user_type),
                suspended: None,
            };
            change_user(admin, &handle, &change, format).await
        }
        UserCommand::Suspend { handle } => suspend(admin, &handle, true, format).await,
        UserCommand::Resume { handle } => suspend(admin, &handle, false, format).await,
        UserCommand::Delete { handle, yes } => {
            if !yes {
                confirm(
                    &format!("Delete {handle} with all devices and waiting messages, for good?"),
                    "--yes",
                )?;
            }
            admin.delete(&path(&handle)).await?;
            format.done(&format!("{handle} is deleted."))
        }
        UserCommand::ResetPassword { handle, password } => {
            let request = ResetPasswordRequest {
                password: new_password(&password)?,
            };
            let reset: CreatedUser = admin
                .post(&format!("{}/password", path(&handle)), &request)
                .await?;
            format.show(&reset, |reset| {
                with_password(format!("{} has a new password.", reset.address), reset)
            })
        }
    }
}

/// `device …`.
pub(super) async fn run_device(
    admin: &Admin,
    command: DeviceCommand,
    format: Format,
) -> Result<(), Failure> {
    let (handle, device, yes) = match command {
        DeviceCommand::AllowReset { handle } => {
            admin
                .post_nothing(&format!("{}/device-reset", path(&handle)))
                .await?;
            return format.done(&format!(
                "{handle} may enrol a device by a reset (`chat enrol --reset`), once within 24 hours."
            ));
        }
        DeviceCommand::Remove {
            handle,
            device,
            yes,
        } => (handle, device, yes),
    };
    if !yes {
        confirm(
            &format!("Remove device {device} of {handle}, for good?"),
            "--yes",
        )?;
    }
    admin
        .delete(&format!("{}/devices/{device}", path(&handle)))
        .await?;
    format.done(&format!("Device {device} of {handle} is removed."))
}

fn path(handle: &Handle) -> String {
    // A handle has no character that a path would need escaped.
    format!("/admin/v1/users/{handle}")
}

async fn suspend(
    admin: &Admin,
    handle: &Handle,
    suspended: bool,
    format: Format,
) -> Result<(), Failure> {
    let change = ChangeUserRequest {
        user_type: None,
        suspended: Some(suspended),
    };
    change_user(admin, handle, &change, format).await
}

async fn change_user(
    admin: &Admin,
    handle: &Handle,
    change: &ChangeUserRequest,
    format: Format,
) -> Result<(), Failure> {
    let user: UserDetail = admin.patch(&path(handle), change).await?;
    format.show(&user, user_sheet)
}

fn with_password(sentence: String, created: &CreatedUser) -> String {
    match &created.password {
        Some(password) => format!(
            "{sentence}\nPassword (shown only now): {}",
            password.as_str()
        ),
        None => sentence,
    }
}

fn user_list(users: &[UserSummary]) -> String {
    let rows = users
        .iter()
        .map(|user| {
            vec![
                user.address.to_string(),
                user.user_type.clone(),
                state(user).to_owned(),
                user.devices.to_string(),
            ]
        })
        .collect();
    list(
        &["address", "type", "state", "devices"],
        rows,
        "No users yet: make one with `hsctl user create`.",
    )
}

fn state(user: &UserSummary) -> &'static str {
    if user.suspended {
        "suspended"
    } else {
        "active"
    }
}

fn came(came: &Came) -> String {
    match came {
        Came::First => "as the first".to_owned(),
        Came::Approved { by } => format!("approved by {by}"),
        Came::Reset => "by a reset".to_owned(),
    }
}

/// What the account takes up, of how much.
fn usage_rows(usage: &AccountUsage) -> [(&'static str, String); 3] {
    let amount = |is: Amount, most: Amount| {
        format!(
            "{} messages, {} (at most {}, {})",
            is.messages,
            size(is.bytes),
            most.messages,
            size(most.bytes)
        )
    };
    let files = format!(
        "{} (at most {})",
        size(usage.file_bytes),
        size(usage.file_bytes_max)
    );
    [
        ("fullest inbox", amount(usage.inbox, usage.inbox_max)),
        ("sent, waits", amount(usage.outbox, usage.outbox_max)),
        ("files", files),
    ]
}

fn user_sheet(user: &UserDetail) -> String {
    let mut rows = vec![
        ("address", user.summary.address.to_string()),
        ("account", user.summary.account.to_string()),
        ("type", user.summary.user_type.clone()),
        ("state", state(&user.summary).to_owned()),
        ("created", instant_and_distance(user.created_ms)),
    ];
    rows.extend(user.usage.iter().flat_map(usage_rows));
    let sheet = facts(rows);
    let rows = user
        .device_list
        .iter()
        .map(|device| {
            vec![
                device.device.to_string(),
                device.name.clone(),
                instant_and_distance(device.enrolled_ms),
                instant_and_distance(device.not_after_ms),
                came(&device.came),
            ]
        })
        .collect();
    let devices = list(
        &["device", "name", "enrolled", "certificate ends", "came"],
        rows,
        "No devices.",
    );
    format!("{sheet}\n\n{devices}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an administrator sees what an account takes up and what it may; by example.
    #[test]
    fn usage_is_shown_with_its_bounds() {
        let amount = |messages, bytes| Amount { messages, bytes };
        let usage = AccountUsage {
            inbox: amount(3, 2048),
            inbox_max: amount(50_000, 128 << 20),
            outbox: amount(0, 0),
            outbox_max: amount(100_000, 1 << 30),
            file_bytes: 1 << 20,
            file_bytes_max: 10 << 30,
        };
        let shown = usage_rows(&usage).map(|(_, text)| text);
        assert_eq!(
            shown,
            [
                "3 messages, 2 KiB (at most 50000, 128 MiB)",
                "0 messages, 0 bytes (at most 100000, 1 GiB)",
                "1 MiB (at most 10 GiB)",
            ]
        );
    }
}
