//! Who carries packets between the guest and the host's sockets.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use guestmem::Block;

use super::connection::Connection;
use super::packet::{HEADER, HOST, Packet, STREAM, op};
use super::{MOST_CONNECTIONS, Shared, VsockHost};
use crate::virtio::queue::Chain;
use crate::virtio::{Lane, Step};

/// Most payload of a packet.
const PAYLOAD: usize = 64 << 10;
/// Most refusals that wait for the guest's buffers; its own packets wait behind them.
const MOST_ANSWERS: usize = 128;
/// Most packets to the guest in one go.
const BATCH: usize = 256;
/// First port of the host for connections that it makes.
const FIRST_PORT: u32 = 1 << 30;
/// Event: all connections are gone (section 5.10.6.7).
const TRANSPORT_RESET: u32 = 0;

type Ports = (u32, u32);

/// The worker.
pub(super) struct Worker {
    pub receive: Option<Lane>,
    pub transmit: Option<Lane>,
    pub events: Option<Lane>,
    /// Refusals for the guest.
    pub answers: VecDeque<Packet>,
    pub next_port: u32,
    cid: u64,
    host: Arc<dyn VsockHost>,
    shared: Arc<Shared>,
    connections: BTreeMap<Ports, Connection>,
    /// Whose turn is next.
    turn: Ports,
    /// The guest must be told that all connections are gone.
    broken: bool,
    /// The guest has given no buffers.
    starved: bool,
    more: bool,
    payload: Vec<u8>,
}

impl Worker {
    pub(super) fn new(cid: u64, host: Arc<dyn VsockHost>, shared: Arc<Shared>) -> Self {
        Worker {
            receive: None,
            transmit: None,
            events: None,
            answers: VecDeque::new(),
            next_port: FIRST_PORT,
            cid,
            host,
            shared,
            connections: BTreeMap::new(),
            turn: (0, 0),
            broken: false,
            starved: true,
            more: false,
            payload: vec![0; PAYLOAD],
        }
    }

    /// Forgets queues and connections; while paused.
    pub(super) fn stop(&mut self) {
        (self.receive, self.transmit, self.events) = (None, None, None);
        self.begin_again(false, self.next_port, Vec::new());
    }

    /// Goes on without connections.
    pub(super) fn begin_again(&mut self, broken: bool, next_port: u32, answers: Vec<Packet>) {
        self.connections.clear();
        self.answers = answers.into();
        self.answers.truncate(MOST_ANSWERS);
        self.next_port = next_port.max(FIRST_PORT);
        self.broken = broken;
        (self.starved, self.more, self.turn) = (true, false, (0, 0));
    }

    pub(super) fn has_connections(&self) -> bool {
        !self.connections.is_empty() || self.broken
    }

    /// Connections that the host wants.
    fn connect(&mut self) {
        let wanted = std::mem::take(&mut *self.shared.wanted());
        for (port, stream) in wanted {
            if self.connections.len() >= MOST_CONNECTIONS {
                // Dropping our end tells the host.
                continue;
            }
            let ours = self.next_port;
            self.next_port = if ours == u32::MAX - 1 {
                FIRST_PORT
            } else {
                ours + 1
            };
            let connection = Connection::new(stream, op::REQUEST);
            self.connections.entry((port, ours)).or_insert(connection);
        }
        // Those that the host has given up before the guest answered.
        let (cid, answers) = (self.cid, &mut self.answers);
        self.connections.retain(|ports, connection| {
            let given_up = !connection.open && connection.is_gone();
            if given_up && answers.len() < MOST_ANSWERS {
                answers.push_back(reset(cid, *ports));
            }
            !given_up
        });
    }

    /// One packet of the guest.
    fn hear(&mut self, chain: &Chain, block: &Block) {
        let mut reader = chain.reader(block);
        let Some(packet) = reader.array().map(|bytes| Packet::read(&bytes)) else {
            return;
        };
        let ports = (packet.from_port, packet.to_port);
        let sound = packet.from == self.cid && packet.to == HOST && packet.kind == STREAM;
        if packet.op == op::REQUEST && sound && !self.connections.contains_key(&ports) {
            let room = self.connections.len() < MOST_CONNECTIONS;
            let stream = Some(()).filter(|()| room);
            let stream = stream.and_then(|()| self.host.accept(packet.to_port, packet.from_port));
            if let Some(stream) = stream.filter(|stream| stream.set_nonblocking(true).is_ok()) {
                let mut connection = Connection::new(stream, op::RESPONSE);
                connection.hear(&packet);
                self.connections.insert(ports, connection);
                return;
            }
        }
        let connection = self.connections.get_mut(&ports).filter(|_| sound);
        let Some(connection) = connection else {
            if packet.op != op::RST {
                self.answers.push_back(packet.reset());
            }
            return;
        };
        connection.hear(&packet);
        let good = match packet.op {
            op::RESPONSE => !std::mem::replace(&mut connection.open, true),
            op::RW => {
                let len = packet.len as usize;
                let payload = self.payload.get_mut(..len);
                payload.is_some_and(|payload| {
                    connection.open && reader.read(payload) == len && connection.take(payload)
                })
            }
            op::SHUTDOWN => {
                connection.shut(packet.flags);
                connection.flush() && !connection.is_over()
            }
            op::CREDIT_UPDATE => true,
            op::CREDIT_REQUEST => {
                connection.owe(op::CREDIT_UPDATE);
                true
            }
            // A reset, a second request, nonsense.
            _ => false,
        };
        if !good {
            self.connections.remove(&ports);
            if packet.op != op::RST {
                self.answers.push_back(packet.reset());
            }
        }
    }

