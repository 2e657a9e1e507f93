//! From an agreement to the addresses where its peer may be.
//!
//! The agreement's endpoints if it names any, else the SRV records of `_entente-fed._tcp.<server name>`.
//! Each name is resolved once, every address is checked, and exactly what was checked is connected to.
//! The DNS gives addresses and nothing else: who answers there proves itself by the certificate of the
//! *server name*, never of a target. So DNSSEC adds no trust here; it tells forged answers early, and its
//! state is shown.
//!
//! Deliberately absent: redirects, and any decoding of DNS messages (hickory's work).

pub mod address;
pub mod dns;
pub mod error;
mod limits;
pub mod race;
pub mod select;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::ServerName;
use futures_util::future::{join, join_all};
use ring::rand::SecureRandom;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::{DiscoveryConfig, Dnssec};
use address::{AddressRules, Chosen};
use dns::{Dns, Names};
pub use error::{DiscoveryError, Security};
use limits::{
    ADDRESSES_MAX, CACHED_PEERS_MAX, DISCOVERY_TIME_MAX, NEGATIVE_TTL_MS, POSITIVE_TTL_MAX_MS,
    POSITIVE_TTL_MIN_MS, TARGETS_MAX,
};
pub use race::race;
use select::Service;

/// What stands before a server name in the name of its SRV records.
pub const SERVICE_PREFIX: &str = "_entente-fed._tcp.";

/// Where a peer may be, in the order to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Checked addresses.
    pub addresses: Vec<SocketAddr>,
    /// Whether SRV records led there, not the agreement.
    pub by_service: bool,
    /// The weakest that DNSSEC says of the answers used; `None` when nothing was asked.
    pub security: Option<Security>,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.by_service {
            "SRV records"
        } else {
            "the agreement's endpoints"
        })?;
        match self.security {
            Some(security) => write!(f, "; DNSSEC: {security}"),
            None => write!(f, "; the DNS was not asked"),
        }
    }
}

/// Finds peers.
pub struct Discovery {
    names: Arc<dyn Names>,
    rules: AddressRules,
    dnssec: Dnssec,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom + Send + Sync>,
    kept: Mutex<HashMap<ServerName, Kept>>,
}

/// What was found out for these endpoints, and until when that counts.
struct Kept {
    endpoints: Vec<String>,
    found: Result<Found, DiscoveryError>,
    until_ms: u64,
}

/// Targets with their checked addresses; the order among them is drawn anew for each connection.
#[derive(Debug, Clone)]
struct Found {
    targets: Vec<(Service, Vec<SocketAddr>)>,
    by_service: bool,
    security: Option<Security>,
    ttl_ms: u64,
}

/// One target's addresses.
struct Resolved {
    addresses: Vec<SocketAddr>,
    security: Option<Security>,
    ttl_ms: u64,
}

