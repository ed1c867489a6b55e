//! Names of nouns: what is allowed, and why not.

use std::fmt;
use std::str::FromStr;

use fault::{Code, Fault};
use serde::{Deserialize, Serialize};

/// The name is not a DNS label.
pub const NAME_INVALID: Code = Code("NAM001");

/// A DNS label (RFC 1123, lower case): 1 to 63 letters, digits and hyphens, beginning with a letter and not
/// ending with a hyphen; so that every guest can be found as `NAME.posada`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project that always exists.
    #[must_use]
    pub fn default_project() -> Self {
        Name("default".to_owned())
    }
}

impl FromStr for Name {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_lowercase()
            && !text.ends_with('-');
        if valid {
            Ok(Name(text.to_owned()))
        } else {
            Err(Fault::new(NAME_INVALID).arg("name", text))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "Web",
            "web-",
            "-web",
            "a.b",
            "a_b",
            "ñ",
            "../x",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
