//! doctor, version, completion, help, man: the host and the program itself.

use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Command};
use clap_complete::env::Shells;
use fault::{Code, Fault, OrFault, Result};
use model::api::Verdict;

use crate::context::Context;
use crate::grammar::positional;
use crate::output::{self, Column, Listing, at, plain};
use crate::{COMPLETION_VARIABLE, codes, failure, help as pages, verbs};

/// Shells that completion speaks.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Grammar of `doctor`.
pub fn doctor_grammar(command: Command) -> Command {
    crate::grammar::several_columns(command)
}

const FINDINGS: Listing = Listing {
    columns: &[
        Column {
            name: "verdict",
            right: false,
            cell: |finding, _| plain(at(finding, "verdict")),
        },
        Column {
            name: "check",
            right: false,
            cell: |finding, _| plain(at(finding, "check")),
        },
        Column {
            name: "seen",
            right: false,
            cell: |finding, _| plain(at(finding, "seen")),
        },
        Column {
            name: "remedy",
            right: false,
            cell: |finding, _| plain(at(finding, "remedy")),
        },
    ],
    shown: &["verdict", "check", "seen", "remedy"],
    key: "check",
};

/// `doctor`: every finding with its remedy; fails when something does not work.
pub fn doctor(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let findings = context.client()?.doctor()?;
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .count();
    if context.format.is_some() {
        FINDINGS.print(context, matches, findings.iter().map(output::json).collect())?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            let (id, style) = match finding.verdict {
                Verdict::Good => ("cli-verdict-good", "32"),
                Verdict::Limited => ("cli-verdict-limited", "33"),
                Verdict::Bad => ("cli-verdict-bad", "1;31"),
            };
            let verdict = format!("{:<10}", context.say(id, &[]));
            let verdict = if context.color {
                format!("\x1b[{style}m{verdict}\x1b[0m")
            } else {
                verdict
            };
            text.push_str(&format!(
                "{verdict} {}: {}\n",
                context.say(&finding.check, &[]),
                finding.seen
            ));
            if let Some(remedy) = &finding.remedy {
                text.push_str(&format!("{:<10} {} {remedy}\n", "", context.say("cli-try", &[])));
            }
        }
        context.print(&text)?;
    }
    Ok(if bad > 0 {
        failure::status::FAILED
    } else {
        failure::status::OK
    })
}

/// Grammar of `version`.
pub fn version_grammar(command: Command) -> Command {
    command
}

/// `posada --version`: this program only.
pub fn version_line(context: &Context) -> Result<u8> {
    context.print(&format!("posada {}\n", env!("CARGO_PKG_VERSION")))?;
    Ok(failure::status::OK)
}

/// `version`: this program and the daemon, which is not started for that.
pub fn version(context: &Context, _: &ArgMatches) -> Result<u8> {
    let daemon = client::Client::new(&context.socket).version();
    let record = serde_json::json!({
        "program": env!("CARGO_PKG_VERSION"),
        "api": client::API_VERSION,
        "daemon": daemon.as_ref().ok(),
    });
    if let Some(text) = output::record(context, &record) {
        context.print(&text)?;
        return Ok(failure::status::OK);
    }
    context.print(&format!("posada {}\n", env!("CARGO_PKG_VERSION")))?;
    match daemon {
        Ok(daemon) => {
            let args = [
                ("version", daemon.version.into()),
                ("api", daemon.api.into()),
                ("pid", daemon.pid.into()),
            ];
            context.print(&(context.say("cli-version-daemon", &args) + "\n"))?;
        }
        Err(fault) => {
            context.print(&(context.say("cli-version-no-daemon", &[]) + "\n"))?;
            if !fault.is(client::codes::NO_DAEMON) {
                failure::tell(context, &fault, None);
            }
        }
    }
    Ok(failure::status::OK)
}

/// Grammar of `completion`.
pub fn completion_grammar(command: Command) -> Command {
    command.arg(
        positional("shell", "SHELL")
            .required(true)
            .value_parser(PossibleValuesParser::new(SHELLS)),
    )
}

/// `completion`: a script that makes the shell ask this program what may follow.
pub fn completion(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let shell = matches.get_one::<String>("shell").map_or("", String::as_str);
    context.print(&completion_script(shell)?)?;
    Ok(failure::status::OK)
}

/// The script of a shell.
///
/// # Errors
/// When the shell is unknown.
pub fn completion_script(shell: &str) -> Result<String> {
    let unknown = || {
        Fault::new(codes::VALUE_INVALID)
            .arg("value", shell)
            .arg("option", "SHELL")
            .arg("allowed", SHELLS.join(", "))
    };
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    completer
        .write_registration(COMPLETION_VARIABLE, "posada", "posada", "posada", &mut script)
        .or_fault(unknown)?;
    String::from_utf8(script).or_fault(unknown)
}

