//! `cargo xtask tidy`: what a reader would stumble over. The list of exceptions only shrinks.

mod codes;
mod source;
mod text;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{conclude, root};

/// Findings that stand for now, one a line.
const ALLOWED: &str = "xtask/tidy-allow.txt";

/// One thing to mend: where, by which rule, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    rule: &'static str,
    /// What is wrong; without line numbers, so that the list of exceptions survives edits.
    what: String,
    line: usize,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Finding {
            path: path.to_owned(),
            rule,
            what: what.into(),
            line,
        }
    }

    /// As it stands in the list of exceptions.
    fn entry(&self) -> String {
        format!("{} {}: {}", self.path, self.rule, self.what)
    }
}

/// A file of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Runs every rule over every file that git knows or would add.
pub fn check() -> Result<()> {
    let files = files()?;
    let mut findings = Vec::new();
    for file in &files {
        text::check(file, &mut findings);
        if file.is_rust() {
            source::check(file, &mut findings);
        }
    }
    codes::check(&files, &mut findings);
    findings.sort();

    let allowed = std::fs::read_to_string(root().join(ALLOWED)).context(ALLOWED)?;
    let mut allowed: BTreeSet<&str> = allowed
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut lines = Vec::new();
    for finding in findings {
        if !allowed.remove(finding.entry().as_str()) {
            lines.push(format!(
                "{}:{}: {}: {}",
                finding.path, finding.line, finding.rule, finding.what
            ));
        }
    }
    lines.extend(
        allowed
            .iter()
            .map(|entry| format!("{ALLOWED}: no longer true, take it off: {entry}")),
    );
    conclude("tidy", &lines)
}

fn files() -> Result<Vec<File>> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let mut files = Vec::new();
    for path in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
        let place = root().join(path);
        if !place.is_file() || place.is_symlink() {
            continue;
        }
        let bytes = std::fs::read(&place).with_context(|| path.to_owned())?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}

/// Whether the file holds only tests, test kits or measurements.
fn only_tests(path: &str) -> bool {
    let inside = |folder: &str| {
        Path::new(path)
            .components()
            .any(|part| part.as_os_str() == folder)
    };
    inside("tests") || inside("benches") || inside("fuzz") || path.ends_with("/tests.rs")
}
