//! From an agreement's endpoints to addresses.
//!
//! DNS gives addresses and nothing else: who answers there proves itself by its certificate.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;

/// Most addresses that are tried for a peer.
const ADDRESSES_MAX: usize = 8;

/// Resolves host names with the machine's DNS configuration.
pub(super) struct Resolver {
    dns: Option<TokioResolver>,
}

impl Resolver {
    /// A resolver as the machine is configured; without a usable configuration only addresses work.
    pub(super) fn from_system() -> Self {
        let dns = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .inspect_err(|error| {
                tracing::warn!(%error, "no DNS: peers are reached at literal addresses only");
            })
            .ok();
        Self { dns }
    }

    /// The addresses of `endpoints` (`host:port` each), in their order.
    pub(super) async fn addresses(&self, endpoints: &[String]) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for endpoint in endpoints {
            if let Ok(address) = endpoint.parse::<SocketAddr>() {
                addresses.push(address);
                continue;
            }
            let Some((host, port)) = split(endpoint) else {
                tracing::warn!(%endpoint, "an agreement names an endpoint that is not host:port");
                continue;
            };
            addresses.extend(
                self.look_up(host)
                    .await
                    .into_iter()
                    .map(|ip| SocketAddr::new(ip, port)),
            );
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    async fn look_up(&self, host: &str) -> Vec<IpAddr> {
        let Some(dns) = &self.dns else {
            return Vec::new();
        };
        match dns.lookup_ip(host).await {
            Ok(found) => found.iter().collect(),
            Err(error) => {
                tracing::debug!(%host, %error, "a peer's host name does not resolve");
                Vec::new()
            }
        }
    }
}

fn split(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}
