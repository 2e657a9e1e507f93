//! `POST /admin/v1/backups`

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use homeserver_api::admin::BackupRequest;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use zeroize::Zeroizing;

use super::error::AdminError;
use super::extract::Json;
use crate::audit::Actor;
use crate::backup::{self, BackupError, PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN, Recipient};
use crate::node::Node;

/// Whoever asked for a backup takes each piece within this time.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// What is made next; `None`: it is whole.
type Made = Result<Option<Bytes>, BackupError>;

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
    let kind = HeaderValue::from_static("application/octet-stream");
    let headers = [(header::CONTENT_TYPE, kind)];
    Ok((headers, Body::from_stream(pieces(making))).into_response())
}

/// The backup piece by piece, as it is taken.
fn pieces(making: Making) -> impl Stream<Item = Result<Bytes, BackupError>> + Send + 'static {
    let (give, take) = mpsc::channel(1);
    tokio::spawn(make(making, give));
    stream::try_unfold(take, async |mut take: mpsc::Receiver<Made>| {
        match take.recv().await {
            Some(Ok(Some(bytes))) => Ok(Some((bytes, take))),
            Some(Ok(None)) => Ok(None),
            Some(Err(error)) => Err(error),
            // What is not whole must not look as if it were.
            None => Err(BackupError::Stalled),
        }
    })
}

/// Makes the backup, a piece ahead of whoever takes it. Someone who takes none for a while holds up nothing: the moment of the
/// store is let go, whether he has hung up or not.
async fn make(mut making: Making, give: mpsc::Sender<Made>) {
    loop {
        let next = making.next().await;
        let next = next.inspect_err(|error| tracing::error!(%error, "a backup broke off"));
        let is_last = !matches!(next, Ok(Some(_)));
        match give.send_timeout(next, TAKEN_WITHIN).await {
            Ok(()) if !is_last => {}
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::warn!("a backup broke off: nobody takes it");
                return;
            }
            Ok(()) | Err(SendTimeoutError::Closed(_)) => return,
        }
    }
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::node::testing::node;
    use crate::store::Part;

    /// Goal: whoever takes nothing of a backup any more does not keep the moment of the store, nor others from making one; and what he
    /// has does not look whole. Method: virtual time; a piece is taken, and the rest after two minutes.
    #[tokio::test]
    async fn a_stalled_reader_is_given_up() {
        let (node, _) = node("a.example");
        let mut part = Part::default();
        for number in 0..300 {
            let key = format!("P{number:04}");
            part.put(key.into_bytes().into(), vec![7; 10_000].into());
        }
        node.store.commit(part).await.unwrap();
        let public = backup::KeyPair::draw(node.random.as_ref()).unwrap().public;
        let recipient = Recipient::Key(backup::public_key(&public).unwrap());
        let making = backup::begin(&node, &Actor::System, recipient).await;
        let mut pieces = Box::pin(pieces(making.unwrap()));
        assert!(matches!(pieces.next().await, Some(Ok(_))));
        assert_eq!(node.backups.available_permits(), 0);
        tokio::time::pause();
        tokio::time::sleep(2 * TAKEN_WITHIN).await;
        assert_eq!(node.backups.available_permits(), 1);
        let mut last = None;
        while let Some(piece) = pieces.next().await {
            last = Some(piece);
        }
        assert!(matches!(last, Some(Err(BackupError::Stalled))));
    }
}
