//! Paragraphs of fields, as control files, Release files and indexes are written; deb822(5).

/// The paragraphs of a text, each as it stands there.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start_matches(['\n', '\r']);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        let (paragraph, after) = rest.split_at(end);
        rest = after.trim_start_matches('\n');
        Some(paragraph)
    })
}

/// The fields of a paragraph in order: name and value. The value of a field of several lines still has its line
/// ends and the blank before each further line; see [`lines`].
pub fn fields(paragraph: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = paragraph;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut end = line_end(rest, 0);
            while matches!(rest.as_bytes().get(end), Some(b' ' | b'\t')) {
                end = line_end(rest, end);
            }
            let (field, after) = rest.split_at(end);
            rest = after;
            // A line without a colon, and a comment, are passed over.
            if let Some((name, value)) = field.split_once(':')
                && !name.starts_with('#')
            {
                return Some((name, value.trim()));
            }
        }
        None
    })
}

/// Where the line that goes on at `from` ends, its line end included.
fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |at| from + at + 1)
}

/// The value of one field; names know no case.
#[must_use]
pub fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    fields(paragraph)
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The lines of a value without the blanks around them; empty ones left out.
pub fn lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paragraphs_and_fields_are_found() {
        let text = "\nPackage: a\nDescription: short\n long\n .\n more\n\n\nPackage: b\nEmpty:\n";
        let found: Vec<&str> = paragraphs(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(field(found[0], "package"), Some("a"));
        let description = field(found[0], "Description").unwrap();
        assert_eq!(
            lines(description).collect::<Vec<_>>(),
            ["short", "long", ".", "more"]
        );
        assert_eq!(field(found[1], "Empty"), Some(""));
        assert_eq!(field(found[1], "Version"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[ -~\n\tñ:]{0,300}") {
            for paragraph in paragraphs(&text) {
                for (name, _) in fields(paragraph) {
                    prop_assert!(!name.contains(':'));
                }
            }
        }
    }
}
