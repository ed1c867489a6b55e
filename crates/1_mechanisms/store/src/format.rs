//! The version of the records' layout, and the way from older ones.

use std::path::{Path, PathBuf};

use fault::{Fault, OrFault, Result};
use redb::{Database, ReadableDatabase, ReadableTable};
use serde_json::Value;

use crate::{EVENTS, FORMAT, META, RECORDS, STORE_BROKEN, STORE_NEWER, broken, opening};

/// Rewrites one record of an older format; nothing when the record goes.
pub type Rewrite = fn(key: &str, value: Value) -> Result<Option<(String, Value)>>;

/// One step from a layout of the records to the next.
pub struct Migration {
    /// The layout it leads to, from the one before.
    pub to: u64,
    /// What becomes of one record: a new key and value, or nothing.
    pub record: Rewrite,
}

/// Checks the layout's version and migrates. Hands the database back, open.
pub(crate) fn bring_to(
    database: Database,
    path: &Path,
    format: u64,
    migrations: &[Migration],
) -> Result<Database> {
    let found = read_meta(&database, FORMAT).map_err(|error| broken(path, error))?;
    let found = match found {
        Some(found) => found,
        None => {
            initialise(&database, format).map_err(|error| broken(path, error))?;
            format
        }
    };
    if found > format {
        return Err(Fault::new(STORE_NEWER)
            .arg("path", path.display())
            .arg("format", found));
    }
    if found == format {
        return Ok(database);
    }
    // The file is copied while nobody writes to it.
    drop(database);
    copy(path, found)?;
    let database = Database::builder()
        .set_cache_size(crate::CACHE_SIZE)
        .create(path)
        .map_err(|error| opening(path, error))?;
    migrate(&database, path, found, format, migrations)?;
    Ok(database)
}

pub(crate) fn read_meta(database: &Database, key: &str) -> Result<Option<u64>, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table.get(key)?.map(|guard| guard.value()))
}

fn initialise(database: &Database, format: u64) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(RECORDS)?;
    write.open_table(EVENTS)?;
    write.open_table(META)?.insert(FORMAT, format)?;
    write.commit()?;
    Ok(())
}

fn copy(path: &Path, format: u64) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".format{format}"));
    let copy = PathBuf::from(name);
    // Keeps the permissions of the original.
    std::fs::copy(path, &copy)
        .and_then(|_| std::fs::File::open(&copy)?.sync_all())
        .or_fault(|| Fault::new(STORE_BROKEN).arg("path", copy.display()))
}

fn migrate(database: &Database, path: &Path, from: u64, to: u64, migrations: &[Migration]) -> Result<()> {
    let lift = |error: redb::Error| broken(path, error);
    let write = database.begin_write().map_err(|error| lift(error.into()))?;
    {
        let mut records = write.open_table(RECORDS).map_err(|error| lift(error.into()))?;
        for migration in migrations.iter().filter(|m| m.to > from && m.to <= to) {
            let mut all = Vec::new();
            for item in records.iter().map_err(|error| lift(error.into()))? {
                let (key, value) = item.map_err(|error| lift(error.into()))?;
                let (revision, bytes) = value.value();
                all.push((key.value().to_owned(), revision, bytes.to_vec()));
            }
            for (key, revision, bytes) in all {
                let value = serde_json::from_slice(&bytes)
                    .or_fault(|| Fault::new(crate::RECORD_BROKEN).arg("key", &key))?;
                records.remove(key.as_str()).map_err(|error| lift(error.into()))?;
                if let Some((key, value)) = (migration.record)(&key, value)? {
                    let bytes = serde_json::to_vec(&value).expect("JSON serializes to bytes");
                    records
                        .insert(key.as_str(), (revision, bytes.as_slice()))
                        .map_err(|error| lift(error.into()))?;
                }
            }
        }
        write
            .open_table(META)
            .map_err(|error| lift(error.into()))?
            .insert(FORMAT, to)
            .map_err(|error| lift(error.into()))?;
    }
    write.commit().map_err(|error| lift(error.into()))
}
