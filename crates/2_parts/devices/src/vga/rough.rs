//! The display adapter under rough hands: any accesses at any port and register, and looks at what it shows; for property tests and
//! fuzzing.

use std::sync::{Arc, Mutex, PoisonError};

use fault::{Fault, OrFault, Result};
use vcpu::time::{CountingClock, Timers};

use super::{Frame, PORTS, REGISTERS_BAR, Vga, WINDOW, WINDOW_REGION};
use crate::bus::{Bus, Shared};
use crate::chipset::attach;
use crate::state::STATE_UNFIT;
use crate::{Access, Device};

/// An adapter on a bus of its own.
struct Bench {
    bus: Bus,
    vga: Arc<Mutex<Vga>>,
}

impl Bench {
    fn new() -> Result<Self> {
        let timers = Timers::new(Arc::new(CountingClock::new(1_000_000, 0)));
        let vga = Vga::new(&timers, None, true).or_fault(|| Fault::new(STATE_UNFIT))?;
        let bus = Bus::new();
        let shared: Shared = vga.clone();
        attach(&bus, &shared, PORTS);
        bus.add_memory(WINDOW.0, WINDOW.1, WINDOW_REGION, &shared);
        Ok(Bench { bus, vga })
    }

    /// Plays accesses of 8 bytes and gives a digest of the answers and of what is shown in the end.
    fn play(&self, accesses: &[u8]) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut note = |value: u64| digest = (digest ^ value).wrapping_mul(0x100_0000_01b3);
        for access in accesses.chunks_exact(8) {
            let [what, low, high, value, ..] = *access else {
                continue;
            };
            let mut data = [value, access[4], access[5], access[6], 0, 0, 0, 0];
            let width = [1, 2, 4, 2][usize::from(what >> 4 & 3)];
            let port = match what >> 6 {
                // Index and value of the indexed registers, at once.
                0 => [0x3c4, 0x3ce, 0x3d4, 0x3b4][usize::from(low & 3)],
                1 => 0x1ce + u16::from(low & 3),
                _ => 0x3b0 + u16::from(low % 0x30),
            };
            let place = u64::from(u16::from_le_bytes([low, high])) << (what >> 7);
            match what & 0xf {
                0..=5 => self.bus.port_write(port, &data[..width]),
                6 | 7 => {
                    self.bus.port_read(port, &mut data[..width]);
                    note(u64::from_le_bytes(data));
                }
                // A register of the Bochs extension.
                8 => {
                    self.bus.port_write(0x1ce, &[low % 12, 0]);
                    self.bus.port_write(0x1cf, &[value, high & 0xf]);
                }
                9..=11 => self.bus.mmio_write(WINDOW.0 + place, &data[..width]),
                12 | 13 => {
                    self.bus.mmio_read(WINDOW.0 + place, &mut data[..width]);
                    note(u64::from_le_bytes(data));
                }
                kind => {
                    let mut vga = self.vga.lock().unwrap_or_else(PoisonError::into_inner);
                    let (bar, at) = (u32::from(REGISTERS_BAR), place & 0xff8);
                    let done = if kind == 14 {
                        vga.registers().map(|it| it.read(bar, at, &mut data[..width]))
                    } else {
                        vga.registers().map(|it| it.write(bar, at, &data[..width]))
                    };
                    note(u64::from(done == Some(Access::Done)) + u64::from_le_bytes(data));
                }
            }
        }
        let view = self.vga.lock().unwrap_or_else(PoisonError::into_inner).view();
        let mut frame = Frame::new();
        view.render(&mut frame);
        frame.pixels().iter().for_each(|pixel| note(u64::from(*pixel)));
        if let Some(text) = view.text() {
            text.cells
                .iter()
                .for_each(|cell| note(u64::from(u32::from(cell.character))));
        }
        digest
    }
}

/// Plays the first half of the accesses, copies the adapter by saving and restoring, and plays the second half on both: whether both
/// answered and showed the same.
///
/// # Errors
/// When the host has no memory, or an own state is refused.
pub fn survives(accesses: &[u8]) -> Result<bool> {
    let (bench, other) = (Bench::new()?, Bench::new()?);
    let (first, second) = accesses.split_at(accesses.len() / 16 * 8);
    bench.play(first);
    let saved = bench.vga.lock().unwrap_or_else(PoisonError::into_inner).save()?;
    other
        .vga
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .restore(&saved)?;
    Ok(bench.play(second) == other.play(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_accesses_are_survived_and_a_restored_adapter_goes_on_alike(accesses in proptest::collection::vec(any::<u8>(), 0..6_000)) {
            prop_assert!(survives(&accesses).unwrap());
        }
    }
}
