//! What clients say (RFC 6143, section 7.5). Nothing of it is kept that has a length of its own.

use std::io::{self, ErrorKind, Read};

use super::encode::Encodings;
use super::pixels::PixelFormat;

/// Longest clipboard that is taken, and thrown away.
const CLIPBOARD: u32 = 1 << 20;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// How pixels shall be.
    Format(PixelFormat),
    /// What the client can take.
    Encodings(Encodings),
    /// The client is ready for pixels: of what has changed, or all of them.
    Update {
        /// Only what has changed.
        incremental: bool,
    },
    /// A key by what it means.
    Key {
        /// Down or up.
        down: bool,
        /// X11's number of what it means.
        keysym: u32,
    },
    /// A key by where it is.
    Scancode {
        /// Down or up.
        down: bool,
        /// Scan code of set 1; bit 7 stands for the prefix 0xe0.
        code: u32,
    },
    /// Something that is not used: the pointer, the clipboard.
    Unused,
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Reads a message.
///
/// # Errors
/// The client is gone, or says what is no message.
pub fn read(from: &mut impl Read) -> io::Result<Message> {
    let [kind] = array(from)?;
    Ok(match kind {
        0 => {
            let bytes: [u8; 19] = array(from)?;
            let mut format = [0; 16];
            format.copy_from_slice(&bytes[3..]);
            Message::Format(PixelFormat::parse(&format).ok_or_else(|| bad("an impossible pixel format"))?)
        }
        2 => {
            let [_, high, low] = array(from)?;
            let mut encodings = Encodings::default();
            for _ in 0..u16::from_be_bytes([high, low]) {
                encodings.add(i32::from_be_bytes(array(from)?));
            }
            Message::Encodings(encodings)
        }
        3 => {
            let bytes: [u8; 9] = array(from)?;
            Message::Update {
                incremental: bytes[0] != 0,
            }
        }
        4 => {
            let bytes: [u8; 7] = array(from)?;
            Message::Key {
                down: bytes[0] != 0,
                keysym: word(&bytes[3..]),
            }
        }
        5 => {
            let _: [u8; 5] = array(from)?;
            Message::Unused
        }
        6 => {
            let bytes: [u8; 7] = array(from)?;
            let len = word(&bytes[3..]);
            if len > CLIPBOARD {
                return Err(bad("a clipboard that is too long"));
            }
            let copied = io::copy(&mut from.take(u64::from(len)), &mut io::sink())?;
            if copied < u64::from(len) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Message::Unused
        }
        255 => {
            let bytes: [u8; 11] = array(from)?;
            if bytes[0] != 0 {
                return Err(bad("an unknown message"));
            }
            Message::Scancode {
                down: word(&[0, 0, bytes[1], bytes[2]]) != 0,
                code: word(&bytes[7..]),
            }
        }
        _ => return Err(bad("an unknown message")),
    })
}
