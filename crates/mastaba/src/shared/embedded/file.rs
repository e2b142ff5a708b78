//! Opening the file, and saying clearly why it cannot be opened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableHandle};

use super::EmbeddedConfig;
use super::tables::{META, Tables};
use super::time::{FileTime, Remembered};
use crate::entry;
use crate::error::{Fault, FaultKind};

/// The version of the tables in the file, and of the entries in them.
const LAYOUT: u64 = 3;
const LAYOUT_NAME: &str = "layout";
const INCARNATION: &str = "incarnation";

/// A file that was opened.
pub(super) struct File {
    pub(super) database: Database,
    pub(super) incarnation: u64,
    pub(super) time: FileTime,
}

/// Opens the file or makes it, while the clock of this process says so much.
pub(super) fn open(config: &EmbeddedConfig, now_ms: u64) -> Result<File, Fault> {
    let path = &config.path;
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|cause| {
            let sentence = format!("the folder {} of the embedded store cannot be made", folder.display());
            Fault::new(FaultKind::Refused, sentence).because(cause)
        })?;
    }
    // `None`: further ahead than the clock reaches
    let until = Instant::now().checked_add(config.wait);
    loop {
        match create(config) {
            // one that is about to end lets go within a moment
            Err(DatabaseError::DatabaseAlreadyOpen) if until.is_none_or(|until| Instant::now() < until) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(cause) => return Err(refused(path, cause)),
            Ok(database) => {
                let (incarnation, time) = recognise(&database, config, now_ms).map_err(|sort| match sort {
                    Stranger::Foreign => damaged(path, "is a redb file, but not one of Mastaba's"),
                    Stranger::Layout(found) => Fault::new(
                        FaultKind::Refused,
                        format!(
                            "the embedded store {} has layout {found}, this program reads layout {LAYOUT}; \
                             remove the file (it is a cache) or use another path",
                            path.display()
                        ),
                    ),
                    Stranger::Failed(cause) => damaged(path, "is damaged").because(*cause),
                })?;
                return Ok(File { database, incarnation, time });
            }
        }
    }
}

fn create(config: &EmbeddedConfig) -> Result<Database, DatabaseError> {
    let cache = usize::try_from(config.cache_bytes).unwrap_or(usize::MAX);
    let open = || Database::builder().set_cache_size(cache).create(&config.path);
    // redb says that it may panic on a file that something else has changed
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(DatabaseError::Storage(StorageError::Corrupted("reading the file panicked".to_owned())))
    })
}

/// What is in a file that was opened.
enum Content {
    Nothing,
    /// A store of an earlier layout.
    Before(u64),
    /// Its incarnation, and its time when it was written last.
    Store(u64, Option<Remembered>),
}

enum Stranger {
    Foreign,
    Layout(u64),
    Failed(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Stranger {
    fn from(cause: E) -> Self {
        Self::Failed(Box::new(cause.into()))
    }
}

fn recognise(database: &Database, config: &EmbeddedConfig, now_ms: u64) -> Result<(u64, FileTime), Stranger> {
    let look = || {
        let txn = database.begin_read()?;
        let names: Vec<_> = txn.list_tables()?.map(|table| table.name().to_owned()).collect();
        if names.is_empty() {
            return Ok(Content::Nothing);
        }
        if !names.iter().any(|name| name == META.name()) {
            return Err(Stranger::Foreign);
        }
        let meta = txn.open_table(META)?;
        let layout = meta.get(LAYOUT_NAME)?.map(|it| it.value());
        match layout.ok_or(Stranger::Foreign)? {
            LAYOUT => {}
            before @ 1..LAYOUT => return Ok(Content::Before(before)),
            other => return Err(Stranger::Layout(other)),
        }
        let incarnation = meta.get(INCARNATION)?.map(|it| it.value());
        Ok(match incarnation {
            Some(incarnation) => Content::Store(incarnation, Tables::remembered(&meta)?),
            None => Content::Nothing,
        })
    };
    let found = catch_unwind(AssertUnwindSafe(look))
        .unwrap_or_else(|_| Err(StorageError::Corrupted("reading the file panicked".to_owned()).into()))?;
    let remembered = if let Content::Store(_, remembered) = found { remembered } else { None };
    let time = FileTime::resume(remembered, now_ms);
    let set_back = remembered.is_some_and(|it| it.is_later_than(now_ms));
    if let Content::Store(incarnation, _) = found
        && !set_back
    {
        return Ok((incarnation, time));
    }
    if set_back {
        tracing::warn!(
            target: "mastaba",
            "the embedded store {} was written to when the clock was later than it is now: how old its entries are \
             cannot be known, and they count as misses",
            config.path.display()
        );
    }
    let incarnation = entry::random();
    let txn = database.begin_write()?;
    if let Content::Before(layout) = found {
        tracing::warn!(
            target: "mastaba",
            "the embedded store {} was written by an earlier version (layout {layout}, now {LAYOUT}): its entries count as \
             misses and are removed",
            config.path.display()
        );
        // nobody holds a key: those who did had the file to themselves, as this process has it now
        for table in txn.list_tables()?.collect::<Vec<_>>() {
            txn.delete_table(table)?;
        }
    }
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(LAYOUT_NAME, LAYOUT)?;
        meta.insert(INCARNATION, incarnation)?;
    }
    Tables::open(&txn, incarnation, config.max_bytes)?.settle(time.remember(now_ms))?;
    txn.commit()?;
    Ok((incarnation, time))
}

fn damaged(path: &Path, what: &str) -> Fault {
    let sentence = format!(
        "{} {what}; nothing was changed: remove the file (it is a cache) or use another path",
        path.display()
    );
    Fault::new(FaultKind::Damaged, sentence)
}

fn refused(path: &Path, cause: DatabaseError) -> Fault {
    let shown = path.display();
    match cause {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Fault::new(
            FaultKind::Refused,
            format!(
                "the embedded store {shown} is open already, here or in another process, and one process has \
                 it to itself; let the processes share a Redis or Valkey region, or give each a data_dir of \
                 its own"
            ),
        ),
        DatabaseError::UpgradeRequired(_) => Fault::new(
            FaultKind::Refused,
            format!(
                "the embedded store {shown} was written by an older redb; remove the file (it is a cache) or \
                 use another path"
            ),
        )
        .because(cause),
        DatabaseError::Storage(StorageError::Io(ref io)) if io.kind() != std::io::ErrorKind::InvalidData => {
            Fault::new(FaultKind::Refused, format!("the embedded store {shown} cannot be opened"))
                .because(cause)
        }
        _ => damaged(path, "is damaged, or not a file of the embedded store").because(cause),
    }
}
