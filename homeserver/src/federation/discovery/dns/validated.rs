//! Questions whose answers are validated, and what stayed without an answer meanwhile.
//!
//! hickory calls bogus whatever it could not validate, also when no server told it the keys to do so with. What is
//! forged and what is not known can be told apart only between its validation and its servers, where every question
//! passes: so its parts are put together here, as its `Resolver` does, but for what follows aliases. That reads the records
//! in their order, which validation has mixed up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{Stream, StreamExt};
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

/// Servers that are asked again where they are silent.
type Servers = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Asks and validates.
pub(super) struct Validated {
    servers: Servers,
    anchors: Arc<TrustAnchors>,
    options: DnsRequestOptions,
}

/// An answer, each record with its proof, and a question that was needed for that and that no server answered.
pub(super) type Looked = (Result<DnsResponse, NetError>, Option<Query>);

impl Validated {
    pub(super) fn new(
        config: ResolverConfig,
        options: ResolverOpts,
        anchors: Arc<TrustAnchors>,
    ) -> Result<Self, NetError> {
        let mut request = DnsRequestOptions::default();
        request.recursion_desired = options.recursion_desired;
        request.use_edns = options.edns0;
        request.edns_payload_len = options.edns_payload_len;
        request.case_randomization = options.case_randomization;
        request.edns_set_dnssec_ok = true;
        let attempts = options.attempts;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let provider = TokioRuntimeProvider::default();
        let (_, _, servers) = config.into_parts();
        let pool = NameServerPool::from_config(servers, context, provider);
        Ok(Self {
            servers: RetryDnsHandle::new(pool, attempts),
            anchors,
            options: request,
        })
    }

    /// Asks one question, with what validating the answer takes. Nothing is kept for the next one: hickory would keep what
    /// it found bogus for want of an answer.
    pub(super) async fn look_up(&self, question: Query) -> Looked {
        let noting = Noting {
            servers: self.servers.clone(),
            unanswered: Arc::default(),
        };
        let unanswered = Arc::clone(&noting.unanswered);
        let validating = DnssecDnsHandle::with_trust_anchor(noting, Arc::clone(&self.anchors));
        let found = validating.lookup(question, self.options);
        let found = found.first_answer().await.and_then(|response| {
            // That there is nothing comes as an answer from here, and as an error from elsewhere.
            DnsError::from_response(response).map_err(NetError::from)
        });
        let mut unanswered = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        (found, unanswered.take())
    }
}

/// The servers, and the last question to which none of them gave an answer.
#[derive(Clone)]
struct Noting {
    servers: Servers,
    unanswered: Unanswered,
}

type Unanswered = Arc<Mutex<Option<Query>>>;

/// A question that is noted unless an answer comes: it may be given up too.
struct Asked {
    question: Option<Query>,
    unanswered: Unanswered,
}

impl Asked {
    fn hear(&mut self, answer: &Result<DnsResponse, NetError>) {
        match answer {
            Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_))) => self.question = None,
            Err(error) => {
                tracing::debug!(question = ?self.question, %error, "a name server gave no answer");
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            let mut unanswered = self
                .unanswered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *unanswered = Some(question);
        }
    }
}

impl DnsHandle for Noting {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let mut asked = Asked {
            question: request.queries.first().cloned(),
            unanswered: Arc::clone(&self.unanswered),
        };
        let answers = self.servers.send(request);
        Box::pin(answers.inspect(move |answer| asked.hear(answer)))
    }
}
