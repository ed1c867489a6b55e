//! Tables: aligned columns without lines, fitted to the terminal's width.

use std::io::{self, IsTerminal};

/// Width of the terminal that standard output is; none when it is not one.
#[must_use]
pub fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Number of character cells; good enough for names, paths and Spanish.
fn cells(text: &str) -> usize {
    text.chars().count()
}

/// The text cut to this many cells; the cut is marked. Control characters become `?`, so that no name from outside
/// moves the cursor.
#[must_use]
pub fn fit(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if cells(text) <= width {
        return text.chars().map(clean).collect();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).map(clean).collect();
    cut.push('…');
    cut
}

/// Rows (the first is the heading) as text. Columns that are too wide together are cut, the widest first.
pub(super) fn text(rows: &[Vec<String>], right: &[bool], limit: Option<usize>, color: bool) -> String {
    let columns = right.len();
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| shown(&row[column]).chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    if let Some(limit) = limit {
        let gaps = 2 * columns.saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > limit {
            let Some(widest) = widths.iter_mut().max() else {
                break;
            };
            if *widest <= 8 {
                break;
            }
            *widest -= 1;
        }
    }
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for column in 0..columns {
            if column > 0 {
                line.push_str("  ");
            }
            let cell = fit(shown(&row[column]), widths[column]);
            let pad = " ".repeat(widths[column].saturating_sub(cells(&cell)));
            if right[column] {
                line.push_str(&pad);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&pad);
            }
        }
        let line = line.trim_end();
        if number == 0 && color {
            out.push_str(&format!("\x1b[1m{line}\x1b[0m\n"));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn shown(cell: &str) -> &str {
    if cell.is_empty() { "-" } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter()
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
            .collect()
    }

    #[test]
    fn the_widest_column_gives_way_to_the_terminal() {
        let rows = rows(&[&["NAME", "IMAGE"], &["web", "file:/a/very/long/path/of/an/image"]]);
        assert_eq!(
            text(&rows, &[false, false], Some(20), false),
            "NAME  IMAGE\nweb   file:/a/very/…\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(fit("a\x1b[2Jb", 20), "a?[2Jb");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            cells in proptest::collection::vec("[a-zñ]{0,60}", 3),
            limit in 40usize..100,
        ) {
            let rows = vec![vec!["A".to_owned(), "B".to_owned(), "C".to_owned()], cells];
            for line in text(&rows, &[false, true, false], Some(limit), false).lines() {
                prop_assert!(line.chars().count() <= limit);
            }
        }
    }
}
