//! What happens to a machine: told by devices and processors from any thread, heard by the thread that owns it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::chipset::Signals;
use devices::virtio::{Trouble, Troubles};
use fault::{Fault, OrFault, Result};
use rustix::event::EventfdFlags;

use crate::control::{End, Event};
use crate::cpus::{NO_THREAD, Watch};

/// Events kept for an owner that does not listen; later ones are lost.
const MOST: usize = 64;

/// Where news of the machine goes.
pub struct Life {
    news: Mutex<News>,
    bell: OwnedFd,
    stopping: AtomicBool,
}

#[derive(Default)]
struct News {
    end: Option<End>,
    events: VecDeque<Event>,
    broken: Option<Fault>,
    reached: bool,
    up: bool,
}

impl Life {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> Result<Life> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell =
            rustix::event::eventfd(0, flags).or_fault(|| Fault::new(NO_THREAD).arg("thread", "main"))?;
        Ok(Life {
            news: Mutex::default(),
            bell,
            stopping: AtomicBool::new(false),
        })
    }

    fn tell(&self, note: impl FnOnce(&mut News)) {
        note(&mut self.lock());
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        self.stopping.store(true, Ordering::SeqCst);
        self.tell(|news| {
            news.end.get_or_insert(end);
        });
    }

    fn event(&self, event: Event) {
        self.tell(|news| {
            if news.events.len() < MOST {
                news.events.push_back(event);
            }
        });
    }

    /// The guest's system is up; told once.
    pub fn up(&self) {
        if !std::mem::replace(&mut self.lock().up, true) {
            self.event(Event::Up);
        }
    }

    /// Whether processors shall stop at their next access, because the machine has ended.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Takes what has happened since the last call: the end, if it came, and events.
    pub fn take(&self) -> (Option<End>, Vec<Event>) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let mut news = self.lock();
        (news.end, news.events.drain(..).collect())
    }

    /// Why a processor could not go on, if one could not.
    #[must_use]
    pub fn broken(&self) -> Option<Fault> {
        self.lock().broken.clone()
    }

    /// Takes the news that [`vcpu::Vcpu::stop_at`] was reached.
    pub fn take_reached(&self) -> bool {
        std::mem::take(&mut self.lock().reached)
    }
}

impl AsFd for Life {
    /// Readable when something has happened.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Signals for Life {
    fn reset(&self) {
        self.end(End::Reset);
    }

    fn power_off(&self) {
        self.end(End::PowerOff);
    }

    fn panicked(&self, loaded: bool) {
        self.event(Event::Panicked);
        if !loaded {
            self.end(End::Panic);
        }
    }
}

impl Watch for Life {
    fn triple_fault(&self, _processor: usize) {
        self.end(End::TripleFault);
    }

    fn broken(&self, _processor: usize, fault: Fault) {
        self.lock().broken = Some(fault);
        self.end(End::Broken);
    }

    fn reached(&self) {
        self.tell(|news| news.reached = true);
    }
}

impl Troubles for Life {
    fn tell(&self, trouble: Trouble) {
        self.event(match trouble {
            Trouble::DiskFull { device } => Event::DiskFull { disk: device },
            Trouble::DiskError { device, error } => Event::DiskError { disk: device, error },
        });
    }
}
