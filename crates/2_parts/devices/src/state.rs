//! The saved state of a device: a version and its fields, in CBOR (RFC 8949), so that fields can be added.

use fault::{Code, Fault, OrFault, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A saved state does not fit the device.
pub const STATE_UNFIT: Code = Code("DEV001");

/// The saved state of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Layout version of the fields, counted by the device.
    pub version: u32,
    /// The fields, in CBOR.
    pub fields: Vec<u8>,
}

impl Saved {
    /// Saves fields under a layout version.
    ///
    /// # Errors
    /// `DEV001` when the fields cannot be written down.
    pub fn new(version: u32, fields: &impl Serialize) -> Result<Saved> {
        let mut bytes = Vec::new();
        ciborium::into_writer(fields, &mut bytes).or_fault(|| Fault::new(STATE_UNFIT))?;
        Ok(Saved {
            version,
            fields: bytes,
        })
    }

    /// Reads the fields of a layout version up to `newest`.
    ///
    /// # Errors
    /// `DEV001` when the layout is newer, or the bytes are not such fields.
    pub fn fields<T: DeserializeOwned>(&self, newest: u32) -> Result<T> {
        if self.version > newest {
            return Err(
                Fault::new(STATE_UNFIT).because_of(format!("layout {} is newer than {newest}", self.version))
            );
        }
        ciborium::from_reader(self.fields.as_slice()).or_fault(|| Fault::new(STATE_UNFIT))
    }
}
