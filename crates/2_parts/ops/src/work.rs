//! What a step is given: arguments, notes of earlier steps, results, progress and the wish to cancel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use fault::{Fault, OrFault, Result};
use model::{CANCELLED, Id, Operation, Progress, Watcher};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::RECORD_INCOMPLETE;
use crate::runner::Changes;

/// An operation as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// What the API shows.
    pub operation: Operation,
    /// Operations of one queue run one after the other.
    pub queue: String,
    /// What was asked for.
    pub args: Value,
    /// What steps wrote down for later ones.
    #[serde(default)]
    pub notes: Map<String, Value>,
    /// Steps that are done.
    #[serde(default)]
    pub done: usize,
    /// Why it is being undone; it then only goes backwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoing: Option<Fault>,
    /// Somebody wants it cancelled.
    #[serde(default)]
    pub cancel: bool,
    /// Place in the order of submission, in microseconds since 1970.
    pub submitted: u64,
    /// The key of the request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a running operation shares with those who watch it.
#[derive(Default)]
pub(crate) struct Live {
    pub cancel: AtomicBool,
    pub progress: std::sync::Mutex<(u64, Option<Progress>)>,
}

impl Live {
    /// The revision of its last change.
    pub(crate) fn revision(&self) -> u64 {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// It has changed, but for its progress.
    pub(crate) fn tell(&self, revision: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.0 = progress.0.max(revision);
    }
}

/// One operation under way, as its steps see it.
pub struct Work {
    pub(crate) stored: Stored,
    pub(crate) live: Arc<Live>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) step: &'static str,
    pub(crate) forward: bool,
    /// A step has written something down since the record was saved.
    pub(crate) noted: bool,
}

impl Work {
    /// A work outside any runner, for the harness.
    pub(crate) fn detached(args: Value) -> Self {
        let operation = Operation {
            id: crate::fresh_id(),
            kind: String::new(),
            target: String::new(),
            state: model::OperationState::Running,
            progress: None,
            created: String::new(),
            ended: None,
            fault: None,
            result: std::collections::BTreeMap::new(),
            actor: String::new(),
            revision: 0,
        };
        Work {
            stored: Stored {
                operation,
                queue: String::new(),
                args,
                notes: Map::new(),
                done: 0,
                undoing: None,
                cancel: false,
                submitted: 0,
                key: None,
            },
            live: Arc::default(),
            changes: Arc::default(),
            step: "",
            forward: true,
            noted: false,
        }
    }

    /// The operation's identity.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.stored.operation.id
    }

    /// Who asked for it.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.stored.operation.actor
    }

    /// What it is done to, as `guests/web`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.stored.operation.target
    }

    /// What was asked for.
    ///
    /// # Errors
    /// [`RECORD_INCOMPLETE`] when it is not a `T`.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.stored.args).or_fault(|| incomplete("args"))
    }

    /// What an earlier step wrote down.
    ///
    /// # Errors
    /// [`RECORD_INCOMPLETE`] when it is not a `T`.
    pub fn note<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let found = self.stored.notes.get(name);
        found
            .map(|value| T::deserialize(value).or_fault(|| incomplete(name)))
            .transpose()
    }

    /// What an earlier step must have written down.
    ///
    /// # Errors
    /// [`RECORD_INCOMPLETE`] when it is missing or not a `T`.
    pub fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.note(name)?.ok_or_else(|| incomplete(name))
    }

    /// Writes something down for later steps; it is stored when the step is done.
    pub fn write_down(&mut self, name: &str, value: &impl Serialize) {
        let value = serde_json::to_value(value).expect("a note serializes to JSON");
        self.stored.notes.insert(name.to_owned(), value);
        self.noted = true;
    }

    /// Adds to what the operation yields.
    pub fn yields(&mut self, name: &str, value: impl Into<String>) {
        let result = &mut self.stored.operation.result;
        result.insert(name.to_owned(), value.into());
    }

    /// Adds a message (by its id in the catalogues) that the user is told when the work is done.
    pub fn notice(&mut self, message: &str) {
        let notices = self
            .stored
            .operation
            .result
            .entry("notices".to_owned())
            .or_default();
        if !notices.split(' ').any(|known| known == message) {
            let gap = if notices.is_empty() { "" } else { " " };
            notices.push_str(gap);
            notices.push_str(message);
        }
    }

    /// Ends with [`CANCELLED`] when somebody wants that; for safe points in long steps.
    ///
    /// # Errors
    /// [`CANCELLED`].
    pub fn safe_point(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Fault::new(CANCELLED));
        }
        Ok(())
    }
}

impl Watcher for Work {
    fn progress(&self, mut progress: Progress) {
        if progress.step.is_empty() {
            self.step.clone_into(&mut progress.step);
        }
        let revision = self.changes.tell();
        *(self.live.progress.lock()).unwrap_or_else(PoisonError::into_inner) = (revision, Some(progress));
        self.changes.wake(revision);
    }

    fn is_cancelled(&self) -> bool {
        // What is being undone is not cancelled again.
        self.forward && self.live.cancel.load(Ordering::Relaxed)
    }
}

fn incomplete(name: &str) -> Fault {
    Fault::new(RECORD_INCOMPLETE).arg("name", name)
}
