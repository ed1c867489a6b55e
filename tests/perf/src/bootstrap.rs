//! A minbase of Debian 12 with all packages in the cache, beside mmdebstrap and debootstrap with theirs.

use std::cell::Cell;
use std::path::PathBuf;

use crate::Options;
use crate::house::{peer_wanted, posada, run};
use crate::measure::compare;

/// See the module. All three are given the archive that the host's apt is given.
///
/// # Errors
/// When a program of either side fails.
pub fn bench(options: &Options) -> Result<(), String> {
    let rounds = options.rounds.unwrap_or(3);
    let ground = Ground::new()?;
    let ours = || ground.ours();
    if peer_wanted(options, "mmdebstrap", "mmdebstrap") {
        compare("bootstrap", "mmdebstrap", rounds, ours, || ground.mmdebstrap())?;
    }
    if peer_wanted(options, "debootstrap", "debootstrap") {
        compare("bootstrap", "debootstrap", rounds, ours, || ground.debootstrap())?;
    }
    Ok(())
}

/// A folder for trees and caches, removed in the end.
struct Ground {
    path: PathBuf,
    trees: Cell<usize>,
}

impl Ground {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("posada-perf-{}", std::process::id()));
        for name in ["ours", "mmdebstrap", "debootstrap"] {
            std::fs::create_dir_all(path.join(name)).map_err(|error| error.to_string())?;
        }
        Ok(Ground {
            path,
            trees: Cell::new(0),
        })
    }

    fn at(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// A place for a tree. None is removed before the end: that takes a second, and for some seconds more the file
    /// system (ext4 without a journal) is slow to make new files.
    fn tree(&self) -> String {
        self.trees.set(self.trees.get() + 1);
        self.at(&format!("tree{}", self.trees.get()))
    }

    fn ours(&self) -> Result<(), String> {
        let (tree, cache) = (self.tree(), self.at("ours"));
        run(
            posada(),
            &["bootstrap", "debian/12", &tree, "--cache-dir", &cache],
        )
        .map(drop)
    }

    /// With the cache that its manual page describes.
    fn mmdebstrap(&self) -> Result<(), String> {
        let (tree, cache) = (self.tree(), self.at("mmdebstrap"));
        let before = format!(
            "--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives; for deb in {cache}/*.deb; do \
             if [ -e \"$deb\" ]; then cp \"$deb\" \"$1\"/var/cache/apt/archives/; fi; done"
        );
        let after =
            format!("--customize-hook=cp -n \"$1\"/var/cache/apt/archives/*.deb {cache}/ 2>/dev/null || :");
        let keep = "--skip=essential/unlink,cleanup/apt";
        let args = [
            "--quiet",
            "--variant=minbase",
            keep,
            &before,
            &after,
            "bookworm",
            &tree,
        ];
        run("mmdebstrap", &args).map(drop)
    }

    fn debootstrap(&self) -> Result<(), String> {
        let (tree, cache) = (self.tree(), format!("--cache-dir={}", self.at("debootstrap")));
        run("debootstrap", &["--variant=minbase", &cache, "bookworm", &tree]).map(drop)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = run(
            "rm",
            &["-rf", "--one-file-system", &self.path.display().to_string()],
        );
    }
}
