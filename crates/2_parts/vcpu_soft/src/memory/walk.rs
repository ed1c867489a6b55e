//! The page walker: from a linear address to a physical one by the guest's tables (SDM Vol. 3 chapter 5).

use super::map::Map;
use super::tlb::Found;

/// Bits of a physical address, as CPUID tells.
pub(crate) const PHYSICAL_BITS: u32 = 46;
const RESERVED: u64 = (1 << 52) - (1 << PHYSICAL_BITS);
const ADDRESS: u64 = (1 << 52) - (1 << 12);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;

/// Error codes of page faults (SDM Vol. 3 §5.7).
pub(crate) mod code {
    pub(crate) const PRESENT: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
    pub(crate) const USER: u32 = 4;
    pub(crate) const RESERVED: u32 = 8;
    pub(crate) const FETCH: u32 = 16;
}

/// How the tables are read: what the control registers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// CR0.PG.
    pub(crate) paging: bool,
    /// CR4.PAE.
    pub(crate) wide: bool,
    /// EFER.LMA.
    pub(crate) long: bool,
    /// CR4.PSE.
    pub(crate) large: bool,
    /// CR4.PGE.
    pub(crate) global: bool,
    /// CR0.WP.
    pub(crate) protect: bool,
    /// EFER.NXE.
    pub(crate) no_execute: bool,
    /// CR4.SMEP.
    pub(crate) smep: bool,
    /// CR4.SMAP.
    pub(crate) smap: bool,
}

/// What is to be done at the address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    pub(crate) write: bool,
    pub(crate) fetch: bool,
    pub(crate) user: bool,
    /// RFLAGS.AC lifts SMAP.
    pub(crate) open: bool,
}

/// A translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    pub(crate) found: Found,
    /// Writing is allowed and the page is marked as dirty already.
    pub(crate) writable: bool,
    /// Where the entries on the way are; 0 for none.
    pub(crate) entries: [u64; 4],
}

/// What the entries on the way allow together.
struct Rights {
    writable: bool,
    user: bool,
    execute: bool,
}

impl Rights {
    const ALL: Rights = Rights {
        writable: true,
        user: true,
        execute: true,
    };

    fn add(&mut self, entry: u64) {
        self.writable &= entry & WRITABLE != 0;
        self.user &= entry & USER != 0;
        self.execute &= entry & NO_EXECUTE == 0;
    }

    fn may_write(&self, mode: &Mode, access: Access) -> bool {
        self.writable || !access.user && !mode.protect
    }

    /// Whether the access is allowed (SDM Vol. 3 §5.6.1).
    fn allow(&self, mode: &Mode, access: Access) -> bool {
        if access.user && !self.user {
            return false;
        }
        if access.fetch {
            return self.execute && !(mode.smep && !access.user && self.user);
        }
        if self.user && !access.user && mode.smap && !access.open {
            return false;
        }
        !access.write || self.may_write(mode, access)
    }
}

/// Translates and marks the tables as accessed and dirty as a processor does.
///
/// # Errors
/// The error code of a page fault, bits for the kind of access included.
pub(crate) fn walk(map: &Map, mode: &Mode, cr3: u64, linear: u64, access: Access) -> Result<Walked, u32> {
    if !mode.paging {
        let physical = linear & 0xffff_f000;
        return Ok(Walked {
            found: Found {
                physical,
                global: false,
                bits: 12,
            },
            writable: true,
            entries: [0; 4],
        });
    }
    let walker = Walker {
        map,
        mode,
        linear,
        access,
        silent: false,
    };
    // A table that changes while it is walked is walked again; a guest that changes it all the time has its own processor to blame,
    // but does not keep us here.
    for _ in 0..64 {
        let walked = if mode.wide {
            walker.wide(cr3)
        } else {
            walker.narrow(cr3)
        };
        if let Some(done) = walked.map_err(|error| error | walker.kind())? {
            return Ok(done);
        }
    }
    Err(walker.kind())
}

/// Translates without marking the tables and whatever the rights are, for debugging.
pub(crate) fn look(map: &Map, mode: &Mode, cr3: u64, linear: u64) -> Option<u64> {
    let walker = Walker {
        map,
        mode,
        linear,
        access: Access {
            open: true,
            ..Access::default()
        },
        silent: true,
    };
    let walked = match (mode.paging, mode.wide) {
        (false, _) => return Some(linear & 0xffff_ffff),
        (true, true) => walker.wide(cr3),
        (true, false) => walker.narrow(cr3),
    };
    Some(walked.ok()??.found.physical | linear & 0xfff)
}

struct Walker<'a> {
    map: &'a Map,
    mode: &'a Mode,
    linear: u64,
    access: Access,
    /// Nothing is marked.
    silent: bool,
}

/// An entry on the way: where, and what was read.
type Step = (u64, u64);

