//! Building blocks of the one definition from which parser, help, man pages and completion come. The words of an
//! argument are not written here: [`crate::help::localize`] takes them from the catalogues, by verb and argument.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::ArgValueCandidates;

use crate::live;
use crate::output::Format;

/// A switch, `--id`.
pub fn switch(id: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue)
}

/// An option with one value, `--id VALUE`.
pub fn option(id: &'static str, value: &'static str) -> Arg {
    Arg::new(id).long(id).value_name(value).action(ArgAction::Set)
}

/// An option that may be given several times.
pub fn several(id: &'static str, value: &'static str) -> Arg {
    option(id, value).action(ArgAction::Append)
}

/// An option whose value is one of these words.
pub fn choice(id: &'static str, value: &'static str, words: &'static [&'static str]) -> Arg {
    option(id, value).value_parser(PossibleValuesParser::new(words))
}

/// An option whose value is a file.
pub fn file(id: &'static str) -> Arg {
    option(id, "FILE").value_hint(ValueHint::FilePath)
}

/// A positional argument.
pub fn positional(id: &'static str, value: &'static str) -> Arg {
    Arg::new(id).value_name(value)
}

/// Guests by name or pattern, `--label` and `--all`.
pub fn selector(command: Command) -> Command {
    command
        .arg(guests())
        .arg(several("label", "KEY=VALUE"))
        .arg(switch("all").short('a'))
}

/// The positional names of a selector.
pub fn guests() -> Arg {
    positional("guest", "NAME")
        .num_args(0..)
        .add(ArgValueCandidates::new(live::guests))
}

/// One guest.
pub fn one_guest() -> Arg {
    positional("guest", "NAME")
        .required(true)
        .add(ArgValueCandidates::new(live::guests))
}

/// A command after `--`.
pub fn trailing() -> Arg {
    positional("command", "CMD")
        .num_args(0..)
        .last(true)
        .value_hint(ValueHint::CommandWithArguments)
}

/// Columns, filter and order of a listing.
pub fn several_columns(command: Command) -> Command {
    command
        .arg(several("columns", "A,B"))
        .arg(several("filter", "KEY=VALUE"))
        .arg(option("sort", "COLUMN").allow_hyphen_values(true))
}

/// The options of every listing.
pub fn listing(command: Command) -> Command {
    several_columns(command).arg(
        option("watch", "SECONDS")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("2"),
    )
}

/// A command as the last arguments: options before its first word are ours, everything after it is its own, with or
/// without `--`.
pub fn rest() -> Arg {
    trailing().last(false).trailing_var_arg(true)
}

/// Assent given beforehand, for verbs that destroy.
pub fn assent() -> Arg {
    switch("yes").short('y')
}

/// Options that every verb takes.
pub fn global(command: Command) -> Command {
    command
        .arg(
            option("socket", "PATH")
                .env("POSADA_SOCKET")
                .hide_env(true)
                .value_hint(ValueHint::FilePath)
                .global(true),
        )
        .arg(option("project", "NAME").global(true))
        .arg(switch("quiet").short('q').global(true))
        .arg(choice("format", "FORMAT", &Format::NAMES).global(true))
        .arg(choice("color", "WHEN", &["auto", "always", "never"]).global(true))
        .arg(choice("lang", "LANGUAGE", &["en", "es"]).global(true))
}
