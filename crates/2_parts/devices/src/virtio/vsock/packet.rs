//! Headers of packets (section 5.10.6).

use serde::{Deserialize, Serialize};

/// Bytes of a header.
pub(super) const HEADER: usize = 44;
/// The host's context identifier.
pub(super) const HOST: u64 = 2;
/// Streams.
pub(super) const STREAM: u16 = 1;
/// Bytes that we take from the guest before it must wait.
pub(super) const OUR_BUFFER: u32 = 256 << 10;

/// Operations.
pub(super) mod op {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of a shutdown: the sender will not receive, will not send.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;

/// A header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packet {
    pub from: u64,
    pub to: u64,
    pub from_port: u32,
    pub to_port: u32,
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    pub buffer: u32,
    pub forwarded: u32,
}

impl Packet {
    pub(super) fn read(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Packet {
            from: long(0),
            to: long(8),
            from_port: word(16),
            to_port: word(20),
            len: word(24),
            kind: word(28) as u16,
            op: (word(28) >> 16) as u16,
            flags: word(32),
            buffer: word(36),
            forwarded: word(40),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&self.from.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.to.to_le_bytes());
        let kind = u32::from(self.kind) | u32::from(self.op) << 16;
        let words = [
            self.from_port,
            self.to_port,
            self.len,
            kind,
            self.flags,
            self.buffer,
            self.forwarded,
        ];
        for (at, word) in (16..).step_by(4).zip(words) {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The refusal of a packet.
    pub(super) fn reset(&self) -> Packet {
        Packet {
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            kind: self.kind,
            op: op::RST,
            ..Packet::default()
        }
    }
}
