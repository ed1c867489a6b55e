//! Who serves one queue of a disk.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::Image;
use guestmem::Block;

use super::execute::{Executor, Kind, Method, Transfer, choose};
use super::request::{self, HEADER, IOERR, OK, Request, writable_data};
use crate::virtio::queue::Chain;
use crate::virtio::{Lane, Step, Trouble, Troubles};

/// Bytes carried in one go, so that a pause finds a gap.
const TURN: u64 = 32 << 20;

/// What the workers of a disk share.
pub(super) struct Disk {
    pub name: String,
    pub image: Arc<dyn Image>,
    pub serial: [u8; 20],
    /// Writes need not be durable before a flush.
    pub writeback: AtomicBool,
    pub troubles: Arc<dyn Troubles>,
}

/// The worker.
pub(super) struct Worker {
    pub lane: Option<Lane>,
    /// Requests that found the host's disk full.
    pub held: Vec<Chain>,
    /// Nothing is begun until the machine is resumed.
    pub stalled: bool,
    desk: Desk,
    more: bool,
}

/// What a request needs besides its queue.
struct Desk {
    disk: Arc<Disk>,
    executor: Box<dyn Executor>,
    #[expect(
        clippy::vec_box,
        reason = "the boxes themselves are kept, to be handed on again"
    )]
    boxes: Vec<Box<Transfer>>,
}

/// What came of beginning a request.
enum Begun {
    /// Done, with this status byte.
    Done(u8),
    /// The chain was taken; it ends later.
    UnderWay,
    /// The host's disk is full.
    Full,
}

impl Desk {
    /// The status of an outcome; none when the disk is full.
    fn status(&self, outcome: io::Result<()>) -> Option<u8> {
        let Err(error) = outcome else { return Some(OK) };
        let device = self.disk.name.clone();
        if disk::is_full(&error) {
            self.disk.troubles.tell(Trouble::DiskFull { device });
            return None;
        }
        let error = error.to_string();
        self.disk.troubles.tell(Trouble::DiskError { device, error });
        Some(IOERR)
    }

    fn settled(&self, outcome: io::Result<()>) -> Begun {
        self.status(outcome).map_or(Begun::Full, Begun::Done)
    }

    /// Begins a request. When the chain was taken, another one was left in its place.
    fn begin(&mut self, chain: &mut Chain, block: &Block) -> Begun {
        let image = &self.disk.image;
        let request = match request::parse(chain, block, image.size()) {
            Ok(request) => request,
            Err(status) => return Begun::Done(status),
        };
        let writes = matches!(
            request,
            Request::Write(..) | Request::Discard | Request::WriteZeroes
        );
        if writes && image.read_only() {
            return Begun::Done(IOERR);
        }
        let durable = !self.disk.writeback.load(Ordering::Relaxed);
        let (kind, skip, len, offset) = match request {
            Request::Read(_, 0) | Request::Write(_, 0) => return Begun::Done(OK),
            Request::Read(offset, len) => (Kind::Read, 0, len, offset),
            Request::Write(offset, len) => (Kind::Write { durable }, HEADER, len, offset),
            Request::Flush if image.read_only() => return Begun::Done(OK),
            Request::Flush => (Kind::Flush, 0, 0, 0),
            Request::GetId => {
                let mut writer = chain.writer(block);
                let len = writable_data(chain).min(20) as usize;
                writer.write(&self.disk.serial[..len]);
                return Begun::Done(OK);
            }
            Request::Discard => return self.ranges(chain, block, false, durable),
            Request::WriteZeroes => return self.ranges(chain, block, true, durable),
        };
        let mut transfer = self.boxes.pop().unwrap_or_default();
        (transfer.kind, transfer.skip) = (kind, skip);
        (transfer.len, transfer.offset) = (len, offset);
        std::mem::swap(&mut transfer.chain, chain);
        match self.executor.start(transfer, block) {
            None => Begun::UnderWay,
            Some((mut transfer, outcome)) => {
                std::mem::swap(&mut transfer.chain, chain);
                self.boxes.push(transfer);
                self.settled(outcome)
            }
        }
    }

