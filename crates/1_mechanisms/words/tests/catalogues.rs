//! The catalogues say the same things in both languages, and every code of the sources has its words.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};
use words::Language;

type Messages = BTreeMap<String, BTreeSet<String>>;

fn inline(expression: &InlineExpression<&str>, into: &mut BTreeSet<String>) {
    match expression {
        InlineExpression::VariableReference { id } => {
            into.insert(id.name.to_owned());
        }
        InlineExpression::FunctionReference { arguments, .. } => {
            arguments
                .positional
                .iter()
                .for_each(|argument| inline(argument, into));
        }
        InlineExpression::Placeable { expression } => variables_of(expression, into),
        _ => {}
    }
}

fn variables_of(expression: &Expression<&str>, into: &mut BTreeSet<String>) {
    match expression {
        Expression::Select { selector, variants } => {
            inline(selector, into);
            variants
                .iter()
                .for_each(|variant| variables(&variant.value, into));
        }
        Expression::Inline(expression) => inline(expression, into),
    }
}

fn variables(pattern: &Pattern<&str>, into: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        if let PatternElement::Placeable { expression } = element {
            variables_of(expression, into);
        }
    }
}

/// Every message and attribute (`id.attribute`) of a language with the variables it uses.
fn messages(language: Language, problems: &mut Vec<String>) -> Messages {
    let mut found = Messages::new();
    for (area, text) in language.catalogue() {
        let place = format!("{}/{area}.ftl", language.code());
        let resource = match fluent_syntax::parser::parse(*text) {
            Ok(resource) => resource,
            Err((resource, errors)) => {
                for error in errors {
                    let line = text[..error.pos.start].lines().count();
                    problems.push(format!("{place}:{line}: {error}"));
                }
                resource
            }
        };
        for entry in &resource.body {
            let Entry::Message(message) = entry else { continue };
            let parts = message
                .value
                .iter()
                .map(|value| (message.id.name.to_owned(), value))
                .chain(
                    message
                        .attributes
                        .iter()
                        .map(|a| (format!("{}.{}", message.id.name, a.id.name), &a.value)),
                );
            for (id, pattern) in parts {
                let mut used = BTreeSet::new();
                variables(pattern, &mut used);
                if found.insert(id.clone(), used).is_some() {
                    problems.push(format!("{place}: {id} is there twice"));
                }
            }
        }
    }
    found
}

fn codes(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("target") {
                codes(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // What follows the first test module is a test's own.
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for rest in lines.flat_map(|line| line.split("Code(\"").skip(1)) {
                let Some((code, _)) = rest.split_once("\")") else {
                    continue;
                };
                let (area, number) = code.split_at(code.len().min(3));
                if area.bytes().all(|b| b.is_ascii_uppercase())
                    && number.len() == 3
                    && number.bytes().all(|b| b.is_ascii_digit())
                {
                    into.entry(code.to_owned())
                        .or_insert_with(|| path.display().to_string());
                }
            }
        }
    }
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn both_languages_have_the_same_messages_attributes_and_variables() {
    let mut problems = Vec::new();
    let english = messages(Language::English, &mut problems);
    let spanish = messages(Language::Spanish, &mut problems);
    for (id, variables) in &english {
        match spanish.get(id) {
            None => problems.push(format!("es lacks {id}")),
            Some(other) if other != variables => {
                problems.push(format!("{id}: en uses {variables:?}, es uses {other:?}"));
            }
            Some(_) => {}
        }
    }
    problems.extend(
        spanish
            .keys()
            .filter(|id| !english.contains_key(*id))
            .map(|id| format!("en lacks {id}")),
    );
    complain(&problems);
}

#[test]
fn every_code_of_the_sources_has_a_sentence_and_a_hint() {
    let mut problems = Vec::new();
    let said = messages(Language::English, &mut problems);
    let mut found = BTreeMap::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    codes(&crates, &mut found);
    assert!(found.len() > 5, "the scan finds too little: {found:?}");
    for (code, place) in &found {
        for id in [code.clone(), format!("{code}.hint")] {
            if !said.contains_key(&id) {
                problems.push(format!("{id} is not in the catalogues ({place})"));
            }
        }
    }
    complain(&problems);
}

/// Ids of messages that the sources name as literals: steps, findings, headings, notices.
fn literals(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("target") {
                literals(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for literal in line.split('"').skip(1).step_by(2) {
                    let kind = ["step-", "doctor-", "explain-", "notice-"]
                        .iter()
                        .find_map(|k| literal.strip_prefix(k));
                    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                    if kind.is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain)) {
                        into.entry(literal.to_owned())
                            .or_insert_with(|| path.display().to_string());
                    }
                }
            }
        }
    }
}

#[test]
fn every_message_that_the_sources_name_is_there() {
    let mut problems = Vec::new();
    let said = messages(Language::English, &mut problems);
    let mut found = BTreeMap::new();
    literals(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), &mut found);
    for (id, place) in found.iter().filter(|(id, _)| !said.contains_key(*id)) {
        problems.push(format!("{id} is not in the catalogues ({place})"));
    }
    complain(&problems);
}

#[test]
fn no_code_means_two_things() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fn constants(folder: &Path, into: &mut BTreeMap<String, BTreeSet<String>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                constants(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                for line in fs::read_to_string(&path).unwrap().lines() {
                    let line = line.trim();
                    if let Some((name, rest)) =
                        line.strip_prefix("pub const ").and_then(|l| l.split_once(':'))
                        && let Some((_, code)) = rest.split_once("Code(\"")
                        && let Some((code, _)) = code.split_once("\")")
                    {
                        into.entry(code.to_owned()).or_default().insert(name.to_owned());
                    }
                }
            }
        }
    }
    constants(&crates, &mut places);
    let problems: Vec<String> = places
        .iter()
        .filter(|(_, names)| names.len() > 1)
        .map(|(code, names)| format!("{code} is {names:?}"))
        .collect();
    complain(&problems);
}
