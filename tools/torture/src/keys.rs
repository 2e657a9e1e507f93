//! A store with keys, as a homeserver has it: contents are sealed, and the generations of their keys lie in a folder beside it.
//!
//! | below the data folder | |
//! |---|---|
//! | `store` | the engine's |
//! | `generations` | the generations' |
//!
//! The master key, which opens the generations, is all zeros: whoever has the folder is meant to have it too.

use std::path::Path;
use std::sync::Arc;

use homeserver::clock::{Clock, SystemClock};
use homeserver::store::sealed::generations::{GenerationFolder, Generations};
use homeserver::store::sealed::{self, MasterKey, rotation};
use homeserver::store::{Part, Store, schema};
use ring::rand::SystemRandom;

use crate::{EngineName, Opened, open_engine, spoilt};

/// The bytes of the master key.
pub(crate) const MASTER_KEY: [u8; 32] = [0; 32];

/// Opens the store in a data folder; makes both when they are not there.
pub(crate) async fn open(name: EngineName, data: &Path) -> Result<Opened, String> {
    let (folder, generations) = (data.join("store"), data.join("generations"));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let engine = open_engine(name, &folder).map_err(|error| error.to_string())?;
    let engine = spoilt(engine).await.map_err(|error| error.to_string())?;
    let random = SystemRandom::new();
    if !generations.is_dir() {
        let first = at(&generations)?.create(SystemClock.now_ms(), &random);
        let mut part = Part::default();
        schema::put(&mut part);
        sealed::put_first(&mut part, &first.map_err(|error| error.to_string())?);
        let written = engine.apply(&[part]).await;
        written.map_err(|error| error.to_string())?;
    }
    let generations = Generations::in_folder(at(&generations)?);
    let store = Store::sealed(Arc::clone(&engine), generations, Arc::new(random)).await;
    let store = store.map_err(|error| error.to_string())?;
    Ok(Opened { engine, store })
}

fn at(folder: &Path) -> Result<GenerationFolder, String> {
    // 32 zeros in base64.
    let text = format!("{}=", "A".repeat(43));
    let master = MasterKey::parse(&text).ok_or_else(|| "it is no master key".to_owned())?;
    Ok(GenerationFolder::at(folder, master))
}

/// Takes the next generation into use, as the homeserver does ten minutes after the one before, and destroys that: the same
/// steps, with a clock that is ahead by as much.
pub(crate) async fn rotate(store: &Store) -> Result<(), String> {
    let later = Later(
        SystemClock
            .now_ms()
            .saturating_add(rotation::ROTATE_AFTER_MS),
    );
    let before = generation(store)?;
    rotation::look(store, &later)
        .await
        .map_err(|error| error.to_string())?;
    match generation(store)? > before {
        true => Ok(()),
        false => Err(format!("generation {before} is still in use")),
    }
}

fn generation(store: &Store) -> Result<u64, String> {
    let seals = store.seals().ok_or_else(|| "it has no keys".to_owned())?;
    Ok(seals.status().generation)
}

struct Later(u64);

impl Clock for Later {
    fn now_ms(&self) -> u64 {
        self.0
    }
}
