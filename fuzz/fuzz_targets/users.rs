//! /etc/passwd and /etc/group of a guest: any text is read or refused, and no reserved id comes out.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|files: (&str, &str, &str)| {
    let (wanted, passwd, group) = files;
    if let Ok(user) = jail::users::resolve(Some(wanted), passwd, group) {
        assert!(user.uid != u32::MAX && user.gid != u32::MAX);
        assert!(user.home.starts_with('/') && user.shell.starts_with('/'));
        assert!(!user.groups.contains(&user.gid) && user.groups.windows(2).all(|pair| pair[0] < pair[1]));
    }
    let _ = jail::tree::parse_mount(wanted);
});
