//! Data on standard output: listings and records as tables for people, or JSON, YAML and CSV for programs.

mod csv;
mod human;
mod table;
mod yaml;

use std::cmp::Ordering;

use clap::ArgMatches;
use fault::{Fault, Result};
use serde_json::Value;

pub use human::{age, now, parse_time, share, size};
pub use table::{fit, width};
pub use yaml::yaml;

use crate::codes;
use crate::context::Context;

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    JsonLines,
    /// YAML.
    Yaml,
    /// Comma-separated values (RFC 4180) with a line of field names.
    Csv,
}

impl Format {
    /// The words of `--format`.
    pub const NAMES: [&'static str; 5] = ["table", "json", "jsonl", "yaml", "csv"];

    /// The format of a word of `--format`.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "table" => Format::Table,
            "json" => Format::Json,
            "jsonl" => Format::JsonLines,
            "yaml" => Format::Yaml,
            "csv" => Format::Csv,
            _ => return None,
        })
    }
}

/// Who reads a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A person: sizes with units, times relative.
    Person,
    /// A program: bytes, RFC 3339.
    Program,
}

/// One column of a listing.
pub struct Column {
    /// Its name, as in `--columns`; the heading is the same in capitals.
    pub name: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// The text of a cell, from the API's own record.
    pub cell: fn(&Value, Reader) -> String,
}

/// A kind of listing: its columns, and those shown unless told otherwise.
pub struct Listing {
    /// Every column.
    pub columns: &'static [Column],
    /// Names of the columns shown by default.
    pub shown: &'static [&'static str],
    /// The field that `--quiet` prints, as a path.
    pub key: &'static str,
}

/// What the options of a listing ask for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    columns: Vec<String>,
    filters: Vec<(String, String)>,
    sort: Option<String>,
}

impl Wanted {
    /// Reads `--columns`, `--filter` and `--sort`.
    ///
    /// # Errors
    /// When a filter is not `key=value`.
    pub fn of(matches: &ArgMatches) -> Result<Self> {
        let mut wanted = Wanted::default();
        if let Ok(Some(columns)) = matches.try_get_many::<String>("columns") {
            wanted.columns = columns
                .flat_map(|c| c.split(','))
                .map(|c| c.trim().to_lowercase())
                .collect();
        }
        if let Ok(Some(filters)) = matches.try_get_many::<String>("filter") {
            for filter in filters {
                let (key, value) = crate::parse::pair(filter)?;
                wanted.filters.push((key.to_lowercase(), value));
            }
        }
        wanted.sort = matches
            .try_get_one::<String>("sort")
            .ok()
            .flatten()
            .map(|s| s.to_lowercase());
        Ok(wanted)
    }

    /// The order that was asked for: a column, with `-` before it when descending.
    #[must_use]
    pub fn order(&self) -> Option<&str> {
        self.sort.as_deref()
    }

    /// The same, in this order.
    #[must_use]
    pub fn sorted(&self, order: &str) -> Self {
        Wanted {
            sort: Some(order.to_owned()),
            ..self.clone()
        }
    }
}

/// A column of the listing, or a field of the record by its path.
enum Field<'a> {
    Column(&'a Column),
    Path(String),
}

impl Field<'_> {
    fn heading(&self) -> String {
        match self {
            Field::Column(column) => column.name.to_owned(),
            Field::Path(path) => path.clone(),
        }
    }

    fn cell(&self, item: &Value, reader: Reader) -> String {
        match self {
            Field::Column(column) => (column.cell)(item, reader),
            Field::Path(path) => plain(at(item, path)),
        }
    }

    fn right(&self) -> bool {
        matches!(self, Field::Column(column) if column.right)
    }
}

impl Listing {
    fn field<'a>(&'a self, name: &str, items: &[Value]) -> Result<Field<'a>> {
        if let Some(column) = self.columns.iter().find(|column| column.name == name) {
            return Ok(Field::Column(column));
        }
        let known = name.contains('.') || items.iter().any(|item| !at(item, name).is_null());
        if known || items.is_empty() {
            return Ok(Field::Path(name.to_owned()));
        }
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        Err(Fault::new(codes::COLUMN_UNKNOWN)
            .arg("column", name)
            .arg("columns", names.join(", ")))
    }

    /// The items that the filters let through, in the wanted order.
    ///
    /// # Errors
    /// When a filter or the order names no column.
    pub fn choose(&self, wanted: &Wanted, mut items: Vec<Value>) -> Result<Vec<Value>> {
        for (key, pattern) in &wanted.filters {
            let field = self.field(key, &items)?;
            items.retain(|item| {
                [Reader::Program, Reader::Person]
                    .iter()
                    .any(|reader| crate::select::glob(pattern, &field.cell(item, *reader)))
            });
        }
        if let Some(key) = &wanted.sort {
            let (key, descending) = match key.strip_prefix('-') {
                Some(key) => (key, true),
                None => (key.as_str(), false),
            };
            let field = self.field(key, &items)?;
            items.sort_by(|a, b| {
                let order = compare(&field.cell(a, Reader::Program), &field.cell(b, Reader::Program));
                if descending { order.reverse() } else { order }
            });
        }
        Ok(items)
    }

    /// The listing as text in the format that the user wants.
    ///
    /// # Errors
    /// When a column is unknown.
    pub fn text(&self, context: &Context, wanted: &Wanted, items: &[Value]) -> Result<String> {
        if context.quiet && context.format.is_none() {
            return Ok(items
                .iter()
                .map(|item| plain(at(item, self.key)) + "\n")
                .collect());
        }
        let format = context.format.unwrap_or(Format::Table);
        if let Some(text) = document(format, items) {
            return Ok(text);
        }
        let names: Vec<String> = if wanted.columns.is_empty() {
            self.shown.iter().map(|name| (*name).to_owned()).collect()
        } else {
            wanted.columns.clone()
        };
        let fields = names
            .iter()
            .map(|name| self.field(name, items))
            .collect::<Result<Vec<_>>>()?;
        let reader = if format == Format::Csv {
            Reader::Program
        } else {
            Reader::Person
        };
        let mut rows = vec![fields.iter().map(Field::heading).collect::<Vec<_>>()];
        rows.extend(
            items
                .iter()
                .map(|item| fields.iter().map(|f| f.cell(item, reader)).collect::<Vec<_>>()),
        );
        if format == Format::Csv {
            return Ok(csv::text(&rows));
        }
        for cell in &mut rows[0] {
            *cell = cell.to_uppercase();
        }
        let right: Vec<bool> = fields.iter().map(Field::right).collect();
        Ok(table::text(&rows, &right, table::width(), context.color))
    }

    /// Filters, sorts and prints.
    ///
    /// # Errors
    /// When a column is unknown, or nobody reads.
    pub fn print(&self, context: &Context, matches: &ArgMatches, items: Vec<Value>) -> Result<()> {
        let wanted = Wanted::of(matches)?;
        let items = self.choose(&wanted, items)?;
        context.print(&self.text(context, &wanted, &items)?)
    }
}

