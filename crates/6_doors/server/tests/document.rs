//! The committed OpenAPI document is the one that the program makes, and the client knows every path of it.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

use std::collections::BTreeSet;

const COMMITTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../docs/reference/openapi.json"
);
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../3_wholes/client/src/lib.rs");

/// `GET /v1/guests/{}` of every path.
fn paths() -> BTreeSet<String> {
    let document: serde_json::Value = serde_json::from_str(&server::document()).unwrap();
    let mut all = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            all.insert(format!("{} {}", method.to_uppercase(), unnamed(path)));
        }
    }
    all
}

fn unnamed(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        if c == '}' {
            inside = false;
        }
        if !inside {
            out.push(c);
        }
        if c == '{' {
            inside = true;
        }
    }
    out
}

#[test]
fn the_committed_document_is_up_to_date() {
    let made = server::document();
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        made == committed,
        "docs/reference/openapi.json is out of date: posada daemon --print-openapi > docs/reference/openapi.json"
    );
}

#[test]
fn the_client_has_a_method_for_every_path() {
    let source = unnamed(&std::fs::read_to_string(CLIENT).unwrap());
    let missing: Vec<String> = paths()
        .into_iter()
        .filter(|path| !source.contains(&format!("`{path}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_path_of_the_map_is_served() {
    let map = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../ARCHITECTURE.md");
    let map = std::fs::read_to_string(map).unwrap();
    let served = paths();
    let mut rows = 0;
    for row in map
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("/v1/"))
    {
        rows += 1;
        let cell = row.split('|').nth(1).unwrap();
        for word in cell.split_whitespace().filter(|word| word.starts_with("/v1/")) {
            let path = unnamed(word.split('?').next().unwrap().trim_end_matches(','));
            let known = served
                .iter()
                .any(|one| one.split(' ').nth(1).unwrap().starts_with(path.as_str()));
            assert!(known, "{path} of {row}");
        }
    }
    assert!(rows > 10, "the map has {rows} rows of paths");
}

#[test]
fn every_operation_says_what_it_does() {
    let document: serde_json::Value = serde_json::from_str(&server::document()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{method} {path}");
        }
    }
}
