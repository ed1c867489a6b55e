//! Virtio devices: a guest does anything to their registers, rings and memory; they go on, can be saved, and work after a reset.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/2_parts/devices/tests/virtio/driver.rs"]
mod driver;
#[path = "../../crates/2_parts/devices/tests/virtio/hostile.rs"]
mod hostile;

fuzz_target!(|bytes: &[u8]| hostile::drive(bytes));
