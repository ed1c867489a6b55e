//! The daemon is killed with signal 9 at random points of create, start, stop and rm: no guest is lost, nothing
//! leaks, every operation ends as done or failed with a reason.

use std::time::{Duration, Instant};

use labs::{Host, Look, host, kill, until};
use rustix::process::Signal;

use crate::{Chance, Rounds};

const SOON: Duration = Duration::from_secs(60);

/// Runs the rounds.
pub fn run(rounds: &Rounds) {
    let (host, _turn) = host();
    host.launch_sleeper("seed", "");
    host.purge(&["seed"]);
    let before = Look::now();
    for number in rounds.numbers() {
        let name = format!("k{number}");
        let mut chance = Chance::of(number);
        round(&host, &name, &mut chance);
        host.purge(&[&name]);
        settled(&host);
        if number % 10 == 9 {
            println!("round {number}: well");
        }
    }
    let left = || {
        let mut new = Look::now().new_since(&before);
        new.retain(|line| !line.contains("posada daemon") && !line.starts_with("file /var/lib/posada/store"));
        new
    };
    // The kernel takes cables and namespaces down a moment after they were given back.
    let begin = Instant::now();
    while !left().is_empty() && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(left(), Vec::<String>::new(), "left behind");
}

/// A guest's whole life; in each step the daemon may be killed after some milliseconds.
fn round(host: &Host, name: &str, chance: &mut Chance) {
    let create = ["launch", "debian/12", name, "--", "sleep", "infinity"];
    step(host, &create, chance);
    let exists = || host.ok("ls --quiet").lines().any(|line| line == name);
    if !exists() {
        return; // The request was never accepted.
    }
    assert_eq!(
        host.phase(name),
        "running",
        "accepted, and not running: {}",
        host.guest(name)
    );
    step(host, &["stop", "--force", name], chance);
    assert!(
        ["running", "stopped"].contains(&host.phase(name).as_str()),
        "{}",
        host.guest(name)
    );
    step(host, &["start", name], chance);
    assert!(
        ["running", "stopped"].contains(&host.phase(name).as_str()),
        "{}",
        host.guest(name)
    );
    host.ok(&format!("start {name}"));
    assert_eq!(host.inside(name, "echo alive"), "alive\n");
    step(host, &["rm", "--force", "--purge", "--yes", name], chance);
}

/// One command, and the daemon killed beside it.
fn step(host: &Host, args: &[&str], chance: &mut Chance) {
    let mut command = host.command(args);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("posada can be started");
    std::thread::sleep(Duration::from_micros(chance.below(150_000)));
    if let Some(pid) = host.daemon_pid() {
        kill(pid, Signal::KILL);
    }
    let _ = child.wait();
    settled(host);
}

/// Waits until no operation is under way, and checks how they ended.
fn settled(host: &Host) {
    let _ = host.posada("ls");
    until("every operation has ended", SOON, || {
        let operations = host.json("operation ls");
        let operations = operations.as_array().expect("a list").clone();
        operations.iter().all(|one| match one["state"].as_str() {
            Some("failed") => one["fault"]["code"].is_string() || one["fault"].is_object(),
            Some("done" | "cancelled") => true,
            _ => false,
        })
    });
}
