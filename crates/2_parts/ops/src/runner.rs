//! The runner: one queue per target, a thread per busy queue, records that survive the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fault::{Fault, Result};
use model::{CANCELLED, Id, Operation, OperationState, Progress, rfc3339};
use serde_json::{Value, json};
use store::{Entry, Expected, Store, Txn};

use crate::work::{Live, Stored};
use crate::{DEFECT, ENDED, KIND_UNKNOWN, Kind, Step, UNKNOWN, Work};

/// Ended operations kept; older ones are forgotten.
const ENDED_KEPT: usize = 1000;

/// Work of which nothing is recorded before more has been done.
const SHORT: Duration = Duration::from_millis(200);

/// Who asks for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// As `uid:1000`.
    pub name: String,
    /// The key by which the same request is known when it comes again, as its answer was lost.
    pub key: Option<String>,
}

impl From<&str> for Actor {
    fn from(name: &str) -> Self {
        Actor {
            name: name.to_owned(),
            key: None,
        }
    }
}

/// An operation that is asked for.
pub struct New {
    /// Name of its [`Kind`].
    pub kind: &'static str,
    /// What it is done to, as `guests/web`.
    pub target: String,
    /// Operations of the same queue run one after the other; the id of a guest.
    pub queue: String,
    /// Its arguments.
    pub args: Value,
    /// Who asks.
    pub actor: Actor,
}

type Listener = Box<dyn Fn(u64) + Send + Sync>;

/// Runs operations over a context.
pub struct Runner<C: ?Sized + Send + Sync + 'static> {
    store: Arc<Store>,
    kinds: BTreeMap<&'static str, Kind<C>>,
    inner: Mutex<Inner>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Inner {
    queues: HashMap<String, VecDeque<Id>>,
    live: HashMap<Id, Arc<Live>>,
}

/// The number of the last change of any operation, and who wants to know.
#[derive(Default)]
pub(crate) struct Changes {
    last: AtomicU64,
    lock: Mutex<()>,
    changed: Condvar,
    listener: std::sync::OnceLock<Listener>,
}

impl Changes {
    /// The next number: microseconds since 1970, at least one more than the last, so that numbers grow over restarts.
    pub(crate) fn tell(&self) -> u64 {
        let now = micros();
        let update = |last: u64| Some(now.max(last + 1));
        let last = match self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update) {
            Ok(last) | Err(last) => last,
        };
        now.max(last + 1)
    }

    /// Wakes whoever waits for changes; once what has changed can be seen.
    pub(crate) fn wake(&self, revision: u64) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        if let Some(listener) = self.listener.get() {
            listener(revision);
        }
    }
}

