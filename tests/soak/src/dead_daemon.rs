//! Minutes without a daemon (a round is a minute): a guest still resolves, keeps its address and reboots.

use std::time::Duration;

use labs::{alive, host, sh, until};

use crate::Rounds;

/// Runs the rounds.
pub fn run(rounds: &Rounds) {
    let (host, _turn) = host();
    host.launch("long", "");
    let guest = host.guest("long");
    let shim = guest["status"]["shim_pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("a shim");
    let mut inside = guest["status"]["pid"].to_string();
    host.kill_daemon();
    for minute in rounds.numbers() {
        let run = |pid: &str, command: &str| sh(&format!("nsenter -t {pid} -a -- {command}"));
        assert_eq!(
            run(&inside, "getent hosts deb.debian.org").code,
            0,
            "minute {minute}: names"
        );
        let address = run(&inside, "ip -4 -o addr show scope global").ok();
        assert!(address.contains(" 10."), "minute {minute}: {address}");
        let _ = run(&inside, "systemctl reboot");
        let old = inside.parse().expect("a process id");
        until("the old boot has ended", Duration::from_secs(60), || !alive(old));
        until("the new boot has begun", Duration::from_secs(60), || {
            inside = sh(&format!("pgrep -P {shim} | head -n 1")).out.trim().to_owned();
            !inside.is_empty()
                && sh(&format!(
                    "nsenter -t {inside} -a -- systemctl is-system-running --wait"
                ))
                .code
                    == 0
        });
        std::thread::sleep(Duration::from_secs(30));
    }
    assert_eq!(host.phase("long"), "running", "the next daemon finds it");
    host.purge(&["long"]);
}
