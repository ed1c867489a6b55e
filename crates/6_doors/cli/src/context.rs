//! What every verb is given: the words, the daemon, and how the user wants output.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use client::Client;
use fault::{Fault, Result};
use words::{Value, Words};

use crate::output::Format;
use crate::{codes, daemon};

/// Where the daemon of system mode listens.
pub const DEFAULT_SOCKET: &str = "/run/posada/api.sock";

/// The settings of one call of the program.
pub struct Context {
    /// The user's language.
    pub words: Words,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Only data, no words.
    pub quiet: bool,
    /// The format asked for by `--format`.
    pub format: Option<Format>,
    /// Colour on standard output.
    pub color: bool,
    /// Colour on standard error.
    pub color_errors: bool,
    client: OnceCell<Client>,
    notices: RefCell<BTreeSet<String>>,
}

impl Context {
    /// A context; nothing is connected yet.
    #[must_use]
    pub fn new(words: Words, socket: PathBuf) -> Self {
        Context {
            words,
            socket,
            quiet: false,
            format: None,
            color: false,
            color_errors: false,
            client: OnceCell::new(),
            notices: RefCell::default(),
        }
    }

    /// The daemon; started first when there is none and we are root.
    ///
    /// # Errors
    /// When there is none and it cannot be started.
    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = daemon::reach(self)?.reviving(|socket| daemon::reach_again(socket).is_ok());
        Ok(self.client.get_or_init(|| client))
    }

    /// A message of the catalogues.
    #[must_use]
    pub fn say(&self, id: &str, args: &[(&str, Value<'_>)]) -> String {
        self.words.say(id, args)
    }

    /// Tells the user something on standard error, unless quiet.
    pub fn note(&self, id: &str, args: &[(&str, Value<'_>)]) {
        if !self.quiet {
            self.tell(&self.words.say(id, args));
        }
    }

    /// Remembers a message for the end of the verb; each is told once.
    pub fn notice(&self, id: &str) {
        self.notices.borrow_mut().insert(id.to_owned());
    }

    /// Tells what was remembered.
    pub fn tell_notices(&self) {
        for id in std::mem::take(&mut *self.notices.borrow_mut()) {
            self.note(&id, &[]);
        }
    }

    /// A line on standard error, quiet or not.
    pub fn tell(&self, line: &str) {
        // Nothing can be done for a reader of errors that is gone.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Data on standard output.
    ///
    /// # Errors
    /// [`codes::OUTPUT_CLOSED`] when nobody reads it.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(output_fault)
    }

    /// Asks a yes-or-no question on the terminal; `Ok` when the answer is yes.
    ///
    /// # Errors
    /// [`codes::NOT_CONFIRMED`] when it is no, or when there is no terminal to ask on.
    pub fn confirm(&self, id: &str, args: &[(&str, Value<'_>)]) -> Result<()> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Fault::new(codes::NOT_CONFIRMED));
        }
        let question = self.words.say(id, args);
        let choice = self.words.say("cli-yes-no", &[]);
        let _ = write!(io::stderr(), "{question} {choice} ");
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Fault::new(codes::NOT_CONFIRMED).because(error))?;
        let answer = answer.trim().to_lowercase();
        let yes = self.words.say("yes", &[]).to_lowercase();
        let first = yes.chars().next().unwrap_or('y');
        if answer == "y" || answer == "yes" || answer == yes || answer == first.to_string() || answer == "si"
        {
            Ok(())
        } else {
            Err(Fault::new(codes::NOT_CONFIRMED))
        }
    }
}

/// The fault of a failed write of data.
#[must_use]
pub fn output_fault(error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Fault::new(codes::OUTPUT_CLOSED)
    } else {
        Fault::new(codes::FILE).arg("path", "stdout").because(error)
    }
}
