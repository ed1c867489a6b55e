//! A session: one thread hears the client, one sends what has changed.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, PoisonError};

use super::encode::{self, Encodings, Zrle};
use super::keys::Keyboard;
use super::message::{self, Message};
use super::pixels::{OFFERED, PixelFormat};
use super::{PACE, PATIENCE, Security, Server, handshake, lock};
use crate::vga::{Damage, Frame, Rect};

/// What the client wants.
pub(super) struct Wanted {
    format: PixelFormat,
    /// The client has to be told its colour map.
    map: bool,
    encodings: Encodings,
    /// The client has to be told that keys may come by scan code.
    scancodes: bool,
    /// The client is ready for pixels; true for all of them.
    ready: Option<bool>,
    ended: bool,
}

impl Wanted {
    pub(super) fn new() -> Self {
        Wanted {
            format: OFFERED,
            map: false,
            encodings: Encodings::default(),
            scancodes: false,
            ready: None,
            ended: false,
        }
    }

    /// Takes notice of a message.
    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Format(format) => {
                self.format = format;
                self.map = format.colour_map().is_some();
            }
            Message::Encodings(encodings) => {
                self.scancodes = encodings.scancodes && !self.encodings.scancodes;
                self.encodings = encodings;
            }
            Message::Update { incremental } => {
                self.ready = Some(self.ready == Some(true) || !incremental);
            }
            _ => {}
        }
    }
}

/// What the client has been sent.
pub(super) struct Sent {
    frame: Frame,
    /// The size that the client believes in.
    size: (u32, u32),
    zrle: Zrle,
}

impl Sent {
    pub(super) fn new(size: (u32, u32)) -> Self {
        Sent {
            frame: Frame::new(),
            size,
            zrle: Zrle::new(),
        }
    }

    /// The message that brings the client up to date; none when nothing has changed. `look` brings the frame up to date.
    pub(super) fn update(
        &mut self,
        wanted: &mut Wanted,
        look: impl FnOnce(&mut Frame) -> Damage,
    ) -> Option<Vec<u8>> {
        let all = wanted.ready?;
        let damage = look(&mut self.frame);
        let size = self.frame.size();
        let mut rects = Vec::new();
        let resized = size != self.size && wanted.encodings.desktop_size;
        if resized {
            self.size = size;
        }
        // What the client has room for.
        let room = (size.0.min(self.size.0), size.1.min(self.size.1));
        if all || resized || damage.resized {
            rects.push(Rect {
                x: 0,
                y: 0,
                width: room.0,
                height: room.1,
            });
        } else {
            for rect in damage.rects {
                rects.push(Rect {
                    width: rect.width.min(room.0.saturating_sub(rect.x)),
                    height: rect.height.min(room.1.saturating_sub(rect.y)),
                    ..rect
                });
            }
        }
        rects.retain(|rect| rect.width > 0 && rect.height > 0);
        let mut out = Vec::new();
        if std::mem::take(&mut wanted.map)
            && let Some(map) = wanted.format.colour_map()
        {
            out.extend_from_slice(&[1, 0, 0, 0]);
            out.extend_from_slice(&(map.len() as u16).to_be_bytes());
            out.extend(map.iter().flatten().flat_map(|part| part.to_be_bytes()));
        }
        let scancodes = std::mem::take(&mut wanted.scancodes);
        let count = rects.len() + usize::from(resized) + usize::from(scancodes);
        if count == 0 {
            return (!out.is_empty()).then_some(out);
        }
        wanted.ready = None;
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(count as u16).to_be_bytes());
        let whole = Rect {
            x: 0,
            y: 0,
            width: self.size.0,
            height: self.size.1,
        };
        if resized {
            encode::head(whole, encode::DESKTOP_SIZE, &mut out);
        }
        if scancodes {
            encode::head(whole, encode::SCANCODES, &mut out);
        }
        for rect in rects {
            if wanted.encodings.zrle {
                encode::head(rect, encode::ZRLE, &mut out);
                self.zrle.rectangle(&self.frame, rect, wanted.format, &mut out);
            } else {
                encode::head(rect, encode::RAW, &mut out);
                encode::raw(&self.frame, rect, wanted.format, &mut out);
            }
        }
        Some(out)
    }
}

/// Hears the client until it goes.
pub(super) fn hear(
    from: &mut impl Read,
    keyboard: &mut Keyboard<'_>,
    mut tell: impl FnMut(Message),
) -> io::Result<()> {
    loop {
        match message::read(from) {
            Ok(Message::Key { down, keysym }) => keyboard.keysym(keysym, down),
            Ok(Message::Scancode { down, code }) => keyboard.scancode(code, down),
            Ok(message) => tell(message),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Sends the client what has changed, until it goes.
fn send(server: &Server, mut stream: &UnixStream, size: (u32, u32), desk: &(Mutex<Wanted>, Condvar)) {
    let mut sent = Sent::new(size);
    let (wanted, moved) = desk;
    loop {
        let mut now = lock(wanted);
        while now.ready.is_none() && !now.ended {
            now = moved.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        if now.ended {
            return;
        }
        // A copy, so that the client is heard while pixels are made.
        let mut copy = Wanted { ..*now };
        (now.map, now.scancodes, now.ready) = (false, false, None);
        drop(now);
        let view = server.screen.view();
        let update = sent.update(&mut copy, |frame| view.render(frame));
        if let Some(bytes) = update
            && stream.write_all(&bytes).is_err()
        {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let mut now = lock(wanted);
        if let (Some(all), false) = (copy.ready, now.ready == Some(true)) {
            now.ready = Some(all);
        }
        drop(now);
        std::thread::sleep(PACE);
    }
}

/// Serves a client.
pub(super) fn run(server: &Server, stream: &UnixStream, security: &Security) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let size = server.screen.view().size();
    let mut both = stream;
    let told = (size.0 as u16, size.1 as u16);
    handshake::greet(&mut both, security, &*server.random, told, &server.name)?;
    stream.set_read_timeout(None)?;
    let desk = (Mutex::new(Wanted::new()), Condvar::new());
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("rfb-send".into())
            .spawn_scoped(scope, || {
                (server.enter)("rfb-send");
                send(server, stream, size, &desk);
            })?;
        let mut keyboard = Keyboard::new(server.keymap, &*server.input);
        let heard = hear(&mut BufReader::new(stream), &mut keyboard, |message| {
            lock(&desk.0).hear(message);
            desk.1.notify_all();
        });
        keyboard.release_all();
        lock(&desk.0).ended = true;
        desk.1.notify_all();
        // What is being written is given up.
        let _ = stream.shutdown(Shutdown::Both);
        heard
    })
}
