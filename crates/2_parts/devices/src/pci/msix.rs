//! MSI-X (PCI §6.8.2): a table of messages and the bits of those that wait for being unmasked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::irq::{Messages, Msi};
use crate::state::STATE_UNFIT;

/// Most vectors of a function.
const MOST: u16 = 2048;
/// Bytes of a table entry: address, data, control.
const ENTRY: usize = 16;
/// Where in an entry the mask bit is.
const CONTROL: usize = 12;

/// The message-signalled interrupts of a function. A clone is the same; any thread may notify.
#[derive(Clone)]
pub struct Msix {
    inner: Arc<Mutex<Inner>>,
    vectors: u16,
    table_at: u32,
    pending_at: u32,
}

struct Inner {
    table: Vec<u8>,
    pending: Vec<u8>,
    enabled: bool,
    masked: bool,
    messages: Arc<dyn Messages>,
}

/// What is saved of an [`Msix`]; whether it is enabled stands in the configuration space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MsixState {
    table: Vec<u8>,
    pending: Vec<u8>,
}

impl Inner {
    fn clear(&mut self) {
        self.pending.fill(0);
        for entry in self.table.chunks_mut(ENTRY) {
            entry.fill(0);
            entry[CONTROL] = 1;
        }
    }

    fn notify(&mut self, vector: usize) {
        let Some(entry) = self.table.chunks(ENTRY).nth(vector) else {
            return;
        };
        let bit = 1 << (vector % 8);
        if self.masked || entry[CONTROL] & 1 != 0 {
            self.pending[vector / 8] |= bit;
            return;
        }
        self.pending[vector / 8] &= !bit;
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        self.messages.send(Msi {
            address: u64::from(word(0)) | u64::from(word(4)) << 32,
            data: word(8),
        });
    }

    /// Sends what waits and may go.
    fn flush(&mut self, vectors: std::ops::Range<usize>) {
        for vector in vectors {
            if self.enabled && self.pending[vector / 8] & 1 << (vector % 8) != 0 {
                self.notify(vector);
            }
        }
    }
}

impl Msix {
    pub(super) fn new(vectors: u16, table: u32, pending: u32, messages: Arc<dyn Messages>) -> Self {
        let vectors = vectors.clamp(1, MOST);
        let mut inner = Inner {
            table: vec![0; usize::from(vectors) * ENTRY],
            pending: vec![0; usize::from(vectors).div_ceil(64) * 8],
            enabled: false,
            masked: false,
            messages,
        };
        inner.clear();
        Msix {
            inner: Arc::new(Mutex::new(inner)),
            vectors,
            table_at: table & !7,
            pending_at: pending & !7,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of vectors.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Whether the guest has switched it on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.lock().enabled
    }

    /// Sends a vector's message, or keeps it in mind while it is masked. Returns false, having done nothing, while MSI-X is off.
    pub fn notify(&self, vector: u16) -> bool {
        let mut inner = self.lock();
        if inner.enabled {
            inner.notify(usize::from(vector));
        }
        inner.enabled
    }

    /// The guest has written the capability's control word.
    pub(super) fn control(&self, enabled: bool, masked: bool) {
        let mut inner = self.lock();
        let before = (inner.enabled, inner.masked);
        (inner.enabled, inner.masked) = (enabled, masked);
        if before != (enabled, masked) && enabled && !masked {
            inner.flush(0..usize::from(self.vectors));
        }
    }

    fn within(&self, offset: u64, inner: &Inner) -> Option<(bool, usize)> {
        let in_table = offset.checked_sub(u64::from(self.table_at));
        let in_pending = offset.checked_sub(u64::from(self.pending_at));
        match (in_table, in_pending) {
            (Some(at), _) if at < inner.table.len() as u64 => Some((true, at as usize)),
            (_, Some(at)) if at < inner.pending.len() as u64 => Some((false, at as usize)),
            _ => None,
        }
    }

    /// Whether an offset in the BAR is one of the tables'.
    #[must_use]
    pub fn covers(&self, offset: u64) -> bool {
        self.within(offset, &self.lock()).is_some()
    }

    /// A read in the BAR; beyond the tables zeros.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let inner = self.lock();
        for (at, byte) in (0..).zip(data) {
            *byte = match self.within(offset.wrapping_add(at), &inner) {
                Some((true, at)) => inner.table[at],
                Some((false, at)) => inner.pending[at],
                None => 0,
            };
        }
    }

    /// A write in the BAR. What waited and is unmasked by it goes.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut inner = self.lock();
        let (mut first, mut end) = (usize::MAX, 0);
        for (at, byte) in (0..).zip(data) {
            if let Some((true, at)) = self.within(offset.wrapping_add(at), &inner) {
                inner.table[at] = match at % ENTRY {
                    CONTROL => byte & 1,
                    13.. => 0,
                    _ => *byte,
                };
                first = first.min(at / ENTRY);
                end = end.max(at / ENTRY + 1);
            }
        }
        if !inner.masked {
            inner.flush(first..end);
        }
    }

    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        (inner.enabled, inner.masked) = (false, false);
        inner.clear();
    }

    pub(super) fn save(&self) -> MsixState {
        let inner = self.lock();
        MsixState {
            table: inner.table.clone(),
            pending: inner.pending.clone(),
        }
    }

    pub(super) fn restore(&self, state: &MsixState) -> Result<()> {
        let mut inner = self.lock();
        let alike = state.table.len() == inner.table.len() && state.pending.len() == inner.pending.len();
        if !alike {
            return Err(Fault::new(STATE_UNFIT).because_of("another number of vectors"));
        }
        inner.table.clone_from(&state.table);
        inner.pending.clone_from(&state.pending);
        for entry in inner.table.chunks_mut(ENTRY) {
            entry[CONTROL] &= 1;
            entry[CONTROL + 1..].fill(0);
        }
        Ok(())
    }
}
