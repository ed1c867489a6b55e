//! Tar archives: any bytes are read or refused, and every name is clean or refused.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = unpack::tar::Reader::new(bytes);
    while let Ok(Some(entry)) = reader.next_entry() {
        let mut data = Vec::new();
        let _ = (&mut reader).take(1 << 20).read_to_end(&mut data);
        assert!(entry.stored() <= entry.size);
    }
});
