//! What went wrong with the database, and whether to try again.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::TIME_MAX;
use crate::store::StoreError;

/// Between two attempts: what a promoted standby or a restarted server needs is seconds.
const PAUSE: Duration = Duration::from_millis(100);
/// For one attempt: a connection that hangs is given up while there is time for another.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(10);

/// Why an attempt came to nothing, or to something unknown.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may go well the next time.
    Again(String),
    /// It won't.
    Final(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = told(&error);
        match error.code() {
            // Nothing from the server itself: the connection broke, or was never made.
            None => Self::Again(said),
            Some(code) if passes(code) => Self::Again(said),
            Some(_) => Self::Final(StoreError::Engine(said)),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            error => Self::Again(told(&error)),
        }
    }
}

impl Failure {
    /// What it is to somebody who does not try again.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Again(reason) => StoreError::Engine(reason),
            Self::Final(error) => error,
        }
    }
}

/// Whether an error of the server is one of a moment: a conflict between transactions, a server that
/// stops, starts, recovers or has become a standby, one that has no connection left.
fn passes(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "57")
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || *code == SqlState::TOO_MANY_CONNECTIONS
}

/// An error with its reasons: the outermost alone says little.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(reason) = inner {
        text.push_str(": ");
        text.push_str(&reason.to_string());
        inner = reason.source();
    }
    text
}

/// For how long something is tried.
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            until: Instant::now() + TIME_MAX,
        }
    }

    /// When an attempt that begins now is given up.
    pub(super) fn attempt_ends(&self) -> Instant {
        attempt_ends().min(self.until)
    }

    /// Waits until the next attempt; or tells why there is none.
    pub(super) async fn after(&self, failure: Failure) -> Result<(), StoreError> {
        match failure {
            Failure::Again(reason) if Instant::now() + PAUSE < self.until => {
                tracing::warn!(reason, "the database did not answer; it is asked again");
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Failure::Again(reason) => Err(StoreError::Engine(format!(
                "PostgreSQL has not answered for {} seconds: {reason}",
                TIME_MAX.as_secs()
            ))),
            Failure::Final(error) => Err(error),
        }
    }
}

/// When an attempt that begins now is given up, if nothing else bounds it.
pub(super) fn attempt_ends() -> Instant {
    Instant::now() + ATTEMPT_TIME_MAX
}

/// What comes of `work`, if that comes before the end of the attempt.
pub(super) async fn in_time<T>(
    ends: Instant,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let done = tokio::time::timeout_at(ends, work).await;
    done.unwrap_or_else(|_| Err(Failure::Again("no answer in time".to_owned())))
}
