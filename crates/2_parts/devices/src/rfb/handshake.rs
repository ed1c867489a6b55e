//! How a session begins: versions, security, and what the screen is (RFC 6143, sections 7.1 to 7.3).

use std::io::{self, ErrorKind, Read, Write};

use des::Des;
use des::cipher::generic_array::GenericArray;
use des::cipher::{BlockEncrypt, KeyInit};
use vcpu::time::Random;

use super::Security;
use super::pixels::OFFERED;

/// Security types (section 7.1.2).
const NONE: u8 = 1;
const PASSWORD: u8 = 2;

/// What a client answers to a challenge: DES under the password, whose bytes have their bits turned around (section 7.2.2).
#[must_use]
pub fn response(password: &str, challenge: &[u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from.reverse_bits();
    }
    let des = Des::new(&key.into());
    let mut answer = *challenge;
    for block in answer.chunks_exact_mut(8) {
        des.encrypt_block(GenericArray::from_mut_slice(block));
    }
    answer
}

fn refuse(stream: &mut impl Write, why: &str) -> io::Result<()> {
    stream.write_all(&(why.len() as u32).to_be_bytes())?;
    stream.write_all(why.as_bytes())
}

fn denied() -> io::Error {
    ErrorKind::PermissionDenied.into()
}

/// Speaks until the client is let in.
///
/// # Errors
/// The client is gone, does not speak the protocol, or does not know the password.
pub fn greet(
    stream: &mut (impl Read + Write),
    security: &Security,
    random: &dyn Random,
    (width, height): (u16, u16),
    name: &str,
) -> io::Result<()> {
    stream.write_all(b"RFB 003.008\n")?;
    let mut version = [0; 12];
    stream.read_exact(&mut version)?;
    // Versions between those that exist are spoken as the one below.
    let version = match &version {
        b"RFB 003.008\n" => 8,
        b"RFB 003.007\n" => 7,
        [b'R', b'F', b'B', b' ', b'0', b'0', b'3', b'.', ..] => 3,
        _ => return Err(ErrorKind::InvalidData.into()),
    };
    let kind = match security {
        Security::None => NONE,
        Security::Password(_) => PASSWORD,
    };
    if version >= 7 {
        stream.write_all(&[1, kind])?;
        let mut chosen = [0];
        stream.read_exact(&mut chosen)?;
        if chosen[0] != kind {
            return Err(denied());
        }
    } else {
        stream.write_all(&[0, 0, 0, kind])?;
    }
    if let Security::Password(password) = security {
        let mut challenge = [0; 16];
        random.fill(&mut challenge);
        stream.write_all(&challenge)?;
        let mut answer = [0; 16];
        stream.read_exact(&mut answer)?;
        let expected = response(password, &challenge);
        let differ = expected
            .iter()
            .zip(&answer)
            .fold(0, |differ, (mine, theirs)| differ | (mine ^ theirs));
        if differ != 0 {
            // Guessing takes its time.
            std::thread::sleep(std::time::Duration::from_secs(1));
            stream.write_all(&[0, 0, 0, 1])?;
            if version >= 8 {
                refuse(stream, "The password is wrong.")?;
            }
            return Err(denied());
        }
        stream.write_all(&[0; 4])?;
    } else if version >= 8 {
        stream.write_all(&[0; 4])?;
    }
    // Whether others may stay: they always may.
    stream.read_exact(&mut [0])?;
    let mut init = Vec::new();
    init.extend_from_slice(&width.to_be_bytes());
    init.extend_from_slice(&height.to_be_bytes());
    init.extend_from_slice(&OFFERED.to_bytes());
    init.extend_from_slice(&(name.len() as u32).to_be_bytes());
    init.extend_from_slice(name.as_bytes());
    stream.write_all(&init)
}
