//! Archives that lie, servers that fail, packages that want out: each ends in its own fault, and nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use images::codes;
use kit::server::{Server, Trouble};
use kit::{Archive, DAY, Deb, Ground, Key, Watching, base, now, occurs};
use unpack::tar::{Entry, Kind};

const INRELEASE: &str = "dists/bookworm/InRelease";

fn with(extra: Vec<Deb>) -> Archive {
    Archive::new(base().into_iter().chain(extra).collect())
}

fn serve(archive: &Archive) -> (Server, Ground) {
    let server = Server::start(archive.files.clone());
    let ground = Ground::new(&server.address, &archive.key.keyring(false));
    (server, ground)
}

/// A package that is too large to arrive in one piece.
fn large() -> Deb {
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(3_000_000)
    .collect();
    Deb::required("large").file("./large", 0o644, noise)
}

#[test]
fn a_signed_archive_becomes_a_tree_and_a_second_run_needs_no_network() {
    let note = Deb::required("note")
        .dir("./etc/")
        .file("./etc/note", 0o640, "words")
        .script("postinst", "#!/bin/sh\necho \"$1\" >/etc/configured\n");
    let (server, mut ground) = serve(&with(vec![note]));
    let summary = ground.run().unwrap();
    assert_eq!(summary.packages.len(), 4);
    assert!(summary.fetched > 0);
    let tree = ground.tree();
    assert_eq!(fs::read_to_string(tree.join("etc/note")).unwrap(), "words");
    assert_eq!(
        fs::metadata(tree.join("etc/note")).unwrap().mode() & 0o7777,
        0o640
    );
    assert_eq!(fs::metadata(tree.join("etc/note")).unwrap().uid(), 0);
    assert_eq!(
        fs::read_to_string(tree.join("etc/configured")).unwrap(),
        "configure\n"
    );
    assert!(!tree.join("usr/sbin/policy-rc.d").exists());
    let list = fs::read_to_string(tree.join("var/lib/dpkg/info/note.list")).unwrap();
    assert_eq!(list, "/etc\n/etc/note\n");

    server.replace(Default::default());
    ground.request.mirror = Some("http://127.0.0.1:1".to_owned());
    assert!(ground.run().unwrap_err().is(codes::TARGET_EXISTS));
    ground.request.mirror = Some(server.address);
    ground.request.target = ground.dir.path().join("other");
    // An archive that says "not found" is not an archive that is away.
    assert!(ground.run().is_err());
}

#[test]
fn a_second_run_works_offline_from_the_cache() {
    let archive = with(Vec::new());
    let (server, mut ground) = serve(&archive);
    ground.run().unwrap();
    for path in archive.files.keys() {
        server.trouble(path, Trouble::Die(0));
    }
    ground.request.target = ground.dir.path().join("other");
    let summary = ground.run().unwrap();
    assert_eq!(summary.fetched, 0);
    assert_eq!(summary.notes[0], "offline bookworm");
}

#[test]
fn an_armoured_keyring_and_a_detached_signature_will_do() {
    let mut archive = with(Vec::new());
    archive.files.remove(INRELEASE);
    let server = Server::start(archive.files.clone());
    let ground = Ground::new(&server.address, &archive.key.keyring(true));
    ground.run().unwrap();
}

#[test]
fn a_changed_release_file_is_refused() {
    let mut archive = with(Vec::new());
    let text = String::from_utf8(archive.files[INRELEASE].clone()).unwrap();
    archive.files.insert(
        INRELEASE.to_owned(),
        text.replace("Suite: stable", "Suite: sTable").into_bytes(),
    );
    archive.files.remove("dists/bookworm/Release.gpg");
    let (_server, ground) = serve(&archive);
    ground.fails_with(archive::BAD_SIGNATURE);
}

