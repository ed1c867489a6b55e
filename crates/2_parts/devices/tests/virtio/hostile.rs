//! A guest that does whatever some bytes say to one of the devices. Also the body of the fuzz target `virtio`.

use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex};

use devices::Device;
use devices::pci::Function;
use devices::virtio::balloon::Balloon;
use devices::virtio::block::{Block, Method};
use devices::virtio::console::{Console, Feed, Setup};
use devices::virtio::net::{Datagrams, Net};
use devices::virtio::rng::Rng;
use devices::virtio::vsock::{Vsock, VsockHost};
use devices::virtio::{Trouble, Troubles, VirtioDevice};
use disk::Image;
use vcpu::time::SeededRandom;

use crate::driver::{Buffer, Guest, Time};

const RAM: u64 = 1 << 20;

struct Nobody;

impl Troubles for Nobody {
    fn tell(&self, _: Trouble) {}
}

impl VsockHost for Nobody {
    fn accept(&self, port: u32, _: u32) -> Option<UnixStream> {
        let (ours, _theirs) = UnixStream::pair().ok()?;
        (port & 1 == 0).then_some(ours)
    }
}

struct Ram(Mutex<Vec<u8>>);

impl Image for Ram {
    fn size(&self) -> u64 {
        1 << 16
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(&self.0.lock().unwrap()[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if offset == 0x3000 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.lock().unwrap()[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.write_zeroes(offset, len, true)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.0.lock().unwrap()[offset as usize..][..len as usize].fill(0);
        Ok(())
    }
}

/// What the bytes say, piece by piece; zeros at the end.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self, bytes: u32) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// A value that is often small, a place in memory, or all ones.
    fn value(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => u64::MAX,
            1 => self.number(8),
            2 | 3 => self.number(3) & (RAM - 1),
            4 => self.number(2),
            5 => 1 << (self.byte() % 64),
            _ => self.number(1),
        }
    }
}

/// Lets a guest do what the bytes say; afterwards its device must still be one that works.
pub fn drive(bytes: &[u8]) {
    let mut words = Words(bytes);
    let time = Time::counting();
    let crew = time.crew();
    match words.byte() % 6 {
        0 => {
            let image = Arc::new(Ram(Mutex::new(vec![0; 1 << 16])));
            let (method, nobody) = (Method::OneByOne, Arc::new(Nobody));
            act(
                Block::new("vda", image, 3, "serial", method, &crew, nobody).unwrap(),
                time,
                words,
            );
        }
        1 => {
            let (host, other) = UnixDatagram::pair().unwrap();
            host.set_nonblocking(true).unwrap();
            for len in [10, 60, 1500, 9000] {
                let _ = host.send(&vec![0xff; len]);
            }
            let interface = Datagrams::interface(other).unwrap();
            act(
                Net::new("eth0", [2; 6], None, interface, &crew).unwrap(),
                time,
                words,
            );
        }
        2 => {
            let (first, feeder) = Feed::new(Box::new(|_| {}));
            let (second, _) = Feed::new(Box::new(|_| {}));
            let ports = vec![
                Setup {
                    name: None,
                    port: Box::new(first),
                },
                Setup {
                    name: Some("agent".to_owned()),
                    port: Box::new(second),
                },
            ];
            let console = Console::new("hvc", ports, &crew).unwrap();
            feeder.feed(&[7; 9000]);
            act(console, time, words);
        }
        3 => {
            let random = Arc::new(SeededRandom::new(1));
            act(Rng::new("rng", random, &crew).unwrap(), time, words);
        }
        4 => act(
            Vsock::new("vsock", 3, Arc::new(Nobody), &crew).unwrap(),
            time,
            words,
        ),
        _ => act(Balloon::new("balloon", &crew).unwrap(), time, words),
    }
}

fn act<D: VirtioDevice + 'static>(device: D, time: Time, mut words: Words<'_>) {
    let queues = device.queue_sizes().len() as u16;
    let mut guest = Guest::new(device, time, RAM);
    // Without indirect tables, whose place the driver does not have in so little memory.
    let features = words.value() & !(1 << 28);
    guest.negotiate(features);
    let mut rings: Vec<_> = (0..queues).map(|n| guest.queue(n, 8)).collect();
    guest.set_status(15);
    for _ in 0..bytes_left(&words).min(400) {
        match words.byte() % 9 {
            0 => guest.write(words.number(2) % 0x6000, 1 << (words.byte() % 4), words.value()),
            1 => {
                guest.read(words.number(2) % 0x6000, 1 << (words.byte() % 4));
            }
            2 => guest.write(0x3000 + 4 * (words.value() & 0xff), 2, 0),
            3 => guest
                .memory
                .write_u64(words.value() & (RAM - 8), words.value())
                .unwrap(),
            4 => {
                // Where rings and small requests are.
                let at = words.number(2) & 0xffff;
                guest.memory.write_u16(at, words.value() as u16).unwrap();
            }
            5 | 6 => {
                let count = usize::from(words.byte() % 4) + 1;
                let buffers: Vec<Buffer> = (0..count)
                    .map(|n| Buffer {
                        address: words.value(),
                        len: words.value() as u32,
                        writable: n > 0 && words.byte() & 1 == 0,
                    })
                    .collect();
                let ring = &mut rings[usize::from(words.byte()) % usize::from(queues)];
                ring.add(&buffers);
                guest.write(0x3000 + 4 * u64::from(ring.number), 2, 0);
            }
            7 => {
                let (at, value) = (words.byte() & !3, words.value());
                guest
                    .lock()
                    .config_write(u16::from(at), &value.to_le_bytes()[..4]);
                guest.lock().config_read(u16::from(at), &mut [0; 4]);
            }
            _ => {
                let saved = guest.save();
                guest.lock().restore(&saved).unwrap();
                assert!(
                    saved == guest.lock().save().unwrap(),
                    "a restored device is the same"
                );
                guest.resume();
            }
        }
        for _ in 0..4 {
            guest.time.pass();
        }
    }
    guest.set_status(0);
    guest.start(features, queues, 8);
}

fn bytes_left(words: &Words<'_>) -> usize {
    words.0.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_guest_may_do_anything(kind in 0u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let mut all = vec![kind];
            all.extend(bytes);
            super::drive(&all);
        }
    }
}
