//! Ranges of host ids for guests.
//!
//! Each guest has 65,536 ids of its own, from 1,879,048,192 (0x7000_0000) up to 2³¹: above the range that systemd
//! gives to containers (524,288 to 1,879,048,191, systemd's UIDS-GIDS document), below the ids that do not fit a signed
//! number, and never overlapping an entry of /etc/subuid or /etc/subgid. The first range belongs to the work on images.

use fault::{Fault, Result};
use jail::recipe::IdRange;

use crate::codes::NO_IDS;

/// First id of all ranges.
pub const FIRST: u32 = 0x7000_0000;
/// Ids of one range.
pub const COUNT: u32 = 65_536;
/// Number of ranges.
const RANGES: u32 = (0x8000_0000 - FIRST) / COUNT;

/// The range in which archives are unpacked and packages configured.
#[must_use]
pub fn of_images() -> IdRange {
    IdRange {
        base: FIRST,
        count: COUNT,
    }
}

/// The lowest range that is neither `taken` (by its base) nor overlaps one of `foreign`.
///
/// # Errors
/// [`NO_IDS`].
pub fn lowest_free(taken: impl Fn(u32) -> bool, foreign: &[(u64, u64)]) -> Result<IdRange> {
    for number in 1..RANGES {
        let base = FIRST + number * COUNT;
        let (from, to) = (u64::from(base), u64::from(base) + u64::from(COUNT));
        let overlaps = |&(start, count): &(u64, u64)| start < to && from < start.saturating_add(count);
        if !taken(base) && !foreign.iter().any(overlaps) {
            return Ok(IdRange { base, count: COUNT });
        }
    }
    Err(Fault::new(NO_IDS))
}

/// The ranges (start and count) of a file like /etc/subuid (subuid(5)); lines that are none are skipped.
#[must_use]
pub fn of_subid_file(text: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let mut fields = line.split(':').skip(1);
        Some((
            fields.next()?.trim().parse().ok()?,
            fields.next()?.trim().parse().ok()?,
        ))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_from_foreign_ones_and_from_each_other() {
        let foreign = of_subid_file("ana:100000:65536\nbroken\nx:1879113728:1\n");
        assert_eq!(foreign.len(), 2);
        let first = lowest_free(|_| false, &foreign).unwrap();
        assert_eq!(first.base, FIRST + 2 * COUNT);
        let second = lowest_free(|base| base == first.base, &foreign).unwrap();
        assert_eq!(second.base, first.base + COUNT);
        assert!(lowest_free(|_| true, &[]).unwrap_err().is(NO_IDS));
    }

    #[test]
    fn no_range_passes_the_largest_signed_number() {
        let last = lowest_free(|base| base < 0x7fff_0000, &[]).unwrap();
        assert_eq!(u64::from(last.base) + u64::from(last.count), 1 << 31);
    }
}