impl Discovery {
    /// Asks the DNS as configured.
    pub fn new(
        config: &DiscoveryConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Self {
        Self::with_names(Arc::new(Dns::new(config)), config, clock, random)
    }

    /// Asks `names`.
    pub fn with_names(
        names: Arc<dyn Names>,
        config: &DiscoveryConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Self {
        Self {
            names,
            rules: AddressRules {
                private: config.private_addresses,
                loopback: config.loopback_addresses,
            },
            dnssec: config.dnssec,
            clock,
            random,
            kept: Mutex::default(),
        }
    }

    /// Where `server`, whose agreement names `endpoints` (`host:port` each), may be.
    pub async fn find(
        &self,
        server: &ServerName,
        endpoints: &[String],
    ) -> Result<Route, DiscoveryError> {
        let now_ms = self.clock.now_ms();
        let kept = self
            .kept()
            .get(server)
            .filter(|kept| now_ms < kept.until_ms && kept.endpoints == endpoints)
            .map(|kept| kept.found.clone());
        let found = match kept {
            Some(found) => found,
            None => {
                let found = self.look_up(server, endpoints).await;
                self.keep(server, endpoints, found.clone(), now_ms);
                found
            }
        };
        Ok(self.route(found?))
    }

    async fn look_up(
        &self,
        server: &ServerName,
        endpoints: &[String],
    ) -> Result<Found, DiscoveryError> {
        let name = format!("{SERVICE_PREFIX}{server}");
        let all = async {
            if endpoints.is_empty() {
                self.by_service(&name).await
            } else {
                self.by_endpoints(endpoints).await
            }
        };
        timeout(DISCOVERY_TIME_MAX, all)
            .await
            .unwrap_or(Err(DiscoveryError::Timeout(server.to_string())))
    }

    async fn by_endpoints(&self, endpoints: &[String]) -> Result<Found, DiscoveryError> {
        // Their order is the agreement's: each has a priority of its own.
        let services = (0..).zip(endpoints.iter().take(TARGETS_MAX));
        let services = services.map(|(priority, endpoint)| {
            let (host, port) =
                split(endpoint).ok_or_else(|| DiscoveryError::BadEndpoint(endpoint.clone()))?;
            Ok(Service {
                priority,
                weight: 0,
                port,
                target: host.strip_suffix('.').unwrap_or(host).to_owned(),
            })
        });
        let mut first_error = None;
        let mut usable = Vec::new();
        for service in services {
            match service {
                Ok(service) => usable.push(service),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        self.resolve_all(usable, first_error, false).await
    }

    async fn by_service(&self, name: &str) -> Result<Found, DiscoveryError> {
        let answer = self.names.services(name).await?;
        if answer.records.is_empty() {
            return Err(DiscoveryError::NoService(name.to_owned(), answer.security));
        }
        self.require(name, answer.security)?;
        if select::not_offered(&answer.records) {
            return Err(DiscoveryError::NotOffered(name.to_owned()));
        }
        let mut services = select::order(answer.records, &mut |most| self.draw(most));
        services.truncate(TARGETS_MAX);
        if services.is_empty() {
            return Err(DiscoveryError::BadTarget(name.to_owned()));
        }
        let mut found = self.resolve_all(services, None, true).await?;
        found.security = weakest(found.security, Some(answer.security));
        found.ttl_ms = found.ttl_ms.min(milliseconds(answer.ttl_seconds));
        Ok(found)
    }

    /// The addresses of all `services`; the error is the first one, when nothing else is left.
    async fn resolve_all(
        &self,
        services: Vec<Service>,
        mut first_error: Option<DiscoveryError>,
        by_service: bool,
    ) -> Result<Found, DiscoveryError> {
        let mut found = Found {
            targets: Vec::new(),
            by_service,
            security: None,
            ttl_ms: POSITIVE_TTL_MAX_MS,
        };
        let resolved = services
            .iter()
            .map(|service| self.resolve(service, by_service));
        let resolved = join_all(resolved).await;
        for (service, resolved) in services.into_iter().zip(resolved) {
            match resolved {
                Ok(resolved) => {
                    found.security = weakest(found.security, resolved.security);
                    found.ttl_ms = found.ttl_ms.min(resolved.ttl_ms);
                    found.targets.push((service, resolved.addresses));
                }
                Err(error) => {
                    tracing::debug!(target_host = %service.target, %error, "a target is left out");
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if found.targets.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    async fn resolve(
        &self,
        service: &Service,
        by_service: bool,
    ) -> Result<Resolved, DiscoveryError> {
        let host = service.target.as_str();
        if !by_service && let Some(address) = literal(host) {
            let addresses = self.fit(host, &[address], service.port, Chosen::InAgreement)?;
            return Ok(Resolved {
                addresses,
                security: None,
                ttl_ms: POSITIVE_TTL_MAX_MS,
            });
        }
        // `localhost` is never asked of anybody: to state it is to state a loopback address.
        let chosen = if !by_service && is_localhost(host) {
            Chosen::InAgreement
        } else {
            Chosen::ByDns
        };
        let (v6, v4) = join(
            self.names.addresses(host, true),
            self.names.addresses(host, false),
        )
        .await;
        let mut all = Vec::new();
        let (mut security, mut ttl_ms, mut failure) = (None, POSITIVE_TTL_MAX_MS, None);
        let mut nothing = None;
        for answer in [v4, v6] {
            let answer = answer.and_then(|answer| {
                if !answer.records.is_empty() {
                    self.require(host, answer.security)?;
                }
                Ok(answer)
            });
            match answer {
                Ok(answer) if answer.records.is_empty() => {
                    nothing = weakest(nothing, Some(answer.security));
                }
                Ok(answer) => {
                    all.extend(answer.records);
                    security = weakest(security, Some(answer.security));
                    ttl_ms = ttl_ms.min(milliseconds(answer.ttl_seconds));
                }
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        if all.is_empty() {
            return Err(failure.unwrap_or_else(|| {
                let security = nothing.unwrap_or(Security::Indeterminate);
                DiscoveryError::NoAddress(host.to_owned(), security)
            }));
        }
        Ok(Resolved {
            addresses: self.fit(host, &all, service.port, chosen)?,
            security,
            ttl_ms,
        })
    }

    /// Those of `addresses` that may be a peer's; the first refusal when there is none.
    fn fit(
        &self,
        host: &str,
        addresses: &[IpAddr],
        port: u16,
        chosen: Chosen,
    ) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let mut refusal = None;
        let mut fit = Vec::new();
        for address in addresses {
            match self.rules.check(*address, chosen) {
                Ok(()) => fit.push(*address),
                Err(reason) => {
                    let refused = DiscoveryError::Refused {
                        host: host.to_owned(),
                        address: *address,
                        reason,
                    };
                    tracing::warn!(error = %refused, "an address of a peer is not used");
                    refusal.get_or_insert(refused);
                }
            }
        }
        match refusal {
            Some(refusal) if fit.is_empty() => Err(refusal),
            _ => Ok(select::interleave(&fit)
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect()),
        }
    }

    fn require(&self, host: &str, security: Security) -> Result<(), DiscoveryError> {
        if self.dnssec == Dnssec::Require && security != Security::Secure {
            return Err(DiscoveryError::NotSecure(host.to_owned(), security));
        }
        Ok(())
    }

    /// The order in which to try what was found: drawn for each connection, so that weights are kept
    /// also while an answer is.
    fn route(&self, found: Found) -> Route {
        let mut left = found.targets;
        let services = left.iter().map(|(service, _)| service.clone()).collect();
        let mut addresses = Vec::new();
        for service in select::order(services, &mut |most| self.draw(most)) {
            if let Some(at) = left.iter().position(|(other, _)| *other == service) {
                addresses.extend(left.remove(at).1);
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        Route {
            addresses,
            by_service: found.by_service,
            security: found.security,
        }
    }

    /// An even number from 0 to `most`; without randomness always 0, which is an order as well.
    fn draw(&self, most: u64) -> u64 {
        let mut bytes = [0; 8];
        match self.random.fill(&mut bytes) {
            // The sum of 32 weights is far below 2^64: the bias is below 2^-42.
            Ok(()) => u64::from_le_bytes(bytes) % most.saturating_add(1),
            Err(_) => 0,
        }
    }

    fn keep(
        &self,
        server: &ServerName,
        endpoints: &[String],
        found: Result<Found, DiscoveryError>,
        now_ms: u64,
    ) {
        let ttl_ms = match &found {
            Ok(found) => found.ttl_ms.clamp(POSITIVE_TTL_MIN_MS, POSITIVE_TTL_MAX_MS),
            Err(_) => NEGATIVE_TTL_MS,
        };
        let mut kept = self.kept();
        if kept.len() >= CACHED_PEERS_MAX {
            kept.retain(|_, kept| now_ms < kept.until_ms);
        }
        if kept.len() < CACHED_PEERS_MAX || kept.contains_key(server) {
            let entry = Kept {
                endpoints: endpoints.to_vec(),
                found,
                until_ms: now_ms.saturating_add(ttl_ms),
            };
            kept.insert(server.clone(), entry);
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ServerName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(seconds: u32) -> u64 {
    u64::from(seconds).saturating_mul(1000)
}

/// The weaker of two; what was not asked weakens nothing.
fn weakest(one: Option<Security>, other: Option<Security>) -> Option<Security> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn split(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// A host that is an address already: IPv4, or IPv6 in brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost")
}
