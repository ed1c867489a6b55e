//! ELF kernels: vmlinux and other kernels with Xen's PVH note.
//!
//! System V ABI, chapters 4 and 5; Xen's public/elfnote.h; Documentation/arch/x86/boot.rst for the entry without a
//! note (a vmlinux's entry takes the zero page as bzImage's does).

use fault::{Fault, Result};

use super::Image;
use super::bytes::{u16_at, u32_at, u64_at};
use crate::faults::{KERNEL_TRUNCATED, NOT_A_KERNEL, WRONG_ARCHITECTURE};
use crate::layout::HIGH_LOAD;

const EXECUTABLE: u16 = 2;
const SHARED: u16 = 3;
const I386: u16 = 3;
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const PHYS32_ENTRY: u32 = 18;
/// `XEN_ELFNOTE_GUEST_OS`.
const GUEST_OS: u32 = 6;
/// Program headers that a kernel may have; Linux's has 5.
const MOST_HEADERS: u16 = 128;
/// Linux's `COMMAND_LINE_SIZE` on x86, without its NUL.
const COMMAND_LINE_MOST: usize = 2047;
/// The highest byte of an initrd, for kernels that have no header to say: what bzImages say.
const INITRD_MOST: u64 = 0x7FFF_FFFF;

/// Whether the file claims to be one.
pub(super) fn recognise(file: &[u8]) -> bool {
    file.starts_with(b"\x7FELF")
}

/// One program header, 32 or 64 bits wide.
struct Part {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

/// Reads the program headers and the note.
pub(super) fn read(file: &[u8]) -> Result<Image<'_>> {
    let wide = match file.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Err(broken("neither 32-bit nor 64-bit ELF")),
    };
    check_machine(file)?;
    let entry = match wide {
        true => u64_at(file, 0x18),
        false => u32_at(file, 0x18).map(u64::from),
    }
    .ok_or_else(|| truncated(file, 0x34))?;

    let mut segments = Vec::new();
    let mut entry_pvh = None;
    let mut linux = false;
    for part in parts(file, wide)? {
        let bytes = contents(file, &part)?;
        match part.kind {
            LOAD if part.memory_size > 0 => {
                let end = part.address.checked_add(part.memory_size);
                let inside = end.is_some_and(|end| end <= u64::from(u32::MAX));
                if part.address < HIGH_LOAD || !inside || part.file_size > part.memory_size {
                    return Err(broken("a segment lies outside of memory"));
                }
                segments.push((part.address, bytes, part.memory_size));
            }
            NOTE => {
                for (kind, descriptor) in xen_notes(bytes, part.alignment) {
                    match kind {
                        PHYS32_ENTRY => entry_pvh = entry_pvh.or_else(|| pvh_entry(descriptor)),
                        GUEST_OS => linux |= descriptor.starts_with(b"linux"),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    segments.sort_unstable_by_key(|(address, ..)| *address);
    if segments.windows(2).any(|pair| pair[0].0 + pair[0].2 > pair[1].0) {
        return Err(broken("its segments overlap"));
    }
    let start = segments.first().map(|(address, ..)| *address);
    let end = segments.iter().map(|(address, _, size)| address + size).max();
    let (Some(start), Some(end)) = (start, end) else {
        return Err(broken("ELF without anything to load"));
    };
    let inside = |address: u64| (start..end).contains(&address);
    let entry_pvh = entry_pvh.filter(|entry| inside(u64::from(*entry)));
    if entry_pvh.is_none() && !inside(entry) {
        return Err(broken("its entry lies outside of its segments"));
    }
    let entry = Some(entry).filter(|entry| inside(*entry));
    Ok(Image {
        segments,
        setup_header: None,
        start,
        end,
        initrd_most: INITRD_MOST,
        command_line_most: COMMAND_LINE_MOST,
        entry_64: entry.filter(|_| wide),
        entry_32: entry
            .filter(|_| !wide)
            .and_then(|entry| u32::try_from(entry).ok()),
        entry_pvh,
        linux,
    })
}

fn broken(what: &str) -> Fault {
    Fault::new(NOT_A_KERNEL).arg("what", what)
}

fn truncated(file: &[u8], need: u64) -> Fault {
    Fault::new(KERNEL_TRUNCATED)
        .arg("have", file.len())
        .arg("need", need)
}

fn check_machine(file: &[u8]) -> Result<()> {
    let little = file.get(5) == Some(&1);
    let Some([kind, machine]) = super::bytes::take::<4>(file, 0x10).map(|[a, b, c, d]| match little {
        true => [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])],
        false => [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])],
    }) else {
        return Err(truncated(file, 0x34));
    };
    let architecture = match machine {
        I386 | X86_64 if little => None,
        2 | 18 | 43 => Some("sparc"),
        8 => Some("mips"),
        20 | 21 => Some("powerpc"),
        22 => Some("s390"),
        40 => Some("arm"),
        183 => Some("arm64"),
        243 => Some("riscv"),
        258 => Some("loongarch"),
        _ => Some("another processor"),
    };
    if let Some(architecture) = architecture {
        return Err(Fault::new(WRONG_ARCHITECTURE).arg("architecture", architecture));
    }
    match kind {
        EXECUTABLE | SHARED => Ok(()),
        _ => Err(broken("ELF that is no executable")),
    }
}

