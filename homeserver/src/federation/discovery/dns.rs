//! Asking the DNS: only here hickory is named.
//!
//! hickory decodes the bytes and validates DNSSEC; nothing here reads a DNS message. What comes out is
//! bounded, and a bogus answer never does; one that could not be validated because servers did not answer is not called
//! bogus. Its own caches are not used: `Discovery` keeps answers under the node's clock.

mod validated;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use validated::Validated;

use super::error::{DiscoveryError, Security};
use super::is_localhost;
use super::limits::{
    ADDRESS_RECORDS_MAX, ALIAS_CHAIN_MAX, LOOPBACK_TTL_SECONDS, NAME_BYTES_MAX,
    QUESTION_REPEATS_MAX, QUESTION_TIME_MAX, SERVICE_RECORDS_MAX, VALIDATION_REPEATS_MAX,
};
use super::select::Service;
use crate::config::{DiscoveryConfig, Dnssec};

/// What the DNS says to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records; none when the name or its records do not exist.
    pub records: Vec<T>,
    /// How long they may be kept, in seconds.
    pub ttl_seconds: u32,
    /// What DNSSEC says of them.
    pub security: Security,
}

/// Something that answers questions about names: the DNS, or a test's.
pub trait Names: Send + Sync + 'static {
    /// The SRV records at `name`.
    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Answer<Service>, DiscoveryError>>;

    /// The addresses of one family at `host`.
    fn addresses<'a>(
        &'a self,
        host: &'a str,
        v6: bool,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, DiscoveryError>>;
}

/// The DNS, asked through hickory.
pub struct Dns {
    /// Or why it can't be asked.
    servers: Result<Servers, String>,
    validates: bool,
}

/// Who is asked, and how.
enum Servers {
    Believed(Box<TokioResolver>),
    Validated(Box<Validated>),
}

impl Dns {
    /// As configured; with an unusable configuration every question fails and says why, so that peers at
    /// literal addresses are reached all the same.
    pub fn new(config: &DiscoveryConfig) -> Self {
        let servers = build(config).inspect_err(|error| {
            tracing::warn!(%error, "no DNS: peers are reached at literal addresses only");
        });
        Self {
            servers,
            validates: config.dnssec != Dnssec::Off,
        }
    }

