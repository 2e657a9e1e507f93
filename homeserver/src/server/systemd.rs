//! Tells systemd how far the process is (`Type=notify`), as `sd_notify` does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state`, such as `READY=1`, when systemd asked for it.
pub(super) fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let sent = send(&path, state);
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be told");
    }
}

fn send(path: &str, state: &str) -> std::io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the state arrives at a socket in the file system and at an abstract one; by listening.
    #[test]
    fn both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("entente-test-{}", std::process::id());
        let listeners = [
            (
                path.display().to_string(),
                SocketAddr::from_pathname(&path).unwrap(),
            ),
            (
                format!("@{abstract_name}"),
                SocketAddr::from_abstract_name(&abstract_name).unwrap(),
            ),
        ];
        for (name, address) in listeners {
            let listener = UnixDatagram::bind_addr(&address).unwrap();
            send(&name, "READY=1").unwrap();
            let mut buffer = [0; 32];
            let length = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}
