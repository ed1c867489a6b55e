//! Commits in groups: whoever comes while one is on its way to the disk goes with the next, all with one flush.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fault::{Fault, Result};
use redb::{Database, Durability};

use crate::{META, REVISION, Txn};

/// Keys whose last change is remembered; of older ones only that it was not later than a certain revision.
const TOUCHED_KEPT: usize = 8192;

/// The queue of transactions, and what every watcher asks for.
pub(crate) struct Commits {
    state: Mutex<State>,
    /// The revision was raised.
    raised: Condvar,
    /// A group is done.
    done: Condvar,
}

struct State {
    revision: u64,
    waiting: VecDeque<(u64, Txn)>,
    results: HashMap<u64, Result<u64>>,
    next_ticket: u64,
    /// Somebody writes a group.
    writing: bool,
    touched: HashMap<String, u64>,
    /// What [`State::touched`] does not know was not touched after this revision.
    floor: u64,
}

/// What became of a group: the last revision, and a result each.
struct Group {
    revision: u64,
    results: Vec<Result<u64>>,
}

impl Commits {
    pub(crate) fn new(revision: u64) -> Self {
        Commits {
            state: Mutex::new(State {
                revision,
                waiting: VecDeque::new(),
                results: HashMap::new(),
                next_ticket: 0,
                writing: false,
                touched: HashMap::new(),
                floor: revision,
            }),
            raised: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Does a transaction, alone or with others; `broken` makes the fault of a database that fails.
    pub(crate) fn commit(
        &self,
        database: &Database,
        txn: Txn,
        broken: impl Fn(String) -> Fault,
    ) -> Result<u64> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((ticket, txn));
        loop {
            if let Some(result) = state.results.remove(&ticket) {
                return result;
            }
            if state.writing {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.writing = true;
            let group: Vec<(u64, Txn)> = state.waiting.drain(..).collect();
            let base = state.revision;
            drop(state);
            // Should the database's code panic, those who wait must not wait for ever.
            let written = catch_unwind(AssertUnwindSafe(|| write(database, &group, base)));
            let written = match written {
                Ok(Ok(written)) => Ok(written),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("a defect".to_owned()),
            };
            state = self.lock();
            state.writing = false;
            match written {
                Ok(written) => {
                    state.revision = written.revision;
                    for ((ticket, txn), result) in group.iter().zip(written.results) {
                        if let Ok(revision) = result {
                            state.touch(txn, revision);
                        }
                        state.results.insert(*ticket, result);
                    }
                }
                Err(cause) => {
                    for (ticket, _) in &group {
                        state.results.insert(*ticket, Err(broken(cause.clone())));
                    }
                }
            }
            self.raised.notify_all();
            self.done.notify_all();
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// A revision after which the record was surely not changed.
    pub(crate) fn touched(&self, key: &str) -> u64 {
        let state = self.lock();
        state.touched.get(key).copied().unwrap_or(state.floor)
    }

    /// Blocks until the revision is greater than `since` or the time is over; returns the revision then.
    pub(crate) fn wait_beyond(&self, since: u64, timeout: Duration) -> u64 {
        let state = self.lock();
        let waited = self
            .raised
            .wait_timeout_while(state, timeout, |state| state.revision <= since);
        waited.unwrap_or_else(PoisonError::into_inner).0.revision
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn touch(&mut self, txn: &Txn, revision: u64) {
        if self.touched.len() >= TOUCHED_KEPT {
            self.touched.clear();
            self.floor = revision;
        }
        for key in txn.keys() {
            self.touched.insert(key.clone(), revision);
        }
    }
}

/// One write of the database for all of them, in the order in which they came.
fn write(database: &Database, group: &[(u64, Txn)], base: u64) -> Result<Group, redb::Error> {
    let mut write = database.begin_write()?;
    if group.iter().all(|(_, txn)| txn.is_observed()) {
        write.set_durability(Durability::None)?;
    }
    let mut revision = base;
    let mut results = Vec::with_capacity(group.len());
    for (_, txn) in group {
        results.push(txn.apply(&write, revision + 1)?.map(|()| {
            revision += 1;
            revision
        }));
    }
    if revision == base {
        write.abort()?;
    } else {
        write.open_table(META)?.insert(REVISION, revision)?;
        write.commit()?;
    }
    Ok(Group { revision, results })
}