    /// Packets from the guest.
    fn transmit(&mut self) {
        let Some(mut lane) = self.transmit.take() else {
            return;
        };
        self.more |= lane.serve_quickly(|chain, block| {
            if self.answers.len() >= MOST_ANSWERS {
                return Step::Later;
            }
            self.hear(chain, block);
            Step::Used(0)
        });
        self.transmit = Some(lane);
    }

    /// Bytes that waited for the host.
    fn flush(&mut self) {
        let cid = self.cid;
        let answers = &mut self.answers;
        self.connections.retain(|ports, connection| {
            if !connection.is_blocked() || answers.len() >= 2 * MOST_ANSWERS {
                return true;
            }
            let good = connection.flush() && !connection.is_over();
            if !good {
                answers.push_back(reset(cid, *ports));
            }
            good
        });
    }

    /// The next packet to the guest and its payload's length in `self.payload`, of which at most `room` bytes are used.
    fn next_packet(&mut self, room: usize) -> Option<(Packet, usize)> {
        if let Some(answer) = self.answers.pop_front() {
            return Some((answer, 0));
        }
        let turn = self.turn;
        let after = self.connections.range_mut(turn..).map(|(ports, _)| *ports);
        let mut order: Vec<Ports> = after.collect();
        order.extend(self.connections.range(..turn).map(|(ports, _)| *ports));
        for ports in order {
            let Some(connection) = self.connections.get_mut(&ports) else {
                continue;
            };
            self.turn = (ports.0, ports.1.saturating_add(1));
            connection.ask_credit();
            if let Some(op) = connection.next_due() {
                return Some((connection.packet(self.cid, ports, op, 0), 0));
            }
            if room > 0 && connection.reads() {
                let most = room.min(PAYLOAD);
                if let Some(len) = connection.read(&mut self.payload[..most]) {
                    let packet = connection.packet(self.cid, ports, op::RW, len as u32);
                    return Some((packet, len));
                }
                if let Some(op) = connection.next_due() {
                    return Some((connection.packet(self.cid, ports, op, 0), 0));
                }
            }
        }
        None
    }

    /// Packets to the guest.
    fn receive(&mut self) {
        let Some(mut lane) = self.receive.take() else {
            return;
        };
        self.starved = false;
        let mut chain = Chain::default();
        let full = self.answers.len() >= MOST_ANSWERS;
        for turn in 0..=BATCH {
            if turn == BATCH {
                self.more = true;
                break;
            }
            if !lane.take(&mut chain) {
                self.starved = true;
                break;
            }
            let Some(room) = chain.writable_len().checked_sub(HEADER as u64) else {
                // A buffer without room for a header is of no use.
                lane.push(chain.token(), 0);
                continue;
            };
            let Some((packet, len)) = self.next_packet(room.min(PAYLOAD as u64) as usize) else {
                lane.put_back(chain.token());
                break;
            };
            let mut writer = chain.writer(lane.block());
            writer.write(&packet.bytes());
            writer.write(&self.payload[..len]);
            let written = writer.written();
            lane.push(chain.token(), written);
        }
        lane.signal();
        self.receive = Some(lane);
        self.more |= full && self.answers.len() < MOST_ANSWERS;
    }

    fn tell_broken(&mut self) {
        let Some(lane) = self.events.as_mut().filter(|_| self.broken) else {
            return;
        };
        let mut chain = Chain::default();
        if lane.take(&mut chain) {
            let mut writer = chain.writer(lane.block());
            writer.write(&TRANSPORT_RESET.to_le_bytes());
            let written = writer.written();
            lane.push(chain.token(), written);
            lane.signal();
            self.broken = false;
        }
    }
}

fn reset(cid: u64, ports: Ports) -> Packet {
    Packet {
        from: HOST,
        to: cid,
        from_port: ports.1,
        to_port: ports.0,
        kind: STREAM,
        op: op::RST,
        ..Packet::default()
    }
}

impl crate::work::Worker for Worker {
    fn work(&mut self) {
        self.more = false;
        self.tell_broken();
        self.connect();
        self.transmit();
        self.flush();
        self.receive();
    }

    fn wakers(&self) -> Vec<BorrowedFd<'_>> {
        if self.starved {
            return Vec::new();
        }
        let reads = self.connections.values().filter(|connection| connection.reads());
        reads.map(|connection| connection.stream.as_fd()).collect()
    }

    fn blocked(&self) -> Vec<BorrowedFd<'_>> {
        let blocked = self
            .connections
            .values()
            .filter(|connection| connection.is_blocked());
        blocked.map(|connection| connection.stream.as_fd()).collect()
    }

    fn has_more(&self) -> bool {
        self.more
    }
}
