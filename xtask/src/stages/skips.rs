//! Skipped tests: each says why, into one file; a skip that `tests/skips.txt` does not know fails the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::root;

/// Names the file to which tests append `NAME: REASON`, one line each, when they skip themselves.
pub const VARIABLE: &str = "POSADA_TEST_SKIPS";

/// The file of this run.
pub fn file(target: &Path) -> PathBuf {
    target.join("skipped-tests.txt")
}

/// Starts with an empty file.
pub fn begin(target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)?;
    std::fs::write(file(target), "").context("the list of skipped tests")
}

/// Compares what was skipped with what is known to be skipped.
pub fn judge(target: &Path, full: bool) -> Result<()> {
    let known = std::fs::read_to_string(root().join("tests/skips.txt")).context("tests/skips.txt")?;
    let known = entries(&known);
    let told = std::fs::read_to_string(file(target)).context("the list of skipped tests")?;
    let skipped = entries(&told);
    for (name, reason) in &skipped {
        println!("skipped: {name}: {reason}");
    }
    let fresh: Vec<&str> = skipped
        .keys()
        .filter(|name| !known.contains_key(*name))
        .map(String::as_str)
        .collect();
    if !fresh.is_empty() {
        bail!("skipped, and not in tests/skips.txt: {}", fresh.join(", "));
    }
    if full {
        for name in known.keys().filter(|name| !skipped.contains_key(*name)) {
            println!("tests/skips.txt: {name} was not skipped; take it off where it runs everywhere");
        }
    }
    Ok(())
}

fn entries(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    pairs
        .map(|(name, reason)| (name.trim().to_owned(), reason.trim().to_owned()))
        .collect()
}
