//! Comma-separated values as RFC 4180 has them, but with the line ends of the system: what reads them here is cut(1),
//! sort(1) and awk(1).

/// Rows as lines; fields with commas, quotes or line ends are quoted.
pub(super) fn text(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for row in rows {
        for (index, field) in row.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if field.contains([',', '"', '\n', '\r']) {
                out.push('"');
                out.push_str(&field.replace('"', "\"\""));
                out.push('"');
            } else {
                out.push_str(field);
            }
        }
        out.push('\n');
    }
    out
}
