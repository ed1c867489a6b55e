//! What kind of image a file is, and opening it.
//!
//! A guest can write the header of another format into its raw disk, and an image read as what the guest claims it to
//! be can name other files of the host. So a format is probed **once**, when an image comes into the house
//! ([`detect`]), and recorded; every later start hands the recorded format to [`open`], which never probes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fault::{Fault, OrFault, Result};
use serde::{Deserialize, Serialize};

use crate::{FOREIGN, IO, Image, Qcow2, Raw};

/// The format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk and nothing else.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// First bytes of formats that are not read here. A raw disk that begins so would not boot anyway.
const FOREIGN_FORMATS: [(&[u8], &str); 5] = [
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
];

/// Tells the format of a file that has just come from its user, by its first bytes.
///
/// Call it once and record the answer: see the head of this module. A file for which the user names a format must not
/// be probed at all.
///
/// # Errors
/// [`IO`], or [`FOREIGN`] for the image of another program.
pub fn detect(file: &File) -> Result<Format> {
    let mut magic = [0; 8];
    let mut have = 0;
    while have < magic.len() {
        match file.read_at(&mut magic[have..], have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::new(IO).because(error)),
        }
    }
    let magic = &magic[..have];
    if magic.starts_with(crate::qcow2::MAGIC) {
        return Ok(Format::Qcow2);
    }
    match FOREIGN_FORMATS.iter().find(|(bytes, _)| magic.starts_with(bytes)) {
        Some((_, name)) => Err(Fault::new(FOREIGN).arg("format", name)),
        None => Ok(Format::Raw),
    }
}

/// Opens an image of a known format.
///
/// # Errors
/// [`IO`], or what [`Qcow2::open`] refuses.
pub fn open(file: File, format: Format, read_only: bool) -> Result<Box<dyn Image>> {
    Ok(match format {
        Format::Raw => Box::new(Raw::open(file, read_only).or_fault(|| Fault::new(IO))?),
        Format::Qcow2 => Box::new(Qcow2::open(file, read_only)?),
    })
}
