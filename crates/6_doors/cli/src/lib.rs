//! The command line: one definition of every verb, its output and its words.
//!
//! [`verbs::VERBS`] is that definition: parser, help, man pages and completion come from it, in the user's language.

pub mod codes;
pub mod context;
mod daemon;
pub mod failure;
pub mod grammar;
pub mod help;
pub mod live;
pub mod output;
pub mod parse;
pub mod password;
pub mod progress;
pub mod select;
mod session;
mod terminal;
pub mod verbs;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap_complete::CompleteEnv;
use fault::{Fault, Result};
use words::Words;

use context::{Context, DEFAULT_SOCKET};
use failure::status;

/// The variable by which a shell asks for completions.
pub const COMPLETION_VARIABLE: &str = "POSADA_COMPLETE";

/// The program's command line; `args` begins with the program's name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let variable = |name: &str| std::env::var(name).ok();
    let language = asked_language(&args).or_else(|| variable("POSADA_LANG"));
    let words = match language {
        Some(language) => Words::for_locale(&language),
        None => Words::for_environment(variable),
    };
    if std::env::var_os(COMPLETION_VARIABLE).is_some() {
        CompleteEnv::with_factory(|| help::tree(&words))
            .var(COMPLETION_VARIABLE)
            .complete();
    }
    let mut context = Context::new(words, PathBuf::from(DEFAULT_SOCKET));
    context.color_errors = colored(None, io::stderr().is_terminal());
    let read = help::wordless().try_get_matches_from(&args);
    // Help and complaints need the words.
    let read = read.or_else(|_| help::tree(&context.words).try_get_matches_from(&args));
    let status = match read {
        Ok(matches) => run(&mut context, &matches),
        Err(error) => refuse(&context, &error),
    };
    ExitCode::from(status)
}

fn run(context: &mut Context, matches: &ArgMatches) -> u8 {
    if matches.get_flag("version") {
        return finish(context, verbs::about::version_line(context));
    }
    let Some((name, matches)) = matches.subcommand() else {
        return without_verb(context);
    };
    if let Some(socket) = matches.get_one::<String>("socket") {
        context.socket = PathBuf::from(socket);
    }
    context.quiet = matches.get_flag("quiet");
    context.format = matches
        .get_one::<String>("format")
        .and_then(|name| output::Format::of(name));
    let when = matches.get_one::<String>("color").map(String::as_str);
    context.color = colored(when, io::stdout().is_terminal());
    context.color_errors = colored(when, io::stderr().is_terminal());
    let outcome = match verbs::find(name) {
        Some(verb) => check_project(matches).and_then(|()| (verb.run)(context, matches)),
        None => Err(Fault::new(codes::VERB_UNKNOWN)
            .arg("verb", name)
            .arg("meant", "none")),
    };
    finish(context, outcome)
}

/// Without any verb the first page says more than a complaint.
fn without_verb(context: &Context) -> u8 {
    let page = help::tree(&context.words).render_help();
    let _ = write!(io::stderr(), "{page}");
    status::USAGE
}

fn finish(context: &Context, outcome: Result<u8>) -> u8 {
    context.tell_notices();
    outcome.unwrap_or_else(|fault| {
        if !fault.is(codes::SOME_FAILED) {
            failure::tell(context, &fault, None);
        }
        failure::exit_status(&fault)
    })
}

/// One project exists so far, `default`; another one is refused rather than ignored.
fn check_project(matches: &ArgMatches) -> Result<()> {
    match matches.get_one::<String>("project") {
        Some(project) if project != model::Name::default_project().as_str() => {
            Err(Fault::new(codes::VALUE_INVALID)
                .arg("value", project)
                .arg("option", "--project")
                .arg("allowed", model::Name::default_project()))
        }
        _ => Ok(()),
    }
}

/// Help to standard output, anything else as a fault.
fn refuse(context: &Context, error: &clap::Error) -> u8 {
    match help::fault_of(error) {
        Some(fault) => {
            failure::tell(context, &fault, None);
            failure::exit_status(&fault)
        }
        None => match error.print() {
            Ok(()) => status::OK,
            Err(_) => status::PIPE,
        },
    }
}

/// Whether to colour, by `--color`, `NO_COLOR` (no-color.org) and the kind of output.
fn colored(when: Option<&str>, terminal: bool) -> bool {
    match when {
        Some("always") => true,
        Some("never") => false,
        _ => {
            let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            terminal && !unwanted && !dumb
        }
    }
}

/// The value of `--lang`, needed before the parser has its words.
fn asked_language(args: &[OsString]) -> Option<String> {
    let mut args = args
        .iter()
        .skip(1)
        .map_while(|arg| arg.to_str().filter(|arg| *arg != "--"));
    while let Some(arg) = args.next() {
        if arg == "--lang" {
            return args.next().map(str::to_owned);
        }
        if let Some(language) = arg.strip_prefix("--lang=") {
            return Some(language.to_owned());
        }
    }
    None
}