#[test]
fn a_changed_release_file_with_a_detached_signature_is_refused() {
    let mut archive = with(Vec::new());
    archive.files.remove(INRELEASE);
    archive
        .files
        .get_mut("dists/bookworm/Release")
        .unwrap()
        .push(b'\n');
    let (_server, ground) = serve(&archive);
    ground.fails_with(archive::BAD_SIGNATURE);
}

#[test]
fn a_stranger_s_signature_is_refused() {
    let archive = with(Vec::new());
    let server = Server::start(archive.files.clone());
    let ground = Ground::new(&server.address, &Key::new().keyring(false));
    ground.fails_with(archive::UNKNOWN_KEY);
}

#[test]
fn a_keyring_without_keys_is_told() {
    let archive = with(Vec::new());
    let server = Server::start(archive.files.clone());
    let ground = Ground::new(&server.address, b"nothing");
    ground.fails_with(archive::KEYRING);
}

#[test]
fn an_expired_release_file_is_refused() {
    let mut archive = with(Vec::new());
    archive.valid_until = Some(now() - 3600);
    archive.build();
    let (_server, ground) = serve(&archive);
    let fault = ground.fails_with(archive::EXPIRED);
    assert!(fault.args().any(|(name, _)| name == "until"));
}

#[test]
fn a_wrong_clock_is_told_as_such() {
    let (_server, mut ground) = serve(&with(Vec::new()));
    ground.request.now = Some(now() + 365 * DAY);
    ground.fails_with(archive::EXPIRED);
    // Ten hours back: the key exists already by this clock, the Release file does not.
    let mut archive = with(Vec::new());
    archive.date = now() + DAY / 2;
    archive.build();
    let (_server, ground) = serve(&archive);
    ground.fails_with(archive::FROM_THE_FUTURE);
}

#[test]
fn a_package_that_differs_from_the_index_is_refused() {
    let (server, ground) = serve(&with(vec![large()]));
    server.trouble("pool/large_1.0_amd64.deb", Trouble::Lie);
    ground.fails_with(archive::MISMATCH);
}

#[test]
fn a_truncated_index_is_refused() {
    let mut archive = with(Vec::new());
    archive.by_hash = false;
    archive.build();
    let (server, ground) = serve(&archive);
    server.trouble(
        "dists/bookworm/main/binary-amd64/Packages.gz",
        Trouble::Truncate(100),
    );
    ground.fails_with(archive::MISMATCH);
}

#[test]
fn a_server_that_stalls_is_left_after_a_while_and_resumed_later() {
    let (server, ground) = serve(&with(vec![large()]));
    server.trouble("pool/large_1.0_amd64.deb", Trouble::Stall(1_000_000));
    let start = Instant::now();
    ground.fails_with(codes::STALLED);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    server.heal();
    ground.run().unwrap();
    let mut resumed = server
        .requests()
        .into_iter()
        .filter_map(|(path, range)| path.contains("large").then_some(range).flatten());
    assert!(resumed.next_back().is_some(), "what had arrived was kept");
}

#[test]
fn a_server_that_dies_is_asked_again_for_the_rest() {
    let (server, ground) = serve(&with(vec![large()]));
    server.trouble("pool/large_1.0_amd64.deb", Trouble::DieOnce(500_000));
    ground.run().unwrap();
    let ranges: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|(path, _)| path.contains("large"))
        .map(|(_, range)| range)
        .collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[1].is_some(), "{ranges:?}");
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let ground = Ground::new("http://127.0.0.1:1/debian", &Key::new().keyring(false));
    ground.fails_with(codes::NETWORK);
}

#[test]
fn cancelling_leaves_a_cache_to_go_on_with_and_no_tree() {
    let (_server, ground) = serve(&with(vec![large()]));
    let watching = Watching {
        cancel_at: Some(1),
        ..Watching::default()
    };
    let fault = images::bootstrap(&ground.request, &watching).unwrap_err();
    assert!(fault.is(model::CANCELLED), "{fault}");
    ground.nothing_left();
    ground.run().unwrap();
}

