//! Directories of the host through the queues of a file system device.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use devices::Device;
use devices::virtio::fs::{Fs, FuseServer, Passthrough, Remote, serve};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::driver::{Guest, INDIRECT, PACKED, Ring, Time};

fn passthrough(path: &Path, read_only: bool) -> Passthrough {
    Passthrough::new(fs::File::open(path).unwrap().into(), read_only)
}

/// A guest's kernel, as far as it speaks FUSE.
struct Kernel {
    guest: Guest<Fs>,
    rings: Vec<Ring>,
    unique: u64,
}

/// Fields of an answer.
struct Answer(Vec<u8>);

impl Answer {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

fn message(op: u32, unique: u64, node: u64, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut bytes = (40 + body.len() as u32).to_le_bytes().to_vec();
    bytes.extend(op.to_le_bytes());
    bytes.extend(unique.to_le_bytes());
    bytes.extend(node.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(body);
    bytes
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Kernel {
    fn new(server: Box<dyn FuseServer>, time: Time, features: u64) -> Self {
        let device = Fs::new("fs", "home", server, &time.crew()).unwrap();
        let mut guest = Guest::new(device, time, 64 << 20);
        let rings = guest.start(features, 2, 64);
        let mut kernel = Kernel {
            guest,
            rings,
            unique: 0,
        };
        let mut init = words(&[7, 40, 1 << 20, u32::MAX]);
        init.extend([0; 48]);
        let answer = kernel.ask(26, 0, &[&init]).unwrap();
        assert_eq!((answer.u32(0), answer.u32(20)), (7, 128 << 10));
        kernel
    }

    fn on(path: &Path) -> Self {
        Self::new(Box::new(passthrough(path, false)), Time::counting(), 0)
    }

    fn ask(&mut self, op: u32, node: u64, body: &[&[u8]]) -> Result<Answer, i32> {
        self.ask_for(op, node, body, 4096)
    }

    fn ask_for(&mut self, op: u32, node: u64, body: &[&[u8]], room: usize) -> Result<Answer, i32> {
        self.unique += 1;
        let request = message(op, self.unique, node, body);
        let (head, rest) = request.split_at(40);
        let mut out = vec![head];
        if !rest.is_empty() {
            out.push(rest);
        }
        let (bytes, used) = self.guest.request(&mut self.rings[1], &out, &[16, room]);
        let answer = Answer(bytes[..used as usize].to_vec());
        assert_eq!((answer.u32(0), answer.u64(8)), (used, self.unique));
        match answer.u32(4) as i32 {
            0 => Ok(Answer(answer.0[16..].to_vec())),
            error => Err(-error),
        }
    }

    fn look_up(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        Ok(self.ask(1, parent, &[name.as_bytes(), b"\0"])?.u64(0))
    }

    fn create(&mut self, parent: u64, name: &str, mode: u32) -> (u64, u64) {
        let head = words(&[libc::O_RDWR as u32, 0o100_000 | mode, 0, 0]);
        let answer = self.ask(35, parent, &[&head, name.as_bytes(), b"\0"]).unwrap();
        (answer.u64(0), answer.u64(128))
    }

    fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        Ok(self.ask(14, node, &[&words(&[flags as u32, 0])])?.u64(0))
    }

    fn write(&mut self, node: u64, handle: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let mut head = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
        head.extend(words(&[data.len() as u32, 0, 0, 0, 0, 0]));
        Ok(self.ask(16, node, &[&head, data])?.u32(0))
    }

    fn read(&mut self, node: u64, handle: u64, offset: u64, len: u32) -> Result<Vec<u8>, i32> {
        let mut head = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
        head.extend(words(&[len, 0, 0, 0, 0, 0]));
        Ok(self.ask_for(15, node, &[&head], len as usize)?.0)
    }

    /// Names and nodes of a directory, by listings with attributes of a small size.
    fn list(&mut self, node: u64) -> Vec<(String, u64)> {
        let handle = self.ask(27, node, &[&words(&[0, 0])]).unwrap().u64(0);
        let mut found = Vec::new();
        let mut offset = 0_u64;
        loop {
            let mut head = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
            head.extend(words(&[500, 0, 0, 0, 0, 0]));
            let answer = self.ask(44, node, &[&head]).unwrap();
            if answer.0.is_empty() {
                break;
            }
            let mut at = 0;
            while at < answer.0.len() {
                offset = answer.u64(at + 136);
                let len = answer.u32(at + 144) as usize;
                let name = String::from_utf8(answer.0[at + 152..][..len].to_vec()).unwrap();
                found.push((name, answer.u64(at)));
                at += 128 + (24 + len).next_multiple_of(8);
            }
        }
        self.ask(29, node, &[&handle.to_le_bytes(), &[0; 16]]).unwrap();
        found.sort();
        found
    }
}

#[test]
fn files_are_made_written_read_moved_and_removed_as_on_the_host() {
    let folder = TempDir::new().unwrap();
    for (time, features) in [(Time::counting(), 0), (Time::Threads, PACKED | INDIRECT)] {
        let mut kernel = Kernel::new(Box::new(passthrough(folder.path(), false)), time, features);
        let directory = kernel
            .ask(9, 1, &[&words(&[0o755, 0o22]), b"dir\0"])
            .unwrap()
            .u64(0);
        let (file, handle) = kernel.create(directory, "file", 0o640);
        assert_eq!(kernel.write(file, handle, 3, b"some text").unwrap(), 9);
        assert_eq!(kernel.read(file, handle, 0, 100).unwrap(), b"\0\0\0some text");
        let there = folder.path().join("dir/file");
        assert_eq!(fs::read(&there).unwrap(), b"\0\0\0some text");
        assert_eq!(fs::metadata(&there).unwrap().mode() & 0o7777, 0o640);
        // A mode that lends the owner's rights is not made; size and time are.
        let mut set = words(&[1 | 8 | 32, 0, 0, 0]);
        set.extend([5_u64, 0, 0, 1_000_000, 0].iter().flat_map(|v| v.to_le_bytes()));
        set.extend(words(&[0, 7, 0, 0o4755, 0, 0, 0, 0]));
        kernel.ask(4, file, &[&set]).unwrap();
        let metadata = fs::metadata(&there).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o755, 5));
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000, 7));
        // A link, a symbolic link, a move, and names that follow.
        kernel.ask(13, 1, &[&file.to_le_bytes(), b"hard\0"]).unwrap();
        kernel.ask(6, 1, &[b"soft\0", b"dir/file\0"]).unwrap();
        let soft = kernel.look_up(1, "soft").unwrap();
        assert_eq!(kernel.ask(5, soft, &[]).unwrap().0, b"dir/file");
        kernel
            .ask(45, 1, &[&1_u64.to_le_bytes(), &words(&[0, 0]), b"dir\0moved\0"])
            .unwrap();
        let again = kernel.open(file, libc::O_RDONLY).unwrap();
        assert_eq!(kernel.read(file, again, 3, 2).unwrap(), b"so");
        let names: Vec<_> = kernel.list(1).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [".", "..", "hard", "moved", "soft"]);
        // Removed, and open still.
        for (op, parent, name) in [(11, directory, "file"), (10, directory, "file"), (10, 1, "hard")] {
            let done = kernel.ask(op, parent, &[name.as_bytes(), b"\0"]);
            assert_eq!(done.err(), (op == 11).then_some(libc::ENOTDIR));
        }
        assert_eq!(kernel.read(file, again, 3, 2).unwrap(), b"so");
        assert_eq!(
            kernel.ask(3, file, &[&[0; 16]]).unwrap().u32(16 + 60) & 0o777,
            0o755
        );
        assert_eq!(kernel.open(file, 0).err(), Some(libc::ESTALE));
        kernel.ask(11, 1, &[b"moved\0"]).unwrap();
        kernel.ask(10, 1, &[b"soft\0"]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_outside_of_the_directory_can_be_named() {
    let folder = TempDir::new().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir_all(shared.join("sub")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    symlink("..", shared.join("up")).unwrap();
    symlink("../secret", shared.join("link")).unwrap();
    let mut kernel = Kernel::on(&shared);
    for name in ["..", ".", "a/b", "", "/etc", "../secret"] {
        assert_eq!(kernel.look_up(1, name).err(), Some(libc::EINVAL), "{name}");
    }
    let up = kernel.look_up(1, "up").unwrap();
    assert!(kernel.look_up(up, "secret").is_err());
    let link = kernel.look_up(1, "link").unwrap();
    assert!(kernel.open(link, libc::O_RDONLY).is_err());
    assert!(kernel.open(link, libc::O_RDWR | libc::O_TRUNC).is_err());
    let head = words(&[libc::O_RDWR as u32 | libc::O_TRUNC as u32, 0o600, 0, 0]);
    assert!(kernel.ask(35, 1, &[&head, b"link\0"]).is_err());
    // A directory that the host exchanges for a link while the guest knows it.
    let sub = kernel.look_up(1, "sub").unwrap();
    fs::remove_dir(shared.join("sub")).unwrap();
    symlink("..", shared.join("sub")).unwrap();
    assert!(kernel.look_up(sub, "secret").is_err());
    assert!(kernel.ask(10, sub, &[b"secret\0"]).is_err());
    // Devices are not made.
    assert_eq!(
        kernel
            .ask(8, 1, &[&words(&[0o020_666, 0x103, 0, 0]), b"null\0"])
            .err(),
        Some(libc::EPERM)
    );
    assert_eq!(fs::read(folder.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_read_only_directory_is_not_changed() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    let server = Box::new(passthrough(folder.path(), true));
    let mut kernel = Kernel::new(server, Time::counting(), 0);
    let file = kernel.look_up(1, "file").unwrap();
    let handle = kernel.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(kernel.read(file, handle, 0, 10).unwrap(), b"text");
    let rofs = Some(libc::EROFS);
    assert_eq!(kernel.open(file, libc::O_RDWR).err(), rofs);
    assert_eq!(kernel.open(file, libc::O_RDONLY | libc::O_TRUNC).err(), rofs);
    assert_eq!(kernel.write(file, handle, 0, b"x").err(), rofs);
    assert_eq!(kernel.ask(10, 1, &[b"file\0"]).err(), rofs);
    assert_eq!(kernel.ask(9, 1, &[&words(&[0o755, 0]), b"d\0"]).err(), rofs);
    assert_eq!(kernel.ask(4, file, &[&[0; 88]]).err(), rofs);
    assert_eq!(
        kernel.ask(12, 1, &[&1_u64.to_le_bytes(), b"file\0f\0"]).err(),
        rofs
    );
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"text");
}

#[test]
fn attributes_of_users_are_kept_and_others_refused() {
    let folder = TempDir::new().unwrap();
    let mut kernel = Kernel::on(folder.path());
    let (file, _) = kernel.create(1, "file", 0o600);
    match kernel.ask(21, file, &[&words(&[5, 0]), b"user.a\0value"]) {
        Err(libc::EOPNOTSUPP) => eprintln!("skipped: the file system has no user attributes"),
        done => {
            done.unwrap();
            assert_eq!(
                kernel
                    .ask(22, file, &[&words(&[0, 0]), b"user.a\0"])
                    .unwrap()
                    .u32(0),
                5
            );
            assert_eq!(
                kernel.ask(22, file, &[&words(&[9, 0]), b"user.a\0"]).unwrap().0,
                b"value"
            );
            assert_eq!(
                kernel.ask(22, file, &[&words(&[4, 0]), b"user.a\0"]).err(),
                Some(libc::ERANGE)
            );
            assert_eq!(kernel.ask(23, file, &[&words(&[99, 0])]).unwrap().0, b"user.a\0");
            kernel.ask(24, file, &[b"user.a\0"]).unwrap();
            assert_eq!(
                kernel.ask(22, file, &[&words(&[9, 0]), b"user.a\0"]).err(),
                Some(libc::ENODATA)
            );
        }
    }
    let refused = kernel.ask(21, file, &[&words(&[1, 0]), b"security.capability\0x"]);
    assert_eq!(refused.err(), Some(libc::EOPNOTSUPP));
}

#[test]
fn open_files_go_on_after_a_restore_by_another_server_process() {
    let folder = TempDir::new().unwrap();
    let server = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut server = passthrough(folder.path(), false);
        let thread = std::thread::spawn(move || serve(&theirs, &mut server).unwrap());
        (Box::new(Remote::new(ours)), thread)
    };
    let (first, first_thread) = server();
    let time = Time::counting();
    let mut kernel = Kernel::new(first, time.clone(), 0);
    let (file, handle) = kernel.create(1, "file", 0o600);
    kernel.write(file, handle, 0, b"before").unwrap();
    let saved = kernel.guest.save();
    let (second, second_thread) = server();
    let device = Fs::new("fs", "home", second, &time.crew()).unwrap();
    let other = Guest::on(device, time, kernel.guest.memory.clone());
    other.lock().pause();
    other.lock().restore(&saved).unwrap();
    other.resume();
    kernel.guest = other;
    first_thread.join().unwrap();
    kernel.write(file, handle, 6, b" and after").unwrap();
    assert_eq!(kernel.read(file, handle, 0, 100).unwrap(), b"before and after");
    assert_eq!(kernel.look_up(1, "file").unwrap(), file);
    drop(kernel);
    second_thread.join().unwrap();
}

#[test]
fn a_server_that_is_gone_fails_every_request() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let device = Fs::new(
        "fs",
        "home",
        Box::new(Remote::new(ours)),
        &Time::counting().crew(),
    );
    assert!(device.is_ok());
    let mut remote = Remote::new(UnixStream::pair().unwrap().0);
    let mut answer = Vec::new();
    remote.answer(&message(3, 5, 1, &[&[0; 16]]), &mut answer, 200);
    let answer = Answer(answer);
    assert_eq!(
        (answer.u32(0), answer.u32(4) as i32, answer.u64(8)),
        (16, -libc::ENOTCONN, 5)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_messages_are_answered_and_stay_in_the_directory(
        messages in vec((0u32..54, 0u64..6, vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(b'.'), Just(b'/'), any::<u8>()], 0..120), 0usize..300), 0..120),
    ) {
        let folder = TempDir::new().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        symlink("..", shared.join("a")).unwrap();
        let before = fs::metadata(folder.path()).unwrap().permissions().mode();
        let mut server = passthrough(&shared, false);
        let mut answer = Vec::new();
        for (op, node, body, room) in messages {
            // Handles and nodes are small numbers.
            answer.clear();
            server.answer(&message(op, 1, node, &[&body]), &mut answer, room);
            prop_assert!(answer.len() <= room);
        }
        let saved = server.save().unwrap();
        server.restore(&saved).unwrap();
        server.answer(&message(38, 0, 0, &[]), &mut answer, 0);
        prop_assert_eq!(fs::read(folder.path().join("secret")).unwrap(), b"secret");
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        prop_assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode(), before);
    }
}
