//! Time and randomness as a guest sees them: one recordable source each, and timers on them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Time of a machine.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the machine began, never backwards; stands still while the machine is paused or saved.
    fn now(&self) -> u64;
    /// Nanoseconds between 1970 and the machine's beginning: real time = this + [`Clock::now`]. May change when the host's clock is set.
    fn epoch(&self) -> u64;
    /// Whether it goes with the host's clock by itself.
    fn is_host(&self) -> bool;
    /// With a clock that counts instructions: moves it to so many nanoseconds (never back).
    fn advance(&self, _to: u64) {}
}

/// The host's monotonic clock, shifted to the machine's beginning.
pub struct HostClock {
    /// Host's monotonic nanoseconds minus the machine's.
    shift: AtomicI64,
    /// The value at which the clock stands still; `u64::MAX` while it goes.
    stopped_at: AtomicU64,
    epoch: AtomicU64,
}

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl HostClock {
    /// A clock that goes, from `now` nanoseconds on (0 for a new machine).
    #[must_use]
    pub fn new(now: u64) -> Self {
        HostClock {
            shift: AtomicI64::new(monotonic().wrapping_sub(now) as i64),
            stopped_at: AtomicU64::new(u64::MAX),
            epoch: AtomicU64::new(wall().saturating_sub(now)),
        }
    }

    /// Makes it stand still.
    pub fn stop(&self) {
        let _ = self
            .stopped_at
            .compare_exchange(u64::MAX, self.now(), Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Lets it go on from where it stood; real time follows the host's.
    pub fn go(&self) {
        let at = self.stopped_at.load(Ordering::SeqCst);
        if at != u64::MAX {
            self.shift
                .store(monotonic().wrapping_sub(at) as i64, Ordering::SeqCst);
            self.epoch.store(wall().saturating_sub(at), Ordering::SeqCst);
            self.stopped_at.store(u64::MAX, Ordering::SeqCst);
        }
    }
}

impl Clock for HostClock {
    fn now(&self) -> u64 {
        match self.stopped_at.load(Ordering::Relaxed) {
            u64::MAX => monotonic().wrapping_sub(self.shift.load(Ordering::Relaxed) as u64),
            at => at,
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn is_host(&self) -> bool {
        true
    }
}

/// Time that goes with retired instructions: one nanosecond each. For machines that shall do the same thing every time.
pub struct CountingClock {
    now: AtomicU64,
    epoch: u64,
}

impl CountingClock {
    /// A clock at `now` nanoseconds, begun `epoch` nanoseconds after 1970.
    #[must_use]
    pub fn new(now: u64, epoch: u64) -> Self {
        CountingClock {
            now: AtomicU64::new(now),
            epoch,
        }
    }
}

impl Clock for CountingClock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_host(&self) -> bool {
        false
    }

    fn advance(&self, to: u64) {
        self.now.fetch_max(to, Ordering::Relaxed);
    }
}

/// Randomness of a machine.
pub trait Random: Send + Sync {
    /// Fills with random bytes.
    fn fill(&self, bytes: &mut [u8]);
    /// The generator's state, where it is one that can be repeated.
    fn save(&self) -> Option<u64> {
        None
    }
}

/// The host's generator.
pub struct HostRandom;

impl Random for HostRandom {
    fn fill(&self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
                Ok(done) => bytes = &mut bytes[done..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => unreachable!("the kernel's generator fails only when interrupted: {error}"),
            }
        }
    }
}

/// A generator that repeats itself (splitmix64 by Steele, Lea, Flood 2014). Never for secrets: for machines that shall do the same thing every time.
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// From a seed, or from a saved state.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        SeededRandom(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for piece in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            piece.copy_from_slice(&z.to_le_bytes()[..piece.len()]);
        }
    }

    fn save(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed))
    }
}

/// What a timer calls when its time has come; called without any lock of the timers held.
pub trait Expire: Send + Sync {
    /// The deadline that was armed has passed. `now` is the machine's clock.
    fn expire(&self, now: u64);
}

/// The timers of a machine's devices.
///
/// With the host's clock one thread sits in [`Timers::serve`]; with a counting clock whoever moves the clock calls [`Timers::fire`].
pub struct Timers {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// (deadline, timer), ascending. At equal deadlines the older timer comes first.
    armed: BTreeSet<(u64, usize)>,
    timers: Vec<(Option<u64>, Weak<dyn Expire>)>,
    ended: bool,
}

/// One timer of [`Timers`]; dropping it disarms it.
pub struct Timer {
    timers: Arc<Timers>,
    number: usize,
}

