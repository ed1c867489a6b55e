//! trash: removed guests, back or gone for good.

use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use fault::{Fault, Result};
use model::api::TrashEntry;

use crate::context::Context;
use crate::grammar::{assent, listing, positional};
use crate::output::{self, Column, Listing, at, plain};
use crate::verbs::look::{repeat, time};
use crate::{codes, failure, live, progress};

const TRASH: Listing = Listing {
    columns: &[
        Column {
            name: "name",
            right: false,
            cell: |entry, _| plain(at(entry, "name")),
        },
        Column {
            name: "image",
            right: false,
            cell: |entry, _| plain(at(entry, "image")),
        },
        Column {
            name: "removed",
            right: true,
            cell: |entry, reader| time(at(entry, "removed"), reader),
        },
        Column {
            name: "expires",
            right: false,
            cell: |entry, _| plain(at(entry, "expires")),
        },
        Column {
            name: "id",
            right: false,
            cell: |entry, _| plain(at(entry, "id")),
        },
    ],
    shown: &["name", "image", "removed", "expires", "id"],
    key: "id",
};

/// Grammar of `trash`.
pub fn grammar(command: Command) -> Command {
    let entry = positional("entry", "NAME")
        .required(true)
        .num_args(1..)
        .add(ArgValueCandidates::new(live::trash));
    command
        .subcommand_required(true)
        .subcommand(listing(Command::new("ls")).visible_alias("list"))
        .subcommand(Command::new("restore").arg(entry))
        .subcommand(Command::new("empty").arg(assent()))
}

/// `trash`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    match matches.subcommand() {
        Some(("restore", matches)) => {
            for name in matches.get_many::<String>("entry").into_iter().flatten() {
                let entry = find(name, client.trash()?)?;
                let operation = progress::follow(context, client.restore(&entry.id)?)?;
                let name = operation
                    .result
                    .get("name")
                    .cloned()
                    .unwrap_or_else(|| entry.name.to_string());
                context.note("cli-restored", &[("name", name.into())]);
            }
        }
        Some(("empty", matches)) => {
            let entries = client.trash()?;
            if entries.is_empty() {
                context.note("cli-trash-is-empty", &[]);
                return Ok(failure::status::OK);
            }
            if !matches.get_flag("yes") {
                let names: Vec<String> = entries.iter().map(|entry| entry.name.to_string()).collect();
                let args = [("names", names.join(", ").into()), ("count", names.len().into())];
                context.confirm("cli-ask-purge", &args)?;
            }
            progress::follow(context, client.empty_trash()?)?;
            context.note("cli-trash-emptied", &[("count", entries.len().into())]);
        }
        Some((_, matches)) => {
            return repeat(matches, context, || {
                let entries: Vec<_> = client.trash()?.iter().map(output::json).collect();
                if entries.is_empty() && context.format.is_none() {
                    context.note("cli-trash-is-empty", &[]);
                    return Ok(());
                }
                TRASH.print(context, matches, entries)
            });
        }
        None => {}
    }
    Ok(failure::status::OK)
}

/// The entry of this id, or the only one of this name.
fn find(name: &str, entries: Vec<TrashEntry>) -> Result<TrashEntry> {
    let mut found: Vec<TrashEntry> = entries
        .into_iter()
        .filter(|entry| {
            entry.name.as_str() == name
                || entry.id.0 == name
                || (name.len() >= 6 && entry.id.0.starts_with(name))
        })
        .collect();
    match found.len() {
        0 => Err(Fault::new(codes::NOT_IN_TRASH).arg("name", name)),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let ids: Vec<String> = found.iter().map(|entry| entry.id.to_string()).collect();
            Err(Fault::new(codes::AMBIGUOUS)
                .arg("name", name)
                .arg("ids", ids.join(", ")))
        }
    }
}
