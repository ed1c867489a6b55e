//! Files, facts and the rest through the agent.

mod kit;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown as Half;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

use agent::codes;
use agent::protocol::{Ending, FEATURES, PROTOCOL_VERSION};
use fault::Fault;
use kit::{PATIENCE, agent};
use unpack::tar::Reader;

fn archive_of(agent: &agent::host::Agent, path: &str) -> Vec<u8> {
    let (mut output, mut control) = agent.read_files(path).expect("it is read");
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).expect("it is read");
    assert_eq!(control.wait().expect("it is read"), Ending::Done);
    bytes
}

#[test]
fn the_agent_says_who_it_is() {
    let (agent, _) = agent();
    let hello = agent.hello();
    assert_eq!(hello.protocol, PROTOCOL_VERSION);
    assert_eq!(hello.features, FEATURES);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(hello.kernel, release.trim());
    agent.ping(PATIENCE).unwrap();
}

#[test]
fn facts_are_those_of_the_system() {
    let (agent, _) = agent();
    let facts = agent.facts(PATIENCE).unwrap();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(facts.hostname, hostname.trim());
    assert!(facts.uptime_ms > 0);
    assert_eq!(
        facts.boot.is_some(),
        std::path::Path::new("/run/systemd/system").is_dir()
    );
    if let Ok(text) = fs::read_to_string("/etc/os-release") {
        let id = facts.os.get("ID").expect("a name");
        assert!(text.contains(&format!("ID={id}")) || text.contains(&format!("ID=\"{id}\"")));
    }
}

#[test]
fn a_tree_comes_out_and_goes_in_again_as_it_was() {
    let (agent, _) = agent();
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("deep/er/file"), vec![9; 300_000]).unwrap();
    fs::write(from.join("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("script"), fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::chown(from.join("script"), Some(1234), Some(4321)).unwrap();
    symlink("../script", from.join("deep/link")).unwrap();
    fs::hard_link(from.join("script"), from.join("twin")).unwrap();

    let archive = archive_of(&agent, from.to_str().unwrap());
    let (mut input, mut control) = agent.write_files(to.to_str().unwrap()).unwrap();
    input.write_all(&archive).unwrap();
    input.finish();
    assert_eq!(control.wait().unwrap(), Ending::Done);

    let copy = to.join("from");
    assert_eq!(fs::read(copy.join("deep/er/file")).unwrap(), vec![9; 300_000]);
    let script = fs::metadata(copy.join("script")).unwrap();
    assert_eq!(
        (script.mode() & 0o7777, script.uid(), script.gid(), script.nlink()),
        (0o751, 1234, 4321, 2)
    );
    assert_eq!(
        fs::read_link(copy.join("deep/link")).unwrap().to_str(),
        Some("../script")
    );
}

#[test]
fn a_single_file_is_an_archive_of_one() {
    let (agent, _) = agent();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "content").unwrap();
    let archive = archive_of(&agent, dir.path().join("one").to_str().unwrap());
    let mut reader = Reader::new(&archive[..]);
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!((entry.path.as_slice(), entry.size), (&b"one"[..], 7));
    assert!(reader.next_entry().unwrap().is_none());
}

#[test]
fn what_cannot_be_copied_says_why() {
    let (agent, _) = agent();
    let (mut output, mut control) = agent.read_files("/no/such/thing").unwrap();
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(control.wait().unwrap_err().is(unpack::PACK));
    let (input, mut control) = agent.write_files("/no/such/place").unwrap();
    input.finish();
    assert!(control.wait().unwrap_err().is(unpack::WRITE));
    let dir = tempfile::tempdir().unwrap();
    let (mut input, mut control) = agent.write_files(dir.path().to_str().unwrap()).unwrap();
    input.write_all(&[b'x'; 5000]).unwrap();
    input.finish();
    assert!(control.wait().unwrap_err().is(unpack::DAMAGED));
    let escape = {
        let mut writer = unpack::tar::Writer::new(Vec::new());
        let mut entry = unpack::tar::Entry::new("../out", unpack::tar::Kind::File, 0o644);
        entry.size = 0;
        writer.entry(&entry, &mut std::io::empty()).unwrap();
        writer.finish().unwrap()
    };
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let (mut input, mut control) = agent.write_files(inside.to_str().unwrap()).unwrap();
    input.write_all(&escape).unwrap();
    input.finish();
    assert!(control.wait().unwrap_err().is(unpack::UNSAFE_PATH));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn copies_as_streams_speak_as_those_of_containers() {
    let (agent, _) = agent();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "1").unwrap();
    let path = dir.path().to_str().unwrap();
    let all = |stream| {
        let mut bytes = Vec::new();
        UnixStream::from(stream).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let archive = all(agent.read_files_stream(&format!("{path}/a")).unwrap());
    let fault: Fault =
        serde_json::from_slice(&all(agent.read_files_stream("/no/such/thing").unwrap())).unwrap();
    assert!(fault.is(unpack::PACK));

    let send = |path: &str| {
        let mut stream = UnixStream::from(agent.write_files_stream(path).unwrap());
        stream.write_all(&archive).unwrap();
        stream.shutdown(Half::Write).unwrap();
        all(stream.into())
    };
    fs::create_dir(dir.path().join("to")).unwrap();
    assert_eq!(send(&format!("{path}/to")), b"done");
    assert_eq!(fs::read_to_string(dir.path().join("to/a")).unwrap(), "1");
    let fault: Fault = serde_json::from_slice(&send("/no/such/place")).unwrap();
    assert!(fault.is(unpack::WRITE));
}

#[test]
fn a_copy_that_is_dropped_ends() {
    let (agent, server) = agent();
    drop(agent.read_files("/usr/lib").unwrap());
    drop(agent.write_files("/tmp").unwrap());
    agent.sync(PATIENCE).unwrap();
    drop(agent);
    server.join().unwrap();
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let (agent, _) = agent();
    let refused = |done: fault::Result<()>| done.unwrap_err().is(codes::VALUE_REFUSED);
    assert!(refused(agent.set_password("root:x", "y")));
    assert!(refused(agent.set_password("root", "x\nother:y")));
    assert!(refused(agent.set_time(u64::MAX, PATIENCE)));
}
