//! Entries of the Boot Loader Specification (type 1), and `extlinux.conf`.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Choice;
use super::grub::read_environment;
use super::version::compare;
use super::volumes::{Place, Volumes};

/// Most entries that are looked at.
const MOST_ENTRIES: usize = 256;

/// An entry file: its name and what its lines say.
struct Entry {
    name: String,
    keys: HashMap<String, String>,
}

impl Entry {
    fn get(&self, key: &str) -> &str {
        self.keys.get(key).map_or("", String::as_str)
    }

    /// The order of the specification: those with a sort key first, then by it, by machine, newest version first, and
    /// last by name.
    fn before(&self, other: &Entry) -> Ordering {
        let (a, b) = (self.get("sort-key"), other.get("sort-key"));
        let keyed = a.is_empty().cmp(&b.is_empty());
        let by_key = if a.is_empty() || b.is_empty() {
            Ordering::Equal
        } else {
            a.cmp(b)
                .then_with(|| self.get("machine-id").cmp(other.get("machine-id")))
                .then_with(|| compare(other.get("version"), self.get("version")))
        };
        keyed.then(by_key).then_with(|| compare(&other.name, &self.name))
    }
}

/// What `loader/entries/*.conf` starts by default (<https://uapi-group.org/specifications/specs/boot_loader_specification/>).
pub(super) fn loader(volumes: &Volumes<'_>, place: &Place) -> Option<Choice> {
    let folder = format!("{}/loader/entries", place.folder);
    let environment: HashMap<String, String> = read_environment(volumes, place).into_iter().collect();
    let mut entries: Vec<Entry> = volumes
        .names(place.volume, &folder)
        .into_iter()
        .filter(|name| name.ends_with(".conf"))
        .take(MOST_ENTRIES)
        .filter_map(|file| {
            let text = volumes.text(place.volume, &format!("{folder}/{file}")).ok()?;
            let keys = parse_entry(&text);
            let name = file.trim_end_matches(".conf").to_owned();
            keys.contains_key("linux").then_some(Entry { name, keys })
        })
        .collect();
    entries.sort_by(Entry::before);
    let config = volumes
        .text(place.volume, &format!("{}/loader/loader.conf", place.folder))
        .unwrap_or_default();
    let wanted = environment
        .get("saved_entry")
        .cloned()
        .or_else(|| parse_entry(&config).remove("default"));
    let default = wanted.and_then(|wanted| {
        let wanted = wanted.trim_end_matches(".conf");
        entries.iter().position(|entry| matches(wanted, &entry.name))
    });
    let entry = entries.into_iter().nth(default.unwrap_or(0))?;
    // Paths are those of the file system that holds the entries.
    let initrds = entry
        .get("initrd")
        .split_whitespace()
        .filter(|word| !word.starts_with('$'));
    Some(Choice {
        title: Some(entry.get("title").to_owned()).filter(|title| !title.is_empty()),
        volume: place.volume,
        kernel: entry.get("linux").to_owned(),
        initrds: initrds.map(|path| (place.volume, path.to_owned())).collect(),
        options: expand(entry.get("options"), &environment),
    })
}

/// The lines of an entry: a key and its value; a key that comes again adds to the value.
fn parse_entry(text: &str) -> HashMap<String, String> {
    let mut keys: HashMap<String, String> = HashMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some((key, value)) = line.split_once(char::is_whitespace) {
            let held = keys.entry(key.to_owned()).or_default();
            if !held.is_empty() {
                held.push(' ');
            }
            held.push_str(value.trim());
        }
    }
    keys
}

/// Whether a name is meant by a pattern with `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
        || open && (pattern.ends_with('*') || name.ends_with(pattern.rsplit('*').next().unwrap_or("")))
}

