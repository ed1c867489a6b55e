//! Who carries packets between one pair of queues and the host.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::backend::{HEADER, NetQueue};
use super::{Shared, control, feature};
use crate::virtio::queue::Chain;
use crate::virtio::{Lane, Step};

/// Largest packet with its header: 64 KiB of IP and what stands before it.
const PACKET: usize = HEADER + 65_535 + 18;
/// Most packets received in one go.
const BATCH: usize = 64;

/// The worker.
pub(super) struct Worker {
    pub receive: Option<Lane>,
    pub transmit: Option<Lane>,
    pub control: Option<Lane>,
    shared: Arc<Shared>,
    pair: u16,
    host: Box<dyn NetQueue>,
    out: Vec<u8>,
    packet: Vec<u8>,
    /// Length of a packet that has come and waits for buffers; 0 for none.
    waiting: usize,
    /// There are no buffers: packets need not wake us.
    starved: bool,
    /// The host takes no more now.
    blocked: bool,
    more: bool,
    taken: Vec<Chain>,
}

/// What came of placing a packet.
enum Placed {
    Done,
    NoBuffers,
    TooLarge,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, pair: u16, host: Box<dyn NetQueue>) -> Self {
        Worker {
            receive: None,
            transmit: None,
            control: None,
            shared,
            pair,
            host,
            out: vec![0; PACKET],
            packet: vec![0; PACKET],
            waiting: 0,
            starved: true,
            blocked: false,
            more: false,
            taken: Vec::new(),
        }
    }

    /// Forgets the queues; while paused.
    pub(super) fn stop(&mut self) {
        (self.receive, self.transmit, self.control) = (None, None, None);
        self.waiting = 0;
        (self.starved, self.blocked, self.more) = (true, false, false);
    }

    /// The packet that waits for buffers, with its header.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.packet[..self.waiting]
    }

    pub(super) fn set_waiting(&mut self, packet: &[u8]) {
        self.waiting = packet.len().min(PACKET);
        self.packet[..self.waiting].copy_from_slice(&packet[..self.waiting]);
    }

    /// Packets to the host.
    fn transmit(&mut self) {
        let Some(lane) = &mut self.transmit else { return };
        let (host, out, blocked) = (&mut self.host, &mut self.out, &mut self.blocked);
        let up = self.shared.link.load(Ordering::Relaxed);
        *blocked = false;
        self.more |= lane.serve_quickly(|chain, block| {
            let mut reader = chain.reader(block);
            // A packet that is too large or has no header is lost, as on a wire.
            if reader.left() > out.len() as u64 {
                return Step::Used(0);
            }
            let len = reader.read(out);
            if len > HEADER
                && up
                && let Err(error) = host.send(&out[..len])
                && error.kind() == ErrorKind::WouldBlock
            {
                *blocked = true;
                return Step::Later;
            }
            Step::Used(0)
        });
    }

    /// Packets from the host.
    fn receive(&mut self) {
        let Some(mut lane) = self.receive.take() else {
            return;
        };
        self.starved = false;
        let filter = self.shared.filter().clone();
        for turn in 0..=BATCH {
            if turn == BATCH {
                self.more = true;
                break;
            }
            if self.waiting == 0 {
                match self.next_packet() {
                    Ok(len) if len <= HEADER || !filter.accepts(&self.packet[HEADER..len]) => continue,
                    Ok(len) => self.waiting = len,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => {
                        // An interface that is gone would wake us for ever.
                        self.starved |= error.kind() != ErrorKind::WouldBlock;
                        break;
                    }
                }
            }
            match self.place(&mut lane) {
                Placed::Done | Placed::TooLarge => self.waiting = 0,
                Placed::NoBuffers => {
                    self.starved = true;
                    break;
                }
            }
        }
        lane.signal();
        self.receive = Some(lane);
    }

    fn next_packet(&mut self) -> io::Result<usize> {
        let in_use = self.pair < self.shared.pairs.load(Ordering::Relaxed);
        if !in_use || !self.shared.link.load(Ordering::Relaxed) {
            self.starved = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = self.host.receive(&mut self.packet)?.min(PACKET);
        if self.shared.offloads.load(Ordering::Relaxed) & feature::GUEST_CSUM == 0 {
            self.packet[0] = 0;
        }
        Ok(len)
    }

    /// Puts the waiting packet into the driver's buffers.
    fn place(&mut self, lane: &mut Lane) -> Placed {
        let merge = self.shared.has(feature::MRG_RXBUF);
        let (mut count, mut room) = (0, 0);
        while room < self.waiting as u64 {
            if count == self.taken.len() {
                self.taken.push(Chain::default());
            }
            let done = count > 0 && !merge;
            if done || !lane.take(&mut self.taken[count]) {
                for chain in self.taken[..count].iter().rev() {
                    lane.put_back(chain.token());
                }
                return if done { Placed::TooLarge } else { Placed::NoBuffers };
            }
            room += self.taken[count].writable_len();
            count += 1;
        }
        self.packet[10..HEADER].copy_from_slice(&(count as u16).to_le_bytes());
        let mut left = &self.packet[..self.waiting];
        for chain in &self.taken[..count] {
            let mut writer = chain.writer(lane.block());
            let written = writer.write(left);
            left = &left[written..];
            lane.push(chain.token(), written as u32);
        }
        lane.quiet();
        Placed::Done
    }
}

impl crate::work::Worker for Worker {
    fn work(&mut self) {
        self.more = false;
        if let Some(lane) = &mut self.control {
            let shared = &self.shared;
            self.more |= lane.serve(|chain, block| control::command(shared, chain, block));
        }
        self.transmit();
        self.receive();
    }

    fn wakers(&self) -> Vec<BorrowedFd<'_>> {
        let listens = self.receive.is_some() && !self.starved;
        self.host.waker().filter(|_| listens).into_iter().collect()
    }

    fn blocked(&self) -> Vec<BorrowedFd<'_>> {
        self.host.waker().filter(|_| self.blocked).into_iter().collect()
    }

    fn has_more(&self) -> bool {
        self.more
    }
}
