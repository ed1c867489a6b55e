//! Images are made once, found again, kept by their digest and removed without a trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

mod kit;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use images::{Images, Settings, codes};
use model::{ImageRef, Unwatched};

struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Ground { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn images(&self) -> Images {
        Images::open(Settings {
            state_dir: self.path("state"),
            cache_dir: self.path("cache"),
            worker_exe: kit::bin().join("posada-worker"),
            shim_exe: kit::bin().join("posada-shim"),
            ids: jail::recipe::IdRange {
                base: 1_200_000_000,
                count: 65_536,
            },
        })
        .unwrap()
    }

    /// A small tree with what is easily lost.
    fn tree(&self, name: &str) -> PathBuf {
        let tree = self.path(name);
        fs::create_dir_all(tree.join("usr/sbin")).unwrap();
        symlink("usr/sbin", tree.join("sbin")).unwrap();
        fs::write(tree.join("usr/sbin/init"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("usr/sbin/init"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(tree.join("usr/sbin/init"), tree.join("usr/sbin/telinit")).unwrap();
        std::os::unix::fs::chown(tree.join("usr"), Some(0), Some(50)).unwrap();
        tree
    }
}

fn path(path: &Path) -> ImageRef {
    ImageRef::Path(path.display().to_string())
}

fn tar(tree: &Path, file: &Path) {
    let status = std::process::Command::new("tar")
        .args(["-C", tree.to_str().unwrap(), "-cf", file.to_str().unwrap(), "."])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_directory_and_the_archive_of_it_are_one_image() {
    let ground = Ground::new();
    let tree = ground.tree("tree");
    let images = ground.images();
    let one = images.ensure(&path(&tree), &[], &Unwatched).unwrap();
    assert!(one.has_init && one.size > 0 && one.spec.digest.starts_with("sha256:"));
    let root = &one.layers[0];
    let init = fs::metadata(root.join("usr/sbin/init")).unwrap();
    assert_eq!((init.mode() & 0o7777, init.nlink()), (0o4755, 2));
    assert_eq!(fs::metadata(root.join("usr")).unwrap().gid(), 50);

    let archive = ground.path("tree.tar");
    tar(&tree, &archive);
    let other = images.ensure(&path(&archive), &[], &Unwatched).unwrap();
    assert_eq!(other.spec.digest, one.spec.digest);
    assert_eq!(images.list().unwrap().len(), 1);
    let again = images.ensure(&path(&archive), &[], &Unwatched).unwrap();
    assert_eq!(again.spec.references.len(), 2);
    let short: ImageRef = one.spec.digest[..20].parse().unwrap();
    assert!(images.find(&short, &[]).unwrap().is_some());
    assert_eq!(
        images.ensure(&short, &[], &Unwatched).unwrap().spec.digest,
        one.spec.digest
    );
}

#[test]
fn a_changed_file_is_a_new_image_and_takes_the_reference() {
    let ground = Ground::new();
    let tree = ground.tree("tree");
    let images = ground.images();
    let one = images.ensure(&path(&tree), &[], &Unwatched).unwrap();
    fs::write(tree.join("new"), "new").unwrap();
    let two = images.ensure(&path(&tree), &[], &Unwatched).unwrap();
    assert_ne!(one.spec.digest, two.spec.digest);
    let old = images
        .list()
        .unwrap()
        .into_iter()
        .find(|i| i.spec.digest == one.spec.digest)
        .unwrap();
    assert!(old.spec.references.is_empty());
}

#[test]
fn what_is_no_tree_is_refused_and_leaves_nothing() {
    let ground = Ground::new();
    let images = ground.images();
    let fault = images
        .ensure(&path(&ground.path("nothing")), &[], &Unwatched)
        .unwrap_err();
    assert!(fault.is(codes::NO_SUCH_FILE));
    fs::create_dir_all(ground.path("wrapped/inner/usr")).unwrap();
    let archive = ground.path("wrapped.tar");
    tar(&ground.path("wrapped"), &archive);
    let fault = images.ensure(&path(&archive), &[], &Unwatched).unwrap_err();
    assert!(fault.is(codes::NO_ROOT_TREE), "{fault}");
    fs::write(ground.path("broken.tar"), vec![7; 5000]).unwrap();
    let fault = images
        .ensure(&path(&ground.path("broken.tar")), &[], &Unwatched)
        .unwrap_err();
    assert!(fault.is(unpack::DAMAGED), "{fault}");
    let unknown = "sha256:0123456789".parse().unwrap();
    assert!(
        images
            .ensure(&unknown, &[], &Unwatched)
            .unwrap_err()
            .is(codes::UNKNOWN)
    );
    assert!(images.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(ground.path("state/images/tmp")).unwrap().count(), 0);
}

#[test]
fn images_are_removed_whole() {
    let ground = Ground::new();
    let images = ground.images();
    let one = images
        .ensure(&path(&ground.tree("one")), &[], &Unwatched)
        .unwrap();
    fs::write(ground.tree("two").join("more"), "x").unwrap();
    let two = images
        .ensure(&path(&ground.path("two")), &[], &Unwatched)
        .unwrap();
    let removed = images.prune(&|digest| digest == two.spec.digest).unwrap();
    assert_eq!(removed, std::slice::from_ref(&one.spec.digest));
    assert!(!one.layers[0].exists());
    images.remove(&two.spec.digest).unwrap();
    assert!(images.remove(&two.spec.digest).unwrap_err().is(codes::UNKNOWN));
    assert!(images.remove("../../etc").unwrap_err().is(codes::UNKNOWN));
    assert!(images.list().unwrap().is_empty());
}

#[test]
fn two_who_want_the_same_image_make_it_once() {
    let ground = Ground::new();
    let tree = ground.tree("tree");
    let images = ground.images();
    let digests: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| images.ensure(&path(&tree), &[], &Unwatched).unwrap().spec.digest))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(images.list().unwrap().len(), 1);
}

#[test]
fn what_a_killed_process_left_is_swept_at_the_next_start() {
    let ground = Ground::new();
    let left = ground.path("state/images/tmp/1-0/root");
    fs::create_dir_all(&left).unwrap();
    ground.images();
    assert!(!left.exists());
}
