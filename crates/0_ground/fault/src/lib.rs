//! User-facing errors: a stable code, its arguments and the chain of causes.
//!
//! A [`Fault`] carries no prose of its own: the sentence and the hint of a code stand in the message
//! catalogues (crate `words`), in every language, and are put together where a person reads them. A fault
//! crosses every border of the house unchanged: shim protocol, stored operation, HTTP body, exit of the CLI.
//!
//! Codes are constants of the room that raises them: `const PORT_TAKEN: Code = Code("NET014");`. The tidy
//! check finds every code in the catalogues.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The stable name of a kind of error: an area of three capital letters and three digits, as in `NET014`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

/// The result of work that can end in a fault.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// One error as a user will read it: code, arguments of its sentence, chain of causes (outermost first).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault(Box<Inner>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    code: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    args: BTreeMap<Cow<'static, str>, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

impl Fault {
    /// A fault of this code, still without arguments and cause.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Fault(Box::new(Inner {
            code: Cow::Borrowed(code.0),
            args: BTreeMap::new(),
            causes: Vec::new(),
        }))
    }

    /// Gives the value of one variable of the code's sentence or hint.
    #[must_use]
    pub fn arg(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.args.insert(Cow::Borrowed(name), value.to_string());
        self
    }

    /// Appends an error and the chain of its sources as causes.
    #[must_use]
    pub fn because(mut self, error: impl std::error::Error) -> Self {
        self.0.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(next) = source {
            self.0.causes.push(next.to_string());
            source = next.source();
        }
        self
    }

    /// Appends one cause in words, for what no error type tells.
    #[must_use]
    pub fn because_of(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }

    /// The stable code, as in `NET014`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Whether the fault is of this code.
    #[must_use]
    pub fn is(&self, code: Code) -> bool {
        self.0.code == code.0
    }

    /// The variables of the code's sentence and hint.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .args
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// The causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }
}

/// For logs and tests, where no catalogue is at hand: `NET014 port=8000: address in use`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.code)?;
        for (name, value) in &self.0.args {
            write!(f, " {name}={value}")?;
        }
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Fault {}

/// Turns any error into a fault where it happens: `.or_fault(|| Fault::new(CODE).arg(…))`.
pub trait OrFault<T> {
    /// Keeps the value, or takes the error and its sources as the causes of the given fault.
    fn or_fault(self, fault: impl FnOnce() -> Fault) -> Result<T>;
}

impl<T, E: std::error::Error> OrFault<T> for std::result::Result<T, E> {
    fn or_fault(self, fault: impl FnOnce() -> Fault) -> Result<T> {
        self.map_err(|error| fault().because(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Code = Code("NET014");

    #[test]
    fn a_fault_survives_json_and_tells_its_chain() {
        let io = std::io::Error::other("in use");
        let fault = Fault::new(TAKEN).arg("port", 8000).because(io);
        assert_eq!(fault.to_string(), "NET014 port=8000: in use");
        assert!(fault.is(TAKEN));
    }
}
