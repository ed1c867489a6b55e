//! Posada beside its peers: each figure a ratio of times taken in the same run.
//!
//! Run as `cargo xtask perf NAME [--peer P] [--rounds N]`. Prints lines
//! `NAME peer=… ours=… theirs=… ratio=…` (times in milliseconds, medians; ratio = ours ÷ theirs, below 1 is better)
//! and never fails because of a time.

mod boot;
mod bootstrap;
mod command;
mod house;
mod lifecycle;
mod many;
mod measure;

use std::process::ExitCode;

/// A benchmark: name, what it compares, body.
type Bench = (&'static str, &'static str, fn(&Options) -> Result<(), String>);

/// Every benchmark, in the order of `--list`.
const BENCHES: &[Bench] = &[
    (
        "lifecycle",
        "/bin/true without the daemon: create, start, wait, delete; crun",
        lifecycle::bench,
    ),
    (
        "command",
        "/bin/true through command line, daemon and network; podman, docker",
        command::bench,
    ),
    (
        "bootstrap",
        "minbase of Debian 12 from a warm cache; mmdebstrap, debootstrap",
        bootstrap::bench,
    ),
    ("boot", "launch to a running systemd; systemd-nspawn", boot::bench),
    ("many", "a hundred in a row, fifty at once; lxc", many::bench),
    (
        "weight",
        "memory of shims and daemon, readiness of a new daemon, with --rounds guests",
        many::weight,
    ),
    ("ls", "listing of a thousand stored guests; podman", many::listing),
];

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    /// Only this peer.
    pub peer: Option<String>,
    /// Rounds of each; a benchmark has its own default.
    pub rounds: Option<usize>,
}

fn main() -> ExitCode {
    let mut names = Vec::new();
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--peer" => options.peer = words.next(),
            "--rounds" => options.rounds = words.next().and_then(|n| n.parse().ok()),
            "--list" => {
                for (name, about, _) in BENCHES {
                    println!("{name:12} {about}");
                }
                return ExitCode::SUCCESS;
            }
            _ => names.push(word),
        }
    }
    for name in &names {
        let Some((_, _, bench)) = BENCHES.iter().find(|(known, _, _)| known == name) else {
            eprintln!("no benchmark is called {name}; --list names them");
            return ExitCode::from(2);
        };
        if let Err(why) = bench(&options) {
            eprintln!("{name}: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
