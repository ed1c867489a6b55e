//! Keyrings, signed Release files and detached signatures: any bytes are read or refused, and nobody's word is taken.
#![no_main]

use archive::signature::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let half = bytes.len() / 2;
    let (one, other) = bytes.split_at(half);
    let mut keyring = Keyring::default();
    let _ = keyring.add(one, "fuzz");
    let _ = keyring.open_inrelease(other, 0);
    let _ = keyring.check_detached(one, other, 0);
    assert!(Keyring::default().open_inrelease(bytes, 0).is_err(), "without keys nothing is signed");
});