/// Grammar of `help`.
pub fn help_grammar(command: Command) -> Command {
    command.arg(positional("topic", "TOPIC").num_args(0..))
}

/// `help`: the first page, the page of a verb, what a code means, or the exit statuses.
pub fn help(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let topics: Vec<&String> = matches
        .get_many::<String>("topic")
        .into_iter()
        .flatten()
        .collect();
    let mut tree = pages::tree(&context.words);
    let Some(first) = topics.first() else {
        return show(context, &mut tree);
    };
    if matches!(first.as_str(), "exit" | "status" | "estado" | "salida") {
        context.print(&(context.say("cli-exit-statuses", &[]) + "\n"))?;
        return Ok(failure::status::OK);
    }
    if is_code(first) {
        return explain_code(context, &first.to_uppercase());
    }
    tree.build();
    let mut command = &mut tree;
    for topic in &topics {
        let below = command.find_subcommand_mut(topic.as_str());
        command = below.ok_or_else(|| {
            Fault::new(codes::VERB_UNKNOWN)
                .arg("verb", topic)
                .arg("meant", "none")
        })?;
    }
    show(context, command)
}

fn show(context: &Context, command: &mut Command) -> Result<u8> {
    let page = command.render_help();
    let text = if context.color {
        page.ansi().to_string()
    } else {
        page.to_string()
    };
    context.print(&text)?;
    Ok(failure::status::OK)
}

/// Whether a topic is shaped like a code, `NET014`.
fn is_code(topic: &str) -> bool {
    topic.len() == 6
        && topic.is_ascii()
        && topic[..3].bytes().all(|b| b.is_ascii_alphabetic())
        && topic[3..].bytes().all(|b| b.is_ascii_digit())
}

fn explain_code(context: &Context, code: &str) -> Result<u8> {
    const UNKNOWN: Code = codes::CODE_UNKNOWN;
    let Some(sentence) = context.words.find(code, &[]) else {
        return Err(Fault::new(UNKNOWN).arg("code", code));
    };
    let mut text = format!("{code}: {}\n", placeholders(&sentence));
    if let Some(hint) = context.words.find(&format!("{code}.hint"), &[]) {
        text.push_str(&format!(
            "{} {}\n",
            context.say("cli-try", &[]),
            placeholders(&hint)
        ));
    }
    if let Some(more) = context.words.find(&format!("{code}.more"), &[]) {
        text.push_str(&format!("\n{more}\n"));
    }
    context.print(&text)?;
    Ok(failure::status::OK)
}

/// A message without values shows `{$port}`: as a placeholder it reads `PORT`.
fn placeholders(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{$") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("{$");
            rest = after;
            continue;
        };
        out.push_str(&name.to_uppercase());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Grammar of `man`.
pub fn man_grammar(command: Command) -> Command {
    command.arg(
        positional("dir", "DIR")
            .required(true)
            .value_hint(clap::ValueHint::DirPath),
    )
}

/// `man`: writes the manual pages, one a verb, into a directory.
pub fn man(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let dir = matches.get_one::<String>("dir").map_or("", String::as_str);
    let failed = || Fault::new(codes::FILE).arg("path", dir);
    std::fs::create_dir_all(dir).or_fault(failed)?;
    let pages = manual(&context.words).or_fault(failed)?;
    for (name, page) in &pages {
        std::fs::write(std::path::Path::new(dir).join(name), page).or_fault(failed)?;
    }
    context.note(
        "cli-man-written",
        &[("count", pages.len().into()), ("dir", dir.into())],
    );
    Ok(failure::status::OK)
}

/// The manual pages: file name and roff text.
///
/// # Errors
/// Never in practice: pages are written to memory.
pub fn manual(words: &words::Words) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    let tree = pages::tree(words);
    let mut render = |command: &Command, name: String, id: &str| -> std::io::Result<()> {
        let mut command = command.clone().name(name.clone()).display_name(name.clone());
        if let Some(examples) = words.find(&format!("{id}.examples"), &[]) {
            let heading = words.say("cli-heading-examples", &[]);
            command = command.after_help(format!("{heading}\n\n{examples}"));
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
        Ok(())
    };
    render(&tree, "posada".to_owned(), "cli")?;
    for verb in verbs::VERBS {
        if let Some(command) = tree.find_subcommand(verb.name) {
            render(
                command,
                format!("posada-{}", verb.name),
                &format!("cli-{}", verb.name),
            )?;
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_values_reads_with_placeholders() {
        assert_eq!(placeholders("port {$port} of {$name}"), "port PORT of NAME");
        assert_eq!(placeholders("no {$end"), "no {$end");
        assert!(is_code("NET014") && is_code("net014"));
        assert!(!is_code("launch") && !is_code("ñandú1"));
    }
}
