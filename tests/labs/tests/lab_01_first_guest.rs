//! Lab 01, the first guest: from nothing to a web server in a Debian guest, as written; and with the daemon dying.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use labs::{Host, Terminal, host, sh, until};

const MINUTE: Duration = Duration::from_secs(60);

/// What each step is followed by.
type Between<'a> = &'a dyn Fn(&Host);

/// The first paragraph of the lab, with something happening between any two steps.
fn first_guest(host: &Host, name: &str, port: u16, between: Between) {
    host.ok(&format!("launch debian/12 {name} --publish {port}:80"));
    between(host);
    let listed = host.ok("ls");
    let line = listed
        .lines()
        .find(|line| line.contains(name))
        .expect("ls lists the guest");
    assert!(
        line.contains("running") && line.contains("10."),
        "no phase or address: {line}"
    );
    between(host);

    let mut shell = Terminal::new(&host.command(["shell", name]));
    shell.expect("#", MINUTE);
    shell.type_("hostname; tty; exit 7\r");
    shell.expect(name, MINUTE);
    shell.expect("/dev/", MINUTE);
    assert_eq!(
        shell.end(MINUTE).code(),
        Some(7),
        "the shell's exit status is the user's"
    );
    between(host);

    host.run(&["exec", name, "--", "apt-get", "-qq", "update"]).ok();
    between(host);
    host.run(&[
        "exec",
        "-e",
        "DEBIAN_FRONTEND=noninteractive",
        name,
        "--",
        "apt-get",
        "-qq",
        "install",
        "-y",
        "nginx",
    ])
    .ok();
    between(host);
    let page = || sh(&format!("curl -fsS --max-time 10 localhost:{port}"));
    assert!(page().ok().contains("nginx"));
    between(host);

    publish_on_the_running_guest(host, name, port + 1000);
    between(host);

    host.ok(&format!("stop {name}"));
    between(host);
    assert_eq!(host.phase(name), "stopped");
    host.ok(&format!("start {name}"));
    between(host);
    until("nginx answers again", MINUTE, || page().code == 0);
    assert!(page().ok().contains("nginx"));
    let state = host.run(&["exec", name, "--", "systemctl", "is-system-running", "--wait"]);
    assert_eq!(
        state.out.trim(),
        "running",
        "{}",
        host.inside(name, "systemctl --failed; true")
    );
    between(host);

    // It runs: a person is asked.
    let mut asked = Terminal::new(&host.command(["rm", name]));
    asked.expect("stop and remove it?", MINUTE);
    asked.type_("y\r");
    assert_eq!(asked.end(MINUTE).code(), Some(0));
    between(host);
    assert!(
        !host.ok("ls --quiet").lines().any(|line| line == name),
        "the guest is gone"
    );
    assert_ne!(page().code, 0, "its port is closed");
    assert!(
        host.ok("trash ls").contains(name),
        "its tree is kept in the trash"
    );
    host.purge(&[name]);
}

/// `posada publish web 2300:23`, with something that listens on port 23 of the guest.
fn publish_on_the_running_guest(host: &Host, name: &str, port: u16) {
    let listener = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 23, Listen => 5, ReuseAddr => 1); \
                    while (my $c = $s->accept) { print $c \"hello from 23\\n\"; close $c }";
    host.inside(
        name,
        &format!("setsid perl -e '{listener}' >/dev/null 2>&1 </dev/null & sleep 0.5"),
    );
    host.ok(&format!("publish {name} {port}:23"));
    let greeting = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    until("the published port answers", MINUTE, || {
        greeting().is_ok_and(|text| text == "hello from 23\n")
    });
}

#[test]
fn the_first_guest_as_written() {
    let (host, _turn) = host();
    first_guest(&host, "web", 8000, &|_| {});
}

#[test]
fn killing_the_daemon_between_any_two_steps_changes_nothing() {
    let (host, _turn) = host();
    first_guest(&host, "webk", 8001, &|host| {
        // A step that needs no daemon leaves none to be killed after it.
        if host.daemon_pid().is_some() {
            host.kill_daemon();
        }
    });
}

#[test]
fn ssh_and_sftp_as_a_user_with_a_key() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", at("k"))).ok();
    let key = at("k.pub");
    host.run(&[
        "launch",
        "debian/12",
        "srv",
        "--include",
        "openssh-server",
        "--user",
        "ana",
        "--ssh-key",
        &key,
        "--publish",
        "2200:22",
    ])
    .ok();
    let options = format!(
        "-i {} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={} -o ConnectTimeout=10",
        at("k"),
        at("known")
    );
    let ssh = |command: &str| sh(&format!("ssh {options} -p 2200 ana@localhost {command}"));
    until("ssh lets ana in", MINUTE, || ssh("true").code == 0);
    assert_eq!(ssh("'id -un; hostname'").ok(), "ana\nsrv\n");
    assert_eq!(ssh("'exit 9'").code, 9);
    assert_eq!(
        ssh("'locale >/dev/null'")
            .err
            .lines()
            .filter(|line| line.contains("warning"))
            .count(),
        0
    );

    let mut bytes = vec![0; 1 << 20];
    std::fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    std::fs::File::create(at("sent"))
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    std::fs::write(
        at("batch"),
        format!("put {} there\nget there {}\n", at("sent"), at("back")),
    )
    .unwrap();
    sh(&format!(
        "sftp {options} -P 2200 -b {} ana@localhost",
        at("batch")
    ))
    .ok();
    assert_eq!(std::fs::read(at("back")).unwrap(), bytes);
    host.purge(&["srv"]);
}

#[test]
fn address_name_locale_and_timezone_are_as_asked() {
    let (host, _turn) = host();
    host.launch_sleeper("first", "");
    let networks = host.json("network ls");
    let gateway = networks[0]["status"]["gateway"]
        .as_str()
        .expect("the network has a gateway")
        .to_owned();
    let ip = format!("{}.20", gateway.rsplit_once('.').unwrap().0);
    host.purge(&["first"]);

    host.launch(
        "es",
        &format!("--ip {ip} --hostname srv1 --locale es_ES.UTF-8 --timezone Europe/Madrid"),
    );
    assert_eq!(host.ok("ip es").lines().next(), Some(ip.as_str()));
    let addresses = host.inside("es", "ip -4 -o addr show scope global");
    assert!(addresses.contains(&format!(" {ip}/24 ")), "{addresses}");
    assert_eq!(host.inside("es", "hostname").trim(), "srv1");
    assert!(host.inside("es", "cat /etc/hosts").contains("srv1"));
    let zone = host.inside("es", "date +%Z");
    assert!(["CET", "CEST"].contains(&zone.trim()), "{zone}");

    // A login's view: no program complains of its locale, and months are Spanish.
    for program in [
        "locale",
        "perl -e 1",
        "bash -c true",
        "apt-get --version",
        "man -V || true",
        "date",
    ] {
        let said = host.run(&["exec", "es", "--", "bash", "-lc", program]);
        let text = format!("{}{}", said.out, said.err).to_lowercase();
        assert!(
            !text.contains("locale:") && !text.contains("setlocale") && !text.contains("locale failed"),
            "{program}: {text}"
        );
    }
    let month = host
        .run(&["exec", "es", "--", "bash", "-lc", "date -d 2024-01-15 +%B"])
        .ok();
    assert_eq!(month.trim(), "enero");
    host.purge(&["es"]);
}