#[test]
fn a_login_in_the_mirrors_address_is_used_and_kept_out_of_the_tree() {
    let archive = with(Vec::new());
    let server = Server::start(archive.files.clone());
    // me:s3cret-word
    server.demand_login("bWU6czNjcmV0LXdvcmQ=");
    let address = server.address.replace("http://", "http://me:s3cret-word@");
    let ground = Ground::new(&address, &archive.key.keyring(false));
    ground.run().unwrap();
    assert!(!occurs(ground.tree(), b"s3cret-word"));
    assert!(!occurs(&ground.dir.path().join("cache"), b"s3cret-word"));
    let bare = Ground::new(&server.address, &archive.key.keyring(false));
    let fault = bare.fails_with(codes::HTTP);
    assert!(
        fault
            .args()
            .any(|(name, value)| name == "status" && value.starts_with("401"))
    );
}

/// Runs one of the tests below in a process of its own, which sees these variables.
fn child(test: &str, variables: &[(&str, &str)]) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Not a test by itself: what [`child`] runs when it is given a proxy and a keyring.
#[test]
fn through_a_proxy() {
    let (Ok(keyring), Ok(expected)) = (std::env::var("TEST_KEYRING"), std::env::var("TEST_EXPECTED")) else {
        return;
    };
    // Only the proxy can know this name (RFC 6761).
    let ground = Ground::new("http://mirror.invalid", &fs::read(keyring).unwrap());
    match (ground.run(), expected.as_str()) {
        (Ok(_), "") => {}
        (Err(fault), code) if fault.code() == code => ground.nothing_left(),
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn the_proxy_of_the_environment_is_asked_in_absolute_form() {
    let archive = with(Vec::new());
    let server = Server::start(archive.files.clone());
    let dir = tempfile::tempdir().unwrap();
    let keyring = dir.path().join("keyring.gpg");
    fs::write(&keyring, archive.key.keyring(false)).unwrap();
    let variables = |expected| {
        [
            ("http_proxy", server.address.as_str()),
            ("TEST_KEYRING", keyring.to_str().unwrap()),
            ("TEST_EXPECTED", expected),
        ]
    };
    let output = child("through_a_proxy", &variables(""));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|(target, _)| target.starts_with("http://mirror.invalid/")),
        "{requests:?}"
    );
    assert!(requests.len() > 4);

    server.demand_proxy_login();
    let output = child("through_a_proxy", &variables(codes::PROXY_LOGIN.0));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_target_that_is_there_is_not_touched() {
    let (_server, ground) = serve(&with(Vec::new()));
    fs::create_dir(ground.tree()).unwrap();
    fs::write(ground.tree().join("mine"), "mine").unwrap();
    assert!(ground.run().unwrap_err().is(codes::TARGET_EXISTS));
    assert_eq!(fs::read_to_string(ground.tree().join("mine")).unwrap(), "mine");
}

#[test]
fn a_release_that_nobody_has_is_told() {
    let (_server, mut ground) = serve(&with(Vec::new()));
    ground.request.image = "debian/99".parse().unwrap();
    assert!(ground.run().unwrap_err().is(codes::RELEASE_UNKNOWN));
    ground.request.image = "debian/nosuch".parse().unwrap();
    assert!(ground.run().unwrap_err().is(codes::HTTP));
}

#[test]
fn packages_that_cannot_be_had_are_told() {
    let (_server, mut ground) = serve(&with(Vec::new()));
    ground.request.include = vec!["nosuch".to_owned()];
    ground.fails_with(archive::NO_PACKAGE);
}

#[test]
fn a_script_that_fails_is_told_with_its_words() {
    let bad = Deb::required("bad").script("postinst", "#!/bin/sh\necho no way >&2\nexit 3\n");
    let (_server, ground) = serve(&with(vec![bad]));
    let fault = ground.fails_with(codes::CONFIGURE);
    assert!(
        fault.causes().iter().any(|line| line.contains("no way")),
        "{fault}"
    );
}

#[test]
fn a_tree_can_be_a_tar_file() {
    let (_server, mut ground) = serve(&with(Vec::new()));
    ground.request.target = ground.dir.path().join("rootfs.tar.zst");
    ground.run().unwrap();
    let file = std::io::BufReader::new(fs::File::open(&ground.request.target).unwrap());
    let mut reader = unpack::tar::Reader::new(unpack::codec::decode(file).unwrap());
    let mut found = false;
    while let Some(entry) = reader.next_entry().unwrap() {
        found |= entry.path == b"./usr/bin/dpkg" && entry.mode == 0o755;
        assert_eq!(entry.uid, 0, "{:?}", String::from_utf8_lossy(&entry.path));
    }
    assert!(found);
}

fn hostile(deb: Deb) -> (Server, Ground, fault::Result<images::Summary>) {
    let (server, ground) = serve(&with(vec![deb]));
    fs::write(ground.dir.path().join("outside"), "untouched").unwrap();
    let result = ground.run();
    assert_eq!(
        fs::read_to_string(ground.dir.path().join("outside")).unwrap(),
        "untouched"
    );
    fs::remove_file(ground.dir.path().join("outside")).unwrap();
    (server, ground, result)
}

#[test]
fn a_package_with_a_name_that_leads_up_is_refused() {
    let (_server, ground, result) = hostile(Deb::required("evil").file("../../outside", 0o644, "evil"));
    assert!(result.unwrap_err().is(unpack::UNSAFE_PATH));
    ground.nothing_left();
}

#[test]
fn a_package_that_writes_through_its_links_stays_inside() {
    let up = "../".repeat(12);
    let deb = Deb::required("evil")
        .entry(
            Entry::new("./way", Kind::Symlink(up.clone().into_bytes()), 0o777),
            "",
        )
        .entry(Entry::new("./abs", Kind::Symlink(b"/".to_vec()), 0o777), "")
        .file("./way/escaped", 0o644, "evil")
        .file("./abs/escaped-too", 0o644, "evil");
    let (_server, ground, result) = hostile(deb);
    result.unwrap();
    assert!(!std::path::Path::new("/escaped").exists() && !std::path::Path::new("/escaped-too").exists());
    assert!(ground.tree().join("escaped").exists());
}

#[test]
fn devices_of_a_package_are_left_out_and_setuid_files_belong_to_the_tree() {
    let deb = Deb::required("evil")
        .entry(Entry::new("./disk", Kind::Block(8, 0), 0o666), "")
        .file("./suid", 0o4755, "x");
    let (_server, ground, result) = hostile(deb);
    result.unwrap();
    assert!(!ground.tree().join("disk").exists());
    assert_eq!(
        fs::metadata(ground.tree().join("suid")).unwrap().mode() & 0o7777,
        0o4755
    );
}

#[test]
fn of_a_file_that_two_packages_have_the_one_that_replaces_wins() {
    let mut winner = Deb::required("winner").file("./shared", 0o644, "winner");
    winner.fields = "Replaces: loser\n".to_owned();
    let loser = Deb::required("loser").file("./shared", 0o644, "loser");
    let (_server, ground) = serve(&with(vec![winner.clone(), loser.clone()]));
    ground.run().unwrap();
    assert_eq!(
        fs::read_to_string(ground.tree().join("shared")).unwrap(),
        "winner"
    );
    let list = |name: &str| {
        fs::read_to_string(ground.tree().join(format!("var/lib/dpkg/info/{name}.list"))).unwrap()
    };
    assert_eq!(
        (list("winner").as_str(), list("loser").as_str()),
        ("/shared\n", "")
    );

    winner.fields.clear();
    let (_server, ground) = serve(&with(vec![winner, loser]));
    ground.fails_with(codes::OVERLAP);
}
