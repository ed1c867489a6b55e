//! Who takes pages from the guest, and its statistics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use guestmem::{Block, Memory};

use super::{PAGE, Shared, Stats};
use crate::virtio::queue::{Chain, Reader};
use crate::virtio::{Lane, Step};

/// Most page numbers taken from one request; Linux sends 256.
const MOST_PAGES: usize = 1 << 16;
/// Most statistics taken from one request.
const MOST_STATS: usize = 64;

/// The worker.
pub(super) struct Worker {
    pub inflate: Option<Lane>,
    pub deflate: Option<Lane>,
    pub stats: Option<Lane>,
    pub reporting: Option<Lane>,
    /// The request that statistics come in.
    pub kept: Option<Chain>,
    shared: Arc<Shared>,
    pages: Vec<u32>,
    more: bool,
}

/// Gives the memory of pages back, whose numbers the guest has sent.
fn inflate(reader: &mut Reader<'_>, pages: &mut Vec<u32>, block: &Block) {
    pages.clear();
    while pages.len() < MOST_PAGES
        && let Some(bytes) = reader.array()
    {
        pages.push(u32::from_le_bytes(bytes));
    }
    pages.sort_unstable();
    pages.dedup();
    let memory = Memory::on(block.clone());
    // Runs of pages are given back at once.
    for run in pages.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let start = u64::from(run[0]) * PAGE;
        if memory.discard(start, run.len() as u64 * PAGE).is_err() {
            // Some of it is no RAM: page by page.
            for page in run {
                let _ = memory.discard(u64::from(*page) * PAGE, PAGE);
            }
        }
    }
}

/// Statistics: tags and values (section 5.5.6.4).
fn read_stats(reader: &mut Reader<'_>) -> Stats {
    let mut stats = Stats::default();
    for _ in 0..MOST_STATS {
        let Some(bytes) = reader.array::<10>() else { break };
        let [tag0, tag1, value @ ..] = bytes;
        let field = match u16::from_le_bytes([tag0, tag1]) {
            0 => &mut stats.swap_in,
            1 => &mut stats.swap_out,
            2 => &mut stats.major_faults,
            3 => &mut stats.minor_faults,
            4 => &mut stats.free,
            5 => &mut stats.total,
            6 => &mut stats.available,
            7 => &mut stats.caches,
            _ => continue,
        };
        *field = Some(u64::from_le_bytes(value));
    }
    stats
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Worker {
            inflate: None,
            deflate: None,
            stats: None,
            reporting: None,
            kept: None,
            shared,
            pages: Vec::new(),
            more: false,
        }
    }

    /// Forgets the queues; while paused.
    pub(super) fn stop(&mut self) {
        (self.inflate, self.deflate) = (None, None);
        (self.stats, self.reporting) = (None, None);
        self.kept = None;
        self.more = false;
    }

    /// Keeps a saved request, if it can be one of the queue.
    pub(super) fn keep(&mut self, chain: Option<Chain>) {
        let lane = self.stats.as_ref();
        self.kept = chain.filter(|chain| lane.is_some_and(|lane| lane.knows(chain)));
    }

    fn take_stats(&mut self) {
        let Some(lane) = &mut self.stats else { return };
        if self.shared.asked.load(Ordering::SeqCst)
            && let Some(kept) = self.kept.take()
        {
            self.shared.asked.store(false, Ordering::SeqCst);
            lane.push(kept.token(), 0);
            lane.signal();
        }
        let (kept, shared) = (&mut self.kept, &self.shared);
        self.more |= lane.serve(|chain, block| {
            *shared.stats() = read_stats(&mut chain.reader(block));
            // A driver keeps one request here; one that sends more gets the others back.
            match kept {
                Some(_) => Step::Used(0),
                None => {
                    *kept = Some(std::mem::take(chain));
                    Step::Taken
                }
            }
        });
    }
}

impl crate::work::Worker for Worker {
    fn work(&mut self) {
        self.more = false;
        if let Some(lane) = &mut self.inflate {
            let pages = &mut self.pages;
            self.more |= lane.serve(|chain, block| {
                inflate(&mut chain.reader(block), pages, block);
                Step::Used(0)
            });
        }
        if let Some(lane) = &mut self.deflate {
            // Pages that are used again come back as zeros by themselves.
            self.more |= lane.serve(|_, _| Step::Used(0));
        }
        if let Some(lane) = &mut self.reporting {
            self.more |= lane.serve(|chain, block| {
                // Nobody has more free pages than pages.
                let mut left = block.len();
                for segment in chain.writable() {
                    let len = u64::from(segment.len).min(left);
                    left -= len;
                    // What the host does not take back stays the guest's.
                    let _ = block.discard(segment.offset, len);
                }
                Step::Used(0)
            });
        }
        self.take_stats();
    }

    fn has_more(&self) -> bool {
        self.more
    }
}
