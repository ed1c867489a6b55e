//! Tests of the server by a small client.

use std::io::{Read, Write};
use std::sync::mpsc::{Sender, channel};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};
use vcpu::time::{CountingClock, HostRandom, Timers};

use super::*;
use crate::bus::{Bus, Shared};
use crate::vga::{PORTS, Vga, WINDOW, WINDOW_REGION};

struct Keys(Mutex<Sender<Vec<u8>>>);

impl Input for Keys {
    fn key(&self, scancodes: &[u8]) -> bool {
        self.0.lock().unwrap().send(scancodes.to_vec()).is_ok()
    }
}

struct Bench {
    bus: Bus,
    server: Arc<Server>,
    keys: std::sync::mpsc::Receiver<Vec<u8>>,
}

fn bench() -> Bench {
    let vga = Vga::new(&Timers::new(Arc::new(CountingClock::new(0, 0))), None, true).unwrap();
    let bus = Bus::new();
    let shared: Shared = vga.clone();
    crate::chipset::attach(&bus, &shared, PORTS);
    bus.add_memory(WINDOW.0, WINDOW.1, WINDOW_REGION, &shared);
    let (sender, keys) = channel();
    let server = Server::new(
        "db",
        vga,
        Arc::new(Keys(Mutex::new(sender))),
        Keymap::Es,
        Arc::new(HostRandom),
        Arc::new(|_| {}),
    );
    Bench {
        bus,
        server: Arc::new(server),
        keys,
    }
}

struct Client {
    stream: UnixStream,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
    inflate: Box<InflateState>,
}

impl Client {
    fn new(bench: &Bench, security: Security) -> Self {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let server = bench.server.clone();
        let thread = std::thread::spawn(move || server.serve(other.into(), &security));
        Client {
            stream,
            thread: Some(thread),
            inflate: InflateState::new_boxed(DataFormat::Zlib),
        }
    }

    fn get<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Width, height and name.
    fn open(bench: &Bench) -> (Self, (u16, u16), String) {
        let mut client = Client::new(bench, Security::None);
        assert_eq!(&client.get(), b"RFB 003.008\n");
        client.say(b"RFB 003.008\n");
        assert_eq!(client.get(), [1, 1]);
        client.say(&[1]);
        assert_eq!(client.get(), [0; 4]);
        client.say(&[1]);
        let init: [u8; 24] = client.get();
        let mut name = vec![0; u32::from_be_bytes([init[20], init[21], init[22], init[23]]) as usize];
        client.stream.read_exact(&mut name).unwrap();
        let size = (
            u16::from_be_bytes([init[0], init[1]]),
            u16::from_be_bytes([init[2], init[3]]),
        );
        (client, size, String::from_utf8(name).unwrap())
    }

    fn encodings(&mut self, encodings: &[i32]) {
        self.say(&[2, 0, 0, encodings.len() as u8]);
        for encoding in encodings {
            self.say(&encoding.to_be_bytes());
        }
    }

