//! The arguments of `posada daemon`.

use std::ffi::OsString;
use std::path::PathBuf;

use fault::{Fault, Result};

use crate::codes::ARGUMENT_WRONG;

/// What `posada daemon` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub state_dir: PathBuf,
    pub cache_dir: PathBuf,
    pub run_dir: PathBuf,
    pub socket: Option<PathBuf>,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Serve,
    PrintDocument,
    Help,
}

pub(crate) const HELP: &str = "\
usage: posada daemon [--state-dir DIR] [--cache-dir DIR] [--run-dir DIR] [--socket PATH]
       posada daemon --print-openapi

  --state-dir DIR    lasting state                  /var/lib/posada
  --cache-dir DIR    downloads                      /var/cache/posada
  --run-dir DIR      sockets, gone after a reboot   /run/posada
  --socket PATH      where clients connect          RUN-DIR/api.sock
  --print-openapi    print the document of the REST interface and end
";

/// Reads the arguments; each takes its value as the next word or after `=`.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Arguments> {
    let mut parsed = Arguments {
        state_dir: PathBuf::from("/var/lib/posada"),
        cache_dir: PathBuf::from("/var/cache/posada"),
        run_dir: PathBuf::from("/run/posada"),
        socket: None,
        action: Action::Serve,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let wrong = || Fault::new(ARGUMENT_WRONG).arg("argument", arg.to_string_lossy());
        let text = arg.to_str().ok_or_else(wrong)?;
        match text {
            "--print-openapi" => parsed.action = Action::PrintDocument,
            "--help" | "-h" => parsed.action = Action::Help,
            _ => {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name, Some(OsString::from(value))),
                    None => (text, None),
                };
                let slot = match name {
                    "--state-dir" => &mut parsed.state_dir,
                    "--cache-dir" => &mut parsed.cache_dir,
                    "--run-dir" => &mut parsed.run_dir,
                    "--socket" => parsed.socket.insert(PathBuf::new()),
                    _ => return Err(wrong()),
                };
                let value = value.or_else(|| args.next()).filter(|value| !value.is_empty());
                // Children run in other directories: a relative path is resolved here.
                *slot =
                    std::path::absolute(value.ok_or_else(wrong)?).map_err(|error| wrong().because(error))?;
            }
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Arguments> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn directories_are_given_either_way() {
        let parsed = of(&["--state-dir", "/a", "--run-dir=/b", "--socket", "/c/s"]).unwrap();
        assert_eq!(parsed.state_dir, PathBuf::from("/a"));
        assert_eq!(parsed.run_dir, PathBuf::from("/b"));
        assert_eq!(parsed.socket, Some(PathBuf::from("/c/s")));
        assert_eq!(parsed.cache_dir, PathBuf::from("/var/cache/posada"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for words in [&["--what"][..], &["--socket"], &["x"], &["--run-dir="]] {
            assert!(of(words).unwrap_err().is(ARGUMENT_WRONG), "{words:?}");
        }
    }
}
