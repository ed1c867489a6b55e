//! Files that several packages have: who may replace whom (policy 7.6), decided after packages were unpacked at once.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use archive::deb::Unpacked;
use archive::deb822::field;
use archive::relation::list;
use fault::{Fault, Result};

use crate::codes;
use crate::tree::At;

/// A file that belongs to `winner` although `loser` has it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) path: String,
    pub(crate) winner: String,
    pub(crate) loser: String,
}

/// Finds all files that two packages have, and takes them out of the losers' lists.
///
/// # Errors
/// [`codes::OVERLAP`] when neither may replace the other.
pub(crate) fn settle(root: &Path, unpacked: &[Unpacked]) -> Result<Vec<Overlap>> {
    let tree = unpack::Root::open(root)?;
    let mut owners: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, package) in unpacked.iter().enumerate() {
        let text = read_list(root, package)?;
        for path in text.lines() {
            match owners.get(path) {
                None => {
                    owners.insert(path.to_owned(), at);
                }
                Some(_) if is_directory(&tree, path) => {}
                Some(other) => {
                    let other = &unpacked[*other];
                    let overlap = judge(path, other, package)?;
                    if overlap.winner == package.name {
                        owners.insert(path.to_owned(), at);
                    }
                    found.push(overlap);
                }
            }
        }
    }
    for overlap in &found {
        for loser in unpacked.iter().filter(|u| u.name == overlap.loser) {
            let text = read_list(root, loser)?;
            let kept: String = text
                .lines()
                .filter(|path| **path != overlap.path)
                .flat_map(|path| [path, "\n"])
                .collect();
            let path = list_path(root, loser);
            fs::write(&path, kept).at(&path)?;
        }
    }
    Ok(found)
}

fn list_path(root: &Path, package: &Unpacked) -> std::path::PathBuf {
    root.join(format!("var/lib/dpkg/info/{}.list", package.info))
}

fn read_list(root: &Path, package: &Unpacked) -> Result<String> {
    let path = list_path(root, package);
    fs::read(&path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .at(&path)
}

/// Whether a path of a package is a directory now, links followed inside the tree.
fn is_directory(tree: &unpack::Root, path: &str) -> bool {
    let relative = path.trim_start_matches('/');
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    std::ffi::CString::new(if relative.is_empty() { "." } else { relative })
        .is_ok_and(|name| tree.lookup(&name, flags).is_ok())
}

fn judge(path: &str, one: &Unpacked, other: &Unpacked) -> Result<Overlap> {
    let replaces = |a: &Unpacked, b: &Unpacked| {
        list(field(&a.status, "Replaces").unwrap_or_default())
            .any(|relation| relation.matches(&b.name, &b.version))
    };
    let (winner, loser) = match (replaces(one, other), replaces(other, one)) {
        (true, _) => (one, other),
        (_, true) => (other, one),
        _ => {
            return Err(Fault::new(codes::OVERLAP)
                .arg("one", &one.name)
                .arg("other", &other.name)
                .arg("path", path));
        }
    };
    Ok(Overlap {
        path: path.to_owned(),
        winner: winner.name.clone(),
        loser: loser.name.clone(),
    })
}
