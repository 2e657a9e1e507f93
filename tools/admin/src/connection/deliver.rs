//! Dropping a document in a stranger's quarantine: the one request that goes to another organisation's
//! homeserver, recognised by the fingerprint that its administrator has told.

use http::{Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;

use homeserver_api::ids::ServerName;

use super::{Admin, Remote, RootPin};
use crate::failure::Failure;

/// Where offers and acceptances are dropped.
const PATH: &str = "/federation/v1/offers";

/// Where a document is to be dropped.
pub(crate) struct Delivery(Remote);

impl Delivery {
    /// At `url`, which must prove to be `name` under exactly the pinned root. Nothing is sent yet.
    pub(crate) fn to(url: &str, name: &ServerName, pin: RootPin) -> Result<Self, Failure> {
        Remote::pinned(url, "--deliver", name.clone(), pin).map(Self)
    }

    /// Drops the document.
    pub(crate) async fn drop_there(self, document: String) -> Result<(), Failure> {
        let Self(remote) = self;
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(header::HOST, &remote.authority)
            .header(header::CONTENT_TYPE, "text/plain")
            .body(Full::new(Bytes::from(document)))
            .map_err(|error| Failure::Other(format!("the request can't be made: {error}")))?;
        let stream = remote.connect().await?;
        Admin::signed_out(remote)
            .round_trip(stream, request)
            .await?;
        Ok(())
    }
}
