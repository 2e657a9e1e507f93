//! `login`, `logout` and `password`: what an administrator's session over TLS begins, ends and takes.

use homeserver_api::admin::{SignInRequest, SignInResponse};
use homeserver_api::password::ChangePasswordRequest;

use super::{ask_new_password, ask_password, read_password};
use crate::cli::{ConnectionArguments, LoginArguments, LogoutArguments, PasswordArguments};
use crate::connection::{Admin, Remote, SavedSession, ServerUrl, SessionFile};
use crate::failure::Failure;
use crate::output::Format;
use crate::values::{instant_and_distance, now_ms};

fn server(connection: &ConnectionArguments) -> Result<&str, Failure> {
    connection.server.as_deref().ok_or_else(|| {
        Failure::Usage(
            "name the homeserver with --server; the local socket needs no sign-in".to_owned(),
        )
    })
}

/// `POST /admin/v1/sessions`, and keeps the token.
pub(super) async fn login(
    connection: &ConnectionArguments,
    arguments: &LoginArguments,
    format: Format,
) -> Result<(), Failure> {
    let remote = Remote::new(server(connection)?, connection)?;
    let url = remote.url.clone();
    let (server_name, root_sha256) = (remote.name.clone(), remote.pin.to_hex());
    let password = match &arguments.password_file {
        Some(file) => read_password(file)?,
        None => ask_password(&format!(
            "Password of {} at {server_name}: ",
            arguments.name
        ))?,
    };
    let request = SignInRequest {
        name: arguments.name.clone(),
        password,
    };
    let session: SignInResponse = Admin::signed_out(remote)
        .post("/admin/v1/sessions", &request)
        .await?;
    SessionFile::open(connection.session.as_deref())?.put(
        &url,
        SavedSession {
            server_name,
            root_sha256,
            name: arguments.name.clone(),
            token: session.token,
            expires_ms: session.expires_ms,
        },
    )?;
    format.done(&format!(
        "Signed in to {url} until {}.",
        instant_and_distance(session.expires_ms)
    ))
}

/// `DELETE /admin/v1/sessions`, and forgets the token.
pub(super) async fn logout(
    connection: &ConnectionArguments,
    arguments: &LogoutArguments,
    format: Format,
) -> Result<(), Failure> {
    let url = ServerUrl::parse(server(connection)?, "--server")?.to_string();
    let file = SessionFile::open(connection.session.as_deref())?;
    let Some(saved) = file.get(&url)? else {
        return Err(Failure::Other(format!(
            "there is no session with {url} on this machine: `hsctl login --server {url}` begins one"
        )));
    };
    let lasts = saved.expires_ms > now_ms();
    if lasts && !arguments.here_only {
        match Admin::open(connection)?.delete("/admin/v1/sessions").await {
            // It had ended there already.
            Err(Failure::Refused(problem)) if problem.status == 401 => {}
            Err(Failure::Unreachable { endpoint, reason }) => {
                return Err(Failure::Unreachable {
                    endpoint,
                    reason: format!(
                        "{reason}. The session still stands: try again, or forget it on this machine alone with \
                         `hsctl logout --here-only`"
                    ),
                });
            }
            ended => ended?,
        }
    }
    file.remove(&url)?;
    if lasts && arguments.here_only {
        return format.done(&format!(
            "The session with {url} is forgotten on this machine. There it lasts until {}.",
            instant_and_distance(saved.expires_ms)
        ));
    }
    format.done(&format!("The session with {url} is ended."))
}

/// `POST /admin/v1/password`
pub(super) async fn password(
    connection: &ConnectionArguments,
    arguments: &PasswordArguments,
    format: Format,
) -> Result<(), Failure> {
    server(connection)?;
    let admin = Admin::open(connection)?;
    let old = match &arguments.password_file {
        Some(file) => read_password(file)?,
        None => ask_password("Present password: ")?,
    };
    let new = match &arguments.new_password_file {
        Some(file) => read_password(file)?,
        None => ask_new_password()?,
    };
    admin
        .post_without_answer("/admin/v1/password", &ChangePasswordRequest { old, new })
        .await?;
    format.done("You have a new password; your other sessions have ended.")
}
