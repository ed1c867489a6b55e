//! The screen and the keyboard of a machine, for people outside: RFB, pictures, text.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use devices::rfb::{Input, Keymap, Security, Server};
use devices::vga::{Frame, Screen};
use fault::{Code, Fault, OrFault, Result};
use rustix::fs::MemfdFlags;
use vcpu::time::HostRandom;

use crate::control::Said;

/// The machine has no screen, or it does not show what is wanted.
pub const NO_PICTURE: Code = Code("MAC005");

/// The screen of a machine.
pub struct Outlook {
    screen: Arc<dyn Screen>,
    server: Arc<Server>,
}

fn no_picture(what: &str) -> Fault {
    Fault::new(NO_PICTURE).arg("what", what)
}

impl Outlook {
    /// Of a display adapter and a keyboard; `keymap` is what the guest believes the keyboard to be.
    #[must_use]
    pub fn new(
        name: &str,
        screen: Arc<dyn Screen>,
        input: Arc<dyn Input>,
        keymap: &str,
        enter: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        let keymap = Keymap::named(keymap).unwrap_or_default();
        let server = Server::new(
            name,
            Arc::clone(&screen),
            input,
            keymap,
            Arc::new(HostRandom),
            enter,
        );
        Outlook {
            screen,
            server: Arc::new(server),
        }
    }

    /// Serves everybody who connects to a listening stream socket.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn listen(&self, listener: OwnedFd, password: String) -> Result<()> {
        // Accepting and closing are the same for stream sockets of every family.
        let listener = UnixListener::from(listener);
        let server = Arc::clone(&self.server);
        let accept = move || {
            while let Ok((client, _)) = listener.accept() {
                let (server, security) = (Arc::clone(&server), Security::Password(password.clone()));
                let serve = move || drop(server.serve(client.into(), &security));
                if std::thread::Builder::new()
                    .name("rfb".to_owned())
                    .spawn(serve)
                    .is_err()
                {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        };
        let spawned = std::thread::Builder::new()
            .name("rfb-accept".to_owned())
            .spawn(accept);
        spawned.map(drop).or_fault(|| no_picture("rfb"))
    }

    /// What it shows, as text or as a picture in a memory file.
    ///
    /// # Errors
    /// `MAC005` when text is wanted and there is none.
    pub fn look(&self, text: bool) -> Result<(Said, Vec<OwnedFd>)> {
        let view = self.screen.view();
        if text {
            let shown = view.text().ok_or_else(|| no_picture("text"))?;
            let lines: Vec<String> = shown.lines().collect();
            let text = lines.join("\n");
            return Ok((Said::Text { text }, Vec::new()));
        }
        let mut frame = Frame::new();
        view.render(&mut frame);
        let bytes = png(&frame).ok_or_else(|| no_picture("picture"))?;
        let memory =
            rustix::fs::memfd_create("picture", MemfdFlags::CLOEXEC).or_fault(|| no_picture("picture"))?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&bytes).or_fault(|| no_picture("picture"))?;
        let len = bytes.len() as u64;
        Ok((Said::Picture { len }, vec![file.into()]))
    }
}

impl Drop for Outlook {
    fn drop(&mut self) {
        self.server.end();
    }
}

/// A picture as PNG (ISO/IEC 15948); none when it has no pixels.
fn png(frame: &Frame) -> Option<Vec<u8>> {
    let (width, height) = frame.size();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let pixels: Vec<u8> = frame
        .pixels()
        .iter()
        .flat_map(|pixel| {
            let [_, red, green, blue] = pixel.to_be_bytes();
            [red, green, blue]
        })
        .collect();
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}
