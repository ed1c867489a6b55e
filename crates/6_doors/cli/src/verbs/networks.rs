//! network ls, show.

use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use fault::Result;
use model::Network;
use serde_json::Value;

use crate::context::Context;
use crate::grammar::{listing, positional};
use crate::output::{self, Column, Listing, at, plain};
use crate::verbs::look::repeat;
use crate::{failure, live};

const NETWORKS: Listing = Listing {
    columns: &[
        Column {
            name: "name",
            right: false,
            cell: |network, _| plain(at(network, "name")),
        },
        Column {
            name: "mode",
            right: false,
            cell: |network, _| plain(at(network, "spec.mode")),
        },
        Column {
            name: "bridge",
            right: false,
            cell: |network, _| plain(at(network, "status.bridge")),
        },
        Column {
            name: "subnet",
            right: false,
            cell: |network, _| subnet(network),
        },
        Column {
            name: "prefix6",
            right: false,
            cell: |network, _| plain(at(network, "spec.prefix6")),
        },
        Column {
            name: "leases",
            right: true,
            cell: |network, _| leases(network),
        },
        Column {
            name: "serving",
            right: false,
            cell: |network, _| plain(at(network, "status.serving")),
        },
        Column {
            name: "pid",
            right: true,
            cell: |network, _| plain(at(network, "status.pid")),
        },
    ],
    shown: &["name", "mode", "bridge", "subnet", "leases", "serving"],
    key: "name",
};

fn subnet(network: &Value) -> String {
    match at(network, "spec.subnet").as_str() {
        Some(subnet) => subnet.to_owned(),
        None => match at(network, "status.gateway").as_str() {
            Some(gateway) => format!("{gateway}/{}", plain(at(network, "status.prefix_len"))),
            None => String::new(),
        },
    }
}

fn leases(network: &Value) -> String {
    at(network, "status.leases")
        .as_array()
        .map_or(0, Vec::len)
        .to_string()
}

/// Grammar of `network`.
pub fn grammar(command: Command) -> Command {
    let name = positional("network", "NAME")
        .required(true)
        .num_args(1..)
        .add(ArgValueCandidates::new(live::networks));
    command
        .subcommand_required(true)
        .subcommand(listing(Command::new("ls")).visible_alias("list"))
        .subcommand(Command::new("show").visible_alias("inspect").arg(name))
}

/// `network`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    match matches.subcommand() {
        Some(("show", matches)) => {
            let names = matches.get_many::<String>("network").into_iter().flatten();
            let networks = names
                .map(|name| client.network(name))
                .collect::<Result<Vec<_>>>()?;
            let records: Vec<_> = networks.iter().map(output::json).collect();
            let whole = if records.len() == 1 {
                records[0].clone()
            } else {
                records.into()
            };
            let page = || {
                networks
                    .iter()
                    .map(|network| page(context, network))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            context.print(&output::record(context, &whole).unwrap_or_else(page))?;
            Ok(failure::status::OK)
        }
        Some((_, matches)) => repeat(matches, context, || {
            NETWORKS.print(
                context,
                matches,
                client.networks()?.iter().map(output::json).collect(),
            )
        }),
        None => Ok(failure::status::USAGE),
    }
}

fn page(context: &Context, network: &Network) -> String {
    let status = &network.status;
    let mut text = String::new();
    let mut row = |id: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{:<16} {value}\n", context.say(id, &[])));
        }
    };
    row("cli-show-name", network.name.to_string());
    row("cli-network-mode", plain(&output::json(&network.spec.mode)));
    row("cli-network-bridge", status.bridge.clone());
    row(
        "cli-network-gateway",
        status
            .gateway
            .map_or_else(String::new, |ip| format!("{ip}/{}", status.prefix_len)),
    );
    row(
        "cli-network-gateway6",
        status.gateway6.map_or_else(String::new, |ip| ip.to_string()),
    );
    row(
        "cli-network-domain",
        network.spec.domain.clone().unwrap_or_default(),
    );
    let serving = if status.serving { "yes" } else { "no" };
    let pid = status.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    row(
        "cli-network-serving",
        format!("{}{pid}", context.say(serving, &[])),
    );
    for lease in &status.leases {
        let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
        row(
            "cli-network-lease",
            format!("{:<16} {}  {}", lease.guest, lease.mac, addresses.join(" ")),
        );
    }
    text
}
