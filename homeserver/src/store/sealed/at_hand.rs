//! Whether the generations that the store needs are at hand: the folder may be another machine's, which shows what was
//! written there later, or does not answer; and it may not be mounted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::generations::{Generation, Generations};
use super::key_ring::nowhere;
use super::{InUse, KeyRing, Seals, in_use};
use crate::store::{Engine, StoreError};

/// For as long a generation is looked for before it counts as missing: where the folder is another machine's, what has just
/// been written there may not be seen at once.
pub(super) const LOOKED_FOR: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 3000 });
/// Between two looks.
pub(super) const LOOKED_FOR_EVERY: Duration = Duration::from_millis(100);
/// For one look whether the generation in use is at hand; a folder of another machine may not answer at all.
const MINDED_TIME_MAX: Duration = Duration::from_secs(5);

impl Seals {
    /// Reads the folder again: a listing may not have shown all generations.
    pub(super) async fn look_again(&self) -> Result<(), StoreError> {
        if let Generations::Memory = self.generations {
            return Ok(());
        }
        let found = load(&*self.engine, &self.generations).await?;
        let _alone = self.turns.write().await;
        let ring = self.ring.load_full();
        if found.newest.number == ring.newest.number && !found.is_within(&ring) {
            self.ring.store(Arc::new(found));
        }
        Ok(())
    }

    /// Whether the generation in use is where it belongs. A folder without it is not the one, or is not mounted, and what else
    /// is not in it was not destroyed: that is an error. `false`: it is in use no more.
    pub(super) async fn is_at_hand(&self, newest: &Generation) -> Result<bool, StoreError> {
        let number = newest.number;
        if self.generations.has(number).await? {
            return Ok(true);
        }
        if in_use(&*self.engine).await? != Some(InUse::of(newest)) {
            return Ok(false);
        }
        Err(StoreError::Keys(format!(
            "generation {number} is no longer in the folder: is it mounted?"
        )))
    }

    /// Takes up what other nodes have done with generations, and looks whether the one in use is at hand: without it what is
    /// written soon can't be read here. Since when that has failed is told by [`Self::trouble`].
    pub async fn mind(&self) -> Result<(), StoreError> {
        // First of all the database: that it does not answer is no fault of the folder.
        let minded = match in_use(&*self.engine).await {
            Ok(_) => self.minded_in_time().await,
            Err(error) => Err(error),
        };
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = match &minded {
            Err(error @ StoreError::Keys(_)) => {
                let since = trouble
                    .as_ref()
                    .map_or_else(Instant::now, |(since, _)| *since);
                Some((since, error.to_string()))
            }
            Ok(()) | Err(_) => None,
        };
        minded
    }

    async fn minded_in_time(&self) -> Result<(), StoreError> {
        let minded = async {
            self.refresh().await?;
            let newest = Arc::clone(&self.ring.load().newest);
            self.is_at_hand(&newest).await.map(drop)
        };
        let minded = tokio::time::timeout(MINDED_TIME_MAX, minded).await;
        minded.unwrap_or_else(|_| {
            Err(StoreError::Keys(
                "the folder of generation keys does not answer: is it mounted?".to_owned(),
            ))
        })
    }

    /// For how long the generation in use has not been at hand, and why.
    pub fn trouble(&self) -> Option<(Duration, String)> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, why) = trouble.as_ref()?;
        Some((since.elapsed(), why.clone()))
    }
}

/// The generations that the store is sealed under.
pub(super) async fn load(
    engine: &dyn Engine,
    generations: &Generations,
) -> Result<KeyRing, StoreError> {
    let began = Instant::now();
    loop {
        let stored = in_use(engine).await?.ok_or(StoreError::Empty)?;
        if let Some((newest, older)) = generations.up_to(stored.number).await? {
            stored.require(&newest)?;
            return Ok(KeyRing::with(newest, older));
        }
        // Another node may have destroyed that one since it was read; or what it has made is not seen here yet.
        if began.elapsed() >= LOOKED_FOR && in_use(engine).await? == Some(stored) {
            return Err(nowhere(stored.number));
        }
        tokio::time::sleep(LOOKED_FOR_EVERY).await;
    }
}

/// What lacks its key alone may be whole: whoever takes it for damaged would throw it away.
pub(super) fn missing(number: u64) -> StoreError {
    StoreError::Keys(format!(
        "something is sealed under generation {number}, which is not in the folder of generation keys: put that folder back \
         as it was when the homeserver ran last; nothing is lost by waiting"
    ))
}
