//! GUIDs of disks, partitions and partition types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A GUID, kept in the byte order of its text; on disk its first three groups are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// No GUID: an unused entry.
    pub const ZERO: Guid = Guid([0; 16]);
    /// Type of the EFI system partition.
    pub const EFI_SYSTEM: Guid = Guid(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b_u128.to_be_bytes());
    /// Type of the partition where GRUB puts its core on BIOS machines.
    pub const BIOS_BOOT: Guid = Guid(0x21686148_6449_6e6f_744e_656564454649_u128.to_be_bytes());
    /// Type of Linux data.
    pub const LINUX: Guid = Guid(0x0fc63daf_8483_4772_8e79_3d69d8477de4_u128.to_be_bytes());
    /// Type of the root file system of x86-64 (Discoverable Partitions Specification).
    pub const LINUX_ROOT_X86_64: Guid = Guid(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709_u128.to_be_bytes());
    /// Type of the root file system of 32-bit x86 (Discoverable Partitions Specification).
    pub const LINUX_ROOT_X86: Guid = Guid(0x44479540_f297_41b2_9af7_d131d5f0458a_u128.to_be_bytes());
    /// Type of the extended boot loader partition (Boot Loader Specification).
    pub const LINUX_BOOT: Guid = Guid(0xbc13c2ff_59e6_4262_a352_b275fd6f7172_u128.to_be_bytes());
    /// Type of swap space.
    pub const LINUX_SWAP: Guid = Guid(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f_u128.to_be_bytes());

    /// From the bytes on a disk.
    #[must_use]
    pub fn from_disk(mut bytes: [u8; 16]) -> Self {
        swap(&mut bytes);
        Guid(bytes)
    }

    /// The bytes for a disk.
    #[must_use]
    pub fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        swap(&mut bytes);
        bytes
    }
}

fn swap(bytes: &mut [u8; 16]) {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID")]
pub struct NoGuid;

impl FromStr for Guid {
    type Err = NoGuid;

    fn from_str(text: &str) -> Result<Self, NoGuid> {
        let dashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
        if text.len() != 36 || !dashes.map(|(at, _)| at).eq([8, 13, 18, 23]) {
            return Err(NoGuid);
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoGuid);
        }
        u128::from_str_radix(&digits, 16)
            .map(|number| Guid(number.to_be_bytes()))
            .map_err(|_| NoGuid)
    }
}

impl Serialize for Guid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_reads_back_from_its_text_and_its_bytes() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        assert_eq!(Guid::EFI_SYSTEM.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(Guid::EFI_SYSTEM));
        let disk = Guid::EFI_SYSTEM.to_disk();
        assert_eq!(disk[..6], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8]);
        assert_eq!(Guid::from_disk(disk), Guid::EFI_SYSTEM);
        for wrong in [
            "",
            "c12a7328",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93g",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert_eq!(wrong.parse::<Guid>(), Err(NoGuid));
        }
    }
}
