//! A queue in the hands of the worker that serves it.

use std::sync::{Arc, MutexGuard, PoisonError};

use guestmem::Block;

use super::queue::{Chain, Queue, Token};
use super::{Notify, SharedQueue};

/// Most requests done in one go, so that a pause finds a gap.
const BATCH: usize = 256;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Done; so many bytes were written into it.
    Used(u32),
    /// Taken over: somebody pushes it later.
    Taken,
    /// Not now: it stays in the queue, and so do those behind it.
    Later,
}

/// Why a batch ended.
enum Stop {
    Empty,
    Full,
    Later,
}

/// A queue, its number, and how to tell its driver.
pub struct Lane {
    queue: SharedQueue,
    number: u16,
    notify: Arc<dyn Notify>,
    chain: Chain,
    block: Block,
}

impl Lane {
    /// The lane of a queue.
    #[must_use]
    pub fn new(queue: SharedQueue, number: u16, notify: Arc<dyn Notify>) -> Self {
        let block = lock(&queue).block().clone();
        Lane {
            queue,
            number,
            notify,
            chain: Chain::default(),
            block,
        }
    }

    /// The memory that chains lie in.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// How to tell the driver something.
    #[must_use]
    pub fn notify(&self) -> &Arc<dyn Notify> {
        &self.notify
    }

    /// Whether a chain that was saved while under way can be one of this queue.
    #[must_use]
    pub fn knows(&self, chain: &Chain) -> bool {
        lock(&self.queue).knows(chain)
    }

    /// Hands requests to `serve`, which may keep the chain and leave another one, until there is none, or it says [`Step::Later`], or a batch is done. True when requests may be left
    /// that nobody will ring for. The driver is told after each request, for work that takes time.
    pub fn serve(&mut self, mut serve: impl FnMut(&mut Chain, &Block) -> Step) -> bool {
        self.serve_until(true, &mut serve)
    }

    /// As [`Lane::serve`], but the driver is told at the end only: for work that takes little time.
    pub fn serve_quickly(&mut self, mut serve: impl FnMut(&mut Chain, &Block) -> Step) -> bool {
        self.serve_until(false, &mut serve)
    }

    fn serve_until(&mut self, each: bool, serve: &mut dyn FnMut(&mut Chain, &Block) -> Step) -> bool {
        let mut queue = lock(&self.queue);
        let mut left = BATCH;
        let more = loop {
            queue.quiet();
            let stop = loop {
                if left == 0 {
                    break Stop::Full;
                }
                left -= 1;
                match queue.pop(&mut self.chain) {
                    Ok(true) => {}
                    Ok(false) => break Stop::Empty,
                    Err(why) => {
                        self.notify.broken(self.number, why);
                        return false;
                    }
                }
                let token = self.chain.token();
                match serve(&mut self.chain, &self.block) {
                    Step::Used(written) => {
                        queue.push(token, written);
                        if each && queue.wants_interrupt() {
                            self.notify.used(self.number);
                        }
                    }
                    Step::Taken => {}
                    Step::Later => {
                        queue.put_back(token);
                        break Stop::Later;
                    }
                }
            };
            match stop {
                Stop::Full => break true,
                Stop::Empty if queue.listen() => {}
                Stop::Empty => break false,
                Stop::Later => {
                    queue.listen();
                    break false;
                }
            }
        };
        if queue.wants_interrupt() {
            self.notify.used(self.number);
        }
        more
    }

    /// Takes one request; when there is none, asks the driver to ring for the next.
    pub fn take(&mut self, chain: &mut Chain) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            match queue.pop(chain) {
                Ok(true) => return true,
                Ok(false) if !queue.listen() => return false,
                Ok(false) => {}
                Err(why) => {
                    self.notify.broken(self.number, why);
                    return false;
                }
            }
        }
    }

    /// Tells the driver that it need not ring until [`Lane::take`] finds nothing.
    pub fn quiet(&mut self) {
        lock(&self.queue).quiet();
    }

    /// Gives back the request that was taken last.
    pub fn put_back(&mut self, token: Token) {
        lock(&self.queue).put_back(token);
    }

    /// Says that a request is used; [`Lane::signal`] tells the driver.
    pub fn push(&mut self, token: Token, written: u32) {
        lock(&self.queue).push(token, written);
    }

    /// Tells the driver of what was pushed, if it wants to know.
    pub fn signal(&mut self) {
        if lock(&self.queue).wants_interrupt() {
            self.notify.used(self.number);
        }
    }
}

fn lock(queue: &SharedQueue) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
