//! DHCP messages: any bytes are read or refused, and what is read reads back after writing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(message) = link::dhcp::parse(bytes) {
        let again = link::dhcp::parse(&message.to_bytes());
        assert_eq!(again.map(|again| (again.kind, again.xid, again.mac)), Some((message.kind, message.xid, message.mac)));
    }
});
