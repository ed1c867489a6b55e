//! Faults as the user reads them, and the exit status that they lead to.

use fault::Fault;

use crate::codes;
use crate::context::Context;

/// Exit statuses of the program; `posada help exit` lists them.
pub mod status {
    /// It worked.
    pub const OK: u8 = 0;
    /// It failed, or failed for some of several guests.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The daemon cannot be reached.
    pub const NO_DAEMON: u8 = 3;
    /// `exec`, `shell`, `launch --rm`: Posada failed before the command could run.
    pub const NOT_RUN: u8 = 125;
    /// The command cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// There is no such command inside.
    pub const NOT_FOUND: u8 = 127;
    /// The user left with Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
    /// Nobody reads the output.
    pub const PIPE: u8 = 141;
}

/// Prints a fault on standard error: `error[NET014]: …`, `cause: …`, `try: …`.
pub fn tell(context: &Context, fault: &Fault, about: Option<&str>) {
    if fault.is(codes::OUTPUT_CLOSED) {
        return;
    }
    let told = context.words.fault(&with_phases_in_words(context, fault));
    let paint = |style: &str, text: &str| {
        if context.color_errors {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let subject = about.map(|name| format!("{name}: ")).unwrap_or_default();
    if fault.is(codes::DETACHED) {
        context.tell(&format!("\n{}", told.sentence));
    } else {
        let head = paint("1;31", &format!("error[{}]:", fault.code()));
        context.tell(&format!("{head} {subject}{}", told.sentence));
    }
    for cause in &told.causes {
        context.tell(&format!("{} {cause}", paint("1", &context.say("cli-cause", &[]))));
    }
    if let Some(hint) = told.hint {
        context.tell(&format!("{} {hint}", paint("1;32", &context.say("cli-try", &[]))));
    }
}

/// Phases among a fault's arguments as the user's language has them.
fn with_phases_in_words(context: &Context, fault: &Fault) -> Fault {
    let mut shown = fault.clone();
    for name in ["phase", "waited"] {
        let value = fault.args().find(|(known, _)| *known == name);
        let word = value.and_then(|(_, value)| context.words.find(&format!("cli-phase-{value}"), &[]));
        if let Some(word) = word {
            shown = shown.arg(name, word);
        }
    }
    shown
}

/// The exit status that a fault leads to.
#[must_use]
pub fn exit_status(fault: &Fault) -> u8 {
    const USAGE: &[fault::Code] = &[
        codes::VERB_UNKNOWN,
        codes::OPTION_UNKNOWN,
        codes::ARGUMENT_MISSING,
        codes::VALUE_INVALID,
        codes::CONFLICT,
        codes::USAGE,
        codes::PUBLISH_INVALID,
        codes::MOUNT_INVALID,
        codes::PAIR_INVALID,
        codes::NOTHING_SELECTED,
        codes::KEY_UNKNOWN,
        codes::COPY_SIDES,
        codes::COLUMN_UNKNOWN,
        codes::NUMBER_INVALID,
        codes::NEEDS_VM,
    ];
    if USAGE.iter().any(|code| fault.is(*code)) {
        status::USAGE
    } else if fault.is(client::codes::NO_DAEMON) || fault.is(client::codes::FORBIDDEN) {
        status::NO_DAEMON
    } else if fault.is(codes::DETACHED) {
        status::INTERRUPTED
    } else if fault.is(codes::OUTPUT_CLOSED) {
        status::PIPE
    } else {
        status::FAILED
    }
}

/// The exit status for a command that did not run, as shells give it.
#[must_use]
pub fn not_run(fault: &Fault) -> u8 {
    if !fault.is(jail::codes::EXEC_FAILED) {
        return status::NOT_RUN;
    }
    let missing = fault
        .causes()
        .iter()
        .any(|cause| cause.contains("No such file") || cause.contains("not found"));
    if missing {
        status::NOT_FOUND
    } else {
        status::NOT_EXECUTABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_missing_is_told_as_shells_do() {
        let failed = || Fault::new(jail::codes::EXEC_FAILED);
        assert_eq!(
            not_run(&failed().because(std::io::Error::from_raw_os_error(2))),
            127
        );
        assert_eq!(
            not_run(&failed().because(std::io::Error::from_raw_os_error(13))),
            126
        );
        assert_eq!(not_run(&Fault::new(codes::FILE)), 125);
    }
}