fn parts(file: &[u8], wide: bool) -> Result<Vec<Part>> {
    let (offset, size, count) = match wide {
        true => (u64_at(file, 0x20), u16_at(file, 0x36), u16_at(file, 0x38)),
        false => (
            u32_at(file, 0x1C).map(u64::from),
            u16_at(file, 0x2A),
            u16_at(file, 0x2C),
        ),
    };
    let (Some(offset), Some(size), Some(count)) = (offset, size, count) else {
        return Err(truncated(file, 0x40));
    };
    if count > MOST_HEADERS || usize::from(size) < if wide { 56 } else { 32 } {
        return Err(broken("ELF with unusual program headers"));
    }
    let mut parts = Vec::new();
    for index in 0..u64::from(count) {
        let at = offset.saturating_add(index * u64::from(size));
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let part = if wide {
            wide_part(file, at)
        } else {
            narrow_part(file, at)
        };
        parts.push(part.ok_or_else(|| truncated(file, (at as u64).saturating_add(size.into())))?);
    }
    Ok(parts)
}

fn wide_part(file: &[u8], at: usize) -> Option<Part> {
    let header = file.get(at..at.checked_add(56)?)?;
    Some(Part {
        kind: u32_at(header, 0)?,
        offset: u64_at(header, 8)?,
        address: u64_at(header, 24)?,
        file_size: u64_at(header, 32)?,
        memory_size: u64_at(header, 40)?,
        alignment: u64_at(header, 48)?,
    })
}

fn narrow_part(file: &[u8], at: usize) -> Option<Part> {
    let header = file.get(at..at.checked_add(32)?)?;
    let field = |at| u32_at(header, at).map(u64::from);
    Some(Part {
        kind: u32_at(header, 0)?,
        offset: field(4)?,
        address: field(12)?,
        file_size: field(16)?,
        memory_size: field(20)?,
        alignment: field(28)?,
    })
}

fn contents<'a>(file: &'a [u8], part: &Part) -> Result<&'a [u8]> {
    if !matches!(part.kind, LOAD | NOTE) {
        return Ok(&[]);
    }
    let end = part.offset.saturating_add(part.file_size);
    let range = usize::try_from(part.offset).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| file.get(start..end))
        .ok_or_else(|| truncated(file, end))
}

/// Xen's notes among these: kind and descriptor. A damaged one ends the list.
fn xen_notes(notes: &[u8], alignment: u64) -> Vec<(u32, &[u8])> {
    let pad = if alignment == 8 { 8 } else { 4 };
    let mut found = Vec::new();
    let mut at = 0_usize;
    while let Some((kind, name, descriptor, next)) = note(notes, at, pad) {
        if name == b"Xen\0" {
            found.push((kind, descriptor));
        }
        at = next;
    }
    found
}

/// The note at an offset: kind, name, descriptor, and where the next one begins.
fn note(notes: &[u8], at: usize, pad: usize) -> Option<(u32, &[u8], &[u8], usize)> {
    let name_size = u32_at(notes, at)? as usize;
    let size = u32_at(notes, at + 4)? as usize;
    let kind = u32_at(notes, at + 8)?;
    let name = at + 12;
    let descriptor = name.checked_add(name_size)?.checked_next_multiple_of(pad)?;
    let end = descriptor.checked_add(size)?;
    let next = end.checked_next_multiple_of(pad)?;
    Some((
        kind,
        notes.get(name..name + name_size)?,
        notes.get(descriptor..end)?,
        next,
    ))
}

/// The entry in a PVH note.
fn pvh_entry(descriptor: &[u8]) -> Option<u32> {
    match descriptor.len() {
        4 => u32_at(descriptor, 0),
        8 => u64_at(descriptor, 0).and_then(|entry| u32::try_from(entry).ok()),
        _ => None,
    }
}
