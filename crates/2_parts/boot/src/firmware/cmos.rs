//! CMOS: what firmware reads beside the clock.
//!
//! The indices of a PC/AT, and those that QEMU added (SeaBIOS's src/hw/rtc.h).

use super::{BootKind, Firmware};
use crate::Machine;
use crate::layout::{KIB, MIB, VGA_WINDOW, high_memory, low_memory};

/// Indices and values. Floppy drives and disks of the old kind (10h, 12h) are absent.
#[must_use]
pub fn contents(machine: &Machine, firmware: &Firmware<'_>) -> Vec<(u8, u8)> {
    const FPU: u8 = 0x02;
    let mut cmos = vec![(0x10, 0), (0x12, 0), (0x14, FPU)];
    let low = low_memory(machine.memory);
    let capped = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    // Conventional memory; memory above 1 MiB in KiB, twice; memory above 16 MiB in units of 64 KiB.
    let extended = capped(low.saturating_sub(MIB) / KIB);
    for (index, value) in [
        (0x15, capped(VGA_WINDOW / KIB)),
        (0x17, extended),
        (0x30, extended),
        (0x34, capped(low.saturating_sub(16 * MIB) / (64 * KIB))),
    ] {
        let [least, most] = value.to_le_bytes();
        cmos.extend([(index, least), (index + 1, most)]);
    }
    let high = (high_memory(machine.memory) / (64 * KIB)).to_le_bytes();
    cmos.extend([(0x5B, high[0]), (0x5C, high[1]), (0x5D, high[2])]);

    let order = order(firmware);
    const NO_FLOPPY_SIGNATURE: u8 = 1;
    cmos.push((0x38, order[2] << 4 | NO_FLOPPY_SIGNATURE));
    cmos.push((0x3D, order[1] << 4 | order[0]));
    cmos.push((
        0x5F,
        u8::try_from(machine.cpus.saturating_sub(1)).unwrap_or(u8::MAX),
    ));
    cmos
}

/// Up to three classes of devices to try; 0 for none.
fn order(firmware: &Firmware<'_>) -> [u8; 3] {
    let mut classes: Vec<u8> = Vec::new();
    let default = [BootKind::Disk, BootKind::Cd, BootKind::Network];
    for kind in firmware.order.iter().map(super::BootDevice::kind).chain(default) {
        let class = match kind {
            BootKind::Disk => 2,
            BootKind::Cd => 3,
            BootKind::Network => 4,
        };
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    [classes[0], classes[1], classes[2]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::BootDevice;
    use crate::layout::GIB;

    fn read(cmos: &[(u8, u8)], index: u8) -> u8 {
        cmos.iter()
            .find(|(at, _)| *at == index)
            .map_or(0, |(_, value)| *value)
    }

    #[test]
    fn memory_is_told_in_the_units_of_old() {
        let cmos = contents(&Machine::new(8 * GIB, 4), &Firmware::default());
        let word = |index| u16::from(read(&cmos, index)) | u16::from(read(&cmos, index + 1)) << 8;
        assert_eq!(word(0x15), 640);
        assert_eq!(word(0x17), 0xFFFF);
        assert_eq!(u64::from(word(0x34)) * 64 * KIB + 16 * MIB, 3 * GIB);
        assert_eq!(
            u64::from(read(&cmos, 0x5C)) << 24 | u64::from(read(&cmos, 0x5B)) << 16,
            GIB * 5 & 0xFFFF_FFFF
        );
        assert_eq!(read(&cmos, 0x5D), 1);
        assert_eq!(read(&cmos, 0x5F), 3);
    }

    #[test]
    fn the_first_device_leads_the_order() {
        let cd = BootDevice::Ide {
            channel: 1,
            unit: 0,
            kind: BootKind::Cd,
        };
        let firmware = Firmware {
            order: vec![cd],
            ..Firmware::default()
        };
        let cmos = contents(&Machine::new(GIB, 1), &firmware);
        assert_eq!(read(&cmos, 0x3D), 0x23);
        assert_eq!(read(&cmos, 0x38), 0x41);
    }
}
