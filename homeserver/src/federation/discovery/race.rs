//! Connecting to several addresses, staggered: the first that stands wins (RFC 8305, section 5).

use std::future::Future;
use std::net::SocketAddr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::limits::ATTEMPT_STAGGER;

/// Connects to `addresses` in their order, the next one after 250 ms or as soon as one has failed, until one
/// stands; the others are dropped. The error is that of the attempt that failed last, or `None` without
/// any address.
pub async fn race<T, E, F>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        let more = match waiting.next() {
            Some(address) => {
                attempts.push(connect(*address));
                !waiting.as_slice().is_empty()
            }
            None => false,
        };
        if attempts.is_empty() {
            return Err(last);
        }
        let stagger = async {
            if more {
                sleep(ATTEMPT_STAGGER).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            Some(result) = attempts.next() => match result {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            },
            () = stagger => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count)
            .map(|port| ([127, 0, 0, 1], port).into())
            .collect()
    }

    /// Goal: a silent address costs 250 ms, a refusing one nothing, and all failing ends with the last error;
    /// in virtual time, by ports that play these parts.
    #[tokio::test(start_paused = true)]
    async fn staggered() {
        let start = Instant::now();
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => std::future::pending().await,
                2 => Err("refused"),
                3 => {
                    sleep(Duration::from_millis(400)).await;
                    Ok(3)
                }
                port => {
                    sleep(Duration::from_millis(10)).await;
                    Ok(port)
                }
            }
        };
        // 1 is silent; at 250 ms 2 refuses, 3 follows at once, 4 at 500 ms overtakes it.
        assert_eq!(race(&addresses(4), connect).await, Ok(4));
        assert_eq!(start.elapsed(), Duration::from_millis(510));

        let start = Instant::now();
        let refused = |address: SocketAddr| async move { Err::<(), _>(address.port()) };
        assert_eq!(race(&addresses(5), refused).await, Err(Some(5)));
        assert_eq!(race(&[], refused).await, Err(None));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
