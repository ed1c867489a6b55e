//! Rules for Rust files: first sentence, length of files and functions, unsafe, unfinished work.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{File, Finding, only_tests};

/// Most lines of a file, its tests not counted.
const FILE_LINES: usize = 800;
/// Most lines of a function.
const FUNCTION_LINES: usize = 100;

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    let mut say = |line: usize, rule, what: String| findings.push(Finding::new(&file.path, line, rule, what));
    let first = file
        .text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!/"));
    if !first.is_some_and(|line| line.starts_with("//! ") && line.len() > 10) {
        say(
            1,
            "first-sentence",
            "does not open with a `//!` sentence that says what the file is".into(),
        );
    }
    let parsed = match syn::parse_file(&file.text) {
        Ok(parsed) => parsed,
        Err(error) => return say(error.span().start().line, "syntax", error.to_string()),
    };
    let mut reader = Reader::default();
    reader.visit_file(&parsed);

    let tests = only_tests(&file.path);
    let lines = file.text.lines().count() - reader.test_lines;
    if lines > FILE_LINES && !tests {
        say(
            1,
            "long-file",
            format!("more than {FILE_LINES} lines without its tests"),
        );
    }
    for function in &reader.functions {
        if function.lines > FUNCTION_LINES {
            say(
                function.line,
                "long-function",
                format!("`{}` has more than {FUNCTION_LINES} lines", function.name),
            );
        }
    }
    for (line, name) in &reader.unfinished {
        say(*line, "unfinished", format!("`{name}!`"));
    }
    let compact: String = file.text.split_whitespace().collect();
    // A test's module may be allowed it by the test program that it belongs to.
    let allows_unsafe = tests || compact.contains("allow(unsafe_code");
    for line in &reader.unsafe_lines {
        if !allows_unsafe {
            say(
                *line,
                "unsafe",
                "unsafe code in a file that does not allow it with a reason".into(),
            );
        } else if !has_safety_note(&file.text, *line) {
            say(
                *line,
                "safety",
                "unsafe block without a `SAFETY:` note above it".into(),
            );
        }
    }
}

/// Whether one of the lines shortly above (a statement may begin some lines before its unsafe block) says why.
fn has_safety_note(text: &str, line: usize) -> bool {
    let above = text.lines().skip(line.saturating_sub(12)).take(line.min(12));
    above
        .into_iter()
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[derive(Default)]
struct Reader {
    test_lines: usize,
    functions: Vec<Function>,
    unfinished: Vec<(usize, String)>,
    unsafe_lines: Vec<usize>,
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn lines_of(item: &impl Spanned) -> usize {
    let span = item.span();
    span.end().line.saturating_sub(span.start().line) + 1
}

/// Whether the attributes say `#[cfg(test)]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute
            .path()
            .is_ident("cfg")
            .then(|| attribute.parse_args::<syn::Ident>().ok());
        condition.flatten().is_some_and(|word| word == "test")
    })
}

impl Reader {
    fn function(&mut self, name: &syn::Ident, item: &impl Spanned) {
        self.functions.push(Function {
            name: name.to_string(),
            line: name.span().start().line,
            lines: lines_of(item),
        });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) && item.content.is_some() {
            self.test_lines += lines_of(item);
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.unsafe_lines.push(item.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string())
            .unwrap_or_default();
        if ["todo", "unimplemented"].contains(&name.as_str()) {
            self.unfinished.push((item.span().start().line, name));
        }
        visit::visit_macro(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        let mut findings = Vec::new();
        let file = File {
            path: "crates/0_x/y/src/lib.rs".into(),
            text: text.into(),
        };
        check(&file, &mut findings);
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_file_says_what_it_is() {
        assert!(rules("//! Says what it is.\n").is_empty());
        assert_eq!(rules("fn main() {}\n"), ["first-sentence"]);
    }

    #[test]
    fn unfinished_and_unsafe_code_is_found() {
        let text = "//! Says what it is.\nfn f() { todo!() }\nfn g() { unsafe { h() } }\n";
        assert_eq!(rules(text), ["unfinished", "unsafe"]);
        let text = "//! Says what it is.\n#![allow(unsafe_code)] // a call\nfn g() { unsafe { h() } }\n";
        assert_eq!(rules(text), ["safety"]);
    }

    #[test]
    fn long_functions_are_found_and_tests_do_not_count() {
        let body = "    g();\n".repeat(101);
        assert_eq!(
            rules(&format!("//! Says what it is.\nfn f() {{\n{body}}}\n")),
            ["long-function"]
        );
        let many = "    fn g() {}\n".repeat(900);
        assert!(
            rules(&format!(
                "//! Says what it is.\n#[cfg(test)]\nmod tests {{\n{many}}}\n"
            ))
            .is_empty()
        );
        assert_eq!(rules(&format!("//! Says what it is.\n{many}")), ["long-file"]);
    }
}
