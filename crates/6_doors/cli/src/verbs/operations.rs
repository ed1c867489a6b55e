//! operation ls, show, cancel: long work, also what an earlier command has left to itself.

use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use fault::Result;
use model::{Operation, OperationState};

use crate::context::Context;
use crate::grammar::{listing, positional, switch};
use crate::output::{self, Column, Listing, at, plain};
use crate::verbs::look::{repeat, time};
use crate::{failure, live, progress};

const OPERATIONS: Listing = Listing {
    columns: &[
        Column {
            name: "id",
            right: false,
            cell: |operation, _| plain(at(operation, "id")),
        },
        Column {
            name: "kind",
            right: false,
            cell: |operation, _| plain(at(operation, "kind")),
        },
        Column {
            name: "target",
            right: false,
            cell: |operation, _| plain(at(operation, "target")),
        },
        Column {
            name: "state",
            right: false,
            cell: |operation, _| plain(at(operation, "state")),
        },
        Column {
            name: "step",
            right: false,
            cell: |operation, _| plain(at(operation, "progress.step")),
        },
        Column {
            name: "fault",
            right: false,
            cell: |operation, _| plain(at(operation, "fault.code")),
        },
        Column {
            name: "age",
            right: true,
            cell: |operation, reader| time(at(operation, "created"), reader),
        },
        Column {
            name: "ended",
            right: true,
            cell: |operation, reader| time(at(operation, "ended"), reader),
        },
        Column {
            name: "actor",
            right: false,
            cell: |operation, _| plain(at(operation, "actor")),
        },
    ],
    shown: &["id", "kind", "target", "state", "step", "fault", "age"],
    key: "id",
};

/// Grammar of `operation`.
pub fn grammar(command: Command) -> Command {
    let id = || {
        positional("operation", "ID")
            .required(true)
            .add(ArgValueCandidates::new(live::operations))
    };
    command
        .subcommand_required(true)
        .subcommand(
            listing(Command::new("ls"))
                .visible_alias("list")
                .arg(switch("all").short('a')),
        )
        .subcommand(
            Command::new("show")
                .visible_alias("inspect")
                .arg(id())
                .arg(switch("follow").short('f')),
        )
        .subcommand(Command::new("cancel").arg(id().num_args(1..)))
}

fn is_open(operation: &Operation) -> bool {
    matches!(operation.state, OperationState::Queued | OperationState::Running)
}

/// The whole id of an operation of which only the beginning was typed.
fn whole(context: &Context, beginning: &str) -> Result<String> {
    if beginning.len() >= 32 {
        return Ok(beginning.to_owned());
    }
    let all = context.client()?.operations()?;
    let mut found = all
        .into_iter()
        .filter(|operation| operation.id.0.starts_with(beginning));
    Ok(match (found.next(), found.next()) {
        (Some(one), None) => one.id.0,
        _ => beginning.to_owned(),
    })
}

/// `operation`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    match matches.subcommand() {
        Some(("show", matches)) => {
            let id = whole(
                context,
                matches.get_one::<String>("operation").map_or("", String::as_str),
            )?;
            let mut operation = client.operation(&id)?;
            if matches.get_flag("follow") && is_open(&operation) {
                operation = progress::follow(context, operation)?;
            }
            let record = output::json(&operation);
            context.print(&output::record(context, &record).unwrap_or_else(|| output::yaml(&record)))?;
            if let Some(fault) = &operation.fault {
                failure::tell(context, fault, None);
            }
            Ok(failure::status::OK)
        }
        Some(("cancel", matches)) => {
            for beginning in matches.get_many::<String>("operation").into_iter().flatten() {
                let operation = client.cancel(&whole(context, beginning)?)?;
                context.note(
                    "cli-operation-cancelled",
                    &[("id", operation.id.to_string().into())],
                );
            }
            Ok(failure::status::OK)
        }
        Some((_, matches)) => repeat(matches, context, || {
            let mut operations = client.operations()?;
            if !matches.get_flag("all") {
                let recent = output::now() - 3600;
                operations.retain(|operation| {
                    is_open(operation)
                        || output::parse_time(&operation.created).is_some_and(|time| time > recent)
                });
            }
            OPERATIONS.print(context, matches, operations.iter().map(output::json).collect())
        }),
        None => Ok(failure::status::USAGE),
    }
}
