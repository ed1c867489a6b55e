//! start, stop, restart, pause, resume, rename, rm.

use std::io::{self, IsTerminal};

use clap::{ArgMatches, Command};
use client::Client;
use fault::{Fault, Result};
use model::api::{RenameRequest, StopRequest};
use model::{Guest, Init, Operation, Phase};

use crate::context::Context;
use crate::grammar::{assent, one_guest, option, positional, selector, switch};
use crate::{codes, failure, parse, progress, select};

/// Grammar of verbs that only take guests.
pub fn start_grammar(command: Command) -> Command {
    selector(command)
}

/// Grammar of `stop` and `restart`.
pub fn stop_grammar(command: Command) -> Command {
    selector(command)
        .arg(switch("force").short('f'))
        .arg(option("timeout", "TIME").short('t'))
}

/// Grammar of `rename`.
pub fn rename_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(positional("new", "NEW").required(true))
}

/// Grammar of `rm`.
pub fn rm_grammar(command: Command) -> Command {
    selector(command)
        .arg(switch("force").short('f'))
        .arg(switch("purge"))
        .arg(assent())
}

/// Begins an operation on each guest, then follows them; tells of each how it ended.
///
/// # Errors
/// The only guest's fault; [`codes::SOME_FAILED`] when one of several failed.
pub fn each(
    context: &Context,
    names: &[String],
    done: &str,
    begin: impl Fn(&Client, &str) -> Result<Operation>,
) -> Result<u8> {
    each_then(context, names, done, begin, |_| Ok(()))
}

/// As [`each`], with a look at each guest afterwards.
fn each_then(
    context: &Context,
    names: &[String],
    done: &str,
    begin: impl Fn(&Client, &str) -> Result<Operation>,
    look: impl Fn(&str) -> Result<()>,
) -> Result<u8> {
    let client = context.client()?;
    let begun: Vec<_> = names.iter().map(|name| (name, begin(client, name))).collect();
    let several = names.len() > 1;
    let mut failed = 0;
    for (name, operation) in begun {
        let ended = operation
            .and_then(|operation| progress::follow(context, operation))
            .and_then(|_| look(name));
        match ended {
            Ok(()) => context.note(done, &[("name", name.as_str().into())]),
            Err(fault) if fault.is(codes::DETACHED) || !several => return Err(fault),
            Err(fault) => {
                failure::tell(context, &fault, Some(name));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        return Err(Fault::new(codes::SOME_FAILED)
            .arg("failed", failed)
            .arg("total", names.len()));
    }
    Ok(failure::status::OK)
}

/// `start`.
pub fn start(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    let begin = |client: &Client, name: &str| client.start(name);
    each_then(context, &names, "cli-started", begin, |name| {
        stays_up(context, name)
    })
}

fn stays_up(context: &Context, name: &str) -> Result<()> {
    // One that is gone already has done what it was started for.
    let guest = context.client()?.guest(name);
    guest.map_or(Ok(()), |guest| still_up(context, &guest))
}

/// Refuses to call a system started that has ended already; a command may end whenever it is done.
///
/// # Errors
/// [`codes::ENDED_AT_ONCE`].
pub fn still_up(context: &Context, guest: &Guest) -> Result<()> {
    match (guest.status.phase, &guest.spec.init, guest.status.exit) {
        (Phase::Stopped | Phase::Failed, Init::System, Some(exit)) => Err(Fault::new(codes::ENDED_AT_ONCE)
            .arg("name", &guest.name)
            .arg("exit", super::show::exit_text(context, exit))),
        _ => Ok(()),
    }
}

fn stop_request(matches: &ArgMatches) -> Result<StopRequest> {
    let timeout = match matches.get_one::<String>("timeout") {
        Some(text) => Some(u32::try_from(parse::seconds("--timeout", text)?).unwrap_or(u32::MAX)),
        None => None,
    };
    Ok(StopRequest {
        force: matches.get_flag("force"),
        timeout,
    })
}

/// `stop`.
pub fn stop(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    let request = stop_request(matches)?;
    each(context, &names, "cli-stopped", |client, name| {
        client.stop(name, &request)
    })
}

/// `restart`.
pub fn restart(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    let request = stop_request(matches)?;
    let begin = |client: &Client, name: &str| client.restart(name, &request);
    each_then(context, &names, "cli-restarted", begin, |name| {
        stays_up(context, name)
    })
}

/// `pause`.
pub fn pause(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    each(context, &names, "cli-paused", |client, name| client.pause(name))
}

/// `resume`.
pub fn resume(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    each(context, &names, "cli-resumed", |client, name| client.resume(name))
}

/// `rename`.
pub fn rename(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").cloned().unwrap_or_default();
    let new: model::Name = matches
        .get_one::<String>("new")
        .cloned()
        .unwrap_or_default()
        .parse()?;
    let operation = context
        .client()?
        .rename(&name, &RenameRequest { name: new.clone() })?;
    progress::follow(context, operation)?;
    context.note(
        "cli-renamed",
        &[("name", name.into()), ("new", new.to_string().into())],
    );
    Ok(failure::status::OK)
}

/// Those that are up.
fn running(context: &Context, names: &[String]) -> Vec<String> {
    let up = |name: &String| {
        let guest = context.client().and_then(|client| client.guest(name));
        guest.is_ok_and(|guest| {
            matches!(
                guest.status.phase,
                Phase::Running | Phase::Paused | Phase::Starting
            )
        })
    };
    names.iter().filter(|name| up(name)).cloned().collect()
}

/// `rm`: asks on a terminal when data would be lost, that is with `--purge`, when a guest runs, or when several are
/// meant by pattern, label or `--all`. With assent a guest that runs is stopped as it wishes; `--force` kills it.
pub fn rm(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    let (purge, force) = (matches.get_flag("purge"), matches.get_flag("force"));
    let plain = select::Selector::of(matches)?.is_plain();
    let mut assent = matches.get_flag("yes");
    if !force && !assent && !names.is_empty() {
        let running = running(context, &names);
        let question = if purge {
            Some(("cli-ask-purge", &names))
        } else if !plain {
            Some(("cli-ask-remove", &names))
        } else {
            // Without a terminal the daemon's refusal says what to do.
            let askable = io::stdin().is_terminal() && io::stderr().is_terminal();
            (askable && !running.is_empty()).then_some(("cli-ask-stop", &running))
        };
        if let Some((id, named)) = question {
            let args = [("names", named.join(", ").into()), ("count", named.len().into())];
            context.confirm(id, &args)?;
            assent = true;
        }
    }
    let done = if purge { "cli-purged" } else { "cli-removed" };
    let status = each(context, &names, done, |client, name| {
        if assent && !force && !running(context, &[name.to_owned()]).is_empty() {
            progress::follow(context, client.stop(name, &StopRequest::default())?)?;
        }
        client.remove(name, purge, force)
    })?;
    if !purge && !names.is_empty() && io::stderr().is_terminal() {
        context.note("cli-removed-hint", &[("name", names[0].as_str().into())]);
    }
    Ok(status)
}
