//! `login` and `logout`: sessions over TLS.

use homeserver_api::admin::{SignInRequest, SignInResponse};

use super::{ask_password, read_password};
use crate::cli::{ConnectionArguments, LoginArguments};
use crate::connection::{Admin, Remote, SavedSession, ServerUrl, SessionFile};
use crate::failure::Failure;
use crate::output::Format;
use crate::values::instant_and_distance;

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

/// Forgets the saved session.
pub(super) fn logout(connection: &ConnectionArguments, format: Format) -> Result<(), Failure> {
    let url = ServerUrl::parse(server(connection)?, "--server")?.to_string();
    if SessionFile::open(connection.session.as_deref())?.remove(&url)? {
        format.done(&format!(
            "The session with {url} is forgotten on this machine."
        ))
    } else {
        Err(Failure::Other(format!(
            "there is no session with {url} on this machine"
        )))
    }
}
