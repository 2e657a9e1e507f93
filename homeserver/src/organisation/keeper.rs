//! The one way in which keys change while the homeserver runs: made, written to the audit log and to the
//! folder, and only then used. What can't be written is not used either, and is made again the next time.
//!
//! Several nodes have the same keys: whoever changes them writes them into the store first, sealed, unless another node has
//! since; the others take them from there ([`super::shared`]).

use std::io;
use std::sync::Arc;

use ring::rand::SecureRandom;
use tokio::sync::Mutex;

use super::renewal::{Asked, Renewal};
use super::{KeyFolder, Keys, OrganisationError, shared};
use crate::audit::{self, Actor, Event};
use crate::cluster::Secret;
use crate::store::shared_keys::{self, SharedKeys};
use crate::store::{Part, PartOutcome, Store, StoreError, Value};

/// How often a change is tried that another node's comes before.
const ATTEMPTS_MAX: usize = 4;

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
    /// What seals them for other nodes; `None`: there are none.
    secret: Option<Arc<Secret>>,
    /// Lets one change be made at a time; in it, which of the keys that nodes share are in use here.
    at_work: Mutex<Option<Value>>,
}

impl Keeper {
    /// Of keys that lie in `folder`.
    pub fn new(keys: Arc<Keys>, folder: KeyFolder) -> Self {
        Self {
            keys,
            folder: Some(Arc::new(folder)),
            secret: None,
            at_work: Mutex::default(),
        }
    }

    /// Other nodes have the same keys, and this secret.
    pub fn share(&mut self, secret: Arc<Secret>) {
        self.secret = Some(secret);
    }

    /// Of keys that lie nowhere.
    #[cfg(test)]
    pub(crate) fn in_memory(keys: Arc<Keys>) -> Self {
        Self {
            keys,
            folder: None,
            secret: None,
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
        let mut known = self.at_work.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.take_others(store, &mut known, now_ms, random).await?;
            let Some(renewal) = self.draft(act, now_ms, random)? else {
                return Ok(false);
            };
            if self
                .make(store, &mut known, (actor, act), renewal, (now_ms, random))
                .await?
            {
                return Ok(true);
            }
        }
        Err(OrganisationError::Asked(
            "other nodes change the keys at the same time: try again".to_owned(),
        )
        .into())
    }

    /// Takes the keys that another node has written, if it has; whether it had.
    pub async fn catch_up(
        &self,
        store: &Store,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<bool, KeeperError> {
        let mut known = self.at_work.lock().await;
        self.take_others(store, &mut known, now_ms, random).await
    }

    /// At a start: takes the keys in the store unless those in the folder are newer, which are written there then.
    pub async fn meet(
        &self,
        store: &Store,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<(), KeeperError> {
        let Some(secret) = &self.secret else {
            return Ok(());
        };
        let mut known = self.at_work.lock().await;
        let own = shared::seal(secret, &self.keys, &self.keys.state.load_full(), random)?;
        for _ in 0..ATTEMPTS_MAX {
            let (found, read) = shared_keys::get(store).await?.unzip();
            let is_newest = |found: &SharedKeys| found.manifest_serial >= own.manifest_serial;
            if found.as_ref().is_some_and(is_newest) {
                self.take_others(store, &mut known, now_ms, random).await?;
                return Ok(());
            }
            let mut part = Part::default();
            let stored = shared_keys::put(&mut part, &own, read)?;
            if store.commit(part).await? == PartOutcome::Committed {
                *known = Some(stored);
                return Ok(());
            }
        }
        Err(OrganisationError::Asked(
            "other nodes change the keys at the same time: start again".to_owned(),
        )
        .into())
    }

    async fn take_others(
        &self,
        store: &Store,
        known: &mut Option<Value>,
        now_ms: u64,
        random: &(dyn SecureRandom + Send + Sync),
    ) -> Result<bool, KeeperError> {
        let (Some(secret), Some(folder)) = (&self.secret, &self.folder) else {
            return Ok(false);
        };
        let Some((found, stored)) = shared_keys::get(store).await? else {
            return Ok(false);
        };
        if known.as_ref() == Some(&stored) {
            return Ok(false);
        }
        let server = self.keys.server();
        let files = shared::open(secret, server, &found.sealed)?;
        // Before anything in the folder gives way to them.
        let problems = KeyFolder::of_files(files.clone()).look(server, now_ms, random);
        if !problems.is_empty() {
            return Err(shared::first(problems).into());
        }
        let writing = Arc::clone(folder);
        let written = tokio::task::spawn_blocking(move || writing.replace_with(files));
        written.await.map_err(io::Error::other)??;
        let loaded = folder.load(server, now_ms, random);
        let loaded = loaded.map_err(shared::first)?;
        self.keys.put(loaded.state.load_full());
        *known = Some(stored);
        tracing::info!("the keys that the nodes share are in use");
        Ok(true)
    }

    /// Writes a change of the keys and uses it; `false`: another node has changed them since.
    async fn make(
        &self,
        store: &Store,
        known: &mut Option<Value>,
        (actor, act): (&Actor, &Act),
        renewal: Renewal,
        (now_ms, random): (u64, &(dyn SecureRandom + Send + Sync)),
    ) -> Result<bool, KeeperError> {
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
        let mut stored = None;
        if let Some(secret) = &self.secret {
            let sealed = shared::seal(secret, &self.keys, &renewal.state, random)?;
            stored = Some(shared_keys::put(&mut part, &sealed, known.clone())?);
        }
        if store.commit(part).await? == PartOutcome::Conflict {
            return Ok(false);
        }
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
        *known = stored;
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
