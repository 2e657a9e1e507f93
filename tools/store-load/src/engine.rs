//! Engines by their names, and how many batches they are given.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use homeserver::store::engine::memory::MemoryEngine;
use homeserver::store::engine::{Answer, open_embedded};
use homeserver::store::{Engine, Key, Part, PartOutcome, Range, Read, StoreError, Value};

use crate::counts::Counts;

/// An engine.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// fjall with a commit log before it, as a homeserver has it by default.
    FjallLog,
    /// fjall alone.
    Fjall,
    /// None: everything stays in memory. It shows what the commit path would carry if an engine cost nothing.
    Memory,
}

impl EngineName {
    /// Opens it in an empty folder; its batches are counted.
    pub(crate) fn open(
        self,
        folder: &Path,
        counts: &Arc<Counts>,
    ) -> Result<Arc<dyn Engine>, String> {
        let failed = |error: StoreError| error.to_string();
        let engine: Arc<dyn Engine> = match self {
            Self::FjallLog => open_embedded(folder, true).map_err(failed)?,
            Self::Fjall => open_embedded(folder, false).map_err(failed)?,
            Self::Memory => Arc::new(MemoryEngine::default()),
        };
        let counts = Arc::clone(counts);
        Ok(Arc::new(Counted { engine, counts }))
    }
}

/// An engine whose batches are counted.
struct Counted {
    engine: Arc<dyn Engine>,
    counts: Arc<Counts>,
}

impl Read for Counted {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        self.engine.get(key)
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        self.engine.range(range)
    }
}

impl Engine for Counted {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        self.counts.batch();
        self.engine.apply(parts)
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        self.engine.snapshot()
    }
}
