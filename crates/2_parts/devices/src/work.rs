//! Who does a device's work: threads of their own, or, in a machine whose clock counts instructions, the processor's thread at
//! a fixed count after the doorbell rang.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use vcpu::time::{Expire, Timer, Timers};

/// Nanoseconds of a counting clock between the ring of a doorbell and the work.
const DELAY: u64 = 20_000;

/// What a device has to do when its doorbell has rung or one of its descriptors is ready.
pub trait Worker: Send {
    /// Does what there is, without waiting for the guest.
    fn work(&mut self);

    /// Descriptors besides the doorbell whose readiness (to read) wakes the work: a tap, completions of a ring. Asked before every wait.
    fn wakers(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Descriptors that work waits to write to. Asked before every wait.
    fn blocked(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Whether [`Worker::work`] stopped before everything was done, to let a pause in between: it is then called again without a ring.
    fn has_more(&self) -> bool {
        false
    }

    /// Waits for what is under way outside of [`Worker::work`]; called before the worker stands still.
    fn settle(&mut self) {}
}

/// How work is done in a machine; all its devices hire from the same crew.
#[derive(Clone)]
pub struct Crew(Kind);

#[derive(Clone)]
enum Kind {
    Threads { enter: Arc<dyn Fn(&str) + Send + Sync> },
    Counting { timers: Arc<Timers> },
}

impl Crew {
    /// Threads of their own; each calls `enter` with its name first (to confine itself).
    #[must_use]
    pub fn threads(enter: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Crew(Kind::Threads { enter })
    }

    /// No threads: work is done when the timers fire.
    #[must_use]
    pub fn counting(timers: Arc<Timers>) -> Self {
        Crew(Kind::Counting { timers })
    }

    /// Whether work happens at exact counts of instructions.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        matches!(self.0, Kind::Counting { .. })
    }

    /// Gives a worker a doorbell and somebody to do its work. The job begins paused.
    ///
    /// # Errors
    /// When the host refuses a descriptor or a thread.
    pub fn hire<W: Worker + 'static>(&self, name: &str, worker: W) -> io::Result<Job<W>> {
        let shared = Arc::new(Post {
            worker: Mutex::new(worker),
            bell: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            gate: Mutex::new(Gate {
                paused: true,
                idle: true,
                ended: false,
            }),
            moved: Condvar::new(),
            timer: Mutex::new(None),
            rung: AtomicBool::new(false),
        });
        let mut thread = None;
        match &self.0 {
            Kind::Threads { enter } => {
                let (post, enter, name) = (Arc::clone(&shared), Arc::clone(enter), name.to_owned());
                let build = std::thread::Builder::new().name(name.chars().take(15).collect());
                thread = Some(build.spawn(move || {
                    enter(&name);
                    post.serve();
                })?);
            }
            Kind::Counting { timers } => {
                let target: Arc<dyn Expire> = shared.clone();
                *lock(&shared.timer) = Some(timers.timer(Arc::downgrade(&target)));
            }
        }
        Ok(Job { post: shared, thread })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Gate {
    paused: bool,
    /// The thread waits at the gate, or there is none.
    idle: bool,
    ended: bool,
}

struct Post<W> {
    worker: Mutex<W>,
    bell: OwnedFd,
    gate: Mutex<Gate>,
    moved: Condvar,
    timer: Mutex<Option<Timer>>,
    /// Counting: rung while paused.
    rung: AtomicBool,
}

impl<W: Worker> Post<W> {
    /// The thread: wait at the gate, work, wait for the doorbell.
    fn serve(&self) {
        loop {
            let mut gate = lock(&self.gate);
            while gate.paused && !gate.ended {
                if !gate.idle {
                    drop(gate);
                    lock(&self.worker).settle();
                    gate = lock(&self.gate);
                    gate.idle = true;
                    continue;
                }
                self.moved.notify_all();
                gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            if gate.ended {
                return;
            }
            gate.idle = false;
            drop(gate);
            let mut worker = lock(&self.worker);
            worker.work();
            if worker.has_more() {
                continue;
            }
            let wakers = worker.wakers().into_iter().map(|fd| (fd, PollFlags::IN));
            let blocked = worker.blocked().into_iter().map(|fd| (fd, PollFlags::OUT));
            let mut ready: Vec<_> = wakers
                .chain(blocked)
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
                .collect();
            ready.push(PollFd::new(&self.bell, PollFlags::IN));
            // Errors other than an interruption cannot be: the descriptors are ours and open.
            let _ = rustix::event::poll(&mut ready, None);
            self.silence();
        }
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    fn ring(&self) {
        match &*lock(&self.timer) {
            Some(_) if lock(&self.gate).paused => self.rung.store(true, Ordering::SeqCst),
            Some(timer) => {
                if timer.deadline().is_none() {
                    timer.arm(Some(timer.now() + DELAY));
                }
            }
            None => {
                let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
            }
        }
    }
}

impl<W: Worker> Expire for Post<W> {
    fn expire(&self, _now: u64) {
        if lock(&self.gate).paused {
            self.rung.store(true, Ordering::SeqCst);
        } else {
            let mut worker = lock(&self.worker);
            worker.work();
            if worker.has_more() {
                drop(worker);
                self.ring();
            }
        }
    }
}

/// What wakes a worker from elsewhere: other workers, or the host's side of a device. It keeps nobody alive.
#[derive(Clone)]
pub struct Bell(Weak<dyn Ring + Send + Sync>);

trait Ring {
    fn ring(&self);
}

impl<W: Worker> Ring for Post<W> {
    fn ring(&self) {
        Post::ring(self);
    }
}

impl Bell {
    /// Wakes the worker, if it is still there.
    pub fn ring(&self) {
        if let Some(post) = self.0.upgrade() {
            post.ring();
        }
    }
}

/// A hired worker. Dropping the job ends the work and the thread.
pub struct Job<W: Worker> {
    post: Arc<Post<W>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Worker> Job<W> {
    /// Wakes the worker.
    pub fn ring(&self) {
        self.post.ring();
    }

    /// What others can wake it with.
    #[must_use]
    pub fn bell(&self) -> Bell
    where
        W: 'static,
    {
        let post: Arc<dyn Ring + Send + Sync> = self.post.clone();
        Bell(Arc::downgrade(&post))
    }

    /// The event descriptor of the doorbell, for [`vcpu::Vm::doorbell`]; none when work is done at exact counts.
    #[must_use]
    pub fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.thread.as_ref().map(|_| self.post.bell.as_fd())
    }

    /// Returns when the worker stands still.
    pub fn pause(&self) {
        let mut gate = lock(&self.post.gate);
        gate.paused = true;
        let _ = rustix::io::write(&self.post.bell, &1u64.to_ne_bytes());
        while self.thread.is_some() && !gate.idle {
            gate = self.post.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        drop(gate);
        if self.thread.is_none() {
            lock(&self.post.worker).settle();
        }
        // A deadline that is armed is told by `is_rung`, and armed anew by `resume`.
        if let Some(timer) = &*lock(&self.post.timer)
            && timer.deadline().is_some()
        {
            self.post.rung.store(true, Ordering::SeqCst);
        }
    }

    /// Lets the worker go on; it looks for work once.
    pub fn resume(&self) {
        lock(&self.post.gate).paused = false;
        self.post.moved.notify_all();
        if self.post.rung.swap(false, Ordering::SeqCst) {
            self.post.ring();
        }
    }

    /// Counting: the deadline at which work waits, to be saved; and [`Job::set_deadline`] to put it back before [`Job::resume`].
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        lock(&self.post.timer).as_ref().and_then(Timer::deadline)
    }

    /// Counting: puts back a saved deadline.
    pub fn set_deadline(&self, deadline: Option<u64>) {
        if let Some(timer) = &*lock(&self.post.timer) {
            timer.arm(deadline);
        }
        self.post.rung.store(false, Ordering::SeqCst);
    }

    /// The worker itself. Only while paused: a working thread holds this lock while it waits.
    pub fn worker(&self) -> std::sync::MutexGuard<'_, W> {
        lock(&self.post.worker)
    }
}

impl<W: Worker> Drop for Job<W> {
    fn drop(&mut self) {
        lock(&self.post.gate).ended = true;
        self.post.moved.notify_all();
        let _ = rustix::io::write(&self.post.bell, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use vcpu::time::{Clock, CountingClock};

    struct Count(Arc<AtomicU32>);

    impl Worker for Count {
        fn work(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_thread_works_when_the_doorbell_rings_and_stands_still_while_paused() {
        let count = Arc::new(AtomicU32::new(0));
        let job = Crew::threads(Arc::new(|_| {}))
            .hire("test", Count(count.clone()))
            .unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        job.resume();
        while count.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        job.pause();
        let stood = count.load(Ordering::SeqCst);
        job.ring();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(count.load(Ordering::SeqCst), stood);
        job.resume();
        while count.load(Ordering::SeqCst) == stood {
            std::thread::yield_now();
        }
    }

    #[test]
    fn without_threads_work_is_done_at_an_exact_count() {
        let clock = Arc::new(CountingClock::new(0, 0));
        let timers = Timers::new(clock.clone());
        let count = Arc::new(AtomicU32::new(0));
        let job = Crew::counting(timers.clone())
            .hire("test", Count(count.clone()))
            .unwrap();
        job.ring();
        job.resume();
        clock.advance(100);
        timers.fire();
        assert_eq!((count.load(Ordering::SeqCst), timers.next()), (0, Some(DELAY)));
        clock.advance(DELAY);
        timers.fire();
        assert_eq!((count.load(Ordering::SeqCst), timers.next()), (1, None));
    }
}
