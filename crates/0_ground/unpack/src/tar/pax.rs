//! Extended headers of PAX: records `LENGTH KEY=VALUE\n`.

use fault::Result;

use crate::damaged;

/// All that the extended headers before an entry say about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// GNU's sparse files in PAX: formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) real_size: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// Numbers of formats 0.x: offset, length, offset, length…
    pub(super) numbers: Vec<u64>,
    pub(super) seen: bool,
}

impl Pax {
    /// Takes over the records of one extended header.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (record, rest) = split(bytes).ok_or_else(|| damaged("pax record"))?;
            bytes = rest;
            let equals = record
                .iter()
                .position(|b| *b == b'=')
                .ok_or_else(|| damaged("pax record"))?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            self.record(key, value)?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(id(value)?),
            b"gid" => self.gid = Some(id(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"SCHILY.acl.access" => self.acl(b"system.posix_acl_access", value),
            b"SCHILY.acl.default" => self.acl(b"system.posix_acl_default", value),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = Some(decimal(value)?);
                self.sparse.seen = true;
            }
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.numbers.push(decimal(value)?);
                self.sparse.seen = true;
            }
            b"GNU.sparse.map" => {
                for number in value.split(|b| *b == b',').filter(|n| !n.is_empty()) {
                    self.sparse.numbers.push(decimal(number)?);
                }
                self.sparse.seen = true;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set(name, value.to_vec());
                }
            }
        }
        Ok(())
    }

    fn acl(&mut self, name: &[u8], text: &[u8]) {
        if let Some(bytes) = crate::acl::attribute(text) {
            self.set(name, bytes);
        }
    }

    fn set(&mut self, name: &[u8], value: Vec<u8>) {
        self.xattrs.retain(|(n, _)| n != name);
        self.xattrs.push((name.to_vec(), value));
    }
}

/// The first record without its length and line end, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
    let record = bytes.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &bytes[length..]))
}

pub(super) fn decimal(value: &[u8]) -> Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged("pax number"))
}

fn id(value: &[u8]) -> Result<u32> {
    u32::try_from(decimal(value)?).map_err(|_| damaged("pax owner"))
}

/// Seconds with an optional fraction and sign.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = value.iter().position(|b| *b == b'.').unwrap_or(value.len());
    let seconds = i64::try_from(decimal(&value[..point])?).map_err(|_| damaged("pax time"))?;
    let mut nanos = 0;
    for index in 0..9 {
        let digit = match value.get(point + 1 + index) {
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return Err(damaged("pax time")),
            None => 0,
        };
        nanos = nanos * 10 + digit;
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// One record with its own length before it.
pub(super) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut out = format!("{length} ").into_bytes();
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_carry_their_own_length() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        for len in 0..200 {
            let bytes = record(b"path", &vec![b'a'; len]);
            let mut pax = Pax::default();
            pax.read(&bytes).unwrap();
            assert_eq!(pax.path.unwrap().len(), len);
        }
    }

    #[test]
    fn times_before_1970_and_with_fractions_are_read() {
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert!(time(b"x").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pax::default().read(&bytes);
        }

        #[test]
        fn any_value_survives(value in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut pax = Pax::default();
            pax.read(&record(b"SCHILY.xattr.user.x", &value)).unwrap();
            prop_assert_eq!(&pax.xattrs[0].1, &value);
        }
    }
}