    /// Asks until the answer is one, or is bogus though every question was answered.
    async fn ask<T>(
        &self,
        host: &str,
        kind: RecordType,
        most: usize,
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, DiscoveryError> {
        let unusable = |reason: String| DiscoveryError::Unusable {
            host: host.to_owned(),
            reason,
        };
        let servers = self.servers.as_ref().map_err(|e| unusable(e.clone()))?;
        let name = Name::from_ascii(format!("{host}.")).map_err(|e| unusable(e.to_string()))?;
        let mut repeats = VALIDATION_REPEATS_MAX;
        loop {
            let (answer, unanswered) = match servers {
                Servers::Believed(resolver) => {
                    let found = resolver.lookup(name.clone(), kind).await;
                    let read =
                        |found: Lookup| self.read(host, found.answers(), kind, most, &wanted);
                    (found.map(read), None)
                }
                Servers::Validated(validated) => {
                    let question = Query::query(name.clone(), kind);
                    let (found, unanswered) = validated.look_up(question).await;
                    // What else is in the answer is asked for by itself, if it is needed.
                    let own = |record: &Record| record.name == name;
                    let read = |found: DnsResponse| {
                        let records: Vec<Record> =
                            found.answers.iter().filter(|r| own(r)).cloned().collect();
                        self.read(host, &records, kind, most, &wanted)
                    };
                    (found.map(read), unanswered)
                }
            };
            let answer = answer.unwrap_or_else(|error| none(host, error, self.validates));
            let Some(unanswered) = unanswered.filter(|_| is_bogus(&answer)) else {
                return answer;
            };
            if repeats == 0 {
                return Err(DiscoveryError::Unvalidated {
                    host: host.to_owned(),
                    question: format!("{} {}", unanswered.name(), unanswered.query_type()),
                });
            }
            repeats -= 1;
        }
    }

    fn read<T>(
        &self,
        host: &str,
        records: &[Record],
        kind: RecordType,
        most: usize,
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, DiscoveryError> {
        let of = |kind| records.iter().filter(move |r| r.record_type() == kind);
        if of(kind).count() > most {
            return Err(DiscoveryError::TooMany(host.to_owned()));
        }
        if of(RecordType::CNAME).count() > ALIAS_CHAIN_MAX {
            return Err(DiscoveryError::Aliases(host.to_owned()));
        }
        let used = || of(kind).chain(of(RecordType::CNAME));
        let security = self.security(used());
        if security == Security::Bogus {
            return Err(DiscoveryError::Bogus(host.to_owned()));
        }
        Ok(Answer {
            records: of(kind).filter_map(|r| wanted(&r.data)).collect(),
            ttl_seconds: used().map(|r| r.ttl).min().unwrap_or(0),
            security,
        })
    }

    /// The records at `name`, or at what it is an alias of: each alias is asked for, and validated, by itself. (Without
    /// validation hickory follows aliases, but of SRV records, for which it looks at their own targets then.)
    async fn follow<T>(
        &self,
        name: &str,
        (kind, most): (RecordType, usize),
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, DiscoveryError> {
        let mut passed: Vec<String> = Vec::new();
        let mut on_the_way: Option<(Security, u32)> = None;
        let mut at = name.to_ascii_lowercase();
        loop {
            let answer = self.ask(&at, kind, most, &wanted).await;
            let next = match &answer {
                Ok(answer) if !answer.records.is_empty() => None,
                Ok(_) | Err(DiscoveryError::Lame { .. }) => {
                    Some(self.ask(&at, RecordType::CNAME, 1, alias).await?)
                }
                // An alias of nothing too: the proof that there is nothing is about another name than hickory expects.
                Err(DiscoveryError::Bogus(_)) => {
                    self.ask(&at, RecordType::CNAME, 1, alias).await.ok()
                }
                Err(_) => None,
            };
            let target = next.as_ref().and_then(|next| next.records.first());
            let (Some(next), Some(target)) = (&next, target) else {
                return answer.map(|answer| match on_the_way {
                    Some((security, ttl_seconds)) => Answer {
                        security: security.min(answer.security),
                        ttl_seconds: ttl_seconds.min(answer.ttl_seconds),
                        ..answer
                    },
                    None => answer,
                });
            };
            let (security, ttl_seconds) = on_the_way.unwrap_or((next.security, next.ttl_seconds));
            on_the_way = Some((
                security.min(next.security),
                ttl_seconds.min(next.ttl_seconds),
            ));
            let target = host_name(target)
                .filter(|target| !target.is_empty())
                .ok_or_else(|| DiscoveryError::BadTarget(name.to_owned()))?;
            passed.push(std::mem::replace(&mut at, target));
            if passed.contains(&at) || passed.len() > ALIAS_CHAIN_MAX {
                return Err(DiscoveryError::Aliases(name.to_owned()));
            }
        }
    }

    /// Whether a name is an alias that goes round in circles, or the first of too many.
    async fn leads_nowhere(&self, name: &str) -> bool {
        let mut passed: Vec<String> = Vec::new();
        let mut at = name.to_ascii_lowercase();
        loop {
            let next = self.ask(&at, RecordType::CNAME, 1, alias).await;
            let target = next.ok().and_then(|next| next.records.into_iter().next());
            let target = target.and_then(|target| host_name(&target));
            let Some(target) = target.filter(|target| !target.is_empty()) else {
                return false;
            };
            passed.push(std::mem::replace(&mut at, target));
            if passed.contains(&at) || passed.len() > ALIAS_CHAIN_MAX {
                return true;
            }
        }
    }

    fn security<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Security {
        if !self.validates {
            return Security::Unchecked;
        }
        let each = records.map(|record| security_by(record.proof));
        each.min().unwrap_or(Security::Indeterminate)
    }
}

impl Names for Dns {
    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Answer<Service>, DiscoveryError>> {
        Box::pin(async move {
            let wanted = |data: &RData| match data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: srv.target.to_ascii(),
                }),
                _ => None,
            };
            let most = (RecordType::SRV, SERVICE_RECORDS_MAX);
            let mut answer = self.follow(name, most, wanted).await?;
            for service in &mut answer.records {
                service.target = host_name(&service.target)
                    .ok_or_else(|| DiscoveryError::BadTarget(name.to_owned()))?;
            }
            Ok(answer)
        })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
        v6: bool,
    ) -> BoxFuture<'a, Result<Answer<IpAddr>, DiscoveryError>> {
        Box::pin(async move {
            let wanted = |data: &RData| match data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            };
            let kind = if v6 { RecordType::AAAA } else { RecordType::A };
            if !self.validates {
                let answer = self.ask(host, kind, ADDRESS_RECORDS_MAX, wanted).await;
                let nothing = answer.as_ref().is_ok_and(|found| found.records.is_empty());
                // Hickory gives up on such aliases as on a name that has nothing.
                return if nothing && self.leads_nowhere(host).await {
                    Err(DiscoveryError::Aliases(host.to_owned()))
                } else {
                    answer
                };
            }
            if is_localhost(host) {
                return Ok(loopback(v6));
            }
            self.follow(host, (kind, ADDRESS_RECORDS_MAX), wanted).await
        })
    }
}

fn alias(data: &RData) -> Option<String> {
    match data {
        RData::CNAME(alias) => Some(alias.0.to_ascii()),
        _ => None,
    }
}

