//! The program's command tree with the words of the user's language: help pages, and faults of a wrong command line.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use fault::Fault;
use words::Words;

use crate::verbs::{Group, VERBS};
use crate::{codes, grammar};

/// The whole command tree, in the language of the words.
#[must_use]
pub fn tree(words: &Words) -> Command {
    let root = localize(wordless(), words, "cli");
    let page = StyledStr::from(root_page(&root, words));
    root.override_help(page)
}

/// The whole command tree without any words: enough to read a command line that is in order, and made in a tenth of
/// the time.
#[must_use]
pub fn wordless() -> Command {
    let mut root = Command::new("posada")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(false)
        .max_term_width(110)
        .arg(
            Arg::new("version")
                .long("version")
                .short('V')
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("help")
                .long("help")
                .short('h')
                .action(ArgAction::Help)
                .global(true),
        );
    root = grammar::global(root);
    for verb in VERBS {
        let command = (verb.grammar)(
            Command::new(verb.name)
                .disable_help_flag(true)
                .disable_help_subcommand(true),
        );
        root = root.subcommand(
            command
                .visible_aliases(verb.aliases)
                .hide(verb.group == Group::Hidden),
        );
    }
    root
}

/// Gives a command, its arguments and its sub-commands their words: `cli-VERB` (what it does), `cli-VERB.ARGUMENT`,
/// else `cli-common.ARGUMENT`; examples are `cli-VERB.examples`.
fn localize(command: Command, words: &Words, id: &str) -> Command {
    let about = words.find(id, &[]).unwrap_or_default();
    let with_subcommands = command.has_subcommands();
    let with_positionals = command.get_positionals().next().is_some();
    let command = command
        .about(about)
        .help_template(template(words, id, with_subcommands, with_positionals))
        .mut_args(|argument| describe(argument, words, id));
    let command = command.mut_subcommands(|sub| {
        let below = format!("{id}-{}", sub.get_name());
        localize(sub, words, &below)
    });
    let spelled = id.replacen("cli", "posada", 1).replace('-', " ");
    let line = usage(&mut command.clone().bin_name(spelled), words);
    command.override_usage(line)
}

fn describe(argument: Arg, words: &Words, id: &str) -> Arg {
    let own = format!("{id}.{}", argument.get_id());
    let common = format!("cli-common.{}", argument.get_id());
    let argument = match words.find(&own, &[]).or_else(|| words.find(&common, &[])) {
        Some(text) => argument.help(text),
        None => argument,
    };
    let names: Option<Vec<String>> = argument
        .get_value_names()
        .map(|names| names.iter().map(|name| value_name(words, name)).collect());
    let argument = match names {
        Some(names) if argument.get_action().takes_values() => argument.value_names(names),
        _ => argument,
    };
    let argument = list_values(argument, words);
    // A verb's own options come first, in the order of their definition.
    let common = argument.is_global_set();
    if common {
        argument.display_order(1000)
    } else {
        argument
    }
}

