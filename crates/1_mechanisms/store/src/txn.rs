//! Transactions: preconditions, changes and events that happen together.

use std::time::{SystemTime, UNIX_EPOCH};

use fault::{Fault, Result};
use redb::{ReadableTable, ReadableTableMetadata};
use serde::Serialize;

use crate::{CONFLICT, EVENTS, EVENTS_KEPT, RECORDS};

/// What a record must be for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Not there.
    Absent,
    /// There, whatever its revision.
    Present,
    /// There, with this revision.
    Revision(u64),
}

/// An event as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent(pub serde_json::Value);

/// A transaction that is being put together; [`crate::Store::commit`] does it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Txn {
    expected: Vec<(String, Expected)>,
    changes: Vec<(String, Option<Vec<u8>>)>,
    events: Vec<NewEvent>,
    observed: bool,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Txn::default()
    }

    /// Adds a precondition.
    pub fn expect(mut self, key: &str, expected: Expected) -> Self {
        self.expected.push((key.to_owned(), expected));
        self
    }

    /// Writes a record.
    pub fn put<T: Serialize>(mut self, key: &str, value: &T) -> Self {
        // Our records have text keys and no failing serializers.
        let bytes = serde_json::to_vec(value).expect("a record serializes to JSON");
        self.changes.push((key.to_owned(), Some(bytes)));
        self
    }

    /// Deletes a record; one that is not there is no error.
    pub fn delete(mut self, key: &str) -> Self {
        self.changes.push((key.to_owned(), None));
        self
    }

    /// Appends an event.
    pub fn event(mut self, event: &impl Serialize) -> Self {
        let value = serde_json::to_value(event).expect("an event serializes to JSON");
        self.events.push(NewEvent(value));
        self
    }

    /// Appends everything of another transaction.
    pub fn and(mut self, other: Txn) -> Self {
        self.expected.extend(other.expected);
        self.changes.extend(other.changes);
        self.events.extend(other.events);
        self
    }

    /// Only writes down what can be observed again: seen by every reader at once, but on disk only with the next
    /// ordinary transaction.
    pub fn observed(mut self) -> Self {
        self.observed = true;
        self
    }

    /// Whether it may reach the disk later than it is seen.
    pub(crate) fn is_observed(&self) -> bool {
        self.observed
    }

    /// Does it within a write of the database, with the given revision. The inner result tells whether the
    /// preconditions held; when they did not, nothing has changed.
    pub(crate) fn apply(
        &self,
        write: &redb::WriteTransaction,
        revision: u64,
    ) -> Result<Result<()>, redb::Error> {
        let mut records = write.open_table(RECORDS)?;
        for (key, expected) in &self.expected {
            let found = records.get(key.as_str())?.map(|guard| guard.value().0);
            let holds = match expected {
                Expected::Absent => found.is_none(),
                Expected::Present => found.is_some(),
                Expected::Revision(revision) => found == Some(*revision),
            };
            if !holds {
                return Ok(Err(Fault::new(CONFLICT).arg("key", key)));
            }
        }
        for (key, change) in &self.changes {
            match change {
                Some(bytes) => records.insert(key.as_str(), (revision, bytes.as_slice()))?,
                None => records.remove(key.as_str())?,
            };
        }
        if !self.events.is_empty() {
            self.append_events(&mut write.open_table(EVENTS)?, revision)?;
        }
        Ok(Ok(()))
    }

    /// Keys that it writes or deletes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.changes.iter().map(|(key, _)| key)
    }

    fn append_events(
        &self,
        table: &mut redb::Table<'_, (u64, u32), &'static [u8]>,
        revision: u64,
    ) -> Result<(), redb::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for (index, event) in (0..).zip(&self.events) {
            let bytes = serde_json::to_vec(&(now, &event.0)).expect("JSON serializes to bytes");
            table.insert((revision, index), bytes.as_slice())?;
        }
        while table.len()? > EVENTS_KEPT {
            table.pop_first()?;
        }
        Ok(())
    }
}
