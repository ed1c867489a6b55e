//! Sizes in bytes as people write them.

use std::fmt;
use std::str::FromStr;

use fault::{Code, Fault};
use serde::{Deserialize, Serialize};

/// The text is not a size.
pub const SIZE_INVALID: Code = Code("SIZ001");

/// A number of bytes. Written as `512`, `512K`, `512M`, `4G`, `1T` (powers of 1024; `MiB` and `MB` are taken
/// for the same); in JSON a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = || Fault::new(SIZE_INVALID).arg("text", text);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| bad())?;
        let shift = match text[digits..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(bad()),
        };
        number.checked_mul(1 << shift).map(Size).ok_or_else(bad)
    }
}

/// For people: `512`, `1.5K`, `512M`, `4G`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = match self.0 {
            0..0x400 => return write!(f, "{}", self.0),
            0x400..0x10_0000 => ("K", 10),
            0x10_0000..0x4000_0000 => ("M", 20),
            0x4000_0000..0x100_0000_0000 => ("G", 30),
            _ => ("T", 40),
        };
        let tenths = (u128::from(self.0) * 10) >> shift;
        if tenths.is_multiple_of(10) || tenths >= 1000 {
            write!(f, "{}{unit}", tenths / 10)
        } else {
            write!(f, "{}.{}{unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!("512M".parse::<Size>().unwrap(), Size(512 << 20));
        assert_eq!("4GiB".parse::<Size>().unwrap(), Size(4 << 30));
        assert_eq!(Size(1536).to_string(), "1.5K");
        assert_eq!(Size(4 << 30).to_string(), "4G");
        for bad in ["", "M", "-1", "4X", "99999999999T", "1.5G"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
