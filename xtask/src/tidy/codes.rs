//! Rules for fault codes: each raised by one constant, each worded in every language.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, Finding, only_tests};

/// Folder of the message catalogues; one folder a language, one file an area.
const CATALOGUES: &str = "crates/1_mechanisms/words/";
const LANGUAGES: [&str; 2] = ["en", "es"];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let defined = definitions(files, findings);
    let mut ids: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for language in LANGUAGES {
        let prefix = format!("{CATALOGUES}{language}/");
        let catalogues = files
            .iter()
            .filter(|file| file.path.starts_with(&prefix) && file.path.ends_with(".ftl"));
        ids.insert(
            language,
            catalogues.flat_map(|file| messages(&file.text)).collect(),
        );
    }
    for (language, ids) in &ids {
        for (code, (path, line)) in &defined {
            if !ids.contains(code) {
                let area = code[..3].to_lowercase();
                let what = format!("{code} has no sentence in {CATALOGUES}{language}/{area}.ftl");
                findings.push(Finding::new(path, *line, "fault-words", what));
            }
        }
    }
    let every: BTreeSet<&String> = ids.values().flatten().collect();
    for id in every {
        let missing: Vec<&str> = LANGUAGES
            .into_iter()
            .filter(|language| !ids[language].contains(id))
            .collect();
        for language in missing {
            let what = format!("message {id} is missing in `{language}`");
            findings.push(Finding::new(
                &format!("{CATALOGUES}{language}"),
                1,
                "words-in-step",
                what,
            ));
        }
        let code = id.split('.').next().unwrap_or_default();
        if is_code(code) && !defined.contains_key(code) && !id.contains('.') {
            let what = format!("no constant raises {code}");
            findings.push(Finding::new(CATALOGUES, 1, "fault-unused", what));
        }
    }
}

/// Every `Code("ABC123")` of a constant, with its place; a second definition is a finding.
fn definitions(files: &[File], findings: &mut Vec<Finding>) -> BTreeMap<String, (String, usize)> {
    let mut defined: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("crates/"))
    {
        if only_tests(&file.path) {
            continue;
        }
        let product = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in product.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("//") {
                continue;
            }
            for (at, _) in line.match_indices("Code(\"") {
                let code: String = line[at + 6..].chars().take_while(|c| *c != '"').collect();
                if !is_code(&code) {
                    let what = format!("{code:?} is not three capitals and three digits");
                    findings.push(Finding::new(&file.path, index + 1, "fault-code", what));
                } else if let Some((other, _)) = defined.get(&code) {
                    let what = format!("{code} is also defined in {other}");
                    findings.push(Finding::new(&file.path, index + 1, "fault-code", what));
                } else {
                    defined.insert(code, (file.path.clone(), index + 1));
                }
            }
        }
    }
    defined
}

fn is_code(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 6
        && bytes[..3].iter().all(u8::is_ascii_uppercase)
        && bytes[3..].iter().all(u8::is_ascii_digit)
}

/// Ids of a Fluent file: `id = …` at the start of a line, and `id.attribute` for the attributes below it.
fn messages(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut last = String::new();
    for line in text.lines() {
        let Some((left, _)) = line.split_once('=') else {
            continue;
        };
        let word = left.trim();
        let plain = |word: &str| {
            word.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if let Some(attribute) = word.strip_prefix('.').filter(|_| line.starts_with(' ')) {
            ids.insert(format!("{last}.{attribute}"));
        } else if !word.is_empty() && plain(word) && !line.starts_with(' ') {
            last = word.to_owned();
            ids.insert(last.clone());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn codes_are_unique_and_worded_in_every_language() {
        let one = "pub const A: Code = Code(\"NET014\");\n";
        let files = [
            file("crates/1_mechanisms/link/src/a.rs", one),
            file("crates/4_services/networks/src/b.rs", one),
            file(
                "crates/1_mechanisms/words/en/net.ftl",
                "NET014 = port { $port } is taken\n    .hint = x\n",
            ),
            file(
                "crates/1_mechanisms/words/es/net.ftl",
                "NET014 = ocupado\nNET015 = nada\n",
            ),
        ];
        let mut findings = Vec::new();
        check(&files, &mut findings);
        let rules: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(
            rules,
            ["fault-code", "words-in-step", "words-in-step", "fault-unused"],
            "{findings:#?}"
        );
    }
}
