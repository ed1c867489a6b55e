//! The fixed block of 512 bytes before every entry.

use fault::Result;

use crate::damaged;

/// Size of a block: headers and data are padded to it.
pub(super) const BLOCK: usize = 512;

/// One header block, by field.
pub(super) struct Header(pub(super) [u8; BLOCK]);

impl Header {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Whether the checksum is right; both the unsigned sum and the signed one of old writers are accepted.
    pub(super) fn checksum_holds(&self) -> bool {
        let Ok(stored) = number(&self.0[148..156]) else {
            return false;
        };
        let body = || self.0[..148].iter().chain(&[b' '; 8]).chain(&self.0[156..]);
        let unsigned: i64 = body().map(|b| i64::from(*b)).sum();
        let signed: i64 = body().map(|b| i64::from(*b as i8)).sum();
        stored == unsigned || stored == signed
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    /// Whether it is in the old GNU format, whose bytes from 345 on are no prefix.
    pub(super) fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    /// The name, with the prefix of ustar before it.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(&self.0[345..500]);
        if self.is_ustar() && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32> {
        Ok((unsigned(&self.0[100..108], "mode")? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u32> {
        u32::try_from(unsigned(&self.0[108..116], "uid")?).map_err(|_| damaged("uid"))
    }

    pub(super) fn gid(&self) -> Result<u32> {
        u32::try_from(unsigned(&self.0[116..124], "gid")?).map_err(|_| damaged("gid"))
    }

    pub(super) fn size(&self) -> Result<u64> {
        unsigned(&self.0[124..136], "size")
    }

    pub(super) fn mtime(&self) -> Result<i64> {
        number(&self.0[136..148]).map_err(|()| damaged("mtime"))
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32)> {
        let part = |range: std::ops::Range<usize>| {
            u32::try_from(unsigned(&self.0[range], "device")?).map_err(|_| damaged("device"))
        };
        Ok((part(329..337)?, part(337..345)?))
    }
}

/// A field up to its first zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

pub(super) fn unsigned(field: &[u8], what: &str) -> Result<u64> {
    number(field)
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| damaged(what))
}

/// An octal number, or GNU's base 256 when the first bit is set. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Result<i64, ()> {
    if let Some(first) = field.first().filter(|b| **b & 0x80 != 0) {
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let byte = match (index, negative) {
                (0, true) => byte | 0x80,
                (0, false) => byte & 0x7f,
                _ => *byte,
            };
            value = value.checked_mul(256).ok_or(())?;
            value |= i64::from(byte);
        }
        return Ok(value);
    }
    let field = text(field).trim_ascii();
    field.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|v| v + i64::from(digit - b'0'))
            .ok_or(()),
        _ => Err(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0"), Ok(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 1, 0, 0]), Ok(65536));
        assert_eq!(number(&[0xff; 12]), Ok(-1));
        assert_eq!(number(b"9"), Err(()));
        assert_eq!(number(&[0xbf; 12]), Err(()));
    }
}
