//! Listening to all shims: one thread polls their connections, another does what follows.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

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
    /// Starts the two threads; `follow` is called for everything heard, in order, and may block.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn start(follow: impl Fn(&Id, Heard) + Send + 'static) -> Result<Self> {
        let fault = || Fault::new(crate::codes::STATE_BROKEN).arg("path", "eventfd");
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).or_fault(fault)?;
        let woken = wake.try_clone().or_fault(fault)?;
        let (orders, ordered) = channel();
        let (tell, told) = channel::<(Id, Heard)>();
        std::thread::Builder::new()
            .name("shims".to_owned())
            .spawn(move || listen(&ordered, &woken, &tell))
            .or_fault(fault)?;
        std::thread::Builder::new()
            .name("heard".to_owned())
            .spawn(move || {
                while let Ok((id, heard)) = told.recv() {
                    follow(&id, heard);
                }
            })
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

fn listen(orders: &Receiver<Order>, wake: &OwnedFd, tell: &Sender<(Id, Heard)>) {
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
                        let _ = tell.send((id.clone(), Heard::Told(told)));
                    }
                }
                Err(_) => {
                    streams.remove(&id);
                    let _ = tell.send((id, Heard::Gone));
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