    /// Discards ranges, or makes them zero.
    fn ranges(&self, chain: &Chain, block: &Block, zero: bool, durable: bool) -> Begun {
        let image = &self.disk.image;
        let ranges = match request::ranges(chain, block, image.size(), zero) {
            Ok(ranges) => ranges,
            Err(status) => return Begun::Done(status),
        };
        let all = || {
            for range in &ranges {
                if zero {
                    image.write_zeroes(range.offset, range.len, range.unmap)?;
                } else {
                    image.discard(range.offset, range.len)?;
                }
            }
            if durable { image.flush() } else { Ok(()) }
        };
        self.settled(all())
    }
}

/// Writes the status byte, the last one of the chain; tells how many bytes were written.
fn conclude(chain: &Chain, block: &Block, status: u8) -> u32 {
    let mut writer = chain.writer(block);
    writer.skip(writable_data(chain));
    writer.write(&[status]);
    writer.written()
}

impl Worker {
    pub(super) fn new(disk: Arc<Disk>, method: Method) -> io::Result<Self> {
        let executor = choose(&disk.image, method)?;
        Ok(Worker {
            lane: None,
            held: Vec::new(),
            stalled: false,
            desk: Desk {
                disk,
                executor,
                boxes: Vec::new(),
            },
            more: false,
        })
    }

    /// Forgets the queue; while paused.
    pub(super) fn stop(&mut self) {
        self.lane = None;
        self.held.clear();
        self.stalled = false;
        self.more = false;
    }

    /// Drops requests of a saved state that cannot be the queue's.
    pub(super) fn forget_foreign(&mut self) {
        let lane = self.lane.as_ref();
        self.held
            .retain(|chain| lane.is_some_and(|lane| lane.knows(chain)));
    }

    /// Requests that had found the disk full.
    fn again(&mut self, lane: &mut Lane) {
        let block = lane.block().clone();
        for mut chain in std::mem::take(&mut self.held) {
            if self.stalled || !self.desk.executor.has_room() {
                self.held.push(chain);
                continue;
            }
            let token = chain.token();
            match self.desk.begin(&mut chain, &block) {
                Begun::Done(status) => lane.push(token, conclude(&chain, &block, status)),
                Begun::UnderWay => {}
                Begun::Full => {
                    self.held.push(chain);
                    self.stalled = true;
                }
            }
        }
    }

    /// Takes notice of what has ended.
    fn finish(&mut self, lane: &mut Lane, wait: bool) {
        let block = lane.block().clone();
        while let Some((mut transfer, outcome)) = self.desk.executor.finish(wait, &block) {
            match self.desk.status(outcome) {
                Some(status) => {
                    let written = conclude(&transfer.chain, &block, status);
                    lane.push(transfer.chain.token(), written);
                }
                None => {
                    self.held.push(std::mem::take(&mut transfer.chain));
                    self.stalled = true;
                }
            }
            self.desk.boxes.push(transfer);
        }
    }
}

impl crate::work::Worker for Worker {
    fn work(&mut self) {
        let Some(mut lane) = self.lane.take() else { return };
        self.more = false;
        self.finish(&mut lane, false);
        if !self.stalled && !self.held.is_empty() {
            self.again(&mut lane);
        }
        if !self.stalled && self.held.is_empty() {
            let (desk, held, stalled) = (&mut self.desk, &mut self.held, &mut self.stalled);
            let (mut turn, mut tired) = (TURN, false);
            self.more = lane.serve(|chain, block| {
                if *stalled || !desk.executor.has_room() {
                    return Step::Later;
                }
                if turn == 0 {
                    tired = true;
                    return Step::Later;
                }
                turn = turn.saturating_sub(chain.readable_len() + chain.writable_len());
                match desk.begin(chain, block) {
                    Begun::Done(status) => Step::Used(conclude(chain, block, status)),
                    Begun::UnderWay => Step::Taken,
                    Begun::Full => {
                        held.push(std::mem::take(chain));
                        *stalled = true;
                        Step::Taken
                    }
                }
            });
            self.more |= tired;
        }
        self.desk.executor.submit();
        lane.signal();
        self.lane = Some(lane);
    }

    fn wakers(&self) -> Vec<BorrowedFd<'_>> {
        self.desk.executor.waker().into_iter().collect()
    }

    fn has_more(&self) -> bool {
        self.more
    }

    fn settle(&mut self) {
        if let Some(mut lane) = self.lane.take() {
            self.finish(&mut lane, true);
            lane.signal();
            self.lane = Some(lane);
        }
    }
}
