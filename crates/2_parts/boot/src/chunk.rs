//! One piece of guest memory before the first instruction.

use std::borrow::Cow;

/// Bytes and the guest physical address where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// What lies there.
    pub contents: Contents<'a>,
}

/// What a [`Chunk`] is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// These bytes; large ones are borrowed from the file that they came from.
    Bytes(Cow<'a, [u8]>),
    /// So many zeros, which memory that was used before must be given.
    Zeros(u64),
}

impl<'a> Chunk<'a> {
    /// Bytes of its own.
    #[must_use]
    pub fn owned(address: u64, bytes: Vec<u8>) -> Self {
        let contents = Contents::Bytes(Cow::Owned(bytes));
        Chunk { address, contents }
    }

    /// Bytes that belong to someone else.
    #[must_use]
    pub fn borrowed(address: u64, bytes: &'a [u8]) -> Self {
        let contents = Contents::Bytes(Cow::Borrowed(bytes));
        Chunk { address, contents }
    }

    /// Zeros.
    #[must_use]
    pub fn zeros(address: u64, length: u64) -> Self {
        let contents = Contents::Zeros(length);
        Chunk { address, contents }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.contents {
            Contents::Bytes(bytes) => bytes.len() as u64,
            Contents::Zeros(length) => *length,
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.len())
    }

    /// The bytes; none when these are zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Bytes(bytes) => bytes,
            Contents::Zeros(_) => &[],
        }
    }
}
