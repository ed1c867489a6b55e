//! Listening to all shims: one thread polls their connections, a few others do what follows.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use engine::protocol::Told;
use engine::shim::{Events, Shim};
use fault::{Fault, OrFault, Result};
use model::Id;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// What was heard of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its shim told something.
    Told(Told),
    /// Its shim closed the connection.
    Gone,
}

/// Threads that do what follows; the news of one guest are always one thread's, and so in order.
const FOLLOWERS: usize = 4;

enum Order {
    Listen(Id, Box<Events>),
    Forget(Id),
}

/// The handle of the listening thread.
pub struct Watch {
    orders: Mutex<Sender<Order>>,
    wake: OwnedFd,
}

impl Watch {
    /// Starts the threads; `follow` is called for everything heard, for each guest in order, and may block.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn start(follow: impl Fn(&Id, Heard) + Send + Sync + 'static) -> Result<Self> {
        let fault = || Fault::new(crate::codes::STATE_BROKEN).arg("path", "eventfd");
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).or_fault(fault)?;
        let woken = wake.try_clone().or_fault(fault)?;
        let (orders, ordered) = channel();
        let follow = Arc::new(follow);
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            let (tell, told) = channel::<(Id, Heard)>();
            let follow = Arc::clone(&follow);
            std::thread::Builder::new()
                .name("heard".to_owned())
                .spawn(move || {
                    while let Ok((id, heard)) = told.recv() {
                        follow(&id, heard);
                    }
                })
                .or_fault(fault)?;
            followers.push(tell);
        }
        std::thread::Builder::new()
            .name("shims".to_owned())
            .spawn(move || listen(&ordered, &woken, &followers))
            .or_fault(fault)?;
        Ok(Watch {
            orders: Mutex::new(orders),
            wake,
        })
    }

    /// Listens to a guest's shim from now on, instead of the connection it may have listened on before.
    ///
    /// # Errors
    /// `SHM001` when no shim answers.
    pub fn subscribe(&self, id: &Id, run_dir: &Path) -> Result<()> {
        let events = Shim::connect(run_dir)?.subscribe()?;
        self.order(Order::Listen(id.clone(), Box::new(events)));
        Ok(())
    }

    /// Listens no more.
    pub fn forget(&self, id: &Id) {
        self.order(Order::Forget(id.clone()));
    }

    fn order(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread ends only with the process.
        let _ = orders.send(order);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

fn listen(orders: &Receiver<Order>, wake: &OwnedFd, followers: &[Sender<(Id, Heard)>]) {
    let tell = |id: Id, heard: Heard| {
        let sum = id.0.bytes().fold(0, |sum: usize, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        // A thread that is gone is a defect of ours that its panic has told.
        let _ = followers[sum % followers.len()].send((id, heard));
    };
    let mut streams: HashMap<Id, Events> = HashMap::new();
    loop {
        loop {
            match orders.try_recv() {
                Ok(Order::Listen(id, events)) => {
                    streams.insert(id, *events);
                }
                Ok(Order::Forget(id)) => {
                    streams.remove(&id);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
        // Events that came with the answer to the subscription wait in memory, not on the socket: read before polling.
        let ids: Vec<Id> = streams.keys().cloned().collect();
        for id in ids {
            let Some(events) = streams.get_mut(&id) else {
                continue;
            };
            match events.ready() {
                Ok(told) => {
                    for told in told {
                        tell(id.clone(), Heard::Told(told));
                    }
                }
                Err(_) => {
                    streams.remove(&id);
                    tell(id, Heard::Gone);
                }
            }
        }
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        fds.extend(
            streams
                .values()
                .map(|events| PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)),
        );
        // An interrupted poll is a poll that woke early.
        let _ = poll(&mut fds, None);
        drop(fds);
        let mut count = [0; 8];
        let _ = rustix::io::read(wake, &mut count);
    }
}
