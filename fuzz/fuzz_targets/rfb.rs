//! The remote frame buffer server: any client's messages are survived.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    devices::rfb::rough::play(bytes).expect("the host has memory for a screen");
});
