//! The identifiers on a machine's disk: from the guest's id, so that the same guest gets the same disk.

use disk::partition::Guid;
use sha2::{Digest, Sha256};

/// What an identifier is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The disk.
    Disk,
    /// The partition for a boot loader.
    Boot,
    /// The partition of the root file system.
    RootPartition,
    /// The root file system.
    RootSystem,
    /// The seed of its directory hashes.
    HashSeed,
}

/// An identifier of version 8 (RFC 9562, section 5.8): the beginning of a SHA-256 of the guest's id and the purpose.
pub(crate) fn uuid(guest: &str, of: Of) -> Guid {
    let purpose = match of {
        Of::Disk => "disk",
        Of::Boot => "boot partition",
        Of::RootPartition => "root partition",
        Of::RootSystem => "root file system",
        Of::HashSeed => "hash seed",
    };
    let digest = Sha256::digest(format!("posada {purpose} {guest}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Guid(bytes)
}

/// The UUID of the root file system on a guest's disk, as `root=UUID=…` takes it.
#[must_use]
pub fn root_uuid(guest: &str) -> String {
    uuid(guest, Of::RootSystem).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_its_own_identifiers_for_ever() {
        let all = [
            Of::Disk,
            Of::Boot,
            Of::RootPartition,
            Of::RootSystem,
            Of::HashSeed,
        ];
        let mut seen = std::collections::HashSet::new();
        for guest in ["0123456789abcdef0123456789abcdef", "x"] {
            for of in all {
                assert_eq!(uuid(guest, of), uuid(guest, of));
                assert!(seen.insert(uuid(guest, of)), "{guest} {of:?}");
            }
        }
    }

    #[test]
    fn the_text_is_a_uuid_of_version_8() {
        let text = root_uuid("web");
        let bytes = text.as_bytes();
        assert_eq!((text.len(), bytes[8], bytes[14]), (36, b'-', b'8'), "{text}");
        assert!(b"89ab".contains(&bytes[19]), "{text}");
    }
}