impl Timers {
    /// Timers on this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Timers {
            clock,
            table: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A new timer, not armed. The order in which timers are made decides who comes first at equal deadlines.
    #[must_use]
    pub fn timer(self: &Arc<Self>, target: Weak<dyn Expire>) -> Timer {
        let mut table = self.lock();
        table.timers.push((None, target));
        Timer {
            timers: Arc::clone(self),
            number: table.timers.len() - 1,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of this lock panics")
    }

    /// The nearest deadline.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.lock().armed.first().map(|(deadline, _)| *deadline)
    }

    /// Lets everything expire whose deadline has come.
    pub fn fire(&self) {
        loop {
            let now = self.clock.now();
            let target = {
                let mut table = self.lock();
                match table.armed.first() {
                    Some(&(deadline, number)) if deadline <= now => {
                        table.armed.pop_first();
                        table.timers[number].0 = None;
                        table.timers[number].1.clone()
                    }
                    _ => return,
                }
            };
            if let Some(target) = target.upgrade() {
                target.expire(now);
            }
        }
    }

    /// Waits for deadlines and lets them expire until [`Timers::end`]. For the timer thread of a machine on the host's clock.
    pub fn serve(&self) {
        loop {
            self.fire();
            let table = self.lock();
            if table.ended {
                return;
            }
            // A clock that stands still is looked at again when somebody says `changed`, or now and then.
            let wait = match table.armed.first() {
                Some((deadline, _)) => deadline.saturating_sub(self.clock.now()).max(1_000),
                None => 3600 * SECOND,
            };
            drop(self.changed.wait_timeout(table, Duration::from_nanos(wait)));
        }
    }

    /// Looks at the clock anew (it was stopped or set going).
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Ends [`Timers::serve`].
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

impl Timer {
    /// Sets the deadline in nanoseconds of the machine's clock, or takes it away.
    pub fn arm(&self, deadline: Option<u64>) {
        let mut table = self.timers.lock();
        if let Some(old) = std::mem::replace(&mut table.timers[self.number].0, deadline) {
            table.armed.remove(&(old, self.number));
        }
        if let Some(new) = deadline {
            table.armed.insert((new, self.number));
            if table.armed.first() == Some(&(new, self.number)) {
                self.timers.changed.notify_all();
            }
        }
    }

    /// The deadline, when armed.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.timers.lock().timers[self.number].0
    }

    /// The machine's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.timers.clock.now()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.arm(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Note(Mutex<Vec<(u8, u64)>>, u8);

    impl Expire for Note {
        fn expire(&self, now: u64) {
            self.0.lock().unwrap().push((self.1, now));
        }
    }

    #[test]
    fn timers_expire_in_order_when_the_clock_reaches_them() {
        let clock = Arc::new(CountingClock::new(0, 0));
        let timers = Timers::new(clock.clone());
        let [one, two] = [1, 2].map(|n| Arc::new(Note(Mutex::default(), n)));
        let downgrade = |note: &Arc<Note>| Arc::downgrade(&(Arc::clone(note) as Arc<dyn Expire>));
        let first = timers.timer(downgrade(&one));
        let second = timers.timer(downgrade(&two));
        first.arm(Some(10));
        second.arm(Some(5));
        first.arm(Some(20));
        assert_eq!(timers.next(), Some(5));
        clock.advance(7);
        timers.fire();
        assert_eq!(*two.0.lock().unwrap(), [(2, 7)]);
        assert!(one.0.lock().unwrap().is_empty());
        drop(first);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_stopped_host_clock_goes_on_from_where_it_stood() {
        let clock = HostClock::new(5 * SECOND);
        clock.stop();
        let stood = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(clock.now(), stood);
        clock.go();
        let gone = clock.now();
        assert!(gone >= stood && gone < stood + SECOND, "{stood} {gone}");
    }

    #[test]
    fn a_thread_serves_timers_on_the_hosts_clock() {
        let clock = Arc::new(HostClock::new(0));
        let timers = Timers::new(clock.clone());
        let note = Arc::new(Note(Mutex::default(), 1));
        let timer = timers.timer(Arc::downgrade(&(Arc::clone(&note) as Arc<dyn Expire>)));
        let thread = std::thread::spawn({
            let timers = timers.clone();
            move || timers.serve()
        });
        timer.arm(Some(clock.now() + 2_000_000));
        while note.0.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        timers.end();
        thread.join().unwrap();
    }

    #[test]
    fn seeded_randomness_repeats_from_a_saved_state() {
        let random = SeededRandom::new(42);
        let mut skipped = [0; 24];
        random.fill(&mut skipped);
        let again = SeededRandom::new(random.save().unwrap());
        let (mut a, mut b) = ([0; 13], [0; 13]);
        random.fill(&mut a);
        again.fill(&mut b);
        assert_eq!(a, b);
        assert_ne!(skipped[..13], a);
    }
}