/// The words that an option takes, at the end of its help.
fn list_values(argument: Arg, words: &Words) -> Arg {
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    if values.is_empty() || !argument.get_action().takes_values() {
        return argument;
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let listed = words.say(
        "cli-one-of",
        &[("help", help.into()), ("values", values.join(", ").into())],
    );
    argument.help(listed).hide_possible_values(true)
}

/// The usage line in the user's language: what the parser's own words are replaced by.
fn usage(command: &mut Command, words: &Words) -> String {
    let line = command.render_usage().to_string();
    let line = line.split_once(": ").map_or(line.as_str(), |(_, line)| line);
    line.replace("[OPTIONS]", &words.say("cli-usage-options", &[]))
        .replace("<COMMAND>", &words.say("cli-usage-verb", &[]))
        .trim()
        .to_owned()
}

/// A placeholder in the user's language: `NAME`, `NOMBRE`.
fn value_name(words: &Words, name: &str) -> String {
    let id: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    words
        .find(&format!("cli-value.{id}"), &[])
        .unwrap_or_else(|| name.to_owned())
}

fn bold(text: &str) -> String {
    format!("\x1b[1m{text}\x1b[0m")
}

/// What the help page of one verb looks like: what it does, examples first, then usage and arguments.
fn template(words: &Words, id: &str, subcommands: bool, positionals: bool) -> StyledStr {
    let title = |heading: &str| bold(&words.say(heading, &[]));
    let mut page = "{about}\n".to_owned();
    if let Some(examples) = words.find(&format!("{id}.examples"), &[]) {
        page.push_str(&format!(
            "\n{}\n{}\n",
            title("cli-heading-examples"),
            indent(&examples)
        ));
    }
    page.push_str(&format!("\n{} {{usage}}\n", title("cli-heading-usage")));
    if subcommands {
        page.push_str(&format!("\n{}\n{{subcommands}}\n", title("cli-heading-verbs")));
    }
    if positionals {
        page.push_str(&format!(
            "\n{}\n{{positionals}}\n",
            title("cli-heading-arguments")
        ));
    }
    page.push_str(&format!("\n{}\n{{options}}\n", title("cli-heading-options")));
    StyledStr::from(page)
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first page: examples, verbs by group, where to go on.
fn root_page(root: &Command, words: &Words) -> String {
    let title = |heading: &str| bold(&words.say(heading, &[]));
    let mut page = format!("{}\n\n{}\n", words.say("cli", &[]), title("cli-heading-examples"));
    page.push_str(&indent(&words.say("cli.examples", &[])));
    page.push('\n');
    for (group, heading) in Group::LISTED {
        page.push_str(&format!("\n{}\n", title(heading)));
        for verb in VERBS.iter().filter(|verb| verb.group == group) {
            let about = root.find_subcommand(verb.name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            page.push_str(&format!("  {:<11} {about}\n", verb.name));
        }
    }
    page.push_str(&format!("\n{}\n", title("cli-heading-everywhere")));
    let options: Vec<(String, String)> = root
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .map(|argument| {
            let mut spelling = argument
                .get_short()
                .map(|short| format!("-{short}, "))
                .unwrap_or("    ".to_owned());
            spelling.push_str(&format!("--{}", argument.get_long().unwrap_or_default()));
            if argument.get_action().takes_values() {
                for name in argument.get_value_names().unwrap_or_default() {
                    spelling.push_str(&format!(" {name}"));
                }
            }
            (
                spelling,
                argument.get_help().map(ToString::to_string).unwrap_or_default(),
            )
        })
        .collect();
    let width = options
        .iter()
        .map(|(spelling, _)| spelling.chars().count())
        .max()
        .unwrap_or(0);
    for (spelling, help) in options {
        let pad = " ".repeat(width - spelling.chars().count());
        page.push_str(&format!("  {spelling}{pad}  {help}\n"));
    }
    page.push_str(&format!("\n{}\n", words.say("cli-footer", &[])));
    page
}

/// The fault of a command line that the parser refuses; none when it is a request for help.
#[must_use]
pub fn fault_of(error: &clap::Error) -> Option<Fault> {
    let get = |kind: ContextKind| error.get(kind).map(text_of).filter(|text| !text.is_empty());
    // What a message says instead when there is nothing to suggest.
    let none = || "none".to_owned();
    let argument = get(ContextKind::InvalidArg).unwrap_or_default();
    let value = get(ContextKind::InvalidValue).unwrap_or_default();
    let usage = get(ContextKind::Usage).unwrap_or_default();
    let usage = usage
        .split_once(": ")
        .map_or(usage.as_str(), |(_, usage)| usage)
        .trim()
        .to_owned();
    Some(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
        ErrorKind::InvalidSubcommand => {
            let word = get(ContextKind::InvalidSubcommand).unwrap_or_default();
            let meant = error
                .get(ContextKind::SuggestedSubcommand)
                .and_then(likeliest)
                .unwrap_or_else(none);
            Fault::new(codes::VERB_UNKNOWN)
                .arg("verb", word)
                .arg("meant", meant)
        }
        ErrorKind::UnknownArgument => {
            let meant = get(ContextKind::SuggestedArg).unwrap_or_else(none);
            Fault::new(codes::OPTION_UNKNOWN)
                .arg("option", argument)
                .arg("meant", meant)
                .arg("usage", usage)
        }
        ErrorKind::MissingRequiredArgument => Fault::new(codes::ARGUMENT_MISSING)
            .arg("argument", argument)
            .arg("usage", usage),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let allowed = get(ContextKind::ValidSubcommand).unwrap_or_default();
            Fault::new(codes::ARGUMENT_MISSING)
                .arg("argument", allowed)
                .arg("usage", usage)
        }
        ErrorKind::InvalidValue if value.is_empty() => Fault::new(codes::ARGUMENT_MISSING)
            .arg("argument", argument)
            .arg("usage", usage),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Fault::new(codes::VALUE_INVALID)
            .arg("value", value)
            .arg("option", argument)
            .arg("allowed", get(ContextKind::ValidValue).unwrap_or_else(none)),
        ErrorKind::ArgumentConflict => {
            let other = get(ContextKind::PriorArg).unwrap_or_default();
            Fault::new(codes::CONFLICT)
                .arg("option", argument)
                .arg("other", other)
        }
        _ => {
            let text = error.to_string();
            let first = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Fault::new(codes::USAGE).arg("usage", usage).because_of(first)
        }
    })
}

/// The last of several suggestions, which is the most similar one, as the verb that it is a spelling of.
fn likeliest(value: &ContextValue) -> Option<String> {
    let word = match value {
        ContextValue::Strings(words) => words.last()?,
        ContextValue::String(word) => word,
        _ => return None,
    };
    let verb = VERBS.iter().find(|verb| verb.aliases.contains(&word.as_str()));
    Some(verb.map_or(word.as_str(), |verb| verb.name).to_owned())
}

fn text_of(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        ContextValue::StyledStr(text) => text.to_string(),
        ContextValue::StyledStrs(texts) => texts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        ContextValue::Bool(value) => value.to_string(),
        ContextValue::Number(value) => value.to_string(),
        _ => String::new(),
    }
}
