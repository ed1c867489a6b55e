//! The processors' threads: run, stand still, end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use fault::{Code, Fault, OrFault, Result};
use vcpu::time::{Clock, Timers};
use vcpu::{CpuState, Halt, Io, Kick, Vcpu};

/// A thread of the machine could not be made.
pub const NO_THREAD: Code = Code("MAC001");

/// What processors tell the machine.
pub trait Watch: Send + Sync {
    /// A triple fault: the machine resets.
    fn triple_fault(&self, processor: usize);
    /// A processor cannot go on.
    fn broken(&self, processor: usize, fault: Fault);
    /// [`Vcpu::stop_at`] was reached; the machine stands still.
    fn reached(&self) {}
}

/// All processors of a machine.
pub struct Cpus {
    shared: Arc<Shared>,
    cpus: Vec<Cpu>,
}

struct Cpu {
    vcpu: Arc<Mutex<Box<dyn Vcpu>>>,
    kick: Arc<dyn Kick>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    io: Arc<dyn Io + Send + Sync>,
    watch: Arc<dyn Watch>,
    timers: Arc<Timers>,
    gate: Mutex<Gate>,
    moved: Condvar,
    ended: AtomicBool,
}

struct Gate {
    paused: bool,
    /// Processors that are not running guest code.
    still: usize,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cpus {
    /// A thread for each processor; they stand still until [`Cpus::resume`]. Each thread calls `enter` first.
    ///
    /// # Errors
    /// `MAC001` when the host refuses a thread.
    pub fn new(
        vcpus: Vec<Box<dyn Vcpu>>,
        io: Arc<dyn Io + Send + Sync>,
        watch: Arc<dyn Watch>,
        timers: Arc<Timers>,
        enter: &Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Cpus> {
        let shared = Arc::new(Shared {
            io,
            watch,
            timers,
            gate: Mutex::new(Gate {
                paused: true,
                still: vcpus.len(),
            }),
            moved: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let mut all = Cpus {
            shared: Arc::clone(&shared),
            cpus: Vec::new(),
        };
        for (number, vcpu) in vcpus.into_iter().enumerate() {
            let kick = vcpu.kick();
            let vcpu = Arc::new(Mutex::new(vcpu));
            let (shared, mine, enter) = (Arc::clone(&shared), Arc::clone(&vcpu), Arc::clone(enter));
            let name = format!("cpu{number}");
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || {
                    enter(&name);
                    shared.serve(number, &mine);
                })
                .or_fault(|| Fault::new(NO_THREAD).arg("thread", format!("cpu{number}")))?;
            all.cpus.push(Cpu {
                vcpu,
                kick,
                thread: Some(thread),
            });
        }
        Ok(all)
    }

    /// Lets the processors run.
    pub fn resume(&self) {
        lock(&self.shared.gate).paused = false;
        self.shared.moved.notify_all();
    }

    /// Returns when no processor runs guest code.
    pub fn pause(&self) {
        let mut gate = lock(&self.shared.gate);
        gate.paused = true;
        for cpu in &self.cpus {
            cpu.kick.kick();
        }
        self.shared.moved.notify_all();
        while gate.still < self.cpus.len() {
            gate = self
                .shared
                .moved
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns when the machine has stopped by itself ([`Watch::reached`]).
    pub fn wait_still(&self) {
        let mut gate = lock(&self.shared.gate);
        while gate.still < self.cpus.len() {
            gate = self
                .shared
                .moved
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks at the deadlines anew: something besides the guest has armed a timer.
    pub fn nudge(&self) {
        self.shared.moved.notify_all();
        for cpu in &self.cpus {
            cpu.kick.kick();
        }
    }

    /// Whether no processor runs guest code now.
    #[must_use]
    pub fn are_still(&self) -> bool {
        lock(&self.shared.gate).still == self.cpus.len()
    }

    /// Number of processors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.cpus.len()
    }

    /// One processor, while all stand still.
    #[must_use]
    pub fn processor(&self, number: usize) -> Option<MutexGuard<'_, Box<dyn Vcpu>>> {
        self.cpus.get(number).map(|cpu| lock(&cpu.vcpu))
    }

    /// The states of all, while they stand still.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn save(&self) -> Result<Vec<CpuState>> {
        self.cpus.iter().map(|cpu| lock(&cpu.vcpu).save()).collect()
    }
}

impl Drop for Cpus {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.pause();
        self.shared.moved.notify_all();
        for cpu in &mut self.cpus {
            if let Some(thread) = cpu.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn serve(&self, number: usize, vcpu: &Mutex<Box<dyn Vcpu>>) {
        // The processor counts as still until it passes the gate for the first time.
        while self.pass() {
            let ran = lock(vcpu).run(&*self.io);
            let goes_on = match ran {
                Ok(Halt::Kicked) => true,
                Ok(Halt::TripleFault) => {
                    self.watch.triple_fault(number);
                    false
                }
                Ok(Halt::Idle { until }) => {
                    self.idle(until);
                    true
                }
                Ok(Halt::Reached) => {
                    lock(&self.gate).paused = true;
                    self.watch.reached();
                    true
                }
                Err(fault) => {
                    self.watch.broken(number, fault);
                    false
                }
            };
            let mut gate = lock(&self.gate);
            gate.still += 1;
            if !goes_on {
                // A guest without this processor makes no sense; what follows is decided by the machine.
                gate.paused = true;
            }
            drop(gate);
            self.moved.notify_all();
        }
    }

    /// Waits at the gate; false when the machine has ended.
    fn pass(&self) -> bool {
        let mut gate = lock(&self.gate);
        while gate.paused && !self.ended.load(Ordering::SeqCst) {
            gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        if self.ended.load(Ordering::SeqCst) {
            return false;
        }
        gate.still -= 1;
        true
    }

    /// A processor halts, and time goes with instructions: time goes on to the next deadline; without one, only something from outside
    /// can go on.
    fn idle(&self, until: Option<u64>) {
        let clock: &Arc<dyn Clock> = self.timers.clock();
        match [until, self.timers.next()].into_iter().flatten().min() {
            Some(next) => {
                clock.advance(next);
                self.timers.fire();
            }
            None => {
                let gate = lock(&self.gate);
                if !gate.paused && self.timers.next().is_none() {
                    let wait = std::time::Duration::from_millis(50);
                    drop(self.moved.wait_timeout(gate, wait));
                }
            }
        }
    }
}
