//! Limits hold while running, and a guest that misbehaves harms only itself.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::{Duration, Instant};

use labs::{host, until};

#[test]
fn a_fork_bomb_and_a_memory_hog_stay_in_their_guest() {
    let (host, _turn) = host();
    host.launch_sleeper("good", "");
    host.launch_sleeper("bomb", "--pids 64");
    host.launch_sleeper("hog", "--memory 64M --swap 0");
    let mut bomb = host
        .command(["exec", "bomb", "--", "sh", "-c", "b() { b | b & }; b; sleep 5"])
        .spawn()
        .unwrap();
    let hog = host.run(&[
        "exec",
        "hog",
        "--",
        "perl",
        "-e",
        "my @a; push @a, 'x' x (1 << 20) for 1..1000; sleep 60",
    ]);
    assert_ne!(hog.code, 0, "1000 MB fit into 64 MB");
    let begin = Instant::now();
    assert_eq!(host.inside("good", "echo fine"), "fine\n");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "the neighbour answers slowly: {:?}",
        begin.elapsed()
    );
    assert_eq!(host.phase("good"), "running");
    assert_eq!(
        host.phase("hog"),
        "running",
        "only the hog's process dies, not its guest's init"
    );
    let stats = host.client().stats_of("hog").unwrap();
    assert!(stats.oom_kills >= 1, "{stats:?}");
    host.ok("stop --force bomb");
    let _ = bomb.wait();
    assert_eq!(host.phase("bomb"), "stopped");
    host.purge(&["good", "bomb", "hog"]);
}

#[test]
fn limits_are_changed_while_running() {
    let (host, _turn) = host();
    host.launch_sleeper("lim", "--memory 128M");
    assert_eq!(
        host.client().stats_of("lim").unwrap().memory_limit,
        Some(128 << 20)
    );
    host.ok("set lim memory=256M pids=50");
    assert_eq!(
        host.client().stats_of("lim").unwrap().memory_limit,
        Some(256 << 20)
    );
    let forks = host.posada("exec lim -- for i in $(seq 100); do sleep 3 & done; wait");
    assert!(
        forks.code != 0 || forks.err.contains("fork"),
        "100 processes fit into 50: {forks:?}"
    );
    assert_eq!(host.guest("lim")["spec"]["limits"]["memory"], 256 << 20);
    host.ok("restart lim --force");
    assert_eq!(
        host.client().stats_of("lim").unwrap().memory_limit,
        Some(256 << 20),
        "a limit set survives a restart"
    );
    host.purge(&["lim"]);
}

#[test]
fn half_a_processor_is_half_a_processor() {
    let (host, _turn) = host();
    host.launch_sleeper("half", "--cpus 0.5");
    let unenforced = host.guest("half")["status"]["unenforced"].to_string();
    if unenforced.contains("cpus") {
        labs::skip(
            "half_a_processor_is_half_a_processor",
            "this host cannot enforce a processor quota",
        );
        return host.purge(&["half"]);
    }
    let used = || host.client().stats_of("half").unwrap().cpu_ns;
    let mut busy = host
        .command([
            "exec",
            "half",
            "--",
            "timeout",
            "4",
            "sh",
            "-c",
            "while :; do :; done",
        ])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let (begin, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(3));
    let share = (used() - before) as f64 / begin.elapsed().as_nanos() as f64;
    let _ = busy.wait();
    assert!((0.3..0.65).contains(&share), "share {share}");
    host.purge(&["half"]);
}

#[test]
fn a_flood_on_the_console_is_bounded_and_harms_no_neighbour() {
    let (host, _turn) = host();
    host.launch_sleeper("calm", "");
    host.ok("launch debian/12 flood -- exec dd if=/dev/zero bs=1M count=4000 status=none");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        assert_eq!(host.inside("calm", "echo here"), "here\n");
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "the neighbour waits {:?}",
            asked.elapsed()
        );
    }
    let log = labs::sh("du -cb /var/lib/posada/guests/*/console.log* | tail -1 | cut -f1").ok();
    assert!(
        log.trim().parse::<u64>().unwrap() < 64 << 20,
        "the log has {} bytes",
        log.trim()
    );
    host.purge(&["flood", "calm"]);
    until("the daemon answers", Duration::from_secs(5), || {
        host.daemon_pid().is_some()
    });
}
