//! JSON values as YAML 1.2 in block style.

use serde_json::Value;

/// The value as a YAML document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        Value::Object(_) if value.as_object().is_some_and(|map| !map.is_empty()) => {
            mapping(&mut out, value, 0, false)
        }
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.push_str(&"  ".repeat(depth));
}

fn sequence(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, item, depth + 1, true),
            Value::Array(inner) if !inner.is_empty() => {
                out.push('\n');
                sequence(out, inner, depth + 1);
            }
            other => {
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

/// A mapping; `inline` when its first key stands behind the dash of a sequence.
fn mapping(out: &mut String, value: &Value, depth: usize, inline: bool) {
    for (index, (key, item)) in value.as_object().into_iter().flatten().enumerate() {
        if index > 0 || !inline {
            indent(out, depth);
        }
        out.push_str(&string(key));
        out.push(':');
        match item {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(out, item, depth + 1, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, depth);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        other => other.to_string(), // null, true, 1, [] and {} are the same in YAML
    }
}

/// A string, plain where no reader can take it for something else, else in double quotes, whose escapes JSON shares.
fn string(text: &str) -> String {
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || "/_.-+".contains(c) || (c.is_alphabetic() && !c.is_ascii());
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(harmless);
    let meant = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if word && !meant {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_values_keep_their_places() {
        let value =
            json!({"a": [{"b": 1, "c": [2, 3]}, "x"], "d": {}, "e": null, "f": {"g": "no", "h": "1.5"}});
        let text = "a:\n- b: 1\n  c:\n  - 2\n  - 3\n- x\nd: {}\ne: null\nf:\n  g: \"no\"\n  h: \"1.5\"\n";
        assert_eq!(yaml(&value), text);
    }

    #[test]
    fn what_could_be_misread_is_quoted() {
        for text in ["true", "12", "a: b", "", "- x", "02:00:00", "#x", "a\nb"] {
            assert!(string(text).starts_with('"'), "{text}");
        }
        for text in ["web", "debian/12", "/srv/x.tar", "España"] {
            assert_eq!(string(text), text);
        }
    }
}
