//! Direct boot: a kernel, its initrd and its command line put into memory, and the state to enter it in.
//!
//! Low memory is used so (addresses in hexadecimal):
//!
//! ```text
//!    400  BIOS data area: serial ports, EBDA, size of conventional memory
//!    600  global descriptor table
//!   6000  PVH start info, with the map of memory
//!   7000  zero page
//!   8000  random seed (setup_data)
//!   9000  identity page tables (6 pages)
//!  20000  command line
//!  E0000  RSDP and ACPI tables
//!  F0000  SMBIOS entry point and tables
//! 100000  and up: the kernel where it wants to be; the initrd as high as it may be
//! ```

mod bytes;
mod bzimage;
mod configuration;
mod elf;
pub mod entry;
mod pvh;
mod zero_page;

use fault::{Fault, Result};

use crate::faults::{
    COMMAND_LINE_HAS_NUL, COMMAND_LINE_TOO_LONG, INITRD_TOO_LARGE, MEMORY_TOO_SMALL, NO_SUCH_ENTRY,
    NOT_A_KERNEL, WRONG_ARCHITECTURE,
};
use crate::layout::{self, EBDA, MIB, low_memory};
use crate::{Chunk, Entry, Machine, acpi, e820, initrd, smbios};

pub(crate) use bytes::put;
pub use configuration::ConfigWrite;

const COMMAND_LINE: u64 = 0x2_0000;
/// More than any kernel reads, and far from the EBDA.
const COMMAND_LINE_MOST: usize = 0x1_0000;
const PAGE: u64 = 4096;

/// The ways in which a kernel can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Linux's 64-bit entry.
    Long64,
    /// Linux's 32-bit entry.
    Protected32,
    /// Xen's PVH entry, which tells nothing of a screen.
    Pvh,
}

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct DirectBoot<'a> {
    /// A bzImage or an ELF kernel.
    pub kernel: &'a [u8],
    /// Archives that make up the initrd, in their order; the kernel unpacks one after the other.
    pub initrd: &'a [&'a [u8]],
    /// The command line, without a NUL.
    pub command_line: &'a [u8],
    /// How to enter the kernel; `None` for the best of the entries that it has.
    pub handover: Option<Handover>,
    /// Bytes for the kernel's random number generator.
    pub seed: Option<[u8; 32]>,
}

/// A machine ready to run.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Images of memory; they do not overlap.
    pub chunks: Vec<Chunk<'a>>,
    /// What is written into PCI configuration space before, in this order.
    pub configuration: Vec<ConfigWrite>,
    /// How the first processor begins.
    pub entry: Entry,
}

/// A kernel as its file describes it.
struct Image<'a> {
    /// Address, bytes, and size in memory.
    segments: Vec<(u64, &'a [u8], u64)>,
    /// bzImage's setup header, for the zero page.
    setup_header: Option<&'a [u8]>,
    /// First byte of memory that the kernel uses before it reads the map of memory.
    start: u64,
    /// Behind the last such byte.
    end: u64,
    /// Highest address of the initrd's last byte.
    initrd_most: u64,
    /// Characters of the command line.
    command_line_most: usize,
    entry_64: Option<u64>,
    entry_32: Option<u32>,
    entry_pvh: Option<u32>,
    /// Whether it says that it is Linux, whose 64-bit entry is told of the screen.
    linux: bool,
}

/// Puts a kernel and all that it is told into the memory of a machine.
///
/// A machine with a screen must have its VGA adapter in text mode 3.
///
/// # Errors
///
/// One of the codes of this crate: what is wrong with the kernel, the initrd, the command line or the machine.
pub fn direct<'a>(machine: &Machine, boot: &DirectBoot<'a>) -> Result<Start<'a>> {
    machine.check()?;
    let image = read(boot.kernel)?;
    let entry = choose(machine, &image, boot.handover)?;
    if image.end > low_memory(machine.memory) {
        return Err(Fault::new(MEMORY_TOO_SMALL)
            .arg("need", image.end.div_ceil(MIB))
            .arg("memory", machine.memory / MIB));
    }
    check_command_line(boot.command_line, image.command_line_most)?;
    let parts = initrd::align(boot.initrd);
    let ramdisk = place_initrd(machine, &image, &parts)?;

    let ranges = e820::for_kernel(machine);
    let (tables, rsdp) = acpi::placed(machine)?;
    let mut chunks = vec![bios_data_area(machine), tables, smbios::placed(machine)];
    chunks.extend(entry.tables());
    let command_line = [boot.command_line, b"\0"].concat();
    chunks.push(Chunk::owned(COMMAND_LINE, command_line));
    match entry {
        Entry::Pvh { .. } => chunks.push(pvh::build(&ranges, ramdisk, COMMAND_LINE, rsdp)),
        _ => chunks.extend(zero_page::build(&zero_page::Told {
            setup_header: image.setup_header,
            memory: &ranges,
            initrd: ramdisk,
            command_line: COMMAND_LINE,
            rsdp,
            display: machine.display,
            seed: boot.seed,
        })),
    }
    for (address, bytes, size) in image.segments {
        let filled = bytes.len() as u64;
        chunks.push(Chunk::borrowed(address, bytes));
        if size > filled {
            chunks.push(Chunk::zeros(address + filled, size - filled));
        }
    }
    if let Some((mut address, _)) = ramdisk {
        for part in parts {
            let next = address + part.len() as u64;
            chunks.push(Chunk {
                address,
                contents: crate::Contents::Bytes(part),
            });
            address = next;
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    Ok(Start {
        chunks,
        configuration: configuration::writes(machine),
        entry,
    })
}

/// Whether these bytes are a kernel that [`direct`] takes, with the reason when they are not.
pub fn check(kernel: &[u8]) -> Result<()> {
    read(kernel).map(drop)
}

fn read(file: &[u8]) -> Result<Image<'_>> {
    if bzimage::recognise(file) {
        return bzimage::read(file);
    }
    if elf::recognise(file) {
        return elf::read(file);
    }
    let at = |offset: usize, magic: &[u8]| file.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let elsewhere = match () {
        () if at(0x38, b"ARM\x64") => Some("arm64"),
        () if at(0x24, &0x016F_2818_u32.to_le_bytes()) => Some("arm"),
        () if at(0x38, b"RSC\x05") || at(0x30, b"RISCV") => Some("riscv"),
        () => None,
    };
    if let Some(architecture) = elsewhere {
        return Err(Fault::new(WRONG_ARCHITECTURE).arg("architecture", architecture));
    }
    let what = match file {
        [] => "it is empty",
        [0x1F, 0x8B, ..] => "gzip data",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd data",
        [0xFD, b'7', b'z', b'X', b'Z', ..] => "xz data",
        [b'0', b'7', b'0', b'7', ..] => "a cpio archive",
        [b'M', b'Z', ..] => "an EFI program",
        _ if at(0x8001, b"CD001") => "an ISO image",
        _ if at(0x1FE, &[0x55, 0xAA]) => "a boot sector or a disk",
        _ => "neither bzImage nor ELF",
    };
    Err(Fault::new(NOT_A_KERNEL).arg("what", what))
}

