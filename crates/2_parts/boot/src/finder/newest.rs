//! Kernels that no configuration names: links in the root directory, and the newest one in `/boot`.

use super::Choice;
use super::version::compare;
use super::volumes::{Place, Volumes};

/// Pairs of links that packages keep up, in the root directory and in `/boot`.
const LINKS: [(&str, &str); 2] = [("vmlinuz", "initrd.img"), ("boot/vmlinuz", "boot/initrd.img")];

/// The kernel that a link names, with its initrd.
pub(super) fn links(volumes: &Volumes<'_>, root: usize, places: &[Place]) -> Option<Choice> {
    LINKS.iter().find_map(|(kernel, initrd)| {
        let (volume, kernel) = follow(volumes, root, places, kernel)?;
        Some(Choice {
            volume,
            kernel,
            initrds: follow(volumes, root, places, initrd).into_iter().collect(),
            ..Choice::default()
        })
    })
}

/// A file of the running system: on the root file system or, below `/boot`, on the one that is mounted there.
fn follow(volumes: &Volumes<'_>, root: usize, places: &[Place], path: &str) -> Option<(usize, String)> {
    if volumes.exists(root, path) {
        return Some((root, format!("/{path}")));
    }
    let target = volumes.link(root, path);
    let path = target.as_deref().unwrap_or(path).trim_start_matches('/');
    let name = path.strip_prefix("boot/")?;
    let mut mounted = places.iter().filter(|place| place.folder.is_empty());
    mounted
        .find(|place| volumes.exists(place.volume, name))
        .map(|place| (place.volume, format!("/{name}")))
}

/// The newest kernel of the first place that has any, one with an initrd before one without.
pub(super) fn newest(volumes: &Volumes<'_>, places: &[Place]) -> Option<Choice> {
    places.iter().find_map(|place| {
        let names = volumes.names(place.volume, &format!("{}/", place.folder));
        let best = names
            .iter()
            .filter_map(|name| {
                let version = name.strip_prefix("vmlinuz-")?;
                let left = [".old", ".bak", ".dpkg-new", ".dpkg-tmp", ".dpkg-bak"];
                if left.iter().any(|end| version.ends_with(end)) || version.contains("rescue") {
                    return None;
                }
                Some((initrd_of(&names, version), version, name))
            })
            .max_by(|(one, a, _), (other, b, _)| {
                one.is_some().cmp(&other.is_some()).then_with(|| compare(a, b))
            })?;
        let path = |name: &str| format!("{}/{name}", place.folder);
        Some(Choice {
            volume: place.volume,
            kernel: path(best.2),
            initrds: best.0.iter().map(|name| (place.volume, path(name))).collect(),
            ..Choice::default()
        })
    })
}

/// The initrd for a kernel, by the names that distributions use.
fn initrd_of(names: &[String], version: &str) -> Option<String> {
    let candidates = [
        format!("initrd.img-{version}"),
        format!("initramfs-{version}.img"),
        format!("initrd-{version}"),
    ];
    candidates.into_iter().find(|name| names.contains(name))
}
