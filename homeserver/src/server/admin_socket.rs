//! The admin socket: whoever may open it is the local operator.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::connections::{Ending, Extended};
use super::heads::{self, Heads};
use crate::admin;
use crate::audit::Actor;
use crate::node::Node;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// After a connection could not be accepted: most likely there are too many open files, which takes a moment.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
const ROOT_UID: u32 = 0;

/// The socket, and who owns it.
pub(super) struct AdminSocket {
    listener: UnixListener,
    owner: u32,
}

/// Binds the socket at `path`, in place of one that a former process left behind.
pub(super) fn bind(path: &Path) -> io::Result<AdminSocket> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match BlockingStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another homeserver answers there",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // Connecting to any other file is refused too, and that one is somebody's.
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket lies there: move it away, or name another path",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let owner = std::fs::metadata(path)?.uid();
    Ok(AdminSocket { listener, owner })
}

/// Serves the local operator until the process ends.
pub(super) async fn serve(node: Arc<Node>, socket: AdminSocket, ending: Ending) {
    let router = admin::router(node);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = ending.begun() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection on the admin socket");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        // The file's mode says the same; it is set just after binding, this holds from the first moment.
        let uid = match stream.peer_cred() {
            Ok(credentials) if [ROOT_UID, socket.owner].contains(&credentials.uid()) => {
                credentials.uid()
            }
            Ok(credentials) => {
                tracing::warn!(uid = credentials.uid(), "refused on the admin socket");
                continue;
            }
            Err(_) => continue,
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let service = Extended {
            router: router.clone(),
            extension: Actor::Local(uid),
        };
        let ending = ending.clone();
        tokio::spawn(async move {
            talk(stream, service, &ending).await;
            drop(slot);
        });
    }
}

async fn talk(stream: UnixStream, service: Extended<Actor>, ending: &Ending) {
    let connection =
        heads::http1(HEAD_TIME_MAX).serve_connection(TokioIo::new(stream), Heads(service));
    let mut connection = Box::pin(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection on the admin socket ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a socket that a former process left is replaced, any other file is left alone; by one of each.
    #[tokio::test]
    async fn only_sockets_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(bind(&socket).is_ok());

        let file = folder.path().join("entente.toml");
        std::fs::write(&file, "precious").unwrap();
        let error = bind(&file).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
