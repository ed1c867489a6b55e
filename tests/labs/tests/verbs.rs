//! Every verb that `--help` names is used by a lab, and works here where no other lab needs it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use labs::{Terminal, host, sh, until};

const SOON: Duration = Duration::from_secs(30);

/// Verbs of a help page: lines of two blanks, a word, at least two blanks (or a comma and other names), a sentence.
fn verbs(help: &str) -> Vec<String> {
    let verb = |line: &str| -> Option<String> {
        let line = line
            .strip_prefix("  ")
            .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))?;
        let word: String = line
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        let rest = &line[word.len()..];
        (rest.starts_with("  ") || rest.starts_with(", ")).then_some(word)
    };
    help.lines().filter_map(verb).collect()
}

/// The text of every lab.
fn sources() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let files = std::fs::read_dir(folder)
        .expect("the sources of the labs")
        .flatten();
    files
        .map(|file| std::fs::read_to_string(file.path()).expect("a source file"))
        .collect()
}

#[test]
fn every_verb_of_the_help_has_a_lab() {
    let (host, _turn) = host();
    let sources = sources();
    let top = verbs(&host.ok("--help"));
    assert!(top.len() >= 30, "the help names {} verbs: {top:?}", top.len());
    let used = |words: &str| {
        [format!("\"{words} "), format!("\"{words}\"")]
            .iter()
            .any(|text| sources.contains(text))
    };
    let mut without = Vec::new();
    for verb in &top {
        let page = host.run(&[verb, "--help"]).ok();
        assert!(
            page.lines().count() > 3,
            "posada {verb} --help says nothing: {page}"
        );
        let below = verbs(&page);
        if below.is_empty() || !page.contains("\nVerbs:\n") {
            without.extend((!used(verb)).then(|| verb.clone()));
        } else {
            let pairs = below.iter().map(|sub| format!("{verb} {sub}"));
            without.extend(pairs.filter(|pair| !pair.ends_with(" help") && !used(pair)));
        }
    }
    assert!(without.is_empty(), "no lab uses: {}", without.join(", "));
}

#[test]
fn a_container_has_no_screen() {
    let (host, _turn) = host();
    host.launch_sleeper("dark", "");
    for line in ["vnc dark", "screenshot dark --text"] {
        let said = host.posada(line);
        assert_ne!(said.code, 0, "{line} of a container succeeds");
        assert!(
            said.err.contains("dark") || said.err.contains("screen"),
            "{line}: {}",
            said.err
        );
    }
    host.purge(&["dark"]);
}

#[test]
fn listings_have_formats_columns_filters_and_order() {
    let (host, _turn) = host();
    host.launch_sleeper("ls-b", "--label tier=back");
    host.launch_sleeper("ls-a", "--label tier=front");
    assert_eq!(host.ok("ls --quiet --sort name --label tier=*"), "ls-a\nls-b\n");
    assert_eq!(
        host.ok("ls ls-* --columns name --filter state=running --sort -name --format csv"),
        "name\nls-b\nls-a\n"
    );
    let json = host.json("ls ls-a");
    assert_eq!(json[0]["name"], "ls-a");
    assert_eq!(json[0]["spec"]["labels"]["tier"], "front");
    assert!(host.ok("ls --format yaml ls-a").contains("name: ls-a"));
    assert_eq!(host.ok("ls --format jsonl ls-*").lines().count(), 2);
    let table = host.ok("ls");
    assert!(table.starts_with("NAME") && !table.contains('│'), "{table}");
    host.purge(&["ls-a", "ls-b"]);
}

#[test]
fn a_guest_is_renamed_paused_resumed_and_restarted() {
    let (host, _turn) = host();
    host.launch_sleeper("old", "");
    host.ok("rename old new");
    assert_eq!(host.phase("new"), "running");
    host.posada("show old").fault("GST001");

    host.ok("pause new");
    assert_eq!(host.phase("new"), "paused");
    let used = || host.json("top --once")[0]["cpu_ns"].clone();
    let before = used();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(used(), before, "a paused guest uses no processor time");
    host.ok("resume new");
    assert_eq!(host.phase("new"), "running");
    let pid = host.guest("new")["status"]["pid"].clone();
    host.ok("restart new --force");
    assert_ne!(host.guest("new")["status"]["pid"], pid);
    host.purge(&["new"]);
}

#[test]
fn rm_keeps_the_tree_in_the_trash_until_it_is_restored_or_emptied() {
    let (host, _turn) = host();
    host.launch_sleeper("bin", "");
    host.inside("bin", "echo precious > /root/file");
    host.ok("rm --force --yes bin");
    assert!(host.ok("trash ls").contains("bin"));
    host.ok("trash restore bin");
    host.ok("start bin");
    assert_eq!(host.inside("bin", "cat /root/file"), "precious\n");
    host.ok("rm --force --yes bin");
    host.ok("trash empty --yes");
    assert!(!host.ok("trash ls").contains("bin"));
}