impl Walker<'_> {
    fn kind(&self) -> u32 {
        let fetch = self.access.fetch && (self.mode.no_execute && self.mode.wide || self.mode.smep);
        u32::from(self.access.write) * code::WRITE
            | u32::from(self.access.user) * code::USER
            | u32::from(fetch) * code::FETCH
    }

    /// Four levels, or three of PAE paging.
    fn wide(&self, cr3: u64) -> Result<Option<Walked>, u32> {
        let (top, mut table) = if self.mode.long {
            (4, cr3 & ADDRESS & !RESERVED)
        } else {
            (3, cr3 & 0xffff_ffe0)
        };
        let mut rights = Rights::ALL;
        let mut steps: [Step; 4] = [(0, 0); 4];
        for level in (1..=top).rev() {
            let shift = 12 + 9 * (level - 1) as u32;
            let index = self.linear >> shift & if level == 3 && top == 3 { 3 } else { 511 };
            let at = table + index * 8;
            let entry = self.load(at, 8);
            if entry & PRESENT == 0 {
                return Err(0);
            }
            let pointer = level == 3 && top == 3;
            let leaf = level == 1 || !pointer && entry & LARGE != 0 && level < 4;
            self.check(entry, level, pointer, leaf, shift)?;
            if !pointer {
                rights.add(entry);
                steps[level - 1] = (at, entry);
            }
            if leaf {
                let physical =
                    entry & ADDRESS & !((1 << shift) - 1) | self.linear & ((1 << shift) - 1) & !0xfff;
                return self.finish(&rights, &mut steps, level, entry, physical, shift, 8);
            }
            table = entry & ADDRESS;
        }
        Err(0)
    }

    fn check(&self, entry: u64, level: usize, pointer: bool, leaf: bool, shift: u32) -> Result<(), u32> {
        let mut reserved = RESERVED;
        if pointer {
            reserved |= NO_EXECUTE | (1 << 63) - (1 << 52) | 0x1e6;
        } else if !self.mode.long {
            reserved |= (1 << 63) - (1 << 52);
        }
        if !self.mode.no_execute {
            reserved |= NO_EXECUTE;
        }
        if level == 4 {
            reserved |= LARGE;
        }
        if leaf && level > 1 {
            reserved |= (1 << shift) - (1 << 13);
        }
        if entry & reserved != 0 {
            return Err(code::PRESENT | code::RESERVED);
        }
        Ok(())
    }

    /// Two levels of 32-bit entries.
    fn narrow(&self, cr3: u64) -> Result<Option<Walked>, u32> {
        let mut rights = Rights::ALL;
        let mut steps: [Step; 4] = [(0, 0); 4];
        let at = (cr3 & 0xffff_f000) + (self.linear >> 22 & 1023) * 4;
        let entry = self.load(at, 4);
        if entry & PRESENT == 0 {
            return Err(0);
        }
        rights.add(entry);
        steps[1] = (at, entry);
        if entry & LARGE != 0 && self.mode.large {
            // PSE-36: bits 13–20 are bits 32–39 of the address; bit 21 is reserved.
            if entry & 1 << 21 != 0 {
                return Err(code::PRESENT | code::RESERVED);
            }
            let physical = entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32 | self.linear & 0x3f_f000;
            return self.finish(&rights, &mut steps, 2, entry, physical, 22, 4);
        }
        let at = (entry & 0xffff_f000) + (self.linear >> 12 & 1023) * 4;
        let entry = self.load(at, 4);
        if entry & PRESENT == 0 {
            return Err(0);
        }
        rights.add(entry);
        steps[0] = (at, entry);
        self.finish(&rights, &mut steps, 1, entry, entry & 0xffff_f000, 12, 4)
    }

    /// Checks the rights and marks the entries; `None` when one has changed meanwhile.
    #[allow(clippy::too_many_arguments, reason = "one call from each shape of table")]
    fn finish(
        &self,
        rights: &Rights,
        steps: &mut [Step; 4],
        level: usize,
        leaf: u64,
        physical: u64,
        bits: u32,
        width: u64,
    ) -> Result<Option<Walked>, u32> {
        if !rights.allow(self.mode, self.access) {
            return Err(code::PRESENT);
        }
        for (number, (at, entry)) in steps.iter().enumerate().rev() {
            if *at == 0 && *entry == 0 {
                continue;
            }
            let mut marks = ACCESSED;
            if number + 1 == level && self.access.write {
                marks |= DIRTY;
            }
            if entry & marks != marks && !self.mark(*at, *entry, *entry | marks, width) {
                return Ok(None);
            }
        }
        let dirty = leaf & DIRTY != 0 || self.access.write;
        Ok(Some(Walked {
            found: Found {
                physical,
                global: self.mode.global && leaf & GLOBAL != 0,
                bits,
            },
            writable: dirty && rights.may_write(self.mode, self.access),
            entries: steps.map(|(at, _)| at),
        }))
    }

    /// Reads an entry; where there is no memory, none is present.
    fn load(&self, at: u64, width: u64) -> u64 {
        let Some(region) = self.map.find(at) else {
            return 0;
        };
        let inside = at - region.start + region.offset;
        let order = std::sync::atomic::Ordering::Acquire;
        if width == 8 {
            region.block.load_u64(inside, order).unwrap_or(0)
        } else {
            region.block.load_u32(inside, order).map_or(0, u64::from)
        }
    }

    fn mark(&self, at: u64, old: u64, new: u64, width: u64) -> bool {
        let Some(region) = self.map.find(at) else {
            return true;
        };
        if self.silent || !region.writable {
            return true;
        }
        let inside = at - region.start + region.offset;
        if width == 8 {
            matches!(region.block.swap_u64(inside, old, new), Ok(Ok(_)) | Err(_))
        } else {
            matches!(
                region.block.swap_u32(inside, old as u32, new as u32),
                Ok(Ok(_)) | Err(_)
            )
        }
    }
}
