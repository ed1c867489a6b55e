//! Whatever is sent to any path: never a status of 5xx, never a hang, always an error body.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon's door over directories of its own; no network is made and no guest runs.
struct Ground {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    child: std::process::Child,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test program starts itself again as the daemon, so that its threads and sockets end with it.
fn ground() -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let child = std::process::Command::new("/proc/self/exe")
        .args(["the_daemon_of_the_other_tests", "--exact", "--nocapture"])
        .env("POSADA_TEST_DAEMON", dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..500 {
        if UnixStream::connect(&socket).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ground {
        socket,
        child,
        _dir: dir,
    }
}

#[test]
fn the_daemon_of_the_other_tests() {
    let Some(dir) = std::env::var_os("POSADA_TEST_DAEMON") else {
        return;
    };
    let dir = Path::new(&dir);
    let arg = |name: &str, part: &str| [name.into(), dir.join(part).into_os_string()];
    let args = [
        arg("--state-dir", "state"),
        arg("--cache-dir", "cache"),
        arg("--run-dir", "run"),
        arg("--socket", "api.sock"),
    ];
    server::daemon_main(args.into_iter().flatten());
}

fn send(socket: &Path, method: &str, target: &str, body: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: posada\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A refused body may be cut off while it is sent.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (
        status.unwrap_or_else(|| panic!("{method} {target}: no answer: {text}")),
        body.unwrap_or_default(),
    )
}

const JUNK: &[&[u8]] = &[
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b"\"x\"",
    b"{\"name\":\"../x\",\"spec\":{\"image\":\"debian/12\"}}",
    b"{\"spec\":{\"image\":\"\"}}",
    b"{\"spec\":{\"image\":\"debian/12\",\"limits\":{\"cpus\":1e999}}}",
    b"{\"spec\":{\"image\":\"debian/12\",\"unknown\":1}}",
    b"{\"spec\":{\"image\":\"debian/12\",\"env\":{\"a=b\":\"\"}}}",
    b"{\"spec\":{\"image\":\"debian/12\",\"mounts\":[{\"source\":\"/etc/\\u0000\",\"target\":\"/x\"}]}}",
    b"{\"add\":[{\"host_port\":70000,\"guest_port\":1}]}",
    b"{\"name\":\"\xff\xfe\"}",
    b"\x00\x01\x02",
];

#[test]
fn junk_is_refused_with_a_fault_on_every_path() {
    let ground = ground();
    let document: serde_json::Value = serde_json::from_str(&server::document()).unwrap();
    let deep = [b"[".repeat(100_000), b"{\"spec\":".repeat(5000)].concat();
    let large = vec![b' '; 2 << 20];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let filled = |word: &str| {
                let mut out = String::new();
                for (index, part) in path.split(['{', '}']).enumerate() {
                    out.push_str(if index % 2 == 0 { part } else { word });
                }
                out
            };
            let bodies: Vec<&[u8]> = JUNK.iter().copied().chain([deep.as_slice(), &large]).collect();
            for body in bodies {
                let (status, text) = send(&ground.socket, &method, &filled("nobody"), body);
                assert!(status < 500, "{method} {path}: {status} {text}");
                if status >= 400 {
                    let parsed: serde_json::Value = serde_json::from_str(&text)
                        .unwrap_or_else(|_| panic!("{method} {path}: {status} {text}"));
                    assert!(parsed["fault"]["code"].is_string(), "{text}");
                }
            }
            for word in [
                "%ff%fe",
                "..",
                "%2e%2e%2f%2e%2e",
                "a%00b",
                &"x".repeat(6000),
                "%",
                "%F0%9F%98%80",
            ] {
                let (status, text) = send(&ground.socket, &method, &filled(word), b"{}");
                assert!(status < 500, "{method} {path} with {word}: {status} {text}");
            }
            for query in [
                "?x=1",
                "?since=-1",
                "?timeout=x",
                "?revision=99999999999999999999",
                "?path=%00",
                "?for=tea",
            ] {
                let (status, text) = send(
                    &ground.socket,
                    &method,
                    &format!("{}{query}", filled("nobody")),
                    b"{}",
                );
                assert!(status < 500, "{method} {path}{query}: {status} {text}");
            }
        }
    }
    assert_eq!(send(&ground.socket, "GET", "/v1/nothing", b"").0, 404);
    assert_eq!(send(&ground.socket, "BREW", "/v1/guests", b"").0, 405);
}

#[test]
fn no_guest_came_of_it_and_the_client_reads_every_listing() {
    let ground = ground();
    let client = client::Client::new(&ground.socket);
    assert_eq!(client.version().unwrap().api, 1);
    assert!(client.guests().unwrap().is_empty());
    assert!(client.images().unwrap().is_empty());
    assert!(client.trash().unwrap().is_empty());
    assert_eq!(client.networks().unwrap().len(), 1);
    assert!(client.stats().unwrap().is_empty());
    assert!(!client.doctor().unwrap().is_empty());
    let refused = client.guest("nobody").unwrap_err();
    assert_eq!(refused.code(), "GST001");
    let cancelled = client.cancel("00000000000000000000000000000000").unwrap_err();
    assert_eq!(cancelled.code(), "OPS002");
}
