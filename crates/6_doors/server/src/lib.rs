//! The HTTP door: REST /v1 and its OpenAPI document on a Unix socket; and the body of `posada daemon`.
//!
//! A handler reads its request, calls one method of [`control::Control`] on a thread that may block, and writes the
//! answer. Errors are [`model::api::ErrorBody`]s. Streams (events, logs, files) never hold more than a few blocks.

mod answer;
mod arguments;
mod codes;
mod daemon;
mod listen;
mod notify;
mod request;
mod routes;
mod state;
mod stream;

use std::ffi::OsString;
use std::process::ExitCode;

pub use routes::document;
pub use state::{Door, router};

/// The body of `posada daemon`: serves the interface until it is told to end. Exit status 0 after SIGTERM, 1 when it
/// could not start, 2 for wrong arguments, 3 when another daemon works in its directories.
pub fn daemon_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::main(args)
}
