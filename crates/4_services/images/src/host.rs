//! What the host's apt is told: archives with their keyrings, proxies, logins, and which checks of time it makes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::sources::{Source, parse_deb822, parse_list};

/// The host's configuration, as far as it matters for fetching.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// Archives in order of apt's files.
    pub(crate) sources: Vec<Source>,
    /// apt's settings by lower-case name, as `acquire::http::proxy`.
    pub(crate) settings: HashMap<String, String>,
    /// Logins of auth.conf.
    pub(crate) logins: Vec<Login>,
    /// Variables `http_proxy`, `https_proxy`, `no_proxy`, lower case before upper case.
    pub(crate) environment: HashMap<String, String>,
}

/// A login for addresses of one machine; apt_auth.conf(5).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// Host, with port and beginning of a path if given.
    pub(crate) machine: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Never shows the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.machine)
    }
}

impl Host {
    /// Reads the configuration of this host. What is missing or unreadable is as if it were empty.
    pub(crate) fn read() -> Self {
        let mut host = Host {
            settings: settings(&apt_config()),
            ..Host::default()
        };
        let etc = Path::new("/etc/apt");
        let mut files = vec![etc.join("sources.list")];
        files.extend(listing(&etc.join("sources.list.d")));
        for path in files {
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            match path.extension().and_then(|e| e.to_str()) {
                Some("list") => host.sources.extend(parse_list(&text)),
                Some("sources") => host.sources.extend(parse_deb822(&text)),
                _ => {}
            }
        }
        let mut logins = vec![etc.join("auth.conf")];
        logins.extend(listing(&etc.join("auth.conf.d")));
        for text in logins
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
        {
            host.logins.extend(netrc(&text));
        }
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_uppercase()));
            if let Ok(value) = value
                && !value.is_empty()
            {
                host.environment.insert(name.to_owned(), value);
            }
        }
        host
    }

    /// Whether a setting of apt is on; `default` when it is not set.
    pub(crate) fn is_on(&self, name: &str, default: bool) -> bool {
        match self.settings.get(&name.to_ascii_lowercase()).map(String::as_str) {
            Some("0" | "no" | "false" | "without" | "off" | "disable") => false,
            Some("1" | "yes" | "true" | "with" | "on" | "enable") => true,
            _ => default,
        }
    }

    /// The proxy for an address, as apt chooses it: the setting for the host, the general one, the environment.
    pub(crate) fn proxy(&self, scheme: &str, host: &str) -> Option<String> {
        let of = |name: String| self.settings.get(&name).filter(|v| !v.is_empty());
        let from_apt = of(format!("acquire::{scheme}::proxy::{host}"))
            .or_else(|| of(format!("acquire::{scheme}::proxy")))
            .or_else(|| {
                if scheme == "https" {
                    of("acquire::http::proxy".to_owned())
                } else {
                    None
                }
            });
        let chosen = match from_apt {
            Some(value) if value.eq_ignore_ascii_case("DIRECT") => return None,
            Some(value) => value.clone(),
            None => {
                let no_proxy = self.environment.get("no_proxy").map_or("", String::as_str);
                if is_exempt(no_proxy, host) {
                    return None;
                }
                self.environment.get(&format!("{scheme}_proxy"))?.clone()
            }
        };
        Some(match chosen.contains("://") {
            true => chosen,
            false => format!("http://{chosen}"),
        })
    }
}

/// Whether `no_proxy` names the host: exactly, as the end of its name, or by `*`.
fn is_exempt(no_proxy: &str, host: &str) -> bool {
    no_proxy
        .split([',', ' '])
        .map(|entry| entry.trim().trim_start_matches("*.").trim_start_matches('.'))
        .map(|entry| {
            entry.rsplit_once(':').map_or(entry, |(name, port)| {
                if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') {
                    name
                } else {
                    entry
                }
            })
        })
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            entry == "*"
                || host.eq_ignore_ascii_case(entry)
                || host
                    .to_ascii_lowercase()
                    .strip_suffix(&entry.to_ascii_lowercase())
                    .is_some_and(|rest| rest.ends_with('.'))
        })
}

/// The output of `apt-config dump`; empty where there is no apt.
fn apt_config() -> String {
    Command::new("apt-config")
        .arg("dump")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// Lines such as `Acquire::http::Proxy "http://proxy:3128";`.
fn settings(dump: &str) -> HashMap<String, String> {
    dump.lines()
        .filter_map(|line| {
            let (name, value) = line.trim().strip_suffix("\";")?.split_once(" \"")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect()
}

/// Files of a directory in order of name; none when there is no such directory.
fn listing(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Entries `machine HOST login USER password PASSWORD`.
fn netrc(text: &str) -> Vec<Login> {
    let text: String = text
        .lines()
        .filter(|l| !l.trim_start().starts_with('#'))
        .flat_map(|l| [l, "\n"])
        .collect();
    let mut found: Vec<Login> = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let Some(value) = words.next() else { break };
        let value = value.to_owned();
        match (word, found.last_mut()) {
            ("machine", _) => found.push(Login {
                machine: value,
                user: String::new(),
                password: String::new(),
            }),
            ("login", Some(login)) => login.user = value,
            ("password", Some(login)) => login.password = value,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(settings_dump: &str, environment: &[(&str, &str)]) -> Host {
        Host {
            settings: settings(settings_dump),
            environment: environment
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Host::default()
        }
    }

    #[test]
    fn apts_proxy_comes_before_that_of_the_environment() {
        let dump = "Acquire::http::Proxy \"http://a:3128\";\nAcquire::http::Proxy::local \"DIRECT\";\n";
        let host = host(dump, &[("http_proxy", "b:8080")]);
        assert_eq!(
            host.proxy("http", "deb.debian.org").as_deref(),
            Some("http://a:3128")
        );
        assert_eq!(host.proxy("http", "local"), None);
    }

    #[test]
    fn no_proxy_exempts_hosts_and_domains() {
        let host = host(
            "",
            &[
                ("http_proxy", "b:8080"),
                ("no_proxy", "localhost,.example.org,10.0.0.1:80"),
            ],
        );
        assert_eq!(
            host.proxy("http", "deb.debian.org").as_deref(),
            Some("http://b:8080")
        );
        for exempt in ["localhost", "a.example.org", "example.org", "10.0.0.1"] {
            assert_eq!(host.proxy("http", exempt), None, "{exempt}");
        }
        assert!(host.proxy("http", "notexample.org").is_some());
        assert_eq!(host.proxy("https", "deb.debian.org"), None);
    }

    #[test]
    fn settings_and_logins_are_read() {
        let host = host("Acquire::Check-Valid-Until \"false\";\n", &[]);
        assert!(!host.is_on("Acquire::Check-Valid-Until", true));
        assert!(host.is_on("Acquire::Check-Date", true));
        let logins =
            netrc("# x\nmachine a.org/debian login me\n password secret\nmachine b login c password d");
        assert_eq!(logins.len(), 2);
        assert_eq!(logins[0].password, "secret");
        assert!(!format!("{logins:?}").contains("secret"));
    }
}
