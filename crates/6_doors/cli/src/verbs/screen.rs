//! vnc, screenshot: the screen of a machine.

use std::io::{self, IsTerminal, Read, Write};

use clap::{ArgMatches, Command, ValueHint};
use fault::{Fault, OrFault, Result};

use crate::context::{Context, output_fault};
use crate::grammar::{one_guest, positional, switch};
use crate::{codes, failure, output};

fn guest(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("guest").map_or("", String::as_str)
}

/// Grammar of `vnc`.
pub fn vnc_grammar(command: Command) -> Command {
    command.arg(one_guest())
}

/// `vnc`: the address for a viewer, and the password that it asks for.
pub fn vnc(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let display = context.client()?.vnc(guest(matches))?;
    let lines = || match context.quiet {
        true => format!("{}\n{}\n", display.address, display.password),
        false => {
            let address = context.say("cli-vnc-address", &[("address", display.address.as_str().into())]);
            let password = context.say(
                "cli-vnc-password",
                &[("password", display.password.as_str().into())],
            );
            format!("{address}\n{password}\n")
        }
    };
    context.print(&output::record(context, &output::json(&display)).unwrap_or_else(lines))?;
    Ok(failure::status::OK)
}

/// Grammar of `screenshot`.
pub fn screenshot_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(positional("file", "FILE").value_hint(ValueHint::FilePath))
        .arg(switch("text"))
}

/// `screenshot`: as text to standard output, as a picture to `NAME.png`, or to the file that was named (`-` is standard
/// output).
pub fn screenshot(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (name, text) = (guest(matches), matches.get_flag("text"));
    let file = match matches.get_one::<String>("file").map(String::as_str) {
        Some("-") => None,
        Some(file) => Some(file.to_owned()),
        None if text || !io::stdout().is_terminal() => None,
        None => Some(format!("{name}.png")),
    };
    let mut shown = Vec::new();
    let lost = || Fault::new(client::codes::LOST).arg("request", "screenshot");
    let mut answer = context.client()?.screenshot(name, text)?;
    answer.read_to_end(&mut shown).or_fault(lost)?;
    match file {
        Some(file) => {
            std::fs::write(&file, &shown).or_fault(|| Fault::new(codes::FILE).arg("path", &file))?;
            context.note("screenshot-kept", &[("file", file.into())]);
        }
        None => {
            let mut out = io::stdout().lock();
            out.write_all(&shown)
                .and_then(|()| out.flush())
                .map_err(output_fault)?;
        }
    }
    Ok(failure::status::OK)
}
