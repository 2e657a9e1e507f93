//! The one way in which keys change while the homeserver runs: made, written to the audit log and to the
//! folder, and only then used. What can't be written is not used either, and is made again the next time.

use std::io;
use std::sync::Arc;

use ring::rand::SecureRandom;
use tokio::sync::Mutex;

use super::renewal::{Asked, Renewal};
use super::{KeyFolder, Keys, OrganisationError};
use crate::audit::{self, Actor, Event};
use crate::store::{Part, Store, StoreError};

/// What is to be done with the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// What the clock asks for.
    Due,
    /// What an administrator asks for.
    Asked(Asked),
    /// The issuing CA that the root has signed takes over.
    TakeIssuing,
    /// The new root that waits is there beside the present one.
    TakeRoot,
}

impl Act {
    const fn action(&self) -> &'static str {
        match self {
            Self::Due => "keys.renewed",
            Self::Asked(Asked::RotateEnvelope { .. } | Asked::RotateTls { .. }) => "keys.rotated",
            Self::Asked(Asked::RevokeEnvelope { .. } | Asked::RevokeTls { .. }) => "keys.revoked",
            Self::TakeIssuing => "keys.issuing-renewed",
            Self::TakeRoot => "keys.root-prepared",
            Self::Asked(Asked::SwitchRoot { .. }) => "keys.root-switched",
            Self::Asked(Asked::CancelRoot) => "keys.root-cancelled",
            Self::Asked(Asked::ForgetRoot) => "keys.root-forgotten",
        }
    }
}

/// Why keys did not change.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// They could not be made, or what was asked for is not possible.
    #[error(transparent)]
    Keys(#[from] OrganisationError),
    /// The audit log could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder could not be written.
    #[error("keys folder: {0}")]
    Folder(#[from] io::Error),
}

/// Changes the keys, one change at a time.
pub struct Keeper {
    keys: Arc<Keys>,
    /// `None`: they are kept in memory alone, for tests.
    folder: Option<Arc<KeyFolder>>,
    at_work: Mutex<()>,
}

impl Keeper {
    /// Of keys that lie in `folder`.
    pub fn new(keys: Arc<Keys>, folder: KeyFolder) -> Self {
        Self {
            keys,
            folder: Some(Arc::new(folder)),
            at_work: Mutex::default(),
        }
    }

    /// Of keys that lie nowhere.
    #[cfg(test)]
    pub(crate) fn in_memory(keys: Arc<Keys>) -> Self {
        Self {
            keys,
            folder: None,
            at_work: Mutex::default(),
        }
    }

    /// Does `act`; whether anything changed. Run it to its end: what is written has to be used.
    pub async fn act(
        &self,
        store: &Store,
        actor: &Actor,
        act: &Act,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<bool, KeeperError> {
        let _alone = self.at_work.lock().await;
        let Some(renewal) = self.draft(act, now_ms, random)? else {
            return Ok(false);
        };
        // The folder is not part of the store. An entry without new keys tells of an attempt that failed; new
        // keys without an entry there are none.
        let event = Event {
            at_ms: now_ms,
            actor: actor.clone(),
            action: act.action(),
            subject: self.keys.server().to_string(),
            detail: renewal.what(),
        };
        let mut part = Part::default();
        audit::record(&mut part, &event);
        store.commit(part).await?;
        let renewal = Arc::new(renewal);
        if let Some(folder) = &self.folder {
            let (folder, renewal) = (Arc::clone(folder), Arc::clone(&renewal));
            let written = tokio::task::spawn_blocking(move || folder.replace(&renewal));
            written.await.map_err(io::Error::other)??;
        }
        tracing::info!(
            action = act.action(),
            what = renewal.what(),
            "keys have changed"
        );
        self.keys.take(&renewal);
        match (act, &self.folder) {
            (Act::TakeIssuing, Some(folder)) => folder.forget_waiting_issuing()?,
            (Act::TakeRoot, Some(folder)) => folder.forget_waiting_root()?,
            _ => {}
        }
        Ok(true)
    }

    fn draft(
        &self,
        act: &Act,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        match (act, &self.folder) {
            (Act::Due, _) => self.keys.renewal(now_ms, random),
            (Act::Asked(asked), _) => self.keys.asked(asked, now_ms, random),
            (Act::TakeIssuing, Some(folder)) => folder.waiting_issuing(&self.keys, now_ms, random),
            (Act::TakeRoot, Some(folder)) => folder.waiting_root(&self.keys, now_ms, random),
            (Act::TakeIssuing | Act::TakeRoot, None) => Ok(None),
        }
    }
}
