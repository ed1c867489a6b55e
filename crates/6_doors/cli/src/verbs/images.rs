//! image ls, show, rm, prune.

use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use fault::{Fault, Result};
use model::{Image, ImageRef, Operation};

use crate::context::Context;
use crate::grammar::{assent, listing, positional};
use crate::output::{self, Column, Listing, at, plain};
use crate::verbs::look::{bytes, repeat, time};
use crate::{codes, failure, live, progress};

const IMAGES: Listing = Listing {
    columns: &[
        Column {
            name: "reference",
            right: false,
            cell: |image, _| plain(at(image, "spec.references")),
        },
        Column {
            name: "digest",
            right: false,
            cell: |image, reader| digest(&plain(at(image, "spec.digest")), reader),
        },
        Column {
            name: "arch",
            right: false,
            cell: |image, _| plain(at(image, "spec.architecture")),
        },
        Column {
            name: "size",
            right: true,
            cell: |image, reader| bytes(at(image, "status.size"), reader),
        },
        Column {
            name: "used_by",
            right: false,
            cell: |image, _| plain(at(image, "status.used_by")),
        },
        Column {
            name: "age",
            right: true,
            cell: |image, reader| time(at(image, "created"), reader),
        },
        Column {
            name: "include",
            right: false,
            cell: |image, _| plain(at(image, "spec.include")),
        },
        Column {
            name: "name",
            right: false,
            cell: |image, _| plain(at(image, "name")),
        },
    ],
    shown: &["reference", "digest", "arch", "size", "used_by", "age"],
    key: "spec.digest",
};

fn digest(text: &str, reader: output::Reader) -> String {
    match reader {
        output::Reader::Person => text.trim_start_matches("sha256:").chars().take(12).collect(),
        output::Reader::Program => text.to_owned(),
    }
}

/// Grammar of `image`.
pub fn grammar(command: Command) -> Command {
    let image = || {
        positional("image", "IMAGE")
            .required(true)
            .num_args(1..)
            .add(ArgValueCandidates::new(live::stored_images))
    };
    command
        .subcommand_required(true)
        .subcommand(listing(Command::new("ls")).visible_alias("list"))
        .subcommand(Command::new("show").visible_alias("inspect").arg(image()))
        .subcommand(Command::new("rm").visible_alias("remove").arg(image()))
        .subcommand(Command::new("prune").arg(assent()))
}

/// A reference as the daemon wants it: a bare beginning of a digest becomes one, a path becomes absolute.
fn reference(text: &str) -> Result<String> {
    let hexadecimal = text.len() >= 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal {
        return Ok(format!("sha256:{}", text.to_lowercase()));
    }
    let here =
        std::env::current_dir().map_err(|error| Fault::new(codes::FILE).arg("path", ".").because(error))?;
    crate::verbs::launch::image(text, &here).map(|image: ImageRef| image.to_string())
}

/// `image`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    let chosen = |matches: &ArgMatches| -> Result<Vec<String>> {
        matches
            .get_many::<String>("image")
            .into_iter()
            .flatten()
            .map(|text| reference(text))
            .collect()
    };
    match matches.subcommand() {
        Some(("show", matches)) => {
            let images = chosen(matches)?
                .iter()
                .map(|text| client.image(text))
                .collect::<Result<Vec<_>>>()?;
            show(context, &images)
        }
        Some(("rm", matches)) => {
            let names: Vec<String> = chosen(matches)?;
            crate::verbs::life::each(context, &names, "cli-image-removed", |client, name| {
                client.remove_image(name)
            })
        }
        Some(("prune", matches)) => {
            if !matches.get_flag("yes") {
                context.confirm("cli-ask-prune", &[])?;
            }
            let operation: Operation = progress::follow(context, client.prune_images()?)?;
            let count = operation.result.get("count").cloned().unwrap_or_default();
            let removed = operation.result.get("removed").cloned().unwrap_or(count);
            context.note("cli-pruned", &[("removed", removed.into())]);
            Ok(failure::status::OK)
        }
        Some((_, matches)) => repeat(matches, context, || {
            let images: Vec<_> = client.images()?.iter().map(output::json).collect();
            if images.is_empty() && context.format.is_none() {
                context.note("cli-no-images", &[]);
                return Ok(());
            }
            IMAGES.print(context, matches, images)
        }),
        None => Ok(failure::status::USAGE),
    }
}

fn show(context: &Context, images: &[Image]) -> Result<u8> {
    let records: Vec<_> = images.iter().map(output::json).collect();
    let whole = if records.len() == 1 {
        records[0].clone()
    } else {
        records.into()
    };
    context.print(&output::record(context, &whole).unwrap_or_else(|| output::yaml(&whole)))?;
    Ok(failure::status::OK)
}
