//! What a guest in its own user namespace sees, may do, and may not do.

mod ground;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use ground::{Ground, IDS, Sleeper, process, run, run_in};
use jail::codes;
use jail::recipe::{FileEntry, Mount, MountKind, Root};

fn out(script: &str) -> String {
    let ground = Ground::new();
    let (text, code) = run(&ground.recipe(script)).expect("runs");
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn root_inside_is_the_first_id_of_the_range_and_nobody_outside() {
    let text =
        out("id -u; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g / /etc/passwd /dev /dev/null");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (base, count) = (IDS.base.to_string(), IDS.count.to_string());
    let map = ["0", base.as_str(), count.as_str()];
    assert_eq!(
        words,
        [&["0"], &map[..], &map[..], &["0:0"; 4]].concat(),
        "{text}"
    );
}

#[test]
fn its_namespaces_belong_to_its_user_namespace() {
    let script = "hostname; hostname changed && hostname; echo 1 > /proc/sys/net/ipv4/ip_forward && \
                  cat /proc/sys/net/ipv4/ip_forward; echo 8 > /proc/sys/kernel/msgmni || echo refused; echo $$";
    // The last but one: /proc/sys/kernel is read-only.
    let text = out(&format!("({script}) 2>/dev/null"));
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>()[..4],
        ["inside", "changed", "1", "refused"]
    );
}

#[test]
fn setuid_bits_file_capabilities_and_acls_survive_the_mapped_layer() {
    let ground = Ground::new();
    let layer = ground.layer();
    let bin = layer.join("usr/bin");
    fs::copy(bin.join("id"), bin.join("setuid-id")).expect("copied");
    fs::set_permissions(bin.join("setuid-id"), fs::Permissions::from_mode(0o4755)).expect("mode");
    fs::copy(bin.join("cat"), bin.join("capable-cat")).expect("copied");
    // CAP_DAC_READ_SEARCH permitted and effective: struct vfs_cap_data, version 2.
    let capability: [u8; 20] = [1, 0, 0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(bin.join("capable-cat"), "security.capability", &capability, none).expect("set");
    for name in ["secret", "shared"] {
        fs::write(layer.join(name), name).expect("written");
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(0o600)).expect("mode");
    }
    // Version 2; user::rw-, user:1000:r--, group::---, mask::r--, other::---.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 1000),
        (4, 0, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(layer.join("shared"), "system.posix_acl_access", &acl, none).expect("set");
    let script = "setuid-id -u; cat /secret 2>/dev/null || echo no; capable-cat /secret; echo; cat /shared; echo; \
                  stat -c %a /usr/bin/setuid-id";
    let mut recipe = ground.recipe(script);
    recipe.process.user = Some("ana".into());
    let (text, _) = run(&recipe).expect("runs");
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["0", "no", "secret", "shared", "4755"],
        "{text}"
    );
}

#[test]
fn what_it_writes_belongs_to_its_range_and_the_layer_stays_as_it_was() {
    let ground = Ground::new();
    let (text, code) =
        run(&ground.recipe("echo new > /new && echo more >> /etc/passwd && chmod 700 /root")).expect("runs");
    assert_eq!(code, 0, "{text}");
    for name in ["new", "etc/passwd", "root"] {
        let about = fs::metadata(ground.dir.path().join("upper").join(name)).expect("in the upper directory");
        assert_eq!((about.uid(), about.gid()), (IDS.base, IDS.base), "{name}");
    }
    assert!(!ground.layer().join("new").exists());
}

