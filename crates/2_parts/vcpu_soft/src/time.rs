//! Time as a processor sees it: its time-stamp counter, and the paravirtual clock (Documentation/virt/kvm/x86/msr.rst).

use crate::cpu::Cpu;

/// What the processor knows of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// The clock is the host's; else it counts instructions.
    pub(crate) host: bool,
    /// With a counting clock: its nanoseconds minus the instructions retired.
    pub(crate) shift: u64,
    /// Frequency of the time-stamp counter.
    pub(crate) khz: u64,
    /// Time-stamp counter minus the ticks since the machine began.
    pub(crate) tsc_shift: u64,
}

/// Frequency unless CPUID says otherwise: one tick a nanosecond.
pub(crate) const NOMINAL_KHZ: u64 = 1_000_000;

impl Time {
    /// Ticks in so many nanoseconds.
    pub(crate) fn ticks(&self, nanoseconds: u64) -> u64 {
        if self.khz == NOMINAL_KHZ {
            nanoseconds
        } else {
            (u128::from(nanoseconds) * u128::from(self.khz) / 1_000_000) as u64
        }
    }

    /// Nanoseconds until so many ticks have gone, rounded up.
    pub(crate) fn nanoseconds(&self, ticks: u64) -> u64 {
        let wide = (u128::from(ticks) * 1_000_000).div_ceil(u128::from(self.khz));
        u64::try_from(wide).unwrap_or(u64::MAX)
    }
}

impl Cpu {
    /// Nanoseconds of the machine's clock.
    pub(crate) fn now(&self) -> u64 {
        if self.time.host {
            self.shared.config.clock.now()
        } else {
            self.retired_now().wrapping_add(self.time.shift)
        }
    }

    /// Moves a counting clock to the present instruction, before somebody outside looks at it.
    pub(crate) fn sync_clock(&mut self) {
        self.accessed = true;
        if !self.time.host {
            self.shared.config.clock.advance(self.now());
        }
    }

    /// Takes a counting clock's time as that of the next instruction.
    pub(crate) fn join_clock(&mut self) {
        if !self.time.host {
            let now = self.shared.config.clock.now();
            self.time.shift = now.wrapping_sub(self.retired_now());
        }
    }

    /// The time-stamp counter.
    pub(crate) fn tsc(&self) -> u64 {
        self.time.ticks(self.now()).wrapping_add(self.time.tsc_shift)
    }

    /// Sets the time-stamp counter; TSC_ADJUST follows.
    pub(crate) fn set_tsc(&mut self, value: u64) {
        let difference = value.wrapping_sub(self.tsc());
        self.time.tsc_shift = self.time.tsc_shift.wrapping_add(difference);
        self.msrs.tsc_adjust = self.msrs.tsc_adjust.wrapping_add(difference);
    }

    /// Nanosecond of the machine's clock at which the time-stamp counter reaches a value; now if it has.
    pub(crate) fn when_tsc(&self, value: u64) -> u64 {
        let now = self.now();
        let ahead = value.wrapping_sub(self.tsc());
        if ahead as i64 <= 0 {
            return now;
        }
        now.saturating_add(self.time.nanoseconds(ahead))
    }

    /// Writes the structure that the guest reads its clock from (`struct pvclock_vcpu_time_info`).
    pub(crate) fn write_system_time(&mut self) {
        if self.msrs.system_time & 1 == 0 {
            return;
        }
        let at = self.msrs.system_time & !1;
        let shift = self.shared.clock_shift.load(std::sync::atomic::Ordering::Relaxed);
        let (multiplier, scale) = scale(self.time.khz);
        let now = self.now();
        let version = self.read_guest(at, 4).unwrap_or(0) as u32;
        let tsc = self.time.ticks(now).wrapping_add(self.time.tsc_shift);
        self.write_guest(at, 4, u64::from(version.wrapping_add(1) | 1));
        self.write_guest(at + 8, 8, tsc);
        self.write_guest(at + 16, 8, now.wrapping_add(shift));
        self.write_guest(at + 24, 4, u64::from(multiplier));
        // Scale, and the flag that processors agree.
        self.write_guest(at + 28, 2, u64::from(scale as u8) | 1 << 8);
        self.write_guest(at, 4, u64::from((version.wrapping_add(1) | 1).wrapping_add(1)));
    }

    /// Writes the real time at which the paravirtual clock was 0 (`struct pvclock_wall_clock`).
    pub(crate) fn write_wall_clock(&mut self) {
        let at = self.msrs.wall_clock & !3;
        let shift = self.shared.clock_shift.load(std::sync::atomic::Ordering::Relaxed);
        let epoch = self.shared.config.clock.epoch().wrapping_sub(shift);
        let version = self.read_guest(at, 4).unwrap_or(0) as u32;
        self.write_guest(at, 4, u64::from(version.wrapping_add(1) | 1));
        self.write_guest(at + 4, 4, epoch / 1_000_000_000);
        self.write_guest(at + 8, 4, epoch % 1_000_000_000);
        self.write_guest(at, 4, u64::from((version.wrapping_add(1) | 1).wrapping_add(1)));
    }

    /// Reads RAM that the guest has named by a physical address.
    fn read_guest(&mut self, physical: u64, len: u64) -> Option<u64> {
        let fits = (physical & 0xfff) + len <= 0x1000 && self.map.find(physical).is_some();
        fits.then(|| self.read_physical(physical, len))
    }

    /// Writes such RAM; where there is none nothing happens.
    fn write_guest(&mut self, physical: u64, len: u64, value: u64) {
        if (physical & 0xfff) + len <= 0x1000 && self.map.find(physical).is_some_and(|region| region.writable)
        {
            self.write_physical(physical, len, value);
        }
    }
}

/// Multiplier and shift from ticks to nanoseconds: `(ticks << shift) * multiplier >> 32`.
fn scale(khz: u64) -> (u32, i8) {
    // The multiplier shall lie in the upper half of 32 bits.
    let mut shift = 0i8;
    let mut rate = u128::from(khz) * 1000;
    let second = 1_000_000_000u128;
    while rate > second * 2 {
        rate /= 2;
        shift -= 1;
    }
    while rate <= second {
        rate *= 2;
        shift += 1;
    }
    (((second << 32) / rate) as u32, shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_by_multiplier_and_shift() {
        for khz in [1_000_000, 2_500_000, 3_000_001, 100_000, 999_999] {
            let (multiplier, shift) = scale(khz);
            let ticks = khz * 1000;
            let shifted = if shift < 0 {
                ticks >> -shift
            } else {
                ticks << shift
            };
            let nanoseconds = (u128::from(shifted) * u128::from(multiplier) >> 32) as u64;
            assert!(nanoseconds.abs_diff(1_000_000_000) < 1000, "{khz}: {nanoseconds}");
        }
    }
}
