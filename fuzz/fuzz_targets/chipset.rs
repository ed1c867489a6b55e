//! The chipset: any accesses of a guest are survived, and a chipset restored in between goes on in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(devices::chipset::rough::survives(bytes).expect("its own state fits"));
});
