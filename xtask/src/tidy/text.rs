//! Rules for every kind of file: nothing of the machine it was written on, no long trailing emptiness.

use super::{File, Finding};

/// Beginnings of paths that exist only on some developer's machine.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/.cargo"),
    concat!("/ro", "ot/.rustup"),
];

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS {
            if begins_a_path(line, path) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "machine-path",
                    format!("speaks of {path}"),
                ));
            }
        }
    }
}

/// Whether the line holds the path at the beginning of a word, and not as the middle of a longer path.
fn begins_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "_.-}>*/".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_count() {
        let path = MACHINE_PATHS[0];
        assert!(begins_a_path(&format!("see {path}x"), path));
        assert!(begins_a_path(&format!("\"{path}x\""), path));
        assert!(!begins_a_path(&format!("guests/1{path}x"), path));
        assert!(!begins_a_path(&format!("{{id}}{path}x"), path));
    }
}
