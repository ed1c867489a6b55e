//! An agent in a thread of the test, and a client of it.
#![allow(dead_code, missing_docs, reason = "each test program uses a part")]

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent::guest::{Doors, Server};
use agent::host::{Agent, Way};
use agent::protocol::Exec;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// The real server on one end of a socket pair; it ends with its connection and its last child.
pub fn serve(port: bool) -> (UnixStream, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let server = std::thread::spawn(move || {
        let mut server = Server::new(Doors::none(), false).expect("a pipe");
        server.add(theirs.into(), port).expect("a socket");
        server.run().expect("poll works");
    });
    (ours, server)
}

pub fn agent() -> (Agent, JoinHandle<()>) {
    let (stream, server) = serve(false);
    let agent = Agent::over(stream, Way::Connection, PATIENCE).expect("the agent greets");
    (agent, server)
}

pub fn sh(script: &str) -> Exec {
    argv(&["sh", "-c", script])
}

pub fn argv(words: &[&str]) -> Exec {
    Exec {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Exec::default()
    }
}

/// Waits for something that happens elsewhere.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
