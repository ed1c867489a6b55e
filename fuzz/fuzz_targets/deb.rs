//! Packages and their compression: any bytes are unpacked below the root or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut members = unpack::ar::Reader::new(bytes);
    while let Ok(Some(_)) = members.next_member() {
        let stream = std::io::BufReader::new(std::io::Read::take(&mut members, 1 << 20));
        if let Ok(plain) = unpack::codec::decode(stream) {
            let mut entries = unpack::tar::Reader::new(std::io::Read::take(plain, 16 << 20));
            while let Ok(Some(_)) = entries.next_entry() {}
        }
    }
});
