//! What a user finds inside a system container: init, packages, users, names, devices, limits of power.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use labs::{Terminal, host, until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_system_container_is_a_debian_without_failed_units() {
    let (host, _turn) = host();
    host.launch("sys", "");
    let state = host.run(&["exec", "sys", "--", "systemctl", "is-system-running", "--wait"]);
    assert_eq!(
        state.out.trim(),
        "running",
        "{}",
        host.inside("sys", "systemctl --failed --no-pager; true")
    );
    assert!(
        host.inside("sys", "journalctl --no-pager | head -3")
            .lines()
            .count()
            >= 2
    );
    assert_eq!(host.inside("sys", "cat /proc/1/comm").trim(), "systemd");
    assert_eq!(host.inside("sys", "hostname").trim(), "sys");
    assert_eq!(host.inside("sys", "cat /etc/machine-id").trim().len(), 32);
    assert!(host.inside("sys", "cat /etc/hosts").contains("localhost"));
    assert!(
        host.inside("sys", "getent hosts deb.debian.org")
            .contains("deb.debian.org")
    );
    assert!(host.inside("sys", "getent ahostsv4 sys.posada").contains("10."));
    host.inside("sys", "command -v ip ping less");

    // Setuid bits and file capabilities survive the bootstrap.
    let modes = host.inside("sys", "stat -c %a /usr/bin/passwd /usr/bin/su");
    assert_eq!(modes, "4755\n4755\n");
    host.inside("sys", "ping -c1 -W2 127.0.0.1");

    // Unprivileged: the guest's root is nobody in particular on the host.
    let map = host.inside("sys", "cat /proc/self/uid_map");
    let base: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(base >= 100_000, "{map}");
    let power = host.inside("sys", "grep CapBnd /proc/self/status");
    let power = u64::from_str_radix(power.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(
        power & (1 << 16 | 1 << 17),
        0,
        "CAP_SYS_MODULE and CAP_SYS_RAWIO are out of reach: {power:x}"
    );
    let nodes = host.inside("sys", "find /dev -type b");
    assert_eq!(nodes, "", "block devices inside");
    for closed in ["/proc/kcore", "/proc/sysrq-trigger", "/sys/firmware"] {
        let tried = host.posada(&format!(
            "exec sys -- echo b > {closed}/x 2>/dev/null || echo b > {closed}"
        ));
        assert_ne!(tried.code, 0, "{closed} can be written");
    }
    host.purge(&["sys"]);
}

#[test]
fn a_guest_reboots_and_powers_off_by_itself() {
    let (host, _turn) = host();
    host.launch("again", "");
    let boot = host.inside("again", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1");
    let pid = host.guest("again")["status"]["pid"].clone();
    let _ = host.posada("exec again -- reboot");
    until("it runs again", Duration::from_secs(60), || {
        let guest = host.guest("again");
        guest["status"]["phase"] == "running" && guest["status"]["pid"] != pid
    });
    until("it is up", Duration::from_secs(60), || {
        host.posada("exec again -- systemctl is-system-running --wait")
            .out
            .trim()
            == "running"
    });
    assert_eq!(host.guest("again")["status"]["restarts"], 1, "before: {boot}");
    let _ = host.posada("exec again -- poweroff");
    host.ok("wait again stopped --timeout 60");
    assert_eq!(host.phase("again"), "stopped");
    host.purge(&["again"]);
}

#[test]
fn an_application_container_runs_one_command_and_tells_its_status() {
    let (host, _turn) = host();
    let said = host.posada("launch debian/12 --rm one -- echo out; echo err >&2; cat; exit 5");
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.out.contains("out") && said.err.contains("err"), "{said:?}");
    assert!(
        !host.ok("ls --quiet").lines().any(|name| name == "one"),
        "--rm leaves no guest"
    );
    assert!(
        !host.ok("trash ls --quiet").contains("one"),
        "--rm leaves nothing in the trash"
    );

    let said = host.run_with_input(
        &["launch", "debian/12", "--rm", "two", "--", "tr", "a-z", "A-Z"],
        b"hello\n",
    );
    assert_eq!(said.ok(), "HELLO\n");
}

#[test]
fn a_command_in_the_foreground_loses_no_byte_either_way() {
    let (host, _turn) = host();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let said = host.run_with_input(&["launch", "debian/12", "--rm", "big", "--", "cat"], &bytes);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.as_bytes() == bytes, "{} bytes came back", said.out.len());
}

#[test]
fn a_command_in_the_foreground_has_the_users_terminal() {
    let (host, _turn) = host();
    let mut on = Terminal::new(&host.command(["launch", "debian/12", "--rm", "tty", "--", "bash", "--norc"]));
    on.expect("# ", Duration::from_secs(60));
    on.type_("tty; stty size; exit 3\r");
    on.expect("/dev/", SOON);
    on.expect("24 80", SOON);
    assert_eq!(on.end(SOON).code(), Some(3));
}

#[test]
fn mounts_of_the_host_are_seen_and_read_only_when_asked() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note"), "from the host\n").unwrap();
    let path = folder.path().display();
    host.launch_sleeper("mnt", &format!("--mount {path}:/data --mount {path}:/fixed:ro"));
    assert_eq!(
        host.inside("mnt", "cat /data/note /fixed/note"),
        "from the host\nfrom the host\n"
    );
    assert_ne!(
        host.posada("exec mnt -- touch /fixed/x").code,
        0,
        "a read-only mount can be written"
    );
    host.purge(&["mnt"]);
}

#[test]
fn exec_passes_input_status_signals_environment_folder_and_user() {
    let (host, _turn) = host();
    host.launch_sleeper("ex", "");
    assert_eq!(
        host.run_with_input(&["exec", "ex", "--", "wc", "-c"], &[b'x'; 100_000])
            .ok()
            .trim(),
        "100000"
    );
    assert_eq!(host.posada("exec ex -- exit 42").code, 42);
    assert_eq!(host.posada("exec ex -- kill -TERM $$").code, 128 + 15);
    assert_eq!(
        host.ok("exec -e WORD=salud -w /usr -u nobody ex -- echo $WORD; pwd; id -un"),
        "salud\n/usr\nnobody\n"
    );
    assert_eq!(host.run(&["exec", "ex", "--", "/no/such/program"]).code, 127);
    host.run(&["exec", "--user", "nemo", "ex", "--", "true"]);

    // A signal to the client reaches the process inside.
    let mut command = host.command(["exec", "ex", "--", "sleep", "1000"]);
    let mut child = command.spawn().unwrap();
    until("sleep runs inside", Duration::from_secs(10), || {
        host.inside("ex", "ls /proc/[0-9]*/cmdline | xargs cat | tr '\\0' ' '")
            .contains("sleep 1000")
    });
    labs::kill(child.id(), rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    until("sleep has ended inside", Duration::from_secs(10), || {
        !host
            .inside("ex", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
            .contains("sleep 1000")
    });
    host.purge(&["ex"]);
}
