//! What a tiny guest reaches outside of itself: everything is written down, and tests hang actions on ports.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use vcpu::{Io, Vm};

/// A write to this port ends the run.
pub const STOP: u16 = 0xf4;

/// One thing that a guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// OUT.
    Out(u16, Vec<u8>),
    /// IN, of so many bytes.
    In(u16, usize),
    /// A write where there is no writable memory.
    Write(u64, Vec<u8>),
    /// A read where there is no memory.
    Read(u64, usize),
    /// The 8259's interrupt was taken.
    Acknowledged,
    /// A level-triggered interrupt ended.
    Ended(u8),
}

type Action = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// The outside.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    answers: Mutex<BTreeMap<u64, Vec<u8>>>,
    actions: Mutex<BTreeMap<u16, Action>>,
    /// Vectors that the 8259 has waiting.
    waiting: Mutex<Vec<u8>>,
    stop: AtomicBool,
    vm: OnceLock<Weak<dyn Vm>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Recorder {
    pub(crate) fn attach(&self, vm: &Arc<dyn Vm>) {
        let _ = self.vm.set(Arc::downgrade(vm));
    }

    fn note(&self, event: Event) {
        lock(&self.events).push(event);
    }

    /// What has happened since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// What a port or an address of MMIO answers: ports lie below 0x10000.
    pub fn answer(&self, at: u64, bytes: &[u8]) {
        lock(&self.answers).insert(at, bytes.to_vec());
    }

    /// What happens when the guest writes to a port.
    pub fn on(&self, port: u16, action: impl Fn(&[u8]) + Send + Sync + 'static) {
        lock(&self.actions).insert(port, Arc::new(action));
    }

    /// Lets the 8259 ask for an interrupt.
    pub fn external(&self, vector: u8) {
        lock(&self.waiting).push(vector);
        self.wire();
    }

    fn wire(&self) {
        let vm = self.vm.get().and_then(Weak::upgrade).expect("the machine lives");
        let raised = !lock(&self.waiting).is_empty();
        vm.external(raised).expect("the wire moves");
    }

    /// Forgets that the guest wanted to stop.
    pub fn go_on(&self) {
        self.stop.store(false, Ordering::SeqCst);
    }

    /// Whether the guest has written to [`STOP`].
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn fill(&self, at: u64, data: &mut [u8]) {
        match lock(&self.answers).get(&at) {
            Some(bytes) => {
                for (to, from) in data.iter_mut().zip(bytes) {
                    *to = *from;
                }
            }
            None => data.fill(0xff),
        }
    }
}

impl Io for Recorder {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.note(Event::In(port, data.len()));
        self.fill(port.into(), data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        self.note(Event::Out(port, data.to_vec()));
        let action = lock(&self.actions).get(&port).cloned();
        if let Some(action) = action {
            action(data);
        }
        if port == STOP {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.note(Event::Read(address, data.len()));
        self.fill(address, data);
    }

    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.note(Event::Write(address, data.to_vec()));
    }

    fn acknowledge(&self) -> u8 {
        self.note(Event::Acknowledged);
        let vector = {
            let mut waiting = lock(&self.waiting);
            assert!(!waiting.is_empty(), "an acknowledgement without a raised wire");
            waiting.remove(0)
        };
        self.wire();
        vector
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.note(Event::Ended(vector));
    }

    fn stopping(&self) -> bool {
        self.stopped()
    }
}