#[test]
fn a_tree_full_of_links_to_the_host_leads_nowhere() {
    let ground = Ground::new();
    let outside = tempfile::tempdir().expect("a directory");
    let layer = ground.layer();
    fs::remove_dir_all(layer.join("etc")).expect("removed");
    symlink(outside.path(), layer.join("etc")).expect("a link");
    symlink(outside.path(), layer.join("data")).expect("a link");
    symlink("/proc/self/fd/1", layer.join("stream")).expect("a link");
    let file = |path: &str| FileEntry {
        path: path.into(),
        content: "x".into(),
        mode: 0o644,
        keep_existing: false,
    };
    let mut recipe = ground.recipe("true");
    recipe.files = vec![file("/etc/hosts")];
    let fault = run(&recipe).expect_err("a dangling link is no directory");
    assert!(fault.is(codes::PLACE_FAILED), "{fault}");
    recipe.files = vec![];
    let what = MountKind::Tmpfs {
        options: String::new(),
    };
    recipe.mounts.push(Mount {
        target: "/data/deep".into(),
        what,
        read_only: false,
    });
    assert!(
        run(&recipe)
            .expect_err("the same for mounts")
            .is(codes::PLACE_FAILED)
    );
    recipe.mounts.pop();
    // A file in the place of a link replaces the link.
    recipe.files = vec![file("/stream"), file("/data")];
    recipe.process = process("cat /stream /data");
    assert_eq!(run(&recipe).expect("runs"), ("xx".to_owned(), 0));
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
}

#[test]
fn no_descriptor_but_the_standard_streams_comes_in() {
    let ground = Ground::new();
    let _open = fs::File::open("/etc").expect("open");
    let sleeper = Sleeper::start(ground.recipe("sleep 100"));
    let (text, _) = sleeper
        .enter(&process("ls /proc/1/fd; ls /proc/self/fd"))
        .expect("enters");
    // The last is the directory that ls reads.
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "0", "1", "2", "3"]
    );
}

#[test]
fn capabilities_are_bounded_and_raw_io_and_modules_never_among_them() {
    let ground = Ground::new();
    let recipe = ground.recipe("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status");
    let mask = jail::caps::mask(&recipe.capabilities)
        .expect("known")
        .expect("some");
    assert_eq!(mask & (1 << 16 | 1 << 17), 0, "CAP_SYS_MODULE, CAP_SYS_RAWIO");
    let (text, _) = run(&recipe).expect("runs");
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a line");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    };
    let own = rustix::thread::capabilities(None).expect("ours").permitted.bits();
    assert_eq!(field("CapBnd:"), mask & own | field("CapBnd:") & mask, "{text}");
    assert_eq!(
        (field("CapEff:") & !mask, field("CapInh:"), field("CapAmb:")),
        (0, 0, 0),
        "{text}"
    );
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), (2, 0));
}

#[test]
fn system_calls_that_concern_the_host_are_refused() {
    // init_module, kexec_load, bpf, io_uring_setup, keyctl, open_by_handle_at, syslog, clock_settime; and a call that
    // no kernel has.
    let calls = if cfg!(target_arch = "x86_64") {
        "175,246,321,425,250,304,103,227,9999"
    } else {
        "105,104,280,425,219,265,116,112,9999"
    };
    let script =
        format!("perl -e 'for ({calls}) {{ $! = 0; syscall($_, 0, 0, 0, 0, 0); print $!+0, \" \" }}'");
    assert_eq!(out(&script).trim(), "1 1 1 1 1 1 1 1 38");
}

#[test]
fn masked_paths_are_empty_and_nothing_of_the_host_is_mounted() {
    let text = out(
        "ls /sys/firmware /proc/scsi; cat /proc/keys /proc/timer_list 2>&1; grep -c . /proc/mounts; cat /proc/mounts",
    );
    assert!(!text.contains("/etc") && !text.contains("layer"), "{text}");
    for line in text.lines().filter(|line| line.contains(" / ")) {
        assert!(line.starts_with("posada / overlay rw"), "{line}");
    }
}

#[test]
fn a_read_only_mount_stays_so_even_for_its_root() {
    let ground = Ground::new();
    let data = tempfile::tempdir().expect("a directory");
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    let script = "for try in 'remount,rw' 'remount,bind,rw'; do mount -o $try /data && echo mounted; done; umount /data && \
                  echo gone; umount -l /data && echo gone; echo x > /data/x && echo written; echo end";
    let mut recipe = ground.recipe(&format!("({script}) 2>/dev/null"));
    let what = MountKind::Bind {
        source: data.path().into(),
        idmap: true,
        recursive: false,
    };
    recipe.mounts.push(Mount {
        target: "/data".into(),
        what,
        read_only: true,
    });
    assert_eq!(run(&recipe).expect("runs").0.trim(), "end");
}

