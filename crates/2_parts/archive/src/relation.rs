//! Relations between packages: `a (>= 1) | b:any, c`; deb-control(5) and policy chapter 7.

use std::cmp::Ordering;

use crate::version::compare;

/// A condition on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `version` stands in this relation to `wanted`.
    #[must_use]
    pub fn holds(self, version: &str, wanted: &str) -> bool {
        let order = compare(version, wanted);
        match self {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

/// One package of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Its name, without an architecture behind a colon.
    pub name: &'a str,
    /// What its version must be.
    pub version: Option<(Operator, &'a str)>,
}

impl<'a> Relation<'a> {
    /// One relation; none when the text is no relation.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        // Restrictions to architectures and build profiles stand only in source packages.
        let end = text.find(['(', '[', '<', ' ', '\t', '\n']).unwrap_or(text.len());
        let name = text[..end].split(':').next()?;
        if name.is_empty() {
            return None;
        }
        let version = match text[end..].find('(') {
            None => None,
            Some(open) => {
                let inside = &text[end + open + 1..];
                let inside = inside[..inside.find(')')?].trim();
                let digits = inside.find(|c: char| !matches!(c, '<' | '>' | '='))?;
                let operator = match &inside[..digits] {
                    "<<" => Operator::Earlier,
                    "<=" | "<" => Operator::EarlierOrEqual,
                    "=" => Operator::Equal,
                    ">=" | ">" => Operator::LaterOrEqual,
                    ">>" => Operator::Later,
                    _ => return None,
                };
                Some((operator, inside[digits..].trim()))
            }
        };
        Some(Relation { name, version })
    }

    /// Whether a package of this name and version satisfies it.
    #[must_use]
    pub fn matches(&self, name: &str, version: &str) -> bool {
        self.name == name && self.version.is_none_or(|(op, wanted)| op.holds(version, wanted))
    }

    /// Whether something provided satisfies it: `version` is that of the Provides field. Something provided
    /// without a version satisfies no relation that asks for one (policy 7.5).
    #[must_use]
    pub fn matches_provided(&self, name: &str, version: Option<&str>) -> bool {
        self.name == name
            && match (self.version, version) {
                (None, _) => true,
                (Some((op, wanted)), Some(version)) => op.holds(version, wanted),
                (Some(_), None) => false,
            }
    }
}

/// The groups of a field, one of each must be satisfied; unreadable alternatives are left out.
pub fn groups(field: &str) -> impl Iterator<Item = Vec<Relation<'_>>> {
    field
        .split(',')
        .map(|group| group.split('|').filter_map(Relation::parse).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
}

/// The relations of a field without alternatives (Provides, Conflicts, Breaks).
pub fn list(field: &str) -> impl Iterator<Item = Relation<'_>> {
    field.split(',').filter_map(Relation::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_of_packages_are_read() {
        let all: Vec<_> = groups("libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0, perl:any,").collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0][0].version, Some((Operator::LaterOrEqual, "2.36")));
        assert_eq!(all[1][1].name, "debconf-2.0");
        assert_eq!(
            all[2][0],
            Relation {
                name: "perl",
                version: None
            }
        );
        assert!(all[0][0].matches("libc6", "2.36-9+deb12u10"));
        assert!(!all[0][0].matches("libc6", "2.31"));
    }

    #[test]
    fn what_is_provided_without_version_satisfies_no_versioned_relation() {
        let relation = Relation::parse("awk (>= 1)").unwrap();
        assert!(!relation.matches_provided("awk", None));
        assert!(relation.matches_provided("awk", Some("2")));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[ -~]{0,80}") {
            for group in groups(&text) {
                prop_assert!(group.iter().all(|r| !r.name.is_empty()));
            }
        }
    }
}
