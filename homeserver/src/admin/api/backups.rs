//! `POST /admin/v1/backups`

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use homeserver_api::admin::BackupRequest;
use zeroize::Zeroizing;

use super::error::AdminError;
use super::extract::Json;
use crate::audit::Actor;
use crate::backup::{self, BackupError, PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN, Recipient};
use crate::node::Node;

/// `POST /admin/v1/backups`: a backup of all that the homeserver keeps, sealed, as long as it takes. Over the local socket
/// alone: whoever names the passphrase can read the organisation's keys.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<BackupRequest>,
) -> Result<Response, AdminError> {
    if !matches!(actor, Actor::Local(_)) {
        return Err(AdminError::LocalAlone);
    }
    let making = backup::begin(&node, &actor, recipient(&request)?).await?;
    let chunks = stream::try_unfold(making, async |mut making| {
        let next = making.next().await;
        let next = next.inspect_err(|error| tracing::error!(%error, "a backup broke off"))?;
        Ok::<_, BackupError>(next.map(|bytes| (bytes, making)))
    });
    let kind = HeaderValue::from_static("application/octet-stream");
    let headers = [(header::CONTENT_TYPE, kind)];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn recipient(request: &BackupRequest) -> Result<Recipient, AdminError> {
    match (&request.passphrase, &request.public_key) {
        (Some(passphrase), None) if passphrase.as_str().len() < PASSPHRASE_BYTES_MIN => {
            Err(AdminError::Malformed(format!(
                "the passphrase needs at least {PASSPHRASE_BYTES_MIN} bytes: it is all that protects the \
                 organisation's keys"
            )))
        }
        (Some(passphrase), None) if passphrase.as_str().len() > PASSPHRASE_BYTES_MAX => {
            Err(AdminError::Malformed(format!(
                "a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes"
            )))
        }
        (Some(passphrase), None) => {
            let passphrase = Zeroizing::new(passphrase.as_str().to_owned());
            Ok(Recipient::Passphrase(passphrase))
        }
        (None, Some(key)) => backup::public_key(key)
            .map(Recipient::Key)
            .map_err(|error| {
                AdminError::Malformed(format!(
                    "public_key: {error}: send the public half that `homeserver backup-key` has made"
                ))
            }),
        _ => Err(AdminError::Malformed(
            "send either passphrase or public_key".to_owned(),
        )),
    }
}