/// Items as a document; none for formats that have columns.
fn document(format: Format, items: &[Value]) -> Option<String> {
    match format {
        Format::Json => serde_json::to_string_pretty(items).ok().map(|text| text + "\n"),
        Format::JsonLines => Some(items.iter().map(|item| item.to_string() + "\n").collect()),
        Format::Yaml => Some(yaml(&Value::Array(items.to_vec()))),
        Format::Table | Format::Csv => None,
    }
}

/// One record as a document in the wanted format; none when a person reads.
#[must_use]
pub fn record(context: &Context, item: &Value) -> Option<String> {
    match context.format? {
        Format::Json => serde_json::to_string_pretty(item).ok().map(|text| text + "\n"),
        Format::JsonLines => Some(item.to_string() + "\n"),
        Format::Yaml => Some(yaml(item)),
        Format::Table | Format::Csv => None,
    }
}

/// The value at a dotted path, `status.phase`; null when there is none.
#[must_use]
pub fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    let mut value = item;
    for step in path.split('.') {
        value = match value {
            Value::Array(items) => step
                .parse::<usize>()
                .ok()
                .and_then(|i| items.get(i))
                .unwrap_or(&Value::Null),
            _ => value.get(step).unwrap_or(&Value::Null),
        };
    }
    value
}

/// A value as one word: strings without quotes, nothing for null.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Numbers by value, everything else by text.
fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

/// A stored noun as the API's JSON.
#[must_use]
pub fn json<T: serde::Serialize>(item: &T) -> Value {
    serde_json::to_value(item).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing = Listing {
        columns: &[
            Column {
                name: "name",
                right: false,
                cell: |item, _| plain(at(item, "name")),
            },
            Column {
                name: "memory",
                right: true,
                cell: |item, reader| match reader {
                    Reader::Person => size(at(item, "spec.memory").as_u64()),
                    Reader::Program => plain(at(item, "spec.memory")),
                },
            },
        ],
        shown: &["name", "memory"],
        key: "name",
    };

    fn context(format: Format) -> Context {
        let mut context = Context::new(words::Words::english(), "/nowhere".into());
        context.format = Some(format);
        context
    }

    fn items() -> Vec<Value> {
        vec![
            json!({"name": "web", "spec": {"memory": 536_870_912}}),
            json!({"name": "db, old", "spec": {"memory": null}}),
            json!({"name": "app", "spec": {"memory": 1_073_741_824}}),
        ]
    }

    fn text(format: Format, wanted: &Wanted) -> String {
        let items = LISTING.choose(wanted, items()).unwrap();
        LISTING.text(&context(format), wanted, &items).unwrap()
    }

    #[test]
    fn every_format_looks_as_it_did() {
        let all = Wanted::default();
        assert_eq!(
            text(Format::Table, &all),
            "NAME     MEMORY\nweb        512M\ndb, old       -\napp          1G\n"
        );
        assert_eq!(
            text(Format::Csv, &all),
            "name,memory\nweb,536870912\n\"db, old\",\napp,1073741824\n"
        );
        assert!(
            text(Format::JsonLines, &all).starts_with("{\"name\":\"web\",\"spec\":{\"memory\":536870912}}\n")
        );
        assert!(text(Format::Yaml, &all).starts_with("- name: web\n  spec:\n    memory: 536870912\n"));
        let read: Value = serde_json::from_str(&text(Format::Json, &all)).unwrap();
        assert_eq!(read, Value::Array(items()));
    }

    #[test]
    fn listings_are_sorted_by_value_and_filtered_by_pattern() {
        let mut wanted = Wanted {
            sort: Some("-memory".to_owned()),
            ..Wanted::default()
        };
        wanted.columns = vec!["name".to_owned()];
        wanted.filters = vec![("name".to_owned(), "*b*".to_owned())];
        assert_eq!(text(Format::Csv, &wanted), "name\nweb\n\"db, old\"\n");
        wanted.filters = vec![("spec.memory".to_owned(), "1073741824".to_owned())];
        assert_eq!(text(Format::Csv, &wanted), "name\napp\n");
    }

    #[test]
    fn an_unknown_column_is_refused_with_those_there_are() {
        let wanted = Wanted {
            columns: vec!["colour".to_owned()],
            ..Wanted::default()
        };
        let fault = LISTING
            .text(&context(Format::Table), &wanted, &items())
            .unwrap_err();
        assert!(fault.is(codes::COLUMN_UNKNOWN));
    }
}
