//! The display adapter: any accesses of a guest are survived, and an adapter restored in between answers and shows the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(devices::vga::rough::survives(bytes).expect("its own state fits"));
});