#[test]
fn a_mapped_bind_shows_ids_as_on_disk_and_a_memory_file_its_content() {
    let ground = Ground::new();
    let data = tempfile::tempdir().expect("a directory");
    fs::write(data.path().join("anas"), "").expect("written");
    chown(data.path().join("anas"), Some(1000), Some(2000)).expect("owned");
    let mut recipe = ground.recipe("stat -c %u:%g /data/anas; cat /etc/memory /proc/version");
    let bind = MountKind::Bind {
        source: data.path().into(),
        idmap: true,
        recursive: false,
    };
    let content = |text: &str| MountKind::Content { content: text.into() };
    for (target, what) in [
        ("/data", bind),
        ("/etc/memory", content("one\n")),
        ("/proc/version", content("two\n")),
    ] {
        recipe.mounts.push(Mount {
            target: target.into(),
            what,
            read_only: true,
        });
    }
    assert_eq!(run(&recipe).expect("runs").0, "1000:2000\none\ntwo\n");
    assert_eq!(
        fs::read(ground.dir.path().join("upper/etc/memory")).expect("an empty place"),
        b""
    );
}

#[test]
fn the_bare_root_is_the_tree_without_mounts_and_cannot_be_written_when_read_only() {
    let ground = Ground::new();
    let script = "cd /run/tree && ls proc dev run && cat etc/new && (echo x > x || echo refused) 2>/dev/null";
    let mut recipe = ground.recipe(script);
    recipe.files = vec![FileEntry {
        path: "/etc/new".into(),
        content: "new\n".into(),
        mode: 0o644,
        keep_existing: false,
    }];
    recipe.mounts.push(Mount {
        target: "/run/tree".into(),
        what: MountKind::BareRoot,
        read_only: true,
    });
    let text = run(&recipe).expect("runs").0;
    assert_eq!(text, "dev:\n\nproc:\n\nrun:\nnew\nrefused\n");
}

#[test]
fn files_are_written_by_rename_and_existing_content_kept_when_asked() {
    let ground = Ground::new();
    fs::write(ground.layer().join("etc/machine-id"), "").expect("written");
    let file = |path: &str, content: &str, keep_existing| FileEntry {
        path: path.into(),
        content: content.into(),
        mode: 0o640,
        keep_existing,
    };
    let mut recipe = ground.recipe("stat -c %a /etc/new/hosts; cat /etc/new/hosts /etc/machine-id");
    recipe.files = vec![
        file("/etc/new/hosts", "a", false),
        file("/etc/machine-id", "b", true),
    ];
    assert_eq!(run(&recipe).expect("runs").0, "640\nab");
    recipe.files = vec![
        file("/etc/new/hosts", "c", false),
        file("/etc/machine-id", "d", true),
    ];
    assert_eq!(run(&recipe).expect("runs").0, "640\ncb");
}

#[test]
fn an_unusable_work_directory_is_a_fault_and_not_a_read_only_root() {
    let ground = Ground::new();
    let mut recipe = ground.recipe("true");
    let other = tempfile::tempdir_in("/dev/shm").expect("a directory on another file system");
    if let Root::Overlay { work, .. } = &mut recipe.root {
        *work = other.path().into();
    }
    let fault = run(&recipe).expect_err("refused");
    assert!(
        fault.is(codes::ROOT_FAILED) || fault.is(codes::ROOT_READ_ONLY),
        "{fault}"
    );
    chown(ground.dir.path().join("upper"), Some(0), Some(0)).expect("owned");
    assert!(
        run(&ground.recipe("true"))
            .expect_err("foreign")
            .is(codes::ROOT_FOREIGN)
    );
}