/// Puts GRUB's saved variables in, as Fedora's entries have them (`$kernelopts`).
fn expand(options: &str, environment: &HashMap<String, String>) -> String {
    let words = options.split_whitespace().map(|word| {
        let name = word.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
        match name {
            Some(name) => environment.get(name).map_or("", String::as_str),
            None => word,
        }
    });
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// What `extlinux.conf` or `syslinux.cfg` starts by default (<https://wiki.syslinux.org/wiki/index.php?title=Config>).
pub(super) fn extlinux(volumes: &Volumes<'_>, place: &Place) -> Option<Choice> {
    let files = [
        "extlinux/extlinux.conf",
        "extlinux.conf",
        "syslinux/extlinux.conf",
        "syslinux/syslinux.cfg",
        "syslinux.cfg",
    ];
    files.iter().find_map(|file| {
        let path = format!("{}/{file}", place.folder);
        let text = volumes.text(place.volume, &path).ok()?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        parse_extlinux(&text, place.volume, folder)
    })
}

fn parse_extlinux(text: &str, volume: usize, folder: &str) -> Option<Choice> {
    let mut default = None;
    let mut labels: Vec<(String, Choice)> = Vec::new();
    let absolute = |path: &str| {
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{folder}/{path}")
        }
    };
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        match (key.to_ascii_lowercase().as_str(), labels.last_mut()) {
            ("default", _) => default = Some(value.to_owned()),
            ("label", _) => {
                let choice = Choice {
                    title: Some(value.to_owned()),
                    volume,
                    ..Choice::default()
                };
                labels.push((value.to_owned(), choice));
            }
            ("kernel" | "linux", Some((_, choice))) => choice.kernel = absolute(value),
            ("initrd", Some((_, choice))) => {
                choice.initrds = value.split(',').map(|path| (volume, absolute(path))).collect();
            }
            ("append", Some((_, choice))) => {
                let (files, options): (Vec<&str>, Vec<&str>) = value
                    .split_whitespace()
                    .partition(|word| word.starts_with("initrd="));
                for path in files.iter().flat_map(|word| word["initrd=".len()..].split(',')) {
                    choice.initrds.push((volume, absolute(path)));
                }
                choice.options = options.join(" ");
            }
            ("menu", Some((name, choice))) => {
                let (word, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
                match word.to_ascii_lowercase().as_str() {
                    "label" => choice.title = Some(rest.replace('^', "").trim().to_owned()),
                    "default" => default = Some(name.clone()),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    labels.retain(|(_, choice)| !choice.kernel.is_empty());
    let at = default.and_then(|default| labels.iter().position(|(name, _)| *name == default));
    labels.into_iter().nth(at.unwrap_or(0)).map(|(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_with_stars_means_names() {
        for (pattern, name) in [
            ("debian*", "debian-6.1"),
            ("*", ""),
            ("a*c*", "abcd"),
            ("*-6.1", "x-6.1-6.1"),
            ("a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("debian", "debian-6.1"),
            ("a*c", "abd"),
            ("a*c", "abcd"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn extlinux_takes_its_default_label() {
        let text = "DEFAULT l1\nTIMEOUT 3\n\nLABEL l0\n\tMENU LABEL ^old\n\tLINUX /vmlinuz-1\n\
                    LABEL l1\n\tMENU LABEL Debian\n\tLINUX ../vmlinuz-2\n\tINITRD /a,/b\n\tAPPEND root=/dev/vda1 ro\n";
        let choice = parse_extlinux(text, 3, "/boot/extlinux").unwrap();
        assert_eq!(choice.kernel, "/boot/extlinux/../vmlinuz-2");
        assert_eq!(choice.initrds, [(3, "/a".to_owned()), (3, "/b".to_owned())]);
        assert_eq!(
            (choice.title.as_deref(), choice.options.as_str()),
            (Some("Debian"), "root=/dev/vda1 ro")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "([a-zA-Z$*=,/ \t\n]|label|linux|menu|initrd=){0,60}") {
            let _ = parse_extlinux(&text, 0, "");
            let keys = parse_entry(&text);
            let _ = expand(&text, &keys);
            let _ = matches(&text, &text);
        }
    }
}
