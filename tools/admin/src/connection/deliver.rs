//! Dropping a document in a stranger's quarantine: the one request that goes to another organisation's
//! homeserver, recognised by the fingerprint that its administrator has told.

use http::{Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;

use homeserver_api::ids::ServerName;

use super::{Admin, Remote, RootPin, Route};
use crate::failure::Failure;

/// Where offers and acceptances are dropped.
const PATH: &str = "/federation/v1/offers";

/// Drops a document at `url`, which must prove to be `name` under exactly the pinned root.
pub(crate) async fn deliver(
    url: &str,
    name: &ServerName,
    pin: &RootPin,
    document: String,
) -> Result<(), Failure> {
    let remote = Remote::pinned(url, "--deliver", name.clone(), pin.clone())?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::HOST, &remote.authority)
        .header(header::CONTENT_TYPE, "text/plain")
        .body(Full::new(Bytes::from(document)))
        .map_err(|error| Failure::Other(format!("the request can't be made: {error}")))?;
    let stranger = Admin::signed_out(remote);
    let Route::Tls(remote) = &stranger.route else {
        return Ok(());
    };
    stranger
        .round_trip(remote.connect().await?, request)
        .await?;
    Ok(())
}