#[test]
fn a_protected_guest_is_neither_removed_nor_stopped() {
    let (host, _turn) = host();
    host.launch_sleeper("safe", "");
    host.ok("set safe protect=true");
    assert_ne!(host.posada("rm --force --yes safe").code, 0);
    assert_ne!(host.posada("stop --force safe").code, 0);
    assert_eq!(host.phase("safe"), "running");
    host.ok("set safe protect=false");
    host.purge(&["safe"]);
}

#[test]
fn files_are_copied_both_ways_into_running_and_stopped_guests() {
    let (host, _turn) = host();
    host.launch_sleeper("files", "");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("tree")).unwrap();
    std::fs::write(at("tree/one"), "1").unwrap();
    host.run(&["cp", &at("tree"), "files:/root/"]).ok();
    assert_eq!(host.inside("files", "cat /root/tree/one"), "1");
    host.ok("stop --force files");
    std::fs::write(at("two"), "2").unwrap();
    host.run(&["cp", &at("two"), "files:/root/tree/two"]).ok();
    host.run(&["cp", "files:/root/tree", &at("back")]).ok();
    assert_eq!(std::fs::read_to_string(at("back/two")).unwrap(), "2");
    host.ok("start files");
    assert_eq!(host.inside("files", "cat /root/tree/two"), "2");
    host.purge(&["files"]);
}

#[test]
fn explain_shows_the_mechanism_and_the_commands_by_hand() {
    let (host, _turn) = host();
    host.launch_sleeper("exp", "--publish 8090:80");
    let told = host.ok("explain exp");
    let pid = host.guest("exp")["status"]["pid"].to_string();
    for fact in [pid.as_str(), "8090", "overlay", "ip ", "nft "] {
        assert!(told.contains(fact), "explain does not tell {fact}: {told}");
    }
    host.purge(&["exp"]);
}

#[test]
fn waiting_for_a_guest_ends_when_it_is_so_and_says_what_it_waited_for() {
    let (host, _turn) = host();
    host.launch_sleeper("wt", "");
    host.ok("wait wt running --timeout 5");
    host.ok("wait wt ip --timeout 20");
    let said = host.posada("wait wt stopped --timeout 1");
    assert!(said.code != 0 && said.err.contains("stopped"), "{said:?}");
    host.purge(&["wt"]);
    host.ok("launch --rm --detach debian/12 brief -- sleep 2");
    host.ok("wait brief removed --timeout 30");
    host.run(&["show", "brief"]).fault("GST001");
    host.run(&["wait", "brief", "removed"]).fault("GST001");
}

#[test]
fn ssh_goes_to_the_guest_by_name() {
    let (host, _turn) = host();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("k").display().to_string();
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {key}")).ok();
    let public = format!("{key}.pub");
    host.run(&[
        "launch",
        "debian/12",
        "sshd",
        "--include",
        "openssh-server",
        "--user",
        "ana",
        "--ssh-key",
        &public,
    ])
    .ok();
    let go = || {
        host.run(&[
            "ssh",
            "ana@sshd",
            "-i",
            &key,
            "-o",
            "BatchMode=yes",
            "--",
            "id",
            "-un",
        ])
    };
    until("ssh lets ana in", Duration::from_secs(60), || go().code == 0);
    assert_eq!(go().ok(), "ana\n");
    host.purge(&["sshd"]);
}

#[test]
fn images_are_listed_shown_pruned_and_removed_when_unused() {
    let (host, _turn) = host();
    host.launch_sleeper("img", "");
    let images = host.json("image ls");
    let digest = host.guest("img")["spec"]["image_digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = images.as_array().unwrap();
    assert!(
        listed
            .iter()
            .any(|image| image["spec"]["digest"] == digest.as_str()),
        "{images}"
    );
    assert!(host.ok("image show debian/12").contains(&digest[..20]));
    let refused = host.posada("image rm debian/12");
    assert!(
        refused.code != 0 && refused.err.contains("img"),
        "an image in use was removed: {refused:?}"
    );
    host.ok("image prune --yes");
    assert!(
        !host.json("image ls").as_array().unwrap().is_empty(),
        "prune keeps what is used"
    );
    host.purge(&["img"]);
}

#[test]
fn networks_and_operations_are_listed_and_shown() {
    let (host, _turn) = host();
    host.launch_sleeper("net", "");
    let name = host.json("network ls")[0]["name"].as_str().unwrap().to_owned();
    assert!(host.ok(&format!("network show {name}")).contains("posada0"));
    let operations = host.json("operation ls");
    let launch = operations
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["target"] == "guests/net")
        .unwrap();
    let id = launch["id"].as_str().unwrap();
    assert!(host.ok(&format!("operation show {id}")).contains("launch"));
    assert_ne!(
        host.posada(&format!("operation cancel {id}")).code,
        0,
        "what has ended cannot be cancelled"
    );
    host.purge(&["net"]);
}

