//! Values of every shape through the backends of this process.

use crate::zoo;

use mastaba::shared::embedded::{Embedded, EmbeddedConfig};
use mastaba::shared::memory::Memory;
use tokio::runtime::Runtime;

#[test]
fn every_value_comes_back_from_memory_or_is_refused() {
    let runtime = Runtime::new().unwrap();
    zoo::every_value_comes_back_or_is_refused(&runtime, Memory::default());
}

#[test]
fn every_value_comes_back_from_a_file_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let file = Embedded::open(EmbeddedConfig::new(folder.path().join("zoo")));
    let file = runtime.block_on(file).unwrap();
    zoo::every_value_comes_back_or_is_refused(&runtime, file);
}
