//! Selectors: which guests a verb means – names, patterns, labels, or all.

use clap::ArgMatches;
use fault::{Fault, Result};
use model::Guest;

use crate::context::Context;
use crate::{codes, parse};

/// Whether a text matches a pattern of `*` (any characters) and `?` (one character).
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// What the user selected.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Names and patterns.
    pub names: Vec<String>,
    /// Labels that must all be there with these values.
    pub labels: Vec<(String, String)>,
    /// Every guest.
    pub all: bool,
}

impl Selector {
    /// Reads the arguments `guest`, `label` and `all`.
    ///
    /// # Errors
    /// When a label is not `key=value`.
    pub fn of(matches: &ArgMatches) -> Result<Self> {
        let texts = |id: &str| -> Vec<String> {
            matches
                .try_get_many::<String>(id)
                .ok()
                .flatten()
                .into_iter()
                .flatten()
                .cloned()
                .collect()
        };
        Ok(Selector {
            names: texts("guest"),
            labels: texts("label")
                .iter()
                .map(|text| parse::pair(text))
                .collect::<Result<_>>()?,
            all: matches
                .try_get_one::<bool>("all")
                .ok()
                .flatten()
                .copied()
                .unwrap_or(false),
        })
    }

    /// Whether nothing was selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.labels.is_empty() && !self.all
    }

    /// Whether only names without patterns were given.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.names.is_empty()
            && self.labels.is_empty()
            && !self.all
            && !self.names.iter().any(|n| is_pattern(n))
    }

    /// Whether the selector means this guest.
    #[must_use]
    pub fn means(&self, guest: &Guest) -> bool {
        let named = if self.names.is_empty() {
            self.all || !self.labels.is_empty()
        } else {
            self.names
                .iter()
                .any(|name| glob(name, guest.name.as_str()) || *name == guest.id.0)
        };
        named
            && self
                .labels
                .iter()
                .all(|(key, value)| guest.spec.labels.get(key).is_some_and(|v| glob(value, v)))
    }

    /// Of these guests, those that are meant; names and patterns that mean none are returned beside.
    #[must_use]
    pub fn choose(&self, guests: Vec<Guest>) -> (Vec<Guest>, Vec<String>) {
        let unmet = self
            .names
            .iter()
            .filter(|name| {
                !guests
                    .iter()
                    .any(|guest| glob(name, guest.name.as_str()) || **name == guest.id.0)
            })
            .cloned()
            .collect();
        (
            guests.into_iter().filter(|guest| self.means(guest)).collect(),
            unmet,
        )
    }
}

/// Names of the guests that the user selected. Names without patterns are not looked up: the daemon knows better.
///
/// # Errors
/// When nothing was selected, or a pattern means no guest.
pub fn names(context: &Context, matches: &ArgMatches) -> Result<Vec<String>> {
    let selector = Selector::of(matches)?;
    if selector.is_empty() {
        return Err(Fault::new(codes::NOTHING_SELECTED));
    }
    if selector.is_plain() {
        let mut names = Vec::new();
        for name in selector.names {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return Ok(names);
    }
    let (chosen, unmet) = selector.choose(context.client()?.guests()?);
    if let Some(name) = unmet.first() {
        return Err(Fault::new(codes::NO_MATCH).arg("selector", name));
    }
    Ok(chosen.into_iter().map(|guest| guest.name.to_string()).collect())
}

/// The records of the guests that the user selected; all when nothing was.
///
/// # Errors
/// When a name or pattern means no guest.
pub fn records(context: &Context, matches: &ArgMatches) -> Result<Vec<Guest>> {
    let selector = Selector::of(matches)?;
    let guests = context.client()?.guests()?;
    if selector.is_empty() {
        return Ok(guests);
    }
    let (chosen, unmet) = selector.choose(guests);
    match unmet.first() {
        Some(name) => Err(Fault::new(codes::NO_MATCH).arg("selector", name)),
        None => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guest(name: &str, label: &str) -> Guest {
        let text = format!(
            r#"{{"id":"i-{name}","name":"{name}","project":"default","created":"","revision":1,"status":{{}},
               "spec":{{"image":"debian/12","labels":{{"tier":"{label}"}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn labels_narrow_what_names_mean() {
        let guests = || {
            vec![
                guest("web-1", "front"),
                guest("web-2", "back"),
                guest("db", "back"),
            ]
        };
        let chosen = |names: &[&str], labels: &[(&str, &str)], all| {
            let selector = Selector {
                names: names.iter().map(|n| (*n).to_owned()).collect(),
                labels: labels
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                all,
            };
            let (chosen, unmet) = selector.choose(guests());
            (
                chosen
                    .iter()
                    .map(|g| g.name.to_string())
                    .collect::<Vec<_>>()
                    .join(" "),
                unmet.len(),
            )
        };
        assert_eq!(chosen(&["web-*"], &[], false), ("web-1 web-2".to_owned(), 0));
        assert_eq!(
            chosen(&["web-*"], &[("tier", "back")], false),
            ("web-2".to_owned(), 0)
        );
        assert_eq!(
            chosen(&[], &[("tier", "back")], false),
            ("web-2 db".to_owned(), 0)
        );
        assert_eq!(chosen(&[], &[], true).0, "web-1 web-2 db");
        assert_eq!(chosen(&["x*", "i-db"], &[], false), ("db".to_owned(), 1));
        assert_eq!(chosen(&[], &[], false).0, "");
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_its_prefix_with_a_star(text in "[a-z*?]{0,12}", cut in 0usize..12) {
            prop_assert!(glob(&text, &text));
            prop_assert!(glob("*", &text));
            let prefix: String = text.chars().take(cut).collect();
            let pattern = format!("{prefix}*");
            prop_assert!(glob(&pattern, &text));
        }

        #[test]
        fn a_name_without_a_pattern_matches_only_itself(a in "[a-z]{1,3}", b in "[a-z]{1,3}") {
            prop_assert_eq!(glob(&a, &b), a == b);
        }
    }
}
