//! apt's list of archives, one-line and deb822; sources.list(5).

use crate::deb822::{fields, paragraphs};

/// One entry: an archive, its suites and who signs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Base addresses.
    pub uris: Vec<String>,
    /// Suites, or a path that ends with a slash.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// Architectures, when restricted.
    pub architectures: Vec<String>,
    /// Paths of keyrings, or one key in ASCII armour.
    pub signed_by: Vec<String>,
}

/// The enabled entries for binary packages of a file `*.list`.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let mut source = Source::default();
    let rest = match rest.strip_prefix('[') {
        None => rest,
        Some(rest) => {
            let (options, rest) = rest.split_once(']')?;
            for option in options.split_ascii_whitespace() {
                match option.split_once('=') {
                    Some(("signed-by", value)) => source.signed_by = split(value, ','),
                    Some(("arch", value)) => source.architectures = split(value, ','),
                    _ => {}
                }
            }
            rest
        }
    };
    let mut words = rest.split_ascii_whitespace().map(str::to_owned);
    source.uris.push(words.next()?);
    source.suites.push(words.next()?);
    source.components = words.collect();
    Some(source)
}

/// The enabled entries for binary packages of a file `*.sources`.
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<Source> {
    // Comments are lines of their own and may stand between the lines of a field.
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect();
    paragraphs(&text).filter_map(paragraph).collect()
}

fn paragraph(text: &str) -> Option<Source> {
    let mut source = Source::default();
    let (mut binary, mut enabled) = (false, true);
    for (name, value) in fields(text) {
        let words = || value.split_ascii_whitespace().map(str::to_owned).collect();
        match name.to_ascii_lowercase().as_str() {
            "types" => binary = value.split_ascii_whitespace().any(|word| word == "deb"),
            "enabled" => {
                enabled = !matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off")
            }
            "uris" => source.uris = words(),
            "suites" => source.suites = words(),
            "components" => source.components = words(),
            "architectures" => source.architectures = words(),
            "signed-by" if value.contains("-----BEGIN") => source.signed_by = vec![armour(value)],
            "signed-by" => source.signed_by = words(),
            _ => {}
        }
    }
    (binary && enabled && !source.uris.is_empty()).then_some(source)
}

/// An armoured key without the blank before each line and with empty lines where a dot stood.
fn armour(value: &str) -> String {
    value
        .lines()
        .map(str::trim)
        .flat_map(|line| [if line == "." { "" } else { line }, "\n"])
        .collect()
}

fn split(text: &str, at: char) -> Vec<String> {
    text.split(at)
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_entries_are_read() {
        let text = "# deb http://no/ x main\ndeb-src http://a/ bookworm main\n\
            deb [arch=amd64,i386 signed-by=/k.gpg] http://a/debian bookworm main contrib # words\n";
        let found = parse_list(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uris, ["http://a/debian"]);
        assert_eq!(found[0].components, ["main", "contrib"]);
        assert_eq!(found[0].signed_by, ["/k.gpg"]);
        assert_eq!(found[0].architectures, ["amd64", "i386"]);
    }

    #[test]
    fn deb822_entries_are_read_with_comments_and_keys_inside() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://a/debian\nSuites: bookworm bookworm-updates\n\
            Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://b\nSuites: x\n\n\
            Types: deb\nURIs: http://c\nSuites: y\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let found = parse_deb822(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            found[1].signed_by,
            ["\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n".trim_start()]
        );
    }
}
