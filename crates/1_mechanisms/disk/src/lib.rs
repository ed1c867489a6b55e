//! Disk formats, partition tables and file systems of guests.
//!
//! Everything stands on one contract, [`Image`]: bytes at offsets, blocking, usable by several threads at once.
//! [`Raw`] and [`Qcow2`] are files, [`Overlay`] keeps writes apart from its base, [`Slice`] is a window of another
//! image, a partition for example. [`partition`] reads and writes partition tables, [`ext4`] reads the file system.
//!
//! All of it reads bytes that a guest has written: nothing panics on them, every size and every table offset is
//! checked, and no structure of a disk makes a loop or an allocation without a bound.

pub mod ext4;
mod format;
mod image;
mod overlay;
pub mod partition;
mod qcow2;
mod raw;
mod slice;

use fault::Code;

pub use format::{Format, detect, open};
pub use image::{Image, SECTOR, is_full};
pub use overlay::Overlay;
pub use qcow2::{CreateOptions, Qcow2};
pub use raw::Raw;
pub use slice::Slice;

/// The image cannot be read or written.
pub const IO: Code = Code("DSK001");
/// The image file is damaged; argument `what` says where.
pub const DAMAGED: Code = Code("DSK002");
/// The image stands on another file (a backing chain).
pub const BACKING: Code = Code("DSK003");
/// The image keeps its data in a second file.
pub const EXTERNAL_DATA: Code = Code("DSK004");
/// The image is encrypted.
pub const ENCRYPTED: Code = Code("DSK005");
/// The image uses a feature that is not known here; argument `what` names it.
pub const FEATURE: Code = Code("DSK006");
/// The image was not closed and its reference counts are out of date.
pub const DIRTY: Code = Code("DSK007");
/// A program has marked the image as corrupt.
pub const CORRUPT: Code = Code("DSK008");
/// The file is a disk image of another program; argument `format` names it.
pub const FOREIGN: Code = Code("DSK009");
/// The size of a disk is not possible; argument `size` in bytes.
pub const SIZE: Code = Code("DSK010");
/// The partition table is damaged; argument `what` says where.
pub const TABLE: Code = Code("DSK011");
/// The partitions that are wanted do not fit on the disk; argument `what`.
pub const FIT: Code = Code("DSK012");
