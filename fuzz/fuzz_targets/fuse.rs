//! FUSE messages: whatever a guest sends is answered within its room, and nothing outside of the shared directory changes.
#![no_main]

use devices::virtio::fs::{FuseServer, Passthrough};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("posada-fuzz-fuse-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder to share");
    let root = std::fs::File::open(&folder).expect("the folder just made");
    let mut server = Passthrough::new(root.into(), false);
    let mut answer = Vec::new();
    for message in bytes.chunks(160) {
        answer.clear();
        let room = usize::from(message[0]) * 4;
        server.answer(message, &mut answer, room);
        assert!(answer.len() <= room);
    }
    let saved = server.save().expect("a state in memory");
    server.restore(&saved).expect("a state just saved");
});
