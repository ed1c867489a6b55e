//! Start through firmware: SeaBIOS's image in memory, and what it reads of the machine.
//!
//! SeaBIOS recognises the machine by its PCI host bridge (8086:1237), finds memory, processors and tables through
//! fw_cfg, and the rest in CMOS.

mod boot_order;
mod cmos;
mod fw_cfg;

use fault::{Fault, Result};

use crate::faults::NOT_FIRMWARE;
use crate::layout::{HIGH_MEMORY, KIB, MIB};
use crate::{Chunk, Entry, Machine};

pub use boot_order::{BootDevice, BootKind};
pub use cmos::contents as cmos;
pub use fw_cfg::{Item, Key, items};

const LEGACY_AREA: u64 = 128 * KIB;
/// Where a processor begins: 16 bytes before 4 GiB.
const RESET_VECTOR: usize = 16;

/// What firmware is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firmware<'a> {
    /// Devices in the order in which they are tried; those that are not named come after them.
    pub order: Vec<BootDevice>,
    /// How long it waits for a key at its boot menu, in milliseconds; `None` for no menu.
    pub menu_wait: Option<u16>,
    /// Whether it restarts the machine, and after how many milliseconds, when nothing can be booted.
    pub retry_after: Option<u32>,
    /// The VGA adapter's option ROM (vgabios-stdvga.bin), for an adapter without a ROM BAR.
    pub vga_rom: Option<&'a [u8]>,
}

/// All that a machine with firmware starts from.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The image below 4 GiB, which is read-only memory.
    pub rom: Chunk<'a>,
    /// The image's last 128 KiB below 1 MiB: what reads there see while the PAM registers do not select memory.
    pub shadow: Chunk<'a>,
    /// Items of fw_cfg. Signature, id and directory are the device's own; keys that are not here read as zeros.
    pub fw_cfg: Vec<Item>,
    /// Indices and values of CMOS, besides the clock's own.
    pub cmos: Vec<(u8, u8)>,
    /// Always [`Entry::Reset`].
    pub entry: Entry,
}

/// Everything that a machine with this firmware image starts from.
///
/// # Errors
///
/// [`NOT_FIRMWARE`], [`BAD_MEMORY`](crate::BAD_MEMORY), [`BAD_CPUS`](crate::BAD_CPUS).
pub fn start<'a>(machine: &Machine, firmware: &Firmware<'_>, image: &'a [u8]) -> Result<Start<'a>> {
    machine.check()?;
    let (rom, shadow) = map(image)?;
    Ok(Start {
        rom,
        shadow,
        fw_cfg: items(machine, firmware),
        cmos: cmos(machine, firmware),
        entry: Entry::Reset,
    })
}

/// Where an image lies: whole below 4 GiB, and its last 128 KiB below 1 MiB.
fn map(image: &[u8]) -> Result<(Chunk<'_>, Chunk<'_>)> {
    let what = |what| Fault::new(NOT_FIRMWARE).arg("what", what);
    let length = image.len() as u64;
    if !(64 * KIB..=8 * MIB).contains(&length) || !length.is_multiple_of(64 * KIB) {
        return Err(what("its size is not 64 KiB to 8 MiB in steps of 64 KiB"));
    }
    let vector = &image[image.len() - RESET_VECTOR..];
    if vector.iter().all(|byte| *byte == 0) || vector.iter().all(|byte| *byte == 0xFF) {
        return Err(what("it has no reset vector"));
    }
    let shadow = &image[(length - length.min(LEGACY_AREA)) as usize..];
    Ok((
        Chunk::borrowed(HIGH_MEMORY - length, image),
        Chunk::borrowed(MIB - shadow.len() as u64, shadow),
    ))
}
