//! What is known of each page: written since the last look (dirty), or holding code that a processor has decoded.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Bytes in a page.
pub const PAGE: u64 = 4096;

const DIRTY: u8 = 1;
const CODE: u8 = 2;

/// Marks of the pages of one block.
pub(crate) struct Pages {
    marks: Box<[AtomicU8]>,
    /// Pages with decoded code that somebody other than their processor has written.
    rewritten: Mutex<Vec<u32>>,
    any_rewritten: AtomicBool,
}

/// A bitmap of dirty pages: bit `n % 64` of word `n / 64` is page `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtyPages(pub Vec<u64>);

impl DirtyPages {
    /// The numbers of the dirty pages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| word as u64 * 64 + bit)
        })
    }

    /// Adds the pages of another bitmap of the same block.
    pub fn merge(&mut self, other: &DirtyPages) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

impl Pages {
    pub(crate) fn new(len: u64) -> Self {
        let count = usize::try_from(len.div_ceil(PAGE)).expect("a block fits the address space");
        Pages {
            marks: (0..count).map(|_| AtomicU8::new(0)).collect(),
            rewritten: Mutex::new(Vec::new()),
            any_rewritten: AtomicBool::new(false),
        }
    }

    fn range(offset: u64, len: u64) -> std::ops::Range<usize> {
        if len == 0 {
            return 0..0;
        }
        (offset / PAGE) as usize..((offset + len - 1) / PAGE) as usize + 1
    }

    /// Notes a write from outside the processors.
    pub(crate) fn written(&self, offset: u64, len: u64) {
        for page in Self::range(offset, len) {
            let before = self.marks[page].load(Ordering::Relaxed);
            if before & DIRTY == 0 {
                self.marks[page].fetch_or(DIRTY, Ordering::Relaxed);
            }
            if self.marks[page].load(Ordering::SeqCst) & CODE != 0 {
                let mut list = self.rewritten.lock().expect("no holder of this lock panics");
                list.push(page as u32);
                self.any_rewritten.store(true, Ordering::Release);
            }
        }
    }

    pub(crate) fn mark_dirty(&self, page: u64) {
        self.marks[page as usize].fetch_or(DIRTY, Ordering::Relaxed);
    }

    pub(crate) fn mark_code(&self, page: u64) {
        self.marks[page as usize].fetch_or(CODE, Ordering::SeqCst);
    }

    pub(crate) fn clear_code(&self, page: u64) {
        self.marks[page as usize].fetch_and(!CODE, Ordering::SeqCst);
    }

    pub(crate) fn is_code(&self, page: u64) -> bool {
        self.marks[page as usize].load(Ordering::Relaxed) & CODE != 0
    }

    pub(crate) fn any_rewritten(&self) -> bool {
        self.any_rewritten.load(Ordering::Acquire)
    }

    pub(crate) fn take_rewritten(&self) -> Vec<u32> {
        let mut list = self.rewritten.lock().expect("no holder of this lock panics");
        self.any_rewritten.store(false, Ordering::Release);
        std::mem::take(&mut *list)
    }

    pub(crate) fn take_dirty(&self) -> DirtyPages {
        let mut words = vec![0; self.marks.len().div_ceil(64)];
        for (page, mark) in self.marks.iter().enumerate() {
            if mark.load(Ordering::Relaxed) & DIRTY != 0
                && mark.fetch_and(!DIRTY, Ordering::Relaxed) & DIRTY != 0
            {
                words[page / 64] |= 1 << (page % 64);
            }
        }
        DirtyPages(words)
    }
}
