//! A revisioned key/value store with watch, embedded in the daemon.
//!
//! One file holds records (key → revision and JSON), a bounded list of events, one global revision and the version
//! of the records' layout. Every change is a [`Txn`]: preconditions, puts, deletes and events, done together or not
//! at all; it raises the revision by one. [`Store::wait_beyond`] blocks until the revision passes a value, which is
//! all that watchers need. The interface blocks; a commit is on disk when [`Store::commit`] returns, unless the
//! transaction was marked [`Txn::observed`].

mod commits;
mod format;
mod txn;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fault::{Code, Fault, OrFault, Result};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use commits::Commits;

pub use format::Migration;
pub use txn::{Expected, NewEvent, Txn};

/// The store's file cannot be read or written.
pub const STORE_BROKEN: Code = Code("STO001");
/// A precondition of a transaction does not hold: somebody else changed the record.
pub const CONFLICT: Code = Code("STO002");
/// Another daemon has the store open.
pub const STORE_TAKEN: Code = Code("STO003");
/// The store was written by a newer program.
pub const STORE_NEWER: Code = Code("STO004");
/// A record does not read as what it should be.
pub const RECORD_BROKEN: Code = Code("STO005");

/// Events kept; older ones are forgotten.
pub const EVENTS_KEPT: u64 = 10_000;

/// A process that is killed takes its last [`Txn::observed`] changes with it, but watchers have seen their revisions:
/// the next one counts on beyond any that can have been lost, so that no revision ever means two things.
const OBSERVED_AT_MOST: u64 = 1 << 16;

/// Memory that the store may use for pages, in bytes.
const CACHE_SIZE: usize = 4 << 20;

pub(crate) const RECORDS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("records");
pub(crate) const EVENTS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("events");
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const REVISION: &str = "revision";
pub(crate) const FORMAT: &str = "format";

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Revision of the last change of this record.
    pub revision: u64,
    /// The record.
    pub value: T,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// The revision that made it a fact.
    pub revision: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What was handed to [`Txn::event`].
    pub value: serde_json::Value,
}

/// The open store. Shared by reference between threads.
pub struct Store {
    database: Database,
    path: PathBuf,
    commits: Commits,
}

impl Store {
    /// Opens the file, makes it when missing, and brings the records to the layout `format` by those of
    /// `migrations` that are due, in one transaction, after a copy of the file to `FILE.formatN`.
    ///
    /// # Errors
    /// [`STORE_TAKEN`] when another process has it open, [`STORE_NEWER`] when its layout is newer than `format`,
    /// [`STORE_BROKEN`] when the file cannot be used.
    pub fn open(path: &Path, format: u64, migrations: &[Migration]) -> Result<Self> {
        for_owner_only(path).or_fault(|| Fault::new(STORE_BROKEN).arg("path", path.display()))?;
        let database = Database::builder()
            .set_cache_size(CACHE_SIZE)
            .create(path)
            .map_err(|error| opening(path, error))?;
        let database = format::bring_to(database, path, format, migrations)?;
        let revision = format::read_meta(&database, REVISION)
            .map_err(|error| broken(path, error))?
            .map_or(0, |last| last + OBSERVED_AT_MOST);
        Ok(Store {
            database,
            path: path.to_owned(),
            commits: Commits::new(revision),
        })
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`RECORD_BROKEN`] when it is not a `T`, [`STORE_BROKEN`].
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Entry<T>>> {
        let found = self.read(|| {
            let table = self.database.begin_read()?.open_table(RECORDS)?;
            let found = table.get(key)?;
            Ok(found.map(|guard| {
                let (revision, bytes) = guard.value();
                (revision, bytes.to_vec())
            }))
        })?;
        found
            .map(|(revision, bytes)| parse(key, revision, &bytes))
            .transpose()
    }