#[test]
fn the_host_is_examined_and_the_program_tells_its_version_and_completions() {
    let (host, _turn) = host();
    let findings = host.json("doctor");
    assert!(findings.as_array().unwrap().len() >= 5, "{findings}");
    assert!(host.ok("version").contains(env!("CARGO_PKG_VERSION")));
    assert!(host.ok("--version").contains(env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(host.run(&["completion", shell]).ok().contains("posada"));
    }
    assert!(host.ok("help NAM001").contains("NAM001"), "a code is explained");
    assert!(host.ok("help launch").contains("launch"));
}

#[test]
fn dry_run_shows_the_plan_and_makes_nothing() {
    let (host, _turn) = host();
    host.launch_sleeper("dry0", "");
    let plan = host.ok("launch debian/12 dry --dry-run");
    assert!(plan.contains("dry"), "{plan}");
    assert!(!host.ok("ls --quiet").lines().any(|name| name == "dry"));
    host.purge(&["dry0"]);
}

#[test]
fn several_guests_answer_each_for_itself() {
    let (host, _turn) = host();
    host.launch_sleeper("many-1", "");
    host.launch_sleeper("many-2", "");
    let said = host.posada("stop --force many-1 many-x many-2");
    assert_eq!(said.code, 1, "one of three does not exist");
    assert!(said.err.contains("many-x"), "{said:?}");
    assert_eq!(
        (host.phase("many-1"), host.phase("many-2")),
        ("stopped".into(), "stopped".into())
    );
    host.ok("start many-*");
    assert_eq!(host.phase("many-2"), "running");
    host.purge(&["many-1", "many-2"]);
}

#[test]
fn a_misspelt_verb_is_answered_with_the_right_one() {
    let (host, _turn) = host();
    assert!(
        host.posada("lanch debian/12 x")
            .fault("CLI001")
            .contains("launch")
    );
    assert_eq!(host.posada("ls --no-such-option").code, 2);
}

#[test]
fn removing_for_good_asks_on_a_terminal_and_no_keeps_the_guest() {
    let (host, _turn) = host();
    host.launch_sleeper("ask", "");
    host.ok("stop --force ask");
    let answer = |key: &str| {
        let mut on = Terminal::new(&host.command(["rm", "ask", "--purge"]));
        on.expect("ask", SOON);
        on.type_(key);
        on.end(SOON).code()
    };
    assert_ne!(answer("n\r"), Some(0));
    assert_eq!(host.phase("ask"), "stopped");
    assert_eq!(answer("y\r"), Some(0));
    host.posada("show ask").fault("GST001");
    // Without a terminal nobody can answer.
    host.launch_sleeper("ask", "");
    host.ok("stop --force ask");
    assert_ne!(host.posada("rm ask --purge").code, 0);
    assert_eq!(host.phase("ask"), "stopped");
    host.purge(&["ask"]);
}

#[test]
fn passwords_are_set_from_standard_input() {
    let (host, _turn) = host();
    host.launch_sleeper("pass", "");
    let shadow = || host.inside("pass", "grep ^root: /etc/shadow");
    assert!(
        shadow().starts_with("root:*:") || shadow().starts_with("root:!"),
        "root is locked: {}",
        shadow()
    );
    host.run_with_input(&["passwd", "pass", "--password-stdin"], b"secreto\n")
        .ok();
    assert!(shadow().starts_with("root:$"), "{}", shadow());
    host.purge(&["pass"]);
}

#[test]
fn words_are_spanish_where_the_user_is() {
    let (host, _turn) = host();
    let spanish = |args: &[&str]| {
        let mut command = host.command(args);
        let output = command
            .env_remove("LC_ALL")
            .env("LANG", "es_ES.UTF-8")
            .output()
            .unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let help = spanish(&["--help"]);
    assert!(help.contains("huésped") || help.contains("invitado"), "{help}");
    let error = spanish(&["show", "nadie"]);
    assert!(!error.contains("there is no"), "{error}");
    assert!(error.contains("no ") || error.contains("ningún"), "{error}");
    let english = host.posada("show nadie");
    assert_ne!(english.err, error);
}
