//! `cargo xtask house`: floors, the code map, licences, sources and duplicate versions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use serde::Deserialize;

use crate::{conclude, licence, root};

/// What we read of deny.toml.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
    graph: Graph,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

/// Runs every check and prints what is out of order.
pub fn check() -> Result<()> {
    let deny = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("deny.toml")?;
    let mut command = MetadataCommand::new();
    command.current_dir(root());
    let platforms = deny
        .graph
        .targets
        .iter()
        .map(|target| format!("--filter-platform={target}"));
    command.other_options(platforms.collect::<Vec<_>>());
    let metadata = command.exec().context("cargo metadata")?;
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;

    let mut findings = floors(&metadata);
    findings.extend(code_map(&metadata, &map));
    findings.extend(outsiders(&metadata, &deny));
    conclude("house", &findings)
}

/// Where a crate of the workspace stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// `crates/<floor>_<name>/<room>`.
    Floor(u32),
    /// Below `tests/`: a test kit or a suite.
    Tests,
    /// Elsewhere: xtask.
    Outside,
}

fn place(manifest: &Path) -> Place {
    let Ok(path) = manifest.strip_prefix(root()) else {
        return Place::Outside;
    };
    let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy());
    match parts.next().as_deref() {
        Some("tests") => Place::Tests,
        Some("crates") => {
            let floor = parts.next().unwrap_or_default();
            let number = floor.split('_').next().and_then(|number| number.parse().ok());
            number.map_or(Place::Outside, Place::Floor)
        }
        _ => Place::Outside,
    }
}

/// The one room that its own floor may import: every room speaks of errors in its words.
const FOUNDATION: &str = "fault";

/// Imports go strictly downwards; only dev-dependencies may name a test kit.
fn floors(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let own = place(package.manifest_path.as_std_path());
        let Place::Floor(floor) = own else {
            if package.manifest_path.as_str().contains("/crates/") {
                findings.push(format!(
                    "{}: its folder is not crates/<floor>_<name>/<room>",
                    package.name
                ));
            }
            continue;
        };
        for import in package.dependencies.iter().filter(|import| import.path.is_some()) {
            let path = import
                .path
                .as_ref()
                .map(|path| path.join("Cargo.toml"))
                .unwrap_or_default();
            let allowed = match place(path.as_std_path()) {
                Place::Floor(below) => below < floor || import.name == FOUNDATION,
                Place::Tests => import.kind == DependencyKind::Development,
                Place::Outside => false,
            };
            if !allowed {
                findings.push(format!(
                    "{} (floor {floor}) imports {}, which is not on a lower floor",
                    package.name, import.name
                ));
            }
        }
    }
    findings
}

/// Every room stands on the map, on its floor; and every room of the map exists.
fn code_map(metadata: &Metadata, map: &str) -> Vec<String> {
    let drawn = rooms_of(map);
    let mut built = BTreeMap::new();
    for package in metadata.workspace_packages() {
        if let Place::Floor(floor) = place(package.manifest_path.as_std_path()) {
            let folder = package
                .manifest_path
                .parent()
                .and_then(|folder| folder.file_name());
            built.insert(folder.unwrap_or_default().to_owned(), floor);
        }
    }
    let mut findings = Vec::new();
    for (room, floor) in &built {
        match drawn.get(room) {
            None => findings.push(format!(
                "ARCHITECTURE.md: the room `{room}` of floor {floor} is not on the map"
            )),
            Some(other) if other != floor => findings.push(format!(
                "ARCHITECTURE.md: `{room}` is drawn on floor {other} and stands on floor {floor}"
            )),
            Some(_) => {}
        }
    }
    for room in drawn.keys().filter(|room| !built.contains_key(*room)) {
        findings.push(format!(
            "ARCHITECTURE.md: there is no crate for the room `{room}`"
        ));
    }
    findings
}

/// Rooms of the map's table: lines `| 0 ground | `fault` | … |`, the floor left empty where it repeats.
fn rooms_of(map: &str) -> BTreeMap<String, u32> {
    let mut rooms = BTreeMap::new();
    let mut floor = None;
    let table = map
        .lines()
        .skip_while(|line| !line.starts_with("| floor | room |"));
    for line in table.skip(2).take_while(|line| line.starts_with('|')) {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let number = cells
            .next()
            .unwrap_or_default()
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok());
        floor = number.or(floor);
        let room = cells.next().unwrap_or_default().trim_matches('`');
        if let (Some(floor), false) = (floor, room.is_empty()) {
            rooms.insert(room.to_owned(), floor);
        }
    }
    rooms
}

/// Licences, sources and duplicates of what comes from outside.
fn outsiders(metadata: &Metadata, deny: &Deny) -> Vec<String> {
    let mut findings = Vec::new();
    let used: BTreeSet<_> = match &metadata.resolve {
        Some(graph) => graph.nodes.iter().map(|node| &node.id).collect(),
        None => BTreeSet::new(),
    };
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| used.contains(&package.id))
    {
        let licence = package.license.as_deref().unwrap_or_default();
        if !licence::acceptable(licence, &deny.licenses.allow) {
            findings.push(format!(
                "{}: its licence {licence:?} is not in deny.toml",
                package.name
            ));
        }
        versions
            .entry(package.name.as_str())
            .or_default()
            .insert(package.version.to_string());
        if !from_known_source(package, deny) {
            findings.push(format!(
                "{}: comes from {:?}, not from a registry of deny.toml",
                package.name, package.source
            ));
        }
    }
    let skipped: BTreeSet<&str> = deny.bans.skip.iter().map(|skip| skip.name.as_str()).collect();
    for (name, versions) in &versions {
        if versions.len() > 1 && !skipped.contains(name) {
            let list: Vec<&str> = versions.iter().map(String::as_str).collect();
            findings.push(format!(
                "{name}: versions {} are both in the tree",
                list.join(" and ")
            ));
        }
    }
    for name in skipped {
        if versions.get(name).is_none_or(|versions| versions.len() < 2) {
            findings.push(format!(
                "deny.toml: {name} is no duplicate any more; take it off the list"
            ));
        }
    }
    findings
}

fn from_known_source(package: &Package, deny: &Deny) -> bool {
    let Some(source) = &package.source else {
        return true;
    };
    let known = |registry: &String| source.repr == format!("registry+{registry}");
    deny.sources.allow_registry.iter().any(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_read_floor_by_floor() {
        let map = "x\n| floor | room | what |\n|---|---|---|\n| 0 ground | `a` | x |\n| | `b` | y |\n| 1 up | `c` | z |\n\n| `d` |";
        let rooms = rooms_of(map);
        assert_eq!(
            rooms,
            BTreeMap::from([("a".into(), 0), ("b".into(), 0), ("c".into(), 1)])
        );
    }

    #[test]
    fn folders_tell_the_floor() {
        assert!(place(&root().join("crates/3_wholes/client/Cargo.toml")) == Place::Floor(3));
        assert!(place(&root().join("tests/labs/Cargo.toml")) == Place::Tests);
        assert!(place(&root().join("xtask/Cargo.toml")) == Place::Outside);
    }
}
