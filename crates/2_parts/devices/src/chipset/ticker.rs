//! A timer that calls a device behind its lock.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use vcpu::time::{Expire, Timer, Timers};

/// A device with deadlines. It keeps them in its own state; the timer only wakes it.
pub trait Tick: Send {
    /// Does what is due at `now`, and arms its ticker anew.
    fn tick(&mut self, now: u64);
}

struct Target<T>(Weak<Mutex<T>>);

impl<T: Tick> Expire for Target<T> {
    fn expire(&self, now: u64) {
        if let Some(device) = self.0.upgrade() {
            device.lock().unwrap_or_else(PoisonError::into_inner).tick(now);
        }
    }
}

/// The timer of a device, and whether the device stands still.
pub struct Ticker {
    timer: Timer,
    /// What the timer holds weakly.
    _target: Arc<dyn Expire>,
    paused: bool,
}

impl Ticker {
    /// A ticker for a device that is being made (`Arc::new_cyclic`).
    #[must_use]
    pub fn new<T: Tick + 'static>(timers: &Arc<Timers>, device: &Weak<Mutex<T>>) -> Self {
        let target: Arc<dyn Expire> = Arc::new(Target(Weak::clone(device)));
        Ticker {
            timer: timers.timer(Arc::downgrade(&target)),
            _target: target,
            paused: false,
        }
    }

    /// The machine's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.timer.now()
    }

    /// Whether the device stands still: then a tick that was under way does nothing.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sets the deadline, unless the device stands still.
    pub fn arm(&self, deadline: Option<u64>) {
        self.timer.arm(deadline.filter(|_| !self.paused));
    }

    /// Takes the deadline away until [`Ticker::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
        self.timer.arm(None);
    }

    /// Goes on; the device arms it anew.
    pub fn resume(&mut self) {
        self.paused = false;
    }
}
