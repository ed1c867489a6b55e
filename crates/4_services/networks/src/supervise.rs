//! The thread that keeps networks as they should be while a daemon is there.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fault::Result;
use model::Name;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::manage::Inner;
use crate::process::Process;
use crate::upstream;

/// How often name servers and processes are looked after.
const TICK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How often packet filter, bridge and uplinks are looked after.
const ROUND: Duration = Duration::from_secs(15);

/// Starts the thread; it ends when the last owner of the networks is gone.
pub(crate) fn start(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    let thread = std::thread::Builder::new().name("networks".to_owned());
    // Without the thread nothing is lost but promptness: `ensure` heals as well.
    let _ = thread.spawn(move || watch(&weak));
}

fn watch(weak: &Weak<Inner>) {
    let mut stamp = upstream::stamp();
    let mut round = Instant::now();
    loop {
        let ends: Vec<OwnedFd> = match weak.upgrade() {
            None => return,
            Some(inner) => inner.end_fds(),
        };
        let mut fds: Vec<PollFd> = ends.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let died = poll(&mut fds, Some(&TICK)).unwrap_or(0) > 0;
        let Some(inner) = weak.upgrade() else { return };
        let now = upstream::stamp();
        if now != stamp {
            stamp = now;
            inner.tell_all();
        }
        let due = round.elapsed() > ROUND;
        if due {
            round = Instant::now();
        }
        // What fails is told by the next call that needs the network; here there is nobody to tell.
        if inner.heal(due).is_err() && died {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Inner {
    fn end_fds(&self) -> Vec<OwnedFd> {
        let state = self.lock();
        let processes = state
            .networks
            .values()
            .filter_map(|active| active.process.as_ref());
        processes.filter_map(|process| process.end_fd().ok()).collect()
    }

    fn tell_all(&self) {
        let mut state = self.lock();
        let names: Vec<Name> = state.networks.keys().cloned().collect();
        for name in names {
            let _ = self.tell(&mut state, &name);
        }
    }

    /// Restarts what died; with `all`, brings every network that is up into line.
    pub(crate) fn heal(&self, all: bool) -> Result<()> {
        let mut state = self.lock();
        let mut sick = Vec::new();
        for (name, active) in state.networks.iter_mut().filter(|(_, active)| active.wanted) {
            let alive = active.process.as_mut().is_some_and(Process::is_alive);
            if all || !alive {
                sick.push(name.clone());
            }
        }
        let mut first = Ok(());
        for name in sick {
            let done = self.ensure(&mut state, &name, None);
            first = first.and(done);
        }
        first
    }
}
