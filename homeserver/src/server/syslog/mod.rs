//! The audit log on its way to a log server: syslog over TLS (RFC 5425), in order, from where the log server has it.
//!
//! Syslog knows no answers. So each batch has a connection of its own: we say that nothing follows, and when the log server
//! ends the connection too it has read to the end. Only then does the batch count as taken; else it is sent again.
//!
//! Of several nodes the one sends that does what the clock asks for.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::audit::syslog;
use crate::clock::Clock;
use crate::config::SyslogConfig;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::lease::Duty;
use crate::tls::{self, TlsError};

/// How often it is looked for new entries.
const ROUND: Duration = Duration::from_secs(1);
/// Longest pause after one that did not arrive.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// A batch, from the connection's beginning to its end.
const BATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// A log server has nothing to say; more than this is no log server.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// Why a batch does not count as taken.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0}: {1}")]
    Roots(String, io::Error),
    #[error("{0} is no name that a certificate could have")]
    Name(String),
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("it has not read what was sent within {0} s")]
    Slow(u64),
    #[error("it says something, which no log server does")]
    Talks,
}

/// Sends what comes, for as long as the process lives and no other node has the duty.
pub(super) async fn run(node: Arc<Node>, config: SyslogConfig) {
    let mut pause = ROUND;
    loop {
        node.cluster.until_held(&Duty::Tasks).await;
        match round(&node, &config).await {
            Ok(()) => pause = ROUND,
            Err(error) => {
                tracing::warn!(
                    %error, host = config.host, port = config.port,
                    "the audit log does not reach the log server; trying again"
                );
                pause = pause.saturating_mul(2).min(AGAIN_MAX);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Sends all that the log server has not had yet.
async fn round(node: &Node, config: &SyslogConfig) -> Result<(), Untaken> {
    let (store, random) = (&node.store, node.random.as_ref());
    while node.cluster.holds(&Duty::Tasks) {
        let Some(batch) = syslog::next(store, random, node.server.as_str()).await? else {
            break;
        };
        send(config, node.clock.clone(), &batch.frames).await?;
        if !syslog::has(store, &batch, node.clock.now_ms()).await? {
            // Another node has the duty by now, and has sent it too.
            return Ok(());
        }
    }
    Ok(())
}

/// Sends these bytes, and waits until they were read to their end.
async fn send(config: &SyslogConfig, clock: Arc<dyn Clock>, frames: &[u8]) -> Result<(), Untaken> {
    let file = &config.root_certificates;
    // Each time anew, so that a renewed one needs no restart.
    let roots = tokio::fs::read_to_string(file).await;
    let roots = roots.map_err(|error| Untaken::Roots(file.display().to_string(), error))?;
    let tls = Arc::new(tls::rooted_client(&roots, clock)?);
    let name = config.server_name.clone();
    let name = rustls_pki_types::ServerName::try_from(name)
        .map_err(|_| Untaken::Name(config.server_name.clone()))?;
    let sending = async {
        let stream = TcpStream::connect((config.host.as_str(), config.port)).await?;
        let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
        stream.write_all(frames).await?;
        stream.shutdown().await?;
        read_to_end(&mut stream).await
    };
    let sent = tokio::time::timeout(BATCH_TIME_MAX, sending).await;
    sent.map_err(|_| Untaken::Slow(BATCH_TIME_MAX.as_secs()))?
}

/// Waits for the other side's end. Some log servers end the connection below TLS alone.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Untaken> {
    let mut buffer = [0; 1024];
    let mut said = 0;
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => said += read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if said > SAID_BYTES_MAX {
            return Err(Untaken::Talks);
        }
    }
}
