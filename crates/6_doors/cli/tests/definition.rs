//! The one definition of the command line holds together: words in both languages, help, completion, man pages.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clap::{ArgAction, Command};
use cli::verbs::{VERBS, about};
use cli::{failure, help};
use words::{Language, Words};

fn walk(command: &Command, path: &str, look: &mut dyn FnMut(&Command, &str)) {
    look(command, path);
    for below in command.get_subcommands() {
        walk(below, &format!("{path} {}", below.get_name()), look);
    }
}

#[test]
fn the_parser_accepts_its_own_definition() {
    help::tree(&Words::english()).debug_assert();
}

#[test]
fn every_verb_and_argument_has_words_in_both_languages() {
    let mut missing = Vec::new();
    for language in [Language::English, Language::Spanish] {
        let words = Words::new(language);
        walk(&help::tree(&words), "posada", &mut |command, path| {
            if command
                .get_about()
                .is_none_or(|about| about.to_string().is_empty())
            {
                missing.push(format!("{}: {path}", language.code()));
            }
            for argument in command.get_arguments() {
                if argument.get_help().is_none_or(|help| help.to_string().is_empty()) {
                    missing.push(format!("{}: {path} {}", language.code(), argument.get_id()));
                }
            }
        });
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

#[test]
fn every_verb_of_the_first_page_shows_examples_first() {
    let words = Words::english();
    let mut tree = help::tree(&words);
    tree.build();
    for verb in VERBS
        .iter()
        .filter(|verb| verb.group != cli::verbs::Group::Hidden)
    {
        let page = tree
            .find_subcommand_mut(verb.name)
            .unwrap()
            .render_help()
            .to_string();
        let examples = page
            .find("Examples:")
            .unwrap_or_else(|| panic!("{}:\n{page}", verb.name));
        assert!(examples < page.find("Usage:").unwrap(), "{page}");
        assert!(page.contains(&format!("posada {}", verb.name)), "{page}");
    }
}

#[test]
fn the_first_page_lists_every_verb_in_its_group() {
    for words in [Words::english(), Words::new(Language::Spanish)] {
        let page = help::tree(&words).render_help().to_string();
        for verb in VERBS {
            let listed = page
                .lines()
                .any(|line| line.starts_with(&format!("  {} ", verb.name)));
            assert_eq!(
                listed,
                verb.group != cli::verbs::Group::Hidden,
                "{}:\n{page}",
                verb.name
            );
        }
    }
}

#[test]
fn the_examples_of_the_help_are_understood_by_the_parser() {
    for words in [Words::english(), Words::new(Language::Spanish)] {
        for verb in VERBS {
            let examples = words
                .find(&format!("cli-{}.examples", verb.name), &[])
                .unwrap_or_default();
            for line in examples.lines() {
                let Some(at) = line.find("posada ") else { continue };
                let typed = shell_words(&line[at..]);
                let parsed = help::tree(&words).try_get_matches_from(&typed);
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
            }
        }
    }
}

/// Words of a shell line up to a pipe, redirection or closing bracket; single quotes hold words together.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '|' | '>' | ')' | '&' if !quoted => break,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn a_wrong_command_line_is_told_by_its_code_and_suggests_what_was_meant() {
    let words = Words::english();
    for (typed, code, hint) in [
        (&["posada", "lanch", "debian/12"][..], "CLI001", "posada launch"),
        (
            &["posada", "ls", "--fromat", "json"],
            "CLI002",
            "did you mean --format?",
        ),
        (&["posada", "shell"], "CLI003", "usage"),
        (
            &["posada", "ls", "--format", "xml"],
            "CLI004",
            "one of: table, json, jsonl, yaml, csv",
        ),
        (
            &[
                "posada",
                "launch",
                "debian/12",
                "--no-network",
                "--ip",
                "10.0.0.1",
            ],
            "CLI005",
            "leave",
        ),
        (&["posada", "image"], "CLI003", "usage"),
    ] {
        let error = help::tree(&words).try_get_matches_from(typed).unwrap_err();
        let fault = help::fault_of(&error).unwrap();
        assert_eq!(fault.code(), code, "{typed:?}: {fault}");
        let told = words.fault(&fault);
        assert!(told.hint.unwrap().contains(hint), "{typed:?}: {fault}");
        assert_eq!(failure::exit_status(&fault), 2);
    }
}

#[test]
fn completion_scripts_call_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let script = about::completion_script(shell).unwrap();
        assert!(
            script.contains("POSADA_COMPLETE") && script.contains("posada"),
            "{script}"
        );
    }
    assert!(about::completion_script("tcsh").is_err());
}

#[test]
fn manual_pages_are_made_for_every_verb() {
    let pages = about::manual(&Words::english()).unwrap();
    assert_eq!(pages.len(), VERBS.len() + 1);
    for (name, page) in &pages {
        let text = String::from_utf8_lossy(page);
        assert!(text.starts_with(".ie") && text.contains(".TH"), "{name}");
    }
    let (_, launch) = pages.iter().find(|(name, _)| name == "posada-launch.1").unwrap();
    assert!(String::from_utf8_lossy(launch).contains("publish"));
}

#[test]
fn destructive_verbs_can_be_told_yes_beforehand() {
    let tree = help::tree(&Words::english());
    for path in [&["rm"][..], &["trash", "empty"], &["image", "prune"]] {
        let command = path
            .iter()
            .fold(&tree, |command, name| command.find_subcommand(name).unwrap());
        let yes = command
            .get_arguments()
            .find(|argument| argument.get_id() == "yes")
            .unwrap();
        assert!(matches!(yes.get_action(), ArgAction::SetTrue));
    }
}
