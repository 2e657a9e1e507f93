//! TCP and TLS below a session or a request.

use std::sync::Arc;
use std::time::Duration;

use homeserver_api::ids::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use crate::error::Error;
use crate::tls;

/// A TLS connection to a homeserver.
pub(crate) type TlsStream = client::TlsStream<TcpStream>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `address`, where `server` must be.
pub(super) async fn dial(
    address: &str,
    server: &ServerName,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<TlsStream, Error> {
    let name = rustls_pki_types::ServerName::try_from(server.as_str().to_owned())
        .map_err(|e| Error::InvalidArgument(e.to_string()))?;
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        // Boxed: the handshake's state is large and short-lived.
        Box::pin(TlsConnector::from(Arc::clone(tls)).connect(name, tcp)).await
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(tls::connect_error(address, &error)),
        Err(_) => Err(Error::Unreachable {
            endpoint: address.to_owned(),
            reason: "it did not answer in time".to_owned(),
        }),
    }
}
