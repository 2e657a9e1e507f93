//! What has been queued for the writer: its outcome, and what follows it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::sealed::Seals;
use super::{PartOutcome, StoreError};

/// A part on its way to the disk.
pub struct Pending {
    answer: oneshot::Receiver<Result<PartOutcome, StoreError>>,
    /// What has come, once it has.
    known: Option<Result<PartOutcome, StoreError>>,
    /// What has sealed the part, if anything.
    seals: Option<Arc<Seals>>,
}

impl Pending {
    /// A part that is queued, and what has sealed it.
    pub(super) fn of(
        answer: oneshot::Receiver<Result<PartOutcome, StoreError>>,
        seals: Option<Arc<Seals>>,
    ) -> Self {
        Self {
            answer,
            known: None,
            seals,
        }
    }

    /// One that could not be queued.
    pub(super) fn failed(error: StoreError) -> Self {
        let (_, answer) = oneshot::channel();
        Self {
            known: Some(Err(error)),
            ..Self::of(answer, None)
        }
    }

    /// Waits until the part is durable or refused.
    pub async fn wait(mut self) -> Result<PartOutcome, StoreError> {
        self.outcome().await
    }

    /// May be asked again, also when it was not waited for to the end.
    async fn outcome(&mut self) -> Result<PartOutcome, StoreError> {
        if self.known.is_none() {
            let answer = (&mut self.answer).await;
            self.known = Some(answer.unwrap_or(Err(StoreError::Stopped)));
        }
        let outcome = self.known.clone().unwrap_or(Err(StoreError::Stopped));
        // Another node may have taken another generation into use: then whoever decides anew seals under that.
        if let (Ok(PartOutcome::Conflict), Some(seals)) = (&outcome, &self.seals) {
            // If that can't be taken up now, the conflict is one nevertheless: whoever decides anew fails by himself.
            if let Err(error) = seals.refresh().await {
                tracing::error!(%error, "the generation of keys that another node uses can't be used here");
            }
        }
        outcome
    }
}

/// A part on its way to the disk and what follows its commit. Dropped early, it lets a task of its own
/// wait in its place.
pub(super) struct Following<F: FnOnce() + Send + 'static>(Option<(Pending, F)>);

impl<F: FnOnce() + Send + 'static> Following<F> {
    /// Has `then` follow the part's commit.
    pub(super) fn new(pending: Pending, then: F) -> Self {
        Self(Some((pending, then)))
    }

    /// What became of the part; `then` has run when it was committed.
    pub(super) async fn wait(mut self) -> Result<PartOutcome, StoreError> {
        let outcome = match &mut self.0 {
            Some((pending, _)) => pending.outcome().await?,
            None => return Err(StoreError::Stopped),
        };
        if let Some((_, then)) = self.0.take()
            && outcome == PartOutcome::Committed
        {
            then();
        }
        Ok(outcome)
    }
}

impl<F: FnOnce() + Send + 'static> Drop for Following<F> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and with it all that could be woken.
        if let Some((pending, then)) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if matches!(pending.wait().await, Ok(PartOutcome::Committed)) {
                    then();
                }
            });
        }
    }
}
