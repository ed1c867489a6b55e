//! Which archive serves a release: the host's apt entry, else the documented default, unless the user says.

use std::path::PathBuf;

use archive::sources::{Source, parse_deb822};

use crate::host::Host;
use crate::releases::has_updates;

/// The documented default.
const DEFAULTS: &str = include_str!("../defaults/debian.sources");

/// One suite that packages may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Base address, without a slash at the end; may hold a login.
    pub(crate) base: String,
    /// Name of the suite, `bookworm-security`.
    pub(crate) name: String,
    /// Components, `main`.
    pub(crate) components: Vec<String>,
    /// Keyrings of which a key must have signed: paths, or a key in ASCII armour.
    pub(crate) keyrings: Vec<String>,
    /// Whether a missing suite is no fault.
    pub(crate) optional: bool,
}

/// What the user asks for instead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) mirror: Option<String>,
    pub(crate) keyring: Option<PathBuf>,
    pub(crate) components: Vec<String>,
}

/// Ways to get a release, best first: in each the release itself comes first, then updates and security. Only the
/// first whose release exists and is signed by its keyring is used.
pub(crate) fn ways(host: &Host, codename: &str, wish: &Wish) -> Vec<Vec<Suite>> {
    let defaults = parse_deb822(&DEFAULTS.replace("@RELEASE@", codename));
    let mut entries: Vec<(&Source, bool)> = Vec::new();
    if wish.mirror.is_none() {
        // First the entries for this very suite, then other archives of the host: they may serve it as well.
        let http = |source: &&Source| source.uris.iter().any(|uri| uri.starts_with("http"));
        let own = |source: &&Source| source.suites.iter().any(|suite| suite == codename);
        let release = |source: &&Source| source.suites.iter().any(|suite| is_release(suite));
        entries.extend(host.sources.iter().filter(http).filter(own).map(|s| (s, true)));
        entries.extend(
            host.sources
                .iter()
                .filter(http)
                .filter(|s| !own(s) && release(s))
                .map(|s| (s, false)),
        );
    }
    let mut ways: Vec<Vec<Suite>> = entries
        .iter()
        .map(|(source, _)| way(source, host, &defaults, codename, wish))
        .collect();
    match &wish.mirror {
        Some(mirror) => {
            let mut source = defaults[0].clone();
            source.uris = vec![mirror.clone()];
            ways.push(way(&source, &Host::default(), &[], codename, wish));
        }
        None => ways.push(way(&defaults[0], &Host::default(), &defaults, codename, wish)),
    }
    ways.dedup();
    ways
}

/// Names such as `bookworm` or `stable`: not those of updates, security, backports or other vendors' suites.
fn is_release(suite: &str) -> bool {
    const KNOWN: &[&str] = &[
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "stable",
        "oldstable",
        "oldoldstable",
        "testing",
        "unstable",
    ];
    KNOWN.contains(&suite)
}

/// The suites of a release when its archive is this one.
fn way(source: &Source, host: &Host, defaults: &[Source], codename: &str, wish: &Wish) -> Vec<Suite> {
    let components = match (&wish.components[..], &source.components[..]) {
        ([], []) => vec!["main".to_owned()],
        // Of the host's entry only main: what else a guest may have is for its user to say.
        ([], _) => vec!["main".to_owned()],
        (wished, _) => wished.to_vec(),
    };
    let keyrings = |source: &Source| match &wish.keyring {
        Some(path) => vec![path.display().to_string()],
        None if source.signed_by.is_empty() => trusted(),
        None => source.signed_by.clone(),
    };
    let suite = |source: &Source, name: String, optional: bool| Suite {
        base: source.uris[0].trim_end_matches('/').to_owned(),
        name,
        components: components.clone(),
        keyrings: keyrings(source),
        optional,
    };
    let mut suites = vec![suite(source, codename.to_owned(), false)];
    if has_updates(codename) {
        suites.push(suite(source, format!("{codename}-updates"), true));
        let name = format!("{codename}-security");
        let security = host
            .sources
            .iter()
            .find(|s| s.suites.contains(&name))
            .or_else(|| {
                host.sources
                    .iter()
                    .find(|s| s.suites.iter().any(|n| n.ends_with("-security")))
            })
            .or_else(|| defaults.iter().find(|s| s.suites.contains(&name)));
        if let Some(source) = security {
            suites.push(suite(source, name, true));
        }
    }
    suites
}

