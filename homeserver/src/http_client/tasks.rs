//! The tasks that one connection consists of.
//!
//! hyper gives the socket to a task of its own, and another one to each request's body: a connection is
//! closed only when all of them have ended.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// The tasks of one connection. Clones share them: the tasks themselves hold some, so that whoever owns
/// the connection has to call [`Tasks::end`].
#[derive(Clone)]
pub(super) struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }
}

impl Tasks {
    /// Ends all of them, and whatever would be started later.
    pub(super) fn end(&self) {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock: a task that is dropped may start another one.
        drop(tasks);
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                task.await;
            });
        }
    }
}
