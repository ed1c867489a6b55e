//! POSIX access control lists: from the text of a tar header (acl_to_text) to the kernel's attribute.

/// The attribute `system.posix_acl_access` or `…_default` of a text such as `user::rw-,user:1000:r--,mask::r--`.
/// Entries whose name is neither a number nor `root` are left out, since names are not looked up here; none
/// when the text is no access control list.
pub(crate) fn attribute(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields = entry.split(':');
        let (kind, who, rights) = (fields.next()?, fields.next()?, fields.next()?);
        // A fourth field is the number that star and GNU tar append to a name.
        let who = fields.next().filter(|id| !id.is_empty()).unwrap_or(who);
        let tag: u16 = match (kind, who.is_empty()) {
            ("user" | "u", true) => 0x01,
            ("user" | "u", false) => 0x02,
            ("group" | "g", true) => 0x04,
            ("group" | "g", false) => 0x08,
            ("mask" | "m", _) => 0x10,
            ("other" | "o", _) => 0x20,
            _ => return None,
        };
        let id = match (tag, who) {
            (0x02 | 0x08, "root") => 0,
            (0x02 | 0x08, number) => match number.parse() {
                Ok(id) => id,
                Err(_) => continue,
            },
            _ => u32::MAX,
        };
        let mut bits = 0_u16;
        for right in rights.bytes() {
            bits |= match right {
                b'r' => 4,
                b'w' => 2,
                b'x' => 1,
                b'-' => 0,
                _ => return None,
            };
        }
        entries.push((tag, id, bits));
    }
    if entries.is_empty() {
        return None;
    }
    entries.sort_unstable();
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(bits.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_words_becomes_the_kernels_bytes() {
        let bytes = attribute(b"user::rw-,user:1000:r--,group::r--,mask::r--,other::---").unwrap();
        assert_eq!(bytes.len(), 4 + 5 * 8);
        assert_eq!(&bytes[4..12], [1, 0, 6, 0, 255, 255, 255, 255]);
        assert_eq!(&bytes[12..20], [2, 0, 4, 0, 0xe8, 3, 0, 0]);
        assert_eq!(attribute(b"nonsense"), None);
        assert_eq!(attribute(&[0xff]), None);
    }
}