/// What `localhost` means: nobody is asked, so nobody vouches for it.
fn loopback(v6: bool) -> Answer<IpAddr> {
    let address = match v6 {
        true => IpAddr::V6(Ipv6Addr::LOCALHOST),
        false => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Answer {
        records: vec![address],
        ttl_seconds: LOOPBACK_TTL_SECONDS,
        security: Security::Indeterminate,
    }
}

/// A target as it is looked up and shown; empty for ".". What is no host name is not even shown.
fn host_name(target: &str) -> Option<String> {
    let host = target.strip_suffix('.').unwrap_or(target);
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = host.len() <= NAME_BYTES_MAX && host.bytes().all(fine);
    fits.then(|| host.to_ascii_lowercase())
}

/// What a failed question means; that there is nothing is an answer too.
fn none<T>(host: &str, error: NetError, validates: bool) -> Result<Answer<T>, DiscoveryError> {
    let host = host.to_owned();
    Err(match error {
        NetError::Dns(DnsError::DnssecBogus) => DiscoveryError::Bogus(host),
        NetError::Dns(DnsError::Nsec { proof, .. }) if proof.is_bogus() => {
            DiscoveryError::Bogus(host)
        }
        NetError::Dns(error @ (DnsError::NoRecordsFound(_) | DnsError::Nsec { .. })) => {
            return Ok(Answer {
                records: Vec::new(),
                ttl_seconds: 0,
                security: if validates {
                    security_of_nothing(&error)
                } else {
                    Security::Unchecked
                },
            });
        }
        NetError::Dns(DnsError::ResponseCode(code)) => DiscoveryError::Lame {
            host,
            code: code.to_str().to_owned(),
        },
        NetError::Timeout => DiscoveryError::Timeout(host),
        other => DiscoveryError::Unusable {
            host,
            reason: other.to_string(),
        },
    })
}

/// What DNSSEC says of the answer that there is nothing: what it says of the records that prove it.
fn security_of_nothing(error: &DnsError) -> Security {
    let proofs = match error {
        DnsError::NoRecordsFound(nothing) => nothing
            .authorities
            .iter()
            .flat_map(|records| records.iter()),
        DnsError::Nsec { proof, .. } => return security_by(*proof),
        _ => return Security::Indeterminate,
    };
    let proving = |record: &&Record| record.record_type() != RecordType::RRSIG;
    let each = proofs
        .filter(proving)
        .map(|record| security_by(record.proof));
    each.min().unwrap_or(Security::Indeterminate)
}

const fn security_by(proof: Proof) -> Security {
    match proof {
        Proof::Secure => Security::Secure,
        Proof::Insecure => Security::Insecure,
        Proof::Bogus => Security::Bogus,
        Proof::Indeterminate => Security::Indeterminate,
    }
}

fn is_bogus<T>(answer: &Result<Answer<T>, DiscoveryError>) -> bool {
    match answer {
        Ok(answer) => answer.security == Security::Bogus,
        Err(error) => matches!(error, DiscoveryError::Bogus(_)),
    }
}

fn build(config: &DiscoveryConfig) -> Result<Servers, String> {
    let (servers, mut options) = if config.servers.is_empty() {
        read_system_conf().map_err(|error| error.to_string())?
    } else {
        let servers = config.servers.iter().map(|server| name_server(*server));
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        let servers = ResolverConfig::from_name_servers(servers.collect());
        (servers, options)
    };
    bound(&mut options);
    if config.dnssec == Dnssec::Off {
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(servers, provider);
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        return Ok(Servers::Believed(Box::new(resolver)));
    }
    // No hosts file here: a line of it is signed by nobody.
    let anchors = Arc::new(match &config.trust_anchors {
        Some(file) => anchors(file)?,
        None => TrustAnchors::default(),
    });
    Validated::new(servers, options, anchors)
        .map(|validated| Servers::Validated(Box::new(validated)))
        .map_err(|error| error.to_string())
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = QUESTION_TIME_MAX;
    options.attempts = QUESTION_REPEATS_MAX;
    options.cache_size = 0;
    options.preserve_intermediates = true;
    // A large signed answer comes over TCP when UDP cuts it short or loses it.
    options.try_tcp_on_error = true;
}

fn anchors(file: &Path) -> Result<TrustAnchors, String> {
    TrustAnchors::from_file(file)
        .map_err(|error| format!("discovery.trust_anchors {}: {error}", file.display()))
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a target that is no host name never reaches a log or another question; by hostile ones.
    #[test]
    fn targets() {
        assert_eq!(host_name("."), Some(String::new()));
        assert_eq!(host_name("Chat.B.example."), Some("chat.b.example".into()));
        for hostile in ["a\\032b.", "a/../b.", "\u{1b}[2J.", "a\nb."] {
            assert_eq!(host_name(hostile), None, "{hostile:?}");
        }
        assert_eq!(host_name(&"a".repeat(254)), None);
    }
}