/// PVH comes first for ELF kernels, since the note says plainly that this entry is meant; but Linux in a machine with
/// a screen is entered where it is told of it. bzImages have no PVH entry.
fn choose(machine: &Machine, image: &Image<'_>, wanted: Option<Handover>) -> Result<Entry> {
    let zero_page = zero_page::ZERO_PAGE;
    let long = image.entry_64.map(|rip| Entry::Long64 { rip, rsi: zero_page });
    let flat = image.entry_32.map(|eip| Entry::Protected32 {
        eip,
        esi: zero_page as u32,
    });
    let pvh = image.entry_pvh.map(|eip| Entry::Pvh {
        eip,
        ebx: pvh::START_INFO as u32,
    });
    let (found, name) = match wanted {
        None if image.linux && machine.display => (long.or(flat).or(pvh), "usable"),
        None => (pvh.or(long).or(flat), "usable"),
        Some(Handover::Long64) => (long, "64-bit"),
        Some(Handover::Protected32) => (flat, "32-bit"),
        Some(Handover::Pvh) => (pvh, "PVH"),
    };
    found.ok_or_else(|| Fault::new(NO_SUCH_ENTRY).arg("entry", name))
}

fn check_command_line(line: &[u8], most: usize) -> Result<()> {
    if line.contains(&0) {
        return Err(Fault::new(COMMAND_LINE_HAS_NUL));
    }
    let most = most.min(COMMAND_LINE_MOST);
    if line.len() > most {
        return Err(Fault::new(COMMAND_LINE_TOO_LONG)
            .arg("length", line.len())
            .arg("limit", most));
    }
    Ok(())
}

/// Address and size of the initrd: as high as it may lie, above or below the kernel.
fn place_initrd(
    machine: &Machine,
    image: &Image<'_>,
    parts: &[std::borrow::Cow<'_, [u8]>],
) -> Result<Option<(u64, u64)>> {
    let size = parts.iter().map(|part| part.len() as u64).sum::<u64>();
    if size == 0 {
        return Ok(None);
    }
    let top = low_memory(machine.memory).min(image.initrd_most.saturating_add(1));
    let ceilings = [(top, image.end), (top.min(image.start), layout::HIGH_LOAD)];
    let mut room = 0;
    for (ceiling, floor) in ceilings {
        let floor = floor.next_multiple_of(PAGE);
        if let Some(address) = ceiling.checked_sub(size) {
            let address = address & !(PAGE - 1);
            if address >= floor {
                return Ok(Some((address, size)));
            }
        }
        room = room.max(ceiling.saturating_sub(floor));
    }
    Err(Fault::new(INITRD_TOO_LARGE)
        .arg("size", size.div_ceil(MIB))
        .arg("room", room / MIB))
}

/// What firmware would have left at 400h for those who look there: ports, EBDA, conventional memory.
fn bios_data_area(machine: &Machine) -> Chunk<'static> {
    let mut area = vec![0_u8; 0x100];
    let ports = usize::from(machine.serial_ports).min(layout::SERIAL_PORTS.len());
    for (index, port) in layout::SERIAL_PORTS.iter().take(ports).enumerate() {
        put(&mut area, index * 2, &port.to_le_bytes());
    }
    put(&mut area, 0x0E, &((EBDA >> 4) as u16).to_le_bytes());
    put(&mut area, 0x13, &((EBDA / layout::KIB) as u16).to_le_bytes());
    if machine.display {
        area[0x49] = 3;
        put(&mut area, 0x4A, &80_u16.to_le_bytes());
        put(&mut area, 0x63, &0x3D4_u16.to_le_bytes());
        area[0x84] = 24;
        area[0x85] = 16;
    }
    Chunk::owned(0x400, area)
}