/// Keyrings of an entry that names none: all that apt trusts.
fn trusted() -> Vec<String> {
    let mut paths: Vec<String> = std::fs::read_dir("/etc/apt/trusted.gpg.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".gpg") || path.ends_with(".asc"))
        .collect();
    paths.sort();
    let debian = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if paths.is_empty() && std::path::Path::new(debian).exists() {
        paths.push(debian.to_owned());
    }
    paths
}

/// An address without the login in it.
pub(crate) fn without_login(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme, rest)) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            let authority = &rest[..slash];
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{}", &rest[slash..])
        }
        None => uri.to_owned(),
    }
}

/// The list of archives that a tree gets: the same suites, without logins, signed by the keyring that Debian's own
/// package puts there.
pub(crate) fn tree_sources(suites: &[Suite], codename: &str) -> String {
    let mut out = String::from("# Written by posada when this system was made; see sources.list(5).\n");
    let mut groups: Vec<(String, Vec<&Suite>)> = Vec::new();
    for suite in suites {
        let base = without_login(&suite.base);
        match groups
            .iter_mut()
            .find(|(b, s)| *b == base && s[0].components == suite.components)
        {
            Some((_, group)) => group.push(suite),
            None => groups.push((base, vec![suite])),
        }
    }
    let security = format!("{codename}-security");
    for (base, group) in &groups {
        let names: Vec<&str> = group.iter().map(|s| s.name.as_str()).collect();
        out.push_str(&entry(base, &names.join(" "), &group[0].components.join(" ")));
    }
    if has_updates(codename) && !suites.iter().any(|s| s.name == security) {
        let defaults = parse_deb822(&DEFAULTS.replace("@RELEASE@", codename));
        if let Some(source) = defaults.iter().find(|s| s.suites.contains(&security)) {
            out.push_str(&entry(
                &source.uris[0],
                &security,
                &suites[0].components.join(" "),
            ));
        }
    }
    out
}

fn entry(uri: &str, suites: &str, components: &str) -> String {
    format!(
        "\nTypes: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(sources: &str) -> Host {
        Host {
            sources: parse_deb822(sources),
            ..Host::default()
        }
    }

    #[test]
    fn the_hosts_entry_comes_before_the_default() {
        let host = host(
            "Types: deb\nURIs: http://mirror/debian/\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\n\
             Types: deb\nURIs: http://mirror/security\nSuites: bookworm-security\nComponents: main\nSigned-By: /s.gpg\n",
        );
        let ways = ways(&host, "bookworm", &Wish::default());
        assert_eq!(ways.len(), 2);
        let names: Vec<&str> = ways[0].iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["bookworm", "bookworm-updates", "bookworm-security"]);
        assert_eq!(ways[0][0].base, "http://mirror/debian");
        assert_eq!(ways[0][0].components, ["main"]);
        assert_eq!(ways[0][2].base, "http://mirror/security");
        assert_eq!(ways[1][0].base, "http://deb.debian.org/debian");
    }

    #[test]
    fn another_release_is_looked_for_on_the_hosts_mirror_too() {
        let host = host("Types: deb\nURIs: http://mirror/debian\nSuites: bookworm\nComponents: main\n");
        let ways = ways(&host, "trixie", &Wish::default());
        assert_eq!(ways[0][0].base, "http://mirror/debian");
        assert_eq!(ways[0][0].name, "trixie");
        assert_eq!(ways[0][2].base, "http://deb.debian.org/debian-security");
    }

    #[test]
    fn a_mirror_that_was_asked_for_is_the_only_one() {
        let wish = Wish {
            mirror: Some("http://me:secret@private/debian".to_owned()),
            keyring: Some("/my.gpg".into()),
            components: Vec::new(),
        };
        let ways = ways(
            &host("Types: deb\nURIs: http://x\nSuites: bookworm\n"),
            "bookworm",
            &wish,
        );
        assert_eq!(ways.len(), 1);
        assert_eq!(ways[0][0].keyrings, ["/my.gpg"]);
        assert!(
            ways[0]
                .iter()
                .all(|s| s.base == "http://me:secret@private/debian")
        );
        let text = tree_sources(&ways[0], "bookworm");
        assert!(text.contains("URIs: http://private/debian\n"), "{text}");
        assert!(!text.contains("secret"));
        assert!(text.contains("bookworm-security"));
    }
}
