//! Keeps all processors out of their guest while memory slots are exchanged: KVM cannot replace a slot in one step.
//!
//! ```text
//! processor: inside = true ; held? -> inside = false, wait, again ; KVM_RUN ; inside = false
//! holder:    held = true ; poke every processor until it is not inside ; exchange ; held = false
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fault::{Fault, Result};

use crate::STUCK;
use crate::kick::Door;

/// How long a processor may take to leave its guest. Hardware takes microseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gate before the guests of one machine.
#[derive(Default)]
pub(crate) struct Gate {
    held: AtomicBool,
    doors: Mutex<Vec<Arc<Door>>>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn add(&self, door: Arc<Door>) {
        self.lock().push(door);
    }

    /// The door of processor 0, when it exists.
    pub(crate) fn bootstrap(&self) -> Option<Arc<Door>> {
        self.lock().first().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Door>>> {
        self.doors.lock().expect("no holder of this lock panics")
    }

    /// Before KVM_RUN: waits while the gate is held.
    pub(crate) fn enter(&self, door: &Door) {
        loop {
            door.set_inside(true);
            if !self.held.load(Ordering::SeqCst) {
                return;
            }
            door.set_inside(false);
            let mut doors = self.lock();
            self.changed.notify_all();
            while self.held.load(Ordering::SeqCst) {
                doors = self.changed.wait(doors).expect("no holder of this lock panics");
            }
        }
    }

    /// After KVM_RUN.
    pub(crate) fn leave(&self, door: &Door) {
        door.set_inside(false);
        if self.held.load(Ordering::SeqCst) {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Brings all processors out of their guest and keeps them out until the guard is dropped. One holder at a time: the caller
    /// holds the lock of the map.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        self.held.store(true, Ordering::SeqCst);
        let held = Held(self);
        let begin = Instant::now();
        let mut doors = self.lock();
        while let Some(door) = doors.iter().find(|door| door.is_inside()) {
            if begin.elapsed() > PATIENCE {
                drop(doors);
                return Err(Fault::new(STUCK).arg("seconds", PATIENCE.as_secs()));
            }
            door.poke();
            let waited = self.changed.wait_timeout(doors, Duration::from_millis(1));
            doors = waited.expect("no holder of this lock panics").0;
        }
        drop(doors);
        Ok(held)
    }
}

/// The gate is held.
pub(crate) struct Held<'a>(&'a Gate);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::SeqCst);
        drop(self.0.lock());
        self.0.changed.notify_all();
    }
}
