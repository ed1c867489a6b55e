//! Who carries bytes between ports and their queues, and speaks on the control queues.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use guestmem::Block;
use serde::{Deserialize, Serialize};

use super::{Port, Setup, Shared};
use crate::virtio::queue::Chain;
use crate::virtio::{Lane, Step};

/// Bytes carried at once.
const PIECE: usize = 4096;
/// Bytes that one port carries in one direction before the others have their turn.
const TURN: usize = 64 << 10;
/// Most messages that wait for the driver; the driver's own wait behind them.
const MOST_MESSAGES: usize = 128;

/// Events on the control queues (section 5.3.6.2).
mod event {
    pub const DEVICE_READY: u16 = 0;
    pub const PORT_ADD: u16 = 1;
    pub const PORT_READY: u16 = 3;
    pub const CONSOLE_PORT: u16 = 4;
    pub const RESIZE: u16 = 5;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// One port in work.
pub(super) struct Line {
    name: Option<String>,
    pub port: Box<dyn Port>,
    pub to_guest: Option<Lane>,
    pub from_guest: Option<Lane>,
    /// The guest has it open.
    open: bool,
    /// The host has closed it.
    closed: bool,
    /// Bytes of the next request from the guest that the host has taken already.
    taken: u64,
    starved: bool,
    blocked: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LineState {
    open: bool,
    closed: bool,
    taken: u64,
    fed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WorkerState {
    lines: Vec<LineState>,
    messages: VecDeque<Vec<u8>>,
}

impl Line {
    pub(super) fn new(setup: Setup) -> Self {
        Line {
            name: setup.name,
            port: setup.port,
            to_guest: None,
            from_guest: None,
            open: false,
            closed: false,
            taken: 0,
            starved: true,
            blocked: false,
        }
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// From the guest; true when there is more to do.
    fn take(&mut self) -> bool {
        let Some(lane) = &mut self.from_guest else {
            return false;
        };
        let (port, taken) = (&mut self.port, &mut self.taken);
        let mut turn = TURN;
        let mut tired = false;
        let blocked = &mut self.blocked;
        *blocked = false;
        let more = lane.serve_quickly(|chain, block| {
            let mut piece = [0; PIECE];
            loop {
                let mut reader = chain.reader(block);
                reader.skip(*taken);
                let len = reader.read(&mut piece);
                if len == 0 {
                    *taken = 0;
                    return Step::Used(0);
                }
                if turn < len {
                    tired = true;
                    return Step::Later;
                }
                turn -= len;
                match port.write(&piece[..len]) {
                    Ok(done) => *taken += done as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        *blocked = true;
                        return Step::Later;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => *taken += len as u64,
                }
            }
        });
        more || tired
    }

    /// To the guest; true when there is more to do.
    fn give(&mut self) -> bool {
        self.starved = !self.open || self.closed;
        let Some(lane) = self.to_guest.as_mut().filter(|_| !self.starved) else {
            return false;
        };
        let mut chain = Chain::default();
        let mut piece = [0; PIECE];
        let mut turn = TURN;
        let more = loop {
            if turn == 0 {
                break true;
            }
            if !lane.take(&mut chain) {
                self.starved = true;
                break false;
            }
            let room = chain.writable_len().min(PIECE as u64) as usize;
            if room == 0 {
                lane.push(chain.token(), 0);
                turn = turn.saturating_sub(PIECE);
                continue;
            }
            match self.port.read(&mut piece[..room]) {
                Ok(len) if len > 0 => {
                    let len = len.min(room);
                    chain.writer(lane.block()).write(&piece[..len]);
                    lane.push(chain.token(), len as u32);
                    turn = turn.saturating_sub(len);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => lane.put_back(chain.token()),
                outcome => {
                    lane.put_back(chain.token());
                    self.closed = !matches!(outcome, Err(error) if error.kind() == ErrorKind::WouldBlock);
                    break false;
                }
            }
        };
        lane.signal();
        more
    }
}

/// The worker.
pub(super) struct Worker {
    shared: Arc<Shared>,
    pub lines: Vec<Line>,
    pub control_to_guest: Option<Lane>,
    pub control_from_guest: Option<Lane>,
    /// For the driver.
    messages: VecDeque<Vec<u8>>,
    more: bool,
}

fn message(port: usize, event: u16, value: u16, more: &[u8]) -> Vec<u8> {
    let mut bytes = (port as u32).to_le_bytes().to_vec();
    bytes.extend(event.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes.extend(more);
    bytes
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, lines: Vec<Line>) -> Self {
        Worker {
            shared,
            lines,
            control_to_guest: None,
            control_from_guest: None,
            messages: VecDeque::new(),
            more: false,
        }
    }

    /// Forgets the queues; while paused.
    pub(super) fn stop(&mut self) {
        for line in &mut self.lines {
            (line.to_guest, line.from_guest) = (None, None);
            (line.open, line.starved, line.blocked, line.taken) = (false, true, false, 0);
        }
        (self.control_to_guest, self.control_from_guest) = (None, None);
        self.messages.clear();
        self.more = false;
    }

    pub(super) fn save(&self) -> WorkerState {
        let line = |line: &Line| LineState {
            open: line.open,
            closed: line.closed,
            taken: line.taken,
            fed: line.port.fed(),
        };
        WorkerState {
            lines: self.lines.iter().map(line).collect(),
            messages: self.messages.clone(),
        }
    }

    pub(super) fn restore(&mut self, state: WorkerState) {
        for (line, saved) in self.lines.iter_mut().zip(state.lines) {
            (line.open, line.closed, line.taken) = (saved.open, saved.closed, saved.taken);
            line.port.set_fed(&saved.fed);
        }
        self.messages = state.messages;
        self.messages.truncate(2 * MOST_MESSAGES);
    }

    fn resize_message(&self, port: usize) -> Vec<u8> {
        let (columns, rows) = self.shared.size();
        let size = [columns.to_le_bytes(), rows.to_le_bytes()].concat();
        message(port, event::RESIZE, 0, &size)
    }

    /// What the driver says on the control queue.
    fn hear(&mut self, chain: &Chain, block: &Block) {
        let Some([a, b, c, d, e0, e1, v0, _]) = chain.reader(block).array() else {
            return;
        };
        let port = u32::from_le_bytes([a, b, c, d]) as usize;
        match u16::from_le_bytes([e0, e1]) {
            event::DEVICE_READY if v0 == 1 => {
                let add = |n| message(n, event::PORT_ADD, 1, &[]);
                self.messages.extend((0..self.lines.len()).map(add));
            }
            event::PORT_READY if v0 == 1 && port < self.lines.len() => {
                match &self.lines[port].name {
                    None => {
                        self.messages
                            .push_back(message(port, event::CONSOLE_PORT, 1, &[]));
                        self.messages.push_back(self.resize_message(port));
                    }
                    Some(name) => {
                        self.messages
                            .push_back(message(port, event::PORT_NAME, 1, name.as_bytes()));
                    }
                }
                let open = u16::from(!self.lines[port].closed);
                self.messages
                    .push_back(message(port, event::PORT_OPEN, open, &[]));
            }
            event::PORT_OPEN => {
                if let Some(line) = self.lines.get_mut(port) {
                    line.open = v0 != 0;
                }
            }
            _ => {}
        }
    }

    /// Hears the driver and gives it its messages.
    fn control(&mut self) {
        if let Some(mut lane) = self.control_from_guest.take() {
            self.more |= lane.serve_quickly(|chain, block| {
                if self.messages.len() >= MOST_MESSAGES {
                    return Step::Later;
                }
                self.hear(chain, block);
                Step::Used(0)
            });
            self.control_from_guest = Some(lane);
        }
        if self.shared.resized.swap(false, Ordering::SeqCst) && self.control_to_guest.is_some() {
            for port in 0..self.lines.len() {
                if self.lines[port].name.is_none() && self.messages.len() < MOST_MESSAGES {
                    self.messages.push_back(self.resize_message(port));
                }
            }
        }
        let Some(lane) = &mut self.control_to_guest else {
            return;
        };
        let full = self.messages.len() >= MOST_MESSAGES;
        let mut chain = Chain::default();
        while !self.messages.is_empty() && lane.take(&mut chain) {
            let Some(bytes) = self.messages.pop_front() else {
                break;
            };
            let mut writer = chain.writer(lane.block());
            writer.write(&bytes);
            let written = writer.written();
            lane.push(chain.token(), written);
        }
        lane.signal();
        self.more |= full && self.messages.len() < MOST_MESSAGES;
    }
}

impl crate::work::Worker for Worker {
    fn work(&mut self) {
        self.more = false;
        self.control();
        for number in 0..self.lines.len() {
            let line = &mut self.lines[number];
            let was_closed = line.closed;
            self.more |= line.take();
            self.more |= line.give();
            if line.closed && !was_closed && self.control_to_guest.is_some() {
                self.messages.push_back(message(number, event::PORT_OPEN, 0, &[]));
                self.more = true;
            }
        }
    }

    fn wakers(&self) -> Vec<BorrowedFd<'_>> {
        let hungry = self.lines.iter().filter(|line| !line.starved);
        hungry.filter_map(|line| line.port.waker()).collect()
    }

    fn blocked(&self) -> Vec<BorrowedFd<'_>> {
        let blocked = self.lines.iter().filter(|line| line.blocked);
        blocked.filter_map(|line| line.port.waker()).collect()
    }

    fn has_more(&self) -> bool {
        self.more
    }
}
