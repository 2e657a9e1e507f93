//! Why a peer's address could not be found, and what to do about it.

use std::net::IpAddr;

use super::address::Unfit;
use super::limits::{
    ADDRESS_RECORDS_MAX, ALIAS_CHAIN_MAX, DISCOVERY_TIME_MAX, SERVICE_RECORDS_MAX,
};

/// Why there is no address to connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Nothing says where the peer is.
    #[error(
        "nobody says where the peer is: the agreement names no endpoint and the DNS has no SRV \
         records at {0} (DNSSEC: {1}); the peer publishes them, or makes an agreement with endpoints"
    )]
    NoService(String, Security),
    /// The name of the SRV records, or of an address, is an alias that leads nowhere.
    #[error(
        "{0} is an alias (CNAME) that goes round in circles, or one of more than {ALIAS_CHAIN_MAX} in a row; the peer \
         corrects its DNS, or the endpoint in the agreement"
    )]
    Aliases(String),
    /// The single target is ".".
    #[error(
        "{0} says that the peer takes no federation connections (target \".\"); ask the peer's \
         administrator"
    )]
    NotOffered(String),
    /// No address at a name.
    #[error(
        "the DNS has no address for {0} (DNSSEC: {1}); the peer corrects its DNS or the endpoint in the agreement"
    )]
    NoAddress(String, Security),
    /// An endpoint that is not one.
    #[error("`{0}` in the agreement is not host:port; make a new agreement")]
    BadEndpoint(String),
    /// A target that is no host name.
    #[error("{0} has a target that is not a host name; the peer corrects its SRV records")]
    BadTarget(String),
    /// Connecting there could reach somebody who is no peer.
    #[error("{host} leads to {address}, which is refused: {reason}")]
    Refused {
        /// The name that led there.
        host: String,
        /// Where it led.
        address: IpAddr,
        /// What is wrong with that.
        reason: Unfit,
    },
    /// The answer is larger than an honest one.
    #[error(
        "{0} has too many records (at most {SERVICE_RECORDS_MAX} SRV, {ADDRESS_RECORDS_MAX} of an \
         address family); the peer shortens its DNS"
    )]
    TooMany(String),
    /// Signatures do not hold.
    #[error(
        "the DNS answer for {0} is bogus: its DNSSEC signatures do not hold; the peer renews its \
         signatures, or somebody forges answers on the way (check discovery.trust_anchors too)"
    )]
    Bogus(String),
    /// Whether signatures hold could not be found out.
    #[error(
        "the DNS answer for {host} could not be validated: no server answered {question}, which is asked again with the \
         next attempt; check that the servers of discovery.servers (or /etc/resolv.conf) are reached and serve that name"
    )]
    Unvalidated {
        /// What was asked for.
        host: String,
        /// A question that validation needs, and that nobody answered.
        question: String,
    },
    /// `require`, and the answer is not signed.
    #[error(
        "the DNS answer for {0} is {1}, and discovery.dnssec = \"require\" takes only secure ones; \
         the peer signs its zone, or set discovery.dnssec = \"report\""
    )]
    NotSecure(String, Security),
    /// The server answers, but not the question.
    #[error(
        "the DNS server answers {code} for {host}: it does not serve that name; check \
         discovery.servers, or the peer's delegation"
    )]
    Lame {
        /// What was asked for.
        host: String,
        /// Its answer.
        code: String,
    },
    /// No answer in time.
    #[error(
        "no DNS answer for {0} within {within} s; check that the servers of discovery.servers (or \
         /etc/resolv.conf) are reached",
        within = DISCOVERY_TIME_MAX.as_secs()
    )]
    Timeout(String),
    /// There is no usable resolver, or its server is not reached.
    #[error("the DNS can't be asked for {host}: {reason}")]
    Unusable {
        /// What was to be asked for.
        host: String,
        /// Why not.
        reason: String,
    },
}

/// What DNSSEC says of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Signatures do not hold; such an answer is never used.
    Bogus,
    /// Whether the answer should be signed could not be found out.
    Indeterminate,
    /// The zone is proven to be unsigned.
    Insecure,
    /// Nobody asked: validation is off.
    Unchecked,
    /// Signed, up to a trust anchor.
    Secure,
}

impl std::fmt::Display for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bogus => "bogus",
            Self::Indeterminate => "indeterminate",
            Self::Insecure => "insecure",
            Self::Unchecked => "not validated",
            Self::Secure => "secure",
        })
    }
}