    /// Reads every record whose key begins with `prefix`, in order of keys.
    ///
    /// # Errors
    /// [`RECORD_BROKEN`] when one is not a `T`, [`STORE_BROKEN`].
    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, Entry<T>)>> {
        let found = self.read(|| {
            let table = self.database.begin_read()?.open_table(RECORDS)?;
            let mut found = Vec::new();
            for item in table.range(prefix..)? {
                let (key, value) = item?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                let (revision, bytes) = value.value();
                found.push((key.value().to_owned(), revision, bytes.to_vec()));
            }
            Ok(found)
        })?;
        found
            .into_iter()
            .map(|(key, revision, bytes)| parse(&key, revision, &bytes).map(|entry| (key, entry)))
            .collect()
    }

    /// The events that became facts after revision `since`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`STORE_BROKEN`].
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<StoredEvent>> {
        self.read(|| {
            let table = self.database.begin_read()?.open_table(EVENTS)?;
            let mut found = Vec::new();
            for item in table.range((since.saturating_add(1), 0)..)?.take(limit) {
                let (key, value) = item?;
                let (time_ms, value) = serde_json::from_slice(value.value()).unwrap_or_default();
                found.push(StoredEvent {
                    revision: key.value().0,
                    time_ms,
                    value,
                });
            }
            Ok(found)
        })
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.commits.revision()
    }

    /// A revision after which the record of this key was surely neither written nor deleted: for watchers of one
    /// record, who need not read it again because of others.
    pub fn touched(&self, key: &str) -> u64 {
        self.commits.touched(key)
    }

    /// Blocks until the revision is greater than `since` or the time is over; returns the revision then.
    pub fn wait_beyond(&self, since: u64, timeout: Duration) -> u64 {
        self.commits.wait_beyond(since, timeout)
    }

    /// Does a transaction; returns the new revision. Those that come at the same time share the way to the disk.
    ///
    /// # Errors
    /// [`CONFLICT`] when a precondition does not hold, [`STORE_BROKEN`]; nothing has changed then.
    pub fn commit(&self, txn: Txn) -> Result<u64> {
        self.commits.commit(&self.database, txn, |cause| {
            Fault::new(STORE_BROKEN)
                .arg("path", self.path.display())
                .because_of(cause)
        })
    }

    /// Reads, changes and writes one record, again when somebody else was faster; `change` may refuse. Returns what
    /// was written with its revision; nothing happens when there is no such record.
    ///
    /// # Errors
    /// What `change` refuses with, [`RECORD_BROKEN`], [`STORE_BROKEN`].
    pub fn update<T, F>(&self, key: &str, mut change: F) -> Result<Option<Entry<T>>>
    where
        T: DeserializeOwned + Serialize,
        F: FnMut(&mut T, Txn) -> Result<Txn>,
    {
        loop {
            let Some(entry) = self.get::<T>(key)? else {
                return Ok(None);
            };
            let mut value = entry.value;
            let txn = Txn::new().expect(key, Expected::Revision(entry.revision));
            let txn = change(&mut value, txn)?.put(key, &value);
            match self.commit(txn) {
                Ok(revision) => return Ok(Some(Entry { revision, value })),
                Err(fault) if fault.is(CONFLICT) => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn read<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T> {
        work().map_err(|error| broken(&self.path, error))
    }
}

/// Makes the file when it is missing; nobody else may read it, whoever made it.
fn for_owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

fn parse<T: DeserializeOwned>(key: &str, revision: u64, bytes: &[u8]) -> Result<Entry<T>> {
    let value = serde_json::from_slice(bytes).or_fault(|| Fault::new(RECORD_BROKEN).arg("key", key))?;
    Ok(Entry { revision, value })
}

fn opening(path: &Path, error: redb::DatabaseError) -> Fault {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => Fault::new(STORE_TAKEN).arg("path", path.display()),
        redb::DatabaseError::UpgradeRequired(version) => Fault::new(STORE_NEWER)
            .arg("path", path.display())
            .arg("format", format!("file {version}")),
        error => broken(path, error),
    }
}

fn broken(path: &Path, error: impl std::error::Error) -> Fault {
    Fault::new(STORE_BROKEN)
        .arg("path", path.display())
        .because(error)
}