impl<C: ?Sized + Send + Sync + 'static> Runner<C> {
    /// A runner of these kinds. Nothing runs before [`Runner::resume`] or [`Runner::submit`].
    #[must_use]
    pub fn new(store: Arc<Store>, kinds: Vec<Kind<C>>) -> Self {
        Runner {
            store,
            kinds: kinds.into_iter().map(|kind| (kind.name, kind)).collect(),
            inner: Mutex::default(),
            changes: Arc::default(),
        }
    }

    /// Sets who is told of every change of an operation; at most once, later calls do nothing. Must be cheap.
    pub fn on_change(&self, listener: impl Fn(u64) + Send + Sync + 'static) {
        // A second listener is refused by the documentation.
        let _ = self.changes.listener.set(Box::new(listener));
    }

    /// Records an operation together with `txn` and begins it.
    ///
    /// # Errors
    /// [`store::CONFLICT`] when a precondition of `txn` does not hold, [`KIND_UNKNOWN`].
    pub fn submit(self: &Arc<Self>, context: &Arc<C>, new: New, txn: Txn) -> Result<Operation> {
        self.kind(new.kind)?;
        let submitted = micros();
        let operation = Operation {
            id: crate::fresh_id(),
            kind: new.kind.to_owned(),
            target: new.target,
            state: OperationState::Queued,
            progress: None,
            created: rfc3339(submitted / 1000),
            ended: None,
            fault: None,
            result: BTreeMap::new(),
            actor: new.actor.name,
            revision: self.changes.tell(),
        };
        let stored = Stored {
            operation,
            queue: new.queue,
            args: new.args,
            notes: serde_json::Map::new(),
            done: 0,
            undoing: None,
            cancel: false,
            submitted,
            key: new.actor.key,
        };
        let key = key(&stored.operation.id);
        let mut txn = txn.expect(&key, Expected::Absent).put(&key, &stored);
        if let Some(request) = &stored.key {
            let request = request_key(request);
            txn = txn
                .expect(&request, Expected::Absent)
                .put(&request, &stored.operation.id);
        }
        self.store.commit(txn)?;
        self.changes.wake(stored.operation.revision);
        let operation = stored.operation.clone();
        self.enqueue(context, &stored);
        Ok(operation)
    }

    /// Begins again every stored operation that has not ended, in the order in which they were asked for.
    ///
    /// # Errors
    /// [`store::STORE_BROKEN`].
    pub fn resume(self: &Arc<Self>, context: &Arc<C>) -> Result<usize> {
        let mut open: Vec<Stored> = self
            .records()?
            .into_iter()
            .map(|entry| entry.value)
            .filter(|stored| stored.operation.ended.is_none())
            .collect();
        open.sort_by_key(|stored| stored.submitted);
        for stored in &open {
            self.enqueue(context, stored);
        }
        Ok(open.len())
    }

    /// The operation that a request with this key has begun, as long as it is remembered.
    ///
    /// # Errors
    /// [`store::STORE_BROKEN`].
    pub fn asked_before(&self, key: &str) -> Result<Option<Operation>> {
        let found = self.store.get::<Id>(&request_key(key))?;
        found.map(|entry| self.get(&entry.value)).transpose()
    }

    /// One operation as it is now.
    ///
    /// # Errors
    /// [`UNKNOWN`].
    pub fn get(&self, id: &Id) -> Result<Operation> {
        let found = self.store.get::<Stored>(&key(id))?;
        let stored = found.ok_or_else(|| unknown(id))?.value;
        Ok(self.now(stored.operation))
    }

    /// Every operation that is stored, oldest first.
    ///
    /// # Errors
    /// [`store::STORE_BROKEN`].
    pub fn list(&self) -> Result<Vec<Operation>> {
        let mut records = self.records()?;
        records.sort_by_key(|entry| entry.value.submitted);
        let all = records.into_iter();
        Ok(all.map(|entry| self.now(entry.value.operation)).collect())
    }

    /// The operations of one queue that have not ended.
    ///
    /// # Errors
    /// [`store::STORE_BROKEN`].
    pub fn open_in(&self, queue: &str) -> Result<Vec<Operation>> {
        let waiting: Vec<Id> = {
            let inner = self.lock();
            let ids = inner.queues.get(queue).into_iter().flatten();
            ids.cloned().collect()
        };
        Ok(waiting.iter().filter_map(|id| self.get(id).ok()).collect())
    }

    /// Blocks until the operation's revision is greater than `revision`, it has ended, or the time is over.
    ///
    /// # Errors
    /// [`UNKNOWN`].
    pub fn wait(&self, id: &Id, revision: u64, timeout: Duration) -> Result<Operation> {
        let end = Instant::now() + timeout;
        loop {
            let seen = self.changes.last.load(Ordering::SeqCst);
            let operation = self.get(id)?;
            let left = end.saturating_duration_since(Instant::now());
            if operation.revision > revision || operation.ended.is_some() || left.is_zero() {
                return Ok(operation);
            }
            let mut guard = (self.changes.lock.lock()).unwrap_or_else(PoisonError::into_inner);
            // A change between the reading and here is noticed by its number.
            if self.changes.last.load(Ordering::SeqCst) == seen {
                let nap = left.min(Duration::from_millis(500));
                guard = (self.changes.changed.wait_timeout(guard, nap))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            drop(guard);
        }
    }

    /// The revision of an operation under way as far as memory knows it; none of one that has ended, or is unknown.
    #[must_use]
    pub fn told(&self, id: &Id) -> Option<u64> {
        let inner = self.lock();
        inner.live.get(id).map(|live| live.revision())
    }

    /// Asks an operation to end; what it has done is undone.
    ///
    /// # Errors
    /// [`UNKNOWN`], [`ENDED`].
    pub fn cancel(&self, id: &Id) -> Result<Operation> {
        let revision = self.changes.tell();
        let updated = self.store.update::<Stored, _>(&key(id), |stored, txn| {
            if stored.operation.ended.is_some() {
                return Err(Fault::new(ENDED).arg("id", id));
            }
            stored.cancel = true;
            stored.operation.revision = revision;
            Ok(txn)
        })?;
        let entry = updated.ok_or_else(|| unknown(id))?;
        if let Some(live) = self.lock().live.get(id) {
            live.cancel.store(true, Ordering::Relaxed);
            live.tell(revision);
        }
        self.changes.wake(revision);
        Ok(self.now(entry.value.operation))
    }

    fn records(&self) -> Result<Vec<Entry<Stored>>> {
        let all = self.store.list::<Stored>("operations/")?;
        Ok(all.into_iter().map(|(_, entry)| entry).collect())
    }

    fn kind(&self, name: &str) -> Result<&Kind<C>> {
        let found = self.kinds.get(name);
        found.ok_or_else(|| Fault::new(KIND_UNKNOWN).arg("kind", name))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the progress that only memory knows.
    fn now(&self, mut operation: Operation) -> Operation {
        if operation.ended.is_none()
            && let Some(live) = self.lock().live.get(&operation.id)
        {
            let progress = live.progress.lock().unwrap_or_else(PoisonError::into_inner);
            operation.revision = operation.revision.max(progress.0);
            operation.progress = progress.1.clone();
        }
        operation
    }

    fn enqueue(self: &Arc<Self>, context: &Arc<C>, stored: &Stored) {
        let id = stored.operation.id.clone();
        let idle = {
            let mut inner = self.lock();
            let live = inner.live.entry(id.clone()).or_default();
            live.cancel.store(stored.cancel, Ordering::Relaxed);
            live.tell(stored.operation.revision);
            let queue = inner.queues.entry(stored.queue.clone()).or_default();
            queue.push_back(id);
            queue.len() == 1
        };
        if idle {
            let (runner, context) = (Arc::clone(self), Arc::clone(context));
            let queue = stored.queue.clone();
            // Without a thread there is no way to go on; the record stays and the next daemon resumes it.
            let _ = std::thread::Builder::new()
                .name("operation".to_owned())
                .spawn(move || runner.drain(&context, &queue));
        }
    }

    fn drain(&self, context: &C, queue: &str) {
        loop {
            let (id, live) = {
                let mut inner = self.lock();
                let Some(id) = inner.queues.get(queue).and_then(|q| q.front()).cloned() else {
                    inner.queues.remove(queue);
                    return;
                };
                let live = Arc::clone(inner.live.entry(id.clone()).or_default());
                (id, live)
            };
            if let Ok(Some(entry)) = self.store.get::<Stored>(&key(&id)) {
                self.run(context, entry.value, live);
            }
            let mut inner = self.lock();
            inner.live.remove(&id);
            let left = inner.queues.get_mut(queue).map(|q| {
                q.pop_front();
                q.len()
            });
            if left.is_none_or(|left| left == 0) {
                inner.queues.remove(queue);
                return;
            }
        }
    }

    fn run(&self, context: &C, stored: Stored, live: Arc<Live>) {
        let mut work = Work {
            stored,
            live,
            changes: Arc::clone(&self.changes),
            step: "",
            forward: true,
            noted: false,
        };
        work.stored.operation.state = OperationState::Running;
        let name = work.stored.operation.kind.clone();
        let fault = match self.kind(&name) {
            Ok(kind) => match self.forward(context, kind, &mut work) {
                Ok(()) => None,
                Err(fault) => Some(self.backward(context, kind, &mut work, fault)),
            },
            Err(fault) => Some(fault),
        };
        self.end(&mut work, fault);
    }

    fn forward(&self, context: &C, kind: &Kind<C>, work: &mut Work) -> Result<()> {
        if let Some(fault) = work.stored.undoing.clone() {
            return Err(fault);
        }
        let mut saved = Instant::now();
        for step in kind.steps.iter().skip(work.stored.done) {
            work.safe_point()?;
            work.step = step.name;
            model::Watcher::progress(work, Progress::default());
            guarded(step, step.run, context, work)?;
            work.stored.done += 1;
            // A step that was short and left no note is as well done again after a crash.
            let worth_it = saved.elapsed() > SHORT || work.noted;
            if work.stored.done < kind.steps.len() && worth_it {
                self.save(work, Txn::new().observed());
                (saved, work.noted) = (Instant::now(), false);
            }
        }
        Ok(())
    }

    fn backward(&self, context: &C, kind: &Kind<C>, work: &mut Work, mut fault: Fault) -> Fault {
        work.forward = false;
        if work.stored.undoing.is_none() {
            work.stored.undoing = Some(fault.clone());
            self.save(work, Txn::new());
        }
        // The step that failed may be partly done; steps begun are at most one more than those done.
        let begun = kind.steps.len().min(work.stored.done + 1);
        for step in kind.steps[..begun].iter().rev() {
            work.step = step.name;
            if let Err(second) = guarded(step, step.undo, context, work) {
                fault = fault.because_of(format!("undo of {}: {second}", step.name));
            }
        }
        let told = catch_unwind(AssertUnwindSafe(|| (kind.abandoned)(context, work, &fault)));
        match told {
            Ok(Ok(())) => fault,
            Ok(Err(second)) => fault.because_of(format!("undo: {second}")),
            Err(_) => fault.because_of("undo: a defect of ours"),
        }
    }

    fn end(&self, work: &mut Work, fault: Option<Fault>) {
        let operation = &mut work.stored.operation;
        operation.ended = Some(rfc3339(micros() / 1000));
        operation.state = match &fault {
            None => OperationState::Done,
            Some(fault) if fault.is(CANCELLED) => OperationState::Cancelled,
            Some(_) => OperationState::Failed,
        };
        operation.fault = fault;
        operation.revision = self.changes.tell();
        // Neither is needed any more, and arguments may hold what shall not lie about (a hash of a password).
        work.stored.notes.clear();
        work.stored.args = Value::Null;
        let revision = operation.revision;
        let event = ended_event(&work.stored.operation);
        let txn = self.forget_old(Txn::new()).event(&event);
        self.save(work, txn);
        // From here on its record says all.
        self.lock().live.remove(&work.stored.operation.id);
        self.changes.wake(revision);
    }

    /// Deletes the oldest ended operations beyond those kept; now and then, as it reads them all.
    fn forget_old(&self, mut txn: Txn) -> Txn {
        if !self.store.revision().is_multiple_of(64) {
            return txn;
        }
        let Ok(mut records) = self.records() else {
            return txn;
        };
        records.retain(|entry| entry.value.operation.ended.is_some());
        records.sort_by_key(|entry| entry.value.submitted);
        let surplus = records.len().saturating_sub(ENDED_KEPT);
        for entry in &records[..surplus] {
            txn = txn.delete(&key(&entry.value.operation.id));
            if let Some(request) = &entry.value.key {
                txn = txn.delete(&request_key(request));
            }
        }
        txn
    }

    /// Writes the record. A store that cannot be written leaves the operation as it was: the next daemon repeats.
    fn save(&self, work: &mut Work, txn: Txn) {
        work.stored.cancel |= work.live.cancel.load(Ordering::Relaxed);
        let key = key(&work.stored.operation.id);
        let _ = self.store.commit(txn.put(&key, &work.stored));
    }
}

/// Runs one half of a step; a panic in it is a fault of ours, not the end of the daemon.
fn guarded<C: ?Sized>(
    step: &Step<C>,
    half: fn(&C, &mut Work) -> Result<()>,
    context: &C,
    work: &mut Work,
) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(|| half(context, work))) {
        Ok(result) => result,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::new(DEFECT)
                .arg("step", step.name)
                .because_of(said.unwrap_or_default()))
        }
    }
}

fn ended_event(operation: &Operation) -> Value {
    let state = serde_json::to_value(operation.state).unwrap_or_default();
    let mut details = json!({ "operation": operation.id, "kind": operation.kind, "state": state });
    if let Some(fault) = &operation.fault {
        details["fault"] = Value::String(fault.to_string());
    }
    json!({ "kind": "operation.ended", "target": operation.target, "details": details })
}

fn key(id: &Id) -> String {
    format!("operations/{id}")
}

fn request_key(key: &str) -> String {
    format!("requests/{key}")
}

fn unknown(id: &Id) -> Fault {
    Fault::new(UNKNOWN).arg("id", id)
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