    fn ask(&mut self, incremental: bool) {
        self.say(&[3, u8::from(incremental), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }

    /// The rectangles of the next update: x, y, width, height, encoding, and raw or inflated data.
    fn update(&mut self) -> Vec<([u16; 4], i32, Vec<u8>)> {
        let [kind, _, high, low] = self.get();
        assert_eq!(kind, 0);
        let mut rects = Vec::new();
        for _ in 0..u16::from_be_bytes([high, low]) {
            let head: [u8; 12] = self.get();
            let at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
            let encoding = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            let mut data = Vec::new();
            if encoding == encode::RAW {
                data.resize(usize::from(at(4)) * usize::from(at(6)) * 4, 0);
                self.stream.read_exact(&mut data).unwrap();
            } else if encoding == encode::ZRLE {
                let len = u32::from_be_bytes(self.get());
                let mut packed = vec![0; len as usize];
                self.stream.read_exact(&mut packed).unwrap();
                let mut out = vec![0; 16 << 20];
                let result = inflate(&mut self.inflate, &packed, &mut out, MZFlush::None);
                assert_eq!(result.bytes_consumed, packed.len());
                data = out[..result.bytes_written].to_vec();
            }
            rects.push(([at(0), at(2), at(4), at(6)], encoding, data));
        }
        rects
    }

    fn close(mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn a_client_sees_the_screen_and_then_only_what_changes() {
    let bench = bench();
    let (mut client, size, name) = Client::open(&bench);
    assert_eq!((size, name.as_str()), ((720, 400), "db"));
    client.ask(false);
    let update = client.update();
    assert_eq!((update[0].0, update[0].1), ([0, 0, 720, 400], encode::RAW));
    assert!(update[0].2.iter().all(|byte| *byte == 0 || *byte == 0xaa));
    client.ask(true);
    bench.bus.mmio_write(0xb8000 + 160, &[0xdb, 0x0c]);
    let update = client.update();
    assert_eq!((update.len(), update[0].0), (1, [0, 16, 9, 16]));
    assert_eq!(update[0].2[..4], [0x55, 0x55, 0xff, 0]);
    client.close().unwrap();
}

/// Unpacks tiles of 32-bit pixels.
fn tiles(data: &[u8], width: usize, height: usize) -> Vec<u32> {
    let mut pixels = vec![0; width * height];
    let mut at = 0;
    let pixel = |at: &mut usize| {
        *at += 3;
        u32::from_le_bytes([data[*at - 3], data[*at - 2], data[*at - 1], 0])
    };
    for top in (0..height).step_by(64) {
        for left in (0..width).step_by(64) {
            let (across, down) = (64.min(width - left), 64.min(height - top));
            let kind = data[at];
            at += 1;
            let colours: Vec<u32> = (0..kind).map(|_| pixel(&mut at)).collect();
            let bits = match kind {
                0 | 1 => 0,
                2 => 1,
                3 | 4 => 2,
                _ => 4,
            };
            for y in top..top + down {
                for x in 0..across {
                    pixels[y * width + left + x] = match bits {
                        0 if kind == 0 => pixel(&mut at),
                        0 => colours[0],
                        _ => {
                            let byte = data[at + x * bits / 8];
                            let index = byte >> (8 - bits - x * bits % 8) & ((1 << bits) - 1);
                            colours[usize::from(index)]
                        }
                    };
                }
                at += (across * bits).div_ceil(8);
            }
        }
    }
    assert_eq!(at, data.len());
    pixels
}

#[test]
fn compressed_rectangles_hold_the_same_picture() {
    let bench = bench();
    for at in 0..2000_u64 {
        bench
            .bus
            .mmio_write(0xb8000 + 2 * at, &[at as u8, (at / 7) as u8]);
    }
    let (mut client, _, _) = Client::open(&bench);
    client.encodings(&[encode::ZRLE, encode::RAW]);
    let mut frame = crate::vga::Frame::new();
    bench.server.screen.view().render(&mut frame);
    for _ in 0..2 {
        client.ask(false);
        let update = client.update();
        assert_eq!(update[0].1, encode::ZRLE);
        assert_eq!(tiles(&update[0].2, 720, 400), frame.pixels());
    }
    client.close().unwrap();
}

#[test]
fn a_new_size_is_told_to_clients_that_can_take_it() {
    let bench = bench();
    let (mut client, _, _) = Client::open(&bench);
    client.encodings(&[encode::DESKTOP_SIZE, encode::RAW]);
    client.ask(false);
    client.update();
    client.ask(true);
    for (register, value) in [(1_u16, 800_u16), (2, 600), (3, 32), (4, 0x41)] {
        bench.bus.port_write(0x1ce, &register.to_le_bytes());
        bench.bus.port_write(0x1cf, &value.to_le_bytes());
    }
    // Halfway the screen may have been looked at.
    loop {
        let update = client.update();
        if update[0].0 == [0, 0, 800, 600] {
            assert_eq!(
                (update[0].1, update[1].0),
                (encode::DESKTOP_SIZE, [0, 0, 800, 600])
            );
            break;
        }
        client.ask(true);
    }
    client.close().unwrap();
}

#[test]
fn keys_come_by_meaning_or_by_scan_code() {
    let bench = bench();
    let (mut client, _, _) = Client::open(&bench);
    client.encodings(&[encode::SCANCODES, encode::RAW]);
    client.ask(true);
    let update = client.update();
    assert!(update.iter().any(|rect| rect.1 == encode::SCANCODES));
    client.say(&[4, 1, 0, 0, 0, 0, 0, b'@']);
    assert_eq!(bench.keys.recv().unwrap(), [0xe0, 0x38, 3, 0xe0, 0xb8]);
    client.say(&[4, 0, 0, 0, 0, 0, 0, b'@']);
    assert_eq!(bench.keys.recv().unwrap(), [0x83]);
    client.say(&[255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9d]);
    assert_eq!(bench.keys.recv().unwrap(), [0xe0, 0x1d]);
    // Pointer and clipboard are heard.
    client.say(&[5, 1, 0, 1, 0, 1]);
    client.say(&[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    client.say(&[4, 1, 0, 0, 0, 0, 0xff, 0x0d]);
    assert_eq!(bench.keys.recv().unwrap(), [0x1c]);
    client.close().unwrap();
    // Who goes lets go of the keys.
    assert_eq!(bench.keys.recv().unwrap(), [0x9c]);
    assert_eq!(bench.keys.recv().unwrap(), [0xe0, 0x9d]);
}

#[test]
fn only_who_knows_the_password_is_let_in() {
    let bench = bench();
    for (password, let_in) in [("secret", true), ("Secret", false)] {
        let mut client = Client::new(&bench, Security::Password("secret".into()));
        let _: [u8; 12] = client.get();
        client.say(b"RFB 003.008\n");
        assert_eq!(client.get(), [1, 2]);
        client.say(&[2]);
        let challenge = client.get();
        client.say(&handshake::response(password, &challenge));
        let result = u32::from_be_bytes(client.get());
        assert_eq!(result, u32::from(!let_in));
        if !let_in {
            let error = client.thread.take().unwrap().join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
    }
}

#[test]
fn the_answer_to_a_challenge_is_that_of_other_programs() {
    // openssl enc -des-ecb -nopad -K cea6c64ea62e0000
    let challenge = std::array::from_fn(|at| at as u8);
    let expected: [u8; 16] = [
        0xee, 0x22, 0x53, 0x9f, 0x33, 0xa5, 0x98, 0x3e, 0xc1, 0x2f, 0x9c, 0x2e, 0xdb, 0xc9, 0x95, 0xdd,
    ];
    assert_eq!(handshake::response("secret", &challenge), expected);
}

#[test]
fn a_client_that_talks_nonsense_is_sent_away() {
    let bench = bench();
    let (mut client, _, _) = Client::open(&bench);
    client.say(&[77]);
    assert!(client.thread.take().unwrap().join().unwrap().is_err());
    bench.server.end();
    let client = Client::new(&bench, Security::None);
    assert!(client.close().is_err());
}