#[test]
fn faults_of_the_last_steps_come_back_from_inside() {
    let ground = Ground::new();
    let mut recipe = ground.recipe("true");
    recipe.process.argv = vec!["no-such-program".into()];
    assert!(run(&recipe).expect_err("missing").is(codes::EXEC_FAILED));
    recipe = ground.recipe("true");
    recipe.process.user = Some("nobody-here".into());
    assert!(run(&recipe).expect_err("unknown").is(codes::USER_UNKNOWN));
    recipe = ground.recipe("true");
    recipe.process.cwd = Some("/no/where".into());
    assert!(run(&recipe).expect_err("missing").is(codes::CWD_FAILED));
    recipe = ground.recipe("true");
    recipe.sysctls.insert("net.no.such".into(), "1".into());
    assert!(run(&recipe).expect_err("missing").is(codes::SYSCTL_REFUSED));
}

#[test]
fn namespaces_survive_the_guests_restart() {
    let ground = Ground::new();
    let recipe = ground.recipe("cat /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/ip_forward");
    let kept = jail::make_namespaces(&recipe).expect("namespaces");
    let before = run_in(&recipe, &kept).expect("runs").0;
    assert_eq!(
        (before.as_str(), run_in(&recipe, &kept).expect("again").0.as_str()),
        ("0\n", "1\n")
    );
}

#[test]
fn nothing_stays_mounted_and_no_process_stays_after_success_or_fault() {
    let ground = Ground::new();
    let mounts = || {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("read");
        text.lines()
            .filter(|line| line.contains(ground.dir.path().to_str().expect("text")))
            .count()
    };
    assert_eq!(mounts(), 0);
    run(&ground.recipe("true")).expect("runs");
    let mut broken = ground.recipe("true");
    broken.process.argv = vec!["/missing".into()];
    run(&broken).expect_err("faults");
    assert_eq!(mounts(), 0);
}

#[test]
fn a_network_card_gets_its_addresses_and_routes_at_every_start() {
    use std::os::fd::AsRawFd;
    let ground = Ground::new();
    let script = "cat /proc/net/route /proc/net/if_inet6 /proc/net/ipv6_route /sys/class/net/eth0/address \
                  /sys/class/net/eth0/mtu /sys/class/net/lo/operstate";
    let mut recipe = ground.recipe(script);
    recipe.nics = vec![jail::recipe::NicSetup {
        link: "eth0".into(),
        mac: "02:00:00:00:00:07".into(),
        addresses: vec![
            ("10.9.8.7".parse().expect("v4"), 24),
            ("fd00:9::7".parse().expect("v6"), 64),
        ],
        gateways: vec!["10.9.8.1".parse().expect("v4"), "fd00:9::1".parse().expect("v6")],
        mtu: Some(1400),
    }];
    let kept = jail::make_namespaces(&recipe).expect("namespaces");
    assert!(
        run_in(&recipe, &kept)
            .expect_err("no such link")
            .is(codes::NIC_FAILED)
    );
    let net = kept.net.as_ref().expect("a network namespace").as_raw_fd();
    let made = std::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{}/fd/{net}", std::process::id()))
        .args([
            "sh",
            "-c",
            "ip link add eth0 type veth peer name other && ip link set other up",
        ])
        .status();
    assert!(made.expect("nsenter runs").success());
    for round in 0..2 {
        let (text, _) = run_in(&recipe, &kept).expect("runs");
        // Destination 0.0.0.0 by 10.9.8.1, in the byte order of the machine.
        assert!(text.contains("eth0\t00000000\t0108090A"), "round {round}: {text}");
        assert!(text.contains("fd000009000000000000000000000007"), "{text}");
        assert!(text.contains("02:00:00:00:00:07\n1400\n"), "{text}");
        assert!(text.lines().any(
            |line| line.starts_with(&"0".repeat(32)) && line.contains("fd000009000000000000000000000001")
        ));
    }
}
