//! The counterexamples of the protocol's model over the backends of this process.

use crate::schedules;

use std::collections::BTreeMap;
use std::sync::Mutex;

use mastaba::shared::embedded::{Embedded, EmbeddedConfig};
use mastaba::shared::memory::Memory;
use schedules::Store;

/// A memory for each place.
#[derive(Default)]
struct InMemory(Mutex<BTreeMap<usize, Memory>>);

impl InMemory {
    fn at(&self, place: usize) -> Memory {
        self.0.lock().unwrap().entry(place).or_default().clone()
    }
}

impl Store for InMemory {
    type Backend = Memory;
    const FORGETS: bool = true;

    async fn connect(&self, place: usize) -> Memory {
        self.at(place)
    }

    async fn forget(&self, place: usize) {
        self.at(place).restart();
    }
}

/// A file for each place.
struct InFiles {
    folder: tempfile::TempDir,
    open: Mutex<BTreeMap<usize, Embedded>>,
}

impl Store for InFiles {
    type Backend = Embedded;
    const FORGETS: bool = false;

    async fn connect(&self, place: usize) -> Embedded {
        let open = self.open.lock().unwrap().get(&place).cloned();
        if let Some(file) = open {
            return file;
        }
        let path = self.folder.path().join(place.to_string());
        let file = Embedded::open(EmbeddedConfig::new(path)).await.unwrap();
        self.open.lock().unwrap().insert(place, file.clone());
        file
    }

    async fn forget(&self, place: usize) {
        panic!("the file of place {place} is open, and loses nothing");
    }
}

mod memory {
    crate::schedules::every_row!(async { Some(crate::counterexamples::InMemory::default()) });
}

mod embedded {
    crate::schedules::every_row!(async {
        let folder = tempfile::tempdir().unwrap();
        Some(crate::counterexamples::InFiles { folder, open: std::sync::Mutex::default() })
    });
}
