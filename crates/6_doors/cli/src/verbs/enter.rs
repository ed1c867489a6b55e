//! shell, exec, console, ssh: being inside.

use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process;

use clap::{ArgMatches, Command};
use fault::{Fault, Result};
use model::api::ExecRequest;

use crate::context::Context;
use crate::grammar::{one_guest, option, positional, rest, several, switch};
use crate::session::{self, End, Leaving};
use crate::terminal::{is_interactive, size};
use crate::verbs::launch::address;
use crate::{codes, failure, parse};

fn guest(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("guest").map_or("", String::as_str)
}

/// Grammar of `shell`.
pub fn shell_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(option("user", "USER").short('u'))
        .arg(option("workdir", "PATH").short('w'))
}

/// `shell`: the user's login shell on a terminal.
pub fn shell(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let terminal = is_interactive();
    let request = ExecRequest {
        argv: Vec::new(),
        env: if terminal {
            terminal_environment()
        } else {
            Default::default()
        },
        workdir: matches.get_one::<String>("workdir").cloned(),
        user: matches.get_one::<String>("user").cloned(),
        terminal: terminal.then(size),
    };
    attach(context, guest(matches), &request, true)
}

/// What a program on a terminal must know of it.
fn terminal_environment() -> std::collections::BTreeMap<String, String> {
    // The language is the guest's own: it need not have the locale of this side.
    let kept = ["TERM", "COLORTERM"];
    kept.iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Grammar of `exec`.
pub fn exec_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(rest().required(true))
        .arg(switch("interactive").short('i'))
        .arg(switch("tty").short('t'))
        .arg(switch("no-tty").short('T').conflicts_with("tty"))
        .arg(several("env", "KEY=VALUE").short('e'))
        .arg(option("workdir", "PATH").short('w'))
        .arg(option("user", "USER").short('u'))
}

/// `exec`: a terminal when standard input and output are ones, or as `-t` and `-T` say; standard input is handed on
/// unless it is a terminal that nobody asked to share.
pub fn exec(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let interactive = matches.get_flag("interactive");
    if matches.get_flag("tty") && interactive && !io::stdin().is_terminal() {
        return Err(Fault::new(codes::NO_TERMINAL));
    }
    let tty = matches.get_flag("tty") || (is_interactive() && !matches.get_flag("no-tty"));
    let mut env = if tty {
        terminal_environment()
    } else {
        Default::default()
    };
    for text in matches.get_many::<String>("env").into_iter().flatten() {
        env.extend(parse::variable(text)?);
    }
    let request = ExecRequest {
        argv: matches
            .get_many::<String>("command")
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        env,
        workdir: matches.get_one::<String>("workdir").cloned(),
        user: matches.get_one::<String>("user").cloned(),
        terminal: tty.then(size),
    };
    let input = interactive || tty || !io::stdin().is_terminal();
    attach(context, guest(matches), &request, input)
}

fn attach(context: &Context, name: &str, request: &ExecRequest, input: bool) -> Result<u8> {
    let opened = context
        .client()
        .and_then(|client| client.exec(name, request))
        .and_then(|s| session::open(&s));
    let session = match opened {
        Ok(session) => session,
        Err(fault) => {
            failure::tell(context, &fault, None);
            return Ok(failure::not_run(&fault));
        }
    };
    match session::run(session, input, Leaving::Never)? {
        // The process has ended, but nobody can tell how: its shim is gone.
        End::Left => Err(Fault::new(codes::SESSION_LOST)),
        end => Ok(end.status()),
    }
}

/// Grammar of `console`.
pub fn console_grammar(command: Command) -> Command {
    command.arg(one_guest())
}

/// `console`.
pub fn console(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let session = session::open(&context.client()?.console(guest(matches))?)?;
    if io::stdin().is_terminal() {
        context.note("cli-console-entered", &[("name", guest(matches).into())]);
    }
    let end = session::run(session, true, Leaving::ByKeys)?;
    if io::stdin().is_terminal() {
        context.note("cli-console-left", &[]);
    }
    Ok(end.status())
}

/// Grammar of `ssh`.
pub fn ssh_grammar(command: Command) -> Command {
    command
        .arg(
            positional("guest", "[USER@]NAME")
                .required(true)
                .add(clap_complete::ArgValueCandidates::new(crate::live::guests)),
        )
        .arg(option("user", "USER").short('l'))
        // What follows the guest is ssh's own: its options, `--`, a command.
        .arg(rest().allow_hyphen_values(true))
}

/// `ssh`: runs ssh(1) to the guest's address. The guest's user is the one made at launch unless told otherwise.
pub fn ssh(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let (user, name) = match guest(matches).split_once('@') {
        Some((user, name)) => (Some(user.to_owned()), name),
        None => (matches.get_one::<String>("user").cloned(), guest(matches)),
    };
    let guest = context.client()?.guest(name)?;
    let address = address(&guest).ok_or_else(|| Fault::new(codes::NO_ADDRESS).arg("name", name))?;
    let user = user
        .or(guest.spec.setup.user)
        .unwrap_or_else(|| "root".to_owned());
    let error = process::Command::new("ssh")
        // Addresses are given to other guests later: the key belongs to the guest, not to its address.
        .arg("-o")
        .arg(format!("HostKeyAlias=posada-{}", guest.id))
        .arg("-o")
        .arg("StrictHostKeyChecking=accept-new")
        .arg(format!("{user}@{address}"))
        .args(matches.get_many::<String>("command").into_iter().flatten())
        .exec();
    Err(Fault::new(codes::PROGRAM)
        .arg("program", "ssh")
        .arg("package", "openssh-client")
        .because(error))
}

#[cfg(test)]
mod tests {

    fn command_of(typed: &[&str]) -> (Vec<String>, Option<String>) {
        let tree = crate::help::tree(&words::Words::english());
        let matches = tree.try_get_matches_from(typed).unwrap();
        let matches = matches.subcommand().unwrap().1;
        let command = matches
            .get_many::<String>("command")
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        (command, matches.get_one::<String>("user").cloned())
    }

    #[test]
    fn options_before_the_command_are_ours_and_after_it_its_own() {
        let ls = || vec!["ls".to_owned(), "-u".to_owned(), "--all".to_owned()];
        for typed in [
            &["posada", "exec", "web", "-u", "ana", "--", "ls", "-u", "--all"][..],
            &["posada", "exec", "web", "-u", "ana", "ls", "-u", "--all"],
            &["posada", "exec", "-u", "ana", "web", "ls", "-u", "--all"],
        ] {
            assert_eq!(command_of(typed), (ls(), Some("ana".to_owned())), "{typed:?}");
        }
        assert_eq!(command_of(&["posada", "ssh", "web"]).0.len(), 0);
    }
}
