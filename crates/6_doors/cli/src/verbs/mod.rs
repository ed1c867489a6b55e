//! Every verb: its place in the help, its grammar, and what it does.

use clap::{ArgMatches, Command};
use fault::Result;

use crate::context::Context;

pub mod about;
pub mod copy;
pub mod enter;
pub mod hardware;
pub mod host;
pub mod images;
pub mod launch;
pub mod life;
pub mod look;
pub mod networks;
pub mod operations;
pub mod screen;
pub mod settings;
pub mod show;
pub mod top;
pub mod trash;

/// Where a verb stands in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// From launch to rm.
    Life,
    /// Looking at guests.
    Look,
    /// Being inside.
    Inside,
    /// Changing them.
    Change,
    /// Other nouns.
    Nouns,
    /// This host and this program.
    Host,
    /// Not listed.
    Hidden,
}

impl Group {
    /// The groups of the help, in order, with the message ids of their headings.
    pub const LISTED: [(Group, &'static str); 6] = [
        (Group::Life, "cli-group-life"),
        (Group::Look, "cli-group-look"),
        (Group::Inside, "cli-group-inside"),
        (Group::Change, "cli-group-change"),
        (Group::Nouns, "cli-group-nouns"),
        (Group::Host, "cli-group-host"),
    ];
}

/// One verb.
pub struct Verb {
    /// As it is typed.
    pub name: &'static str,
    /// Other spellings that people know from elsewhere.
    pub aliases: &'static [&'static str],
    /// Its place in the help.
    pub group: Group,
    /// Adds its arguments.
    pub grammar: fn(Command) -> Command,
    /// Does it; gives the exit status.
    pub run: fn(&Context, &ArgMatches) -> Result<u8>,
}

const fn verb(
    name: &'static str,
    aliases: &'static [&'static str],
    group: Group,
    grammar: fn(Command) -> Command,
    run: fn(&Context, &ArgMatches) -> Result<u8>,
) -> Verb {
    Verb {
        name,
        aliases,
        group,
        grammar,
        run,
    }
}

/// All verbs, in the order of the help.
pub const VERBS: &[Verb] = &[
    verb(
        "launch",
        &["run", "create"],
        Group::Life,
        launch::grammar,
        launch::run,
    ),
    verb("start", &[], Group::Life, life::start_grammar, life::start),
    verb("stop", &["shutdown"], Group::Life, life::stop_grammar, life::stop),
    verb(
        "restart",
        &["reboot"],
        Group::Life,
        life::stop_grammar,
        life::restart,
    ),
    verb(
        "pause",
        &["freeze", "suspend"],
        Group::Life,
        life::start_grammar,
        life::pause,
    ),
    verb(
        "resume",
        &["unpause", "unfreeze"],
        Group::Life,
        life::start_grammar,
        life::resume,
    ),
    verb("rename", &[], Group::Life, life::rename_grammar, life::rename),
    verb(
        "rm",
        &["remove", "delete", "destroy"],
        Group::Life,
        life::rm_grammar,
        life::rm,
    ),
    verb("trash", &[], Group::Life, trash::grammar, trash::run),
    verb("ls", &["list", "ps"], Group::Look, look::ls_grammar, look::ls),
    verb(
        "show",
        &["inspect", "info"],
        Group::Look,
        show::grammar,
        show::run,
    ),
    verb("top", &["stats"], Group::Look, top::grammar, top::run),
    verb("logs", &["log"], Group::Look, look::logs_grammar, look::logs),
    verb("events", &[], Group::Look, look::events_grammar, look::events),
    verb("wait", &[], Group::Look, look::wait_grammar, look::wait),
    verb("explain", &[], Group::Look, look::explain_grammar, look::explain),
    verb("ip", &[], Group::Look, look::ip_grammar, look::ip),
    verb(
        "shell",
        &["enter"],
        Group::Inside,
        enter::shell_grammar,
        enter::shell,
    ),
    verb("exec", &[], Group::Inside, enter::exec_grammar, enter::exec),
    verb(
        "console",
        &["attach"],
        Group::Inside,
        enter::console_grammar,
        enter::console,
    ),
    verb("vnc", &[], Group::Inside, screen::vnc_grammar, screen::vnc),
    verb(
        "screenshot",
        &[],
        Group::Inside,
        screen::screenshot_grammar,
        screen::screenshot,
    ),
    verb("ssh", &[], Group::Inside, enter::ssh_grammar, enter::ssh),
    verb("cp", &["copy"], Group::Inside, copy::grammar, copy::run),
    verb(
        "set",
        &["update"],
        Group::Change,
        settings::set_grammar,
        settings::set,
    ),
    verb(
        "publish",
        &["port"],
        Group::Change,
        settings::publish_grammar,
        settings::publish,
    ),
    verb(
        "passwd",
        &[],
        Group::Change,
        settings::passwd_grammar,
        settings::passwd,
    ),
    verb("image", &["images"], Group::Nouns, images::grammar, images::run),
    verb(
        "network",
        &["networks"],
        Group::Nouns,
        networks::grammar,
        networks::run,
    ),
    verb(
        "operation",
        &["operations", "op"],
        Group::Nouns,
        operations::grammar,
        operations::run,
    ),
    verb(
        "bootstrap",
        &[],
        Group::Host,
        host::bootstrap_grammar,
        host::bootstrap,
    ),
    verb("jail", &[], Group::Host, host::jail_grammar, host::jail),
    verb("doctor", &[], Group::Host, about::doctor_grammar, about::doctor),
    verb(
        "version",
        &[],
        Group::Host,
        about::version_grammar,
        about::version,
    ),
    verb(
        "completion",
        &[],
        Group::Host,
        about::completion_grammar,
        about::completion,
    ),
    verb("help", &[], Group::Host, about::help_grammar, about::help),
    verb("man", &[], Group::Hidden, about::man_grammar, about::man),
];

/// The verb of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}
