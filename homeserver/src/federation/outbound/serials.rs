//! A network whose requests say which manifests are known here, and whose answers are heard for those that the
//! peer knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_proto::ids::ServerName;
use futures_util::future::BoxFuture;
use http::{Request, Response};

use super::network::{Network, ResponseBody};
use crate::http_client::ConnectionError;
use crate::node::Node;

/// Adds the serials to another network.
pub(super) struct Serials {
    node: Arc<Node>,
    network: Arc<dyn Network>,
}

impl Serials {
    pub(super) fn over(node: Arc<Node>, network: Arc<dyn Network>) -> Self {
        Self { node, network }
    }
}

impl Network for Serials {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        endpoints: &'a [String],
        mut request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let (node, peers) = (&self.node, &self.node.peers);
            peers.say_serials(node, server, request.headers_mut());
            let answer = self
                .network
                .send(server, endpoints, request, within)
                .await?;
            peers.hear_serials(node, server, answer.headers());
            Ok(answer)
        })
    }

    fn cut(&self, server: &ServerName) {
        self.network.cut(server);
    }
}
