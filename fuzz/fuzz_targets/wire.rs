//! The shim's protocol: any bytes on the socket are frames or refused; what is read is written back the same.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use engine::protocol::{AttachControl, Call};
use engine::wire::{Filled, Wire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut sender, receiver) = UnixStream::pair().expect("a socket pair");
    // More would not fit into the socket before anybody reads.
    let sent = &bytes[..bytes.len().min(1 << 16)];
    sender.write_all(sent).expect("room in the socket");
    drop(sender);
    let mut wire = Wire::new(receiver);
    while let Ok(Filled::Data) = wire.fill() {
        while let Ok(Some((body, _))) = wire.take_raw() {
            let _ = serde_json::from_slice::<AttachControl>(&body);
            if let Ok(call) = serde_json::from_slice::<Call>(&body) {
                let again = serde_json::to_vec(&call).expect("a call is JSON");
                assert_eq!(serde_json::from_slice::<Call>(&again).expect("our own JSON"), call);
            }
        }
    }
});
