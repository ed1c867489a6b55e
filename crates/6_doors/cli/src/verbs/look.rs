//! ls, logs, events, wait, explain, ip: looking at guests.

use std::io::{self, Write};
use std::time::Instant;

use clap::{ArgMatches, Command};
use fault::Result;
use model::api::Explanation;
use model::{Guest, Phase};
use serde_json::Value;

use crate::context::{Context, output_fault};
use crate::grammar::{choice, listing, one_guest, option, selector, switch};
use crate::output::{self, Column, Listing, Reader, age, at, plain, size};
use crate::verbs::launch::address;
use crate::{failure, parse, select};

/// Columns of guests.
pub const GUESTS: Listing = Listing {
    columns: &[
        Column {
            name: "name",
            right: false,
            cell: |guest, _| plain(at(guest, "name")),
        },
        Column {
            name: "state",
            right: false,
            cell: |guest, _| plain(at(guest, "status.phase")),
        },
        Column {
            name: "image",
            right: false,
            cell: |guest, _| plain(at(guest, "spec.image")),
        },
        Column {
            name: "address",
            right: false,
            cell: |guest, _| first_address(guest),
        },
        Column {
            name: "ports",
            right: false,
            cell: |guest, _| ports(guest),
        },
        Column {
            name: "memory",
            right: true,
            cell: memory,
        },
        Column {
            name: "age",
            right: true,
            cell: |guest, reader| time(at(guest, "created"), reader),
        },
        Column {
            name: "id",
            right: false,
            cell: |guest, _| plain(at(guest, "id")),
        },
        Column {
            name: "project",
            right: false,
            cell: |guest, _| plain(at(guest, "project")),
        },
        Column {
            name: "kind",
            right: false,
            cell: |guest, _| plain(at(guest, "spec.kind")),
        },
        Column {
            name: "engine",
            right: false,
            cell: |guest, _| plain(at(guest, "status.processor.engine")),
        },
        Column {
            name: "addresses",
            right: false,
            cell: |guest, _| addresses(guest).join(" "),
        },
        Column {
            name: "pid",
            right: true,
            cell: |guest, _| plain(at(guest, "status.pid")),
        },
        Column {
            name: "started",
            right: true,
            cell: |guest, reader| time(at(guest, "status.started"), reader),
        },
        Column {
            name: "restarts",
            right: true,
            cell: |guest, _| plain(at(guest, "status.restarts")),
        },
        Column {
            name: "limit",
            right: true,
            cell: |guest, reader| bytes(at(guest, "spec.limits.memory"), reader),
        },
        Column {
            name: "cpus",
            right: true,
            cell: |guest, _| cpus(guest),
        },
        Column {
            name: "labels",
            right: false,
            cell: |guest, _| labels(guest),
        },
        Column {
            name: "autostart",
            right: false,
            cell: |guest, _| plain(at(guest, "spec.autostart.enabled")),
        },
        Column {
            name: "protect",
            right: false,
            cell: |guest, _| plain(at(guest, "spec.protect")),
        },
    ],
    shown: &[
        "name", "state", "kind", "image", "address", "ports", "memory", "age",
    ],
    key: "name",
};

/// A time for a reader: how long ago, or as it is.
pub fn time(value: &Value, reader: Reader) -> String {
    match (reader, value.as_str()) {
        (Reader::Person, Some(text)) => age(text, output::now()),
        (Reader::Program, Some(text)) => text.to_owned(),
        (_, None) => String::new(),
    }
}

/// A number of bytes for a reader.
pub fn bytes(value: &Value, reader: Reader) -> String {
    match reader {
        Reader::Person => size(value.as_u64()),
        Reader::Program => plain(value),
    }
}

fn addresses(guest: &Value) -> Vec<String> {
    let nics = at(guest, "status.nics").as_array().into_iter().flatten();
    let all = nics.flat_map(|nic| at(nic, "addresses").as_array().into_iter().flatten());
    all.filter_map(Value::as_str)
        .map(|text| text.split('/').next().unwrap_or_default().to_owned())
        .collect()
}

fn first_address(guest: &Value) -> String {
    let all = addresses(guest);
    all.iter()
        .find(|address| address.contains('.'))
        .or(all.first())
        .cloned()
        .unwrap_or_default()
}

fn ports(guest: &Value) -> String {
    let forwards: Vec<model::Publish> =
        serde_json::from_value(at(guest, "spec.publish").clone()).unwrap_or_default();
    forwards
        .iter()
        .map(parse::publish_text)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is used, of what is allowed: `31M/512M`.
fn memory(guest: &Value, reader: Reader) -> String {
    let used = at(guest, "stats.memory");
    let limit = at(guest, "spec.limits.memory");
    match (reader, used.as_u64(), limit.as_u64()) {
        (Reader::Program, _, _) => plain(used),
        (_, Some(used), Some(limit)) => format!("{}/{}", model::Size(used), model::Size(limit)),
        (_, Some(used), None) => size(Some(used)),
        (_, None, _) => String::new(),
    }
}

/// Of a machine its processors (one unless told), of a container the quota.
fn cpus(guest: &Value) -> String {
    if plain(at(guest, "spec.kind")) != "machine" {
        return plain(at(guest, "spec.limits.cpus"));
    }
    let told = plain(at(guest, "spec.machine.cpus"));
    if told.is_empty() { "1".to_owned() } else { told }
}

fn labels(guest: &Value) -> String {
    let labels = at(guest, "spec.labels").as_object().into_iter().flatten();
    labels
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The word for a phase in the user's language.
#[must_use]
pub fn phase_text(context: &Context, phase: Phase) -> String {
    let word = plain(&output::json(&phase));
    context
        .words
        .find(&format!("cli-phase-{word}"), &[])
        .unwrap_or(word)
}

/// Grammar of `ls`.
pub fn ls_grammar(command: Command) -> Command {
    listing(selector(command)).arg(switch("running"))
}

/// `ls`.
pub fn ls(context: &Context, matches: &ArgMatches) -> Result<u8> {
    repeat(matches, context, || {
        let mut guests = select::records(context, matches)?;
        if matches.get_flag("running") {
            guests.retain(|guest| matches!(guest.status.phase, Phase::Running | Phase::Paused));
        }
        guests.sort_by(|a, b| a.name.cmp(&b.name));
        if guests.is_empty() && select::Selector::of(matches)?.is_empty() && context.format.is_none() {
            context.note("cli-no-guests", &[]);
            return Ok(());
        }
        GUESTS.print(context, matches, with_stats(context, &guests))
    })
}

/// Guests as JSON, with what they use now under `stats`.
fn with_stats(context: &Context, guests: &[Guest]) -> Vec<Value> {
    let any = guests
        .iter()
        .any(|guest| matches!(guest.status.phase, Phase::Running | Phase::Paused));
    // A listing without figures is better than none.
    let stats = if any {
        context
            .client()
            .and_then(|client| client.stats())
            .unwrap_or_default()
    } else {
        Default::default()
    };
    let add = |guest: &Guest| {
        let mut item = output::json(guest);
        if let (Some(map), Some(stats)) = (item.as_object_mut(), stats.get(guest.name.as_str())) {
            map.insert("stats".to_owned(), output::json(stats));
        }
        item
    };
    guests.iter().map(add).collect()
}

/// Once, or again every `--watch` seconds until Ctrl-C.
pub fn repeat(matches: &ArgMatches, context: &Context, once: impl Fn() -> Result<()>) -> Result<u8> {
    let Some(every) = matches.get_one::<String>("watch") else {
        once()?;
        return Ok(failure::status::OK);
    };
    let every: f64 = parse::number("--watch", every)?;
    let every =
        std::time::Duration::try_from_secs_f64(every.max(0.1)).unwrap_or(std::time::Duration::from_secs(2));
    loop {
        if output::width().is_some() {
            context.print("\x1b[H\x1b[2J")?;
        }
        once()?;
        std::thread::sleep(every);
    }
}

/// Grammar of `logs`.
pub fn logs_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(switch("follow").short('f'))
        .arg(option("tail", "LINES").short('n'))
        .arg(switch("firmware"))
}

/// `logs`.
pub fn logs(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let tail = match matches.get_one::<String>("tail") {
        Some(text) => Some(parse::number("--tail", text)?),
        None => None,
    };
    let source = match matches.get_flag("firmware") {
        true => "firmware",
        false => "console",
    };
    let mut stream = context
        .client()?
        .logs(name, source, tail, matches.get_flag("follow"))?;
    let mut out = io::stdout().lock();
    let mut piece = [0_u8; 16 << 10];
    loop {
        let count = match io::Read::read(&mut stream, &mut piece) {
            Ok(0) => return Ok(failure::status::OK),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(fault::Fault::new(client::codes::LOST)
                    .arg("request", "logs")
                    .because(error));
            }
        };
        out.write_all(&piece[..count])
            .and_then(|()| out.flush())
            .map_err(output_fault)?;
    }
}

const EVENTS: Listing = Listing {
    columns: &[
        Column {
            name: "time",
            right: false,
            cell: |event, _| plain(at(event, "time")),
        },
        Column {
            name: "event",
            right: false,
            cell: |event, _| plain(at(event, "kind")),
        },
        Column {
            name: "target",
            right: false,
            cell: |event, _| plain(at(event, "target")),
        },
        Column {
            name: "details",
            right: false,
            cell: |event, _| details(event),
        },
        Column {
            name: "revision",
            right: true,
            cell: |event, _| plain(at(event, "revision")),
        },
    ],
    shown: &["time", "event", "target", "details"],
    key: "kind",
};

fn details(event: &Value) -> String {
    let details = at(event, "details").as_object().into_iter().flatten();
    details
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Grammar of `events`.
pub fn events_grammar(command: Command) -> Command {
    let command = crate::grammar::several_columns(command);
    command
        .arg(switch("follow").short('f'))
        .arg(option("since", "REVISION"))
}

/// `events`: the stored ones, or with `--follow` every new one as it comes.
pub fn events(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let since: Option<u64> = match matches.get_one::<String>("since") {
        Some(text) => Some(parse::number("--since", text)?),
        None => None,
    };
    let client = context.client()?;
    if !matches.get_flag("follow") {
        let events = client.events(since.unwrap_or(0))?;
        EVENTS.print(context, matches, events.iter().map(output::json).collect())?;
        return Ok(failure::status::OK);
    }
    let wanted = output::Wanted::of(matches)?;
    let since = match since {
        Some(since) => since,
        None => client.events(0)?.last().map_or(0, |event| event.revision),
    };
    let mut since = since;
    loop {
        // The stream ends with its daemon; the next one goes on after the last event that was told.
        for event in client.follow_events(since)?.map_while(Result::ok) {
            since = since.max(event.revision);
            for item in EVENTS.choose(&wanted, vec![output::json(&event)])? {
                context.print(&event_line(context, &item))?;
            }
        }
        crate::daemon::reach_again(&context.socket)?;
    }
}

fn event_line(context: &Context, item: &Value) -> String {
    match context.format {
        None | Some(output::Format::Table) => format!(
            "{}  {:<20} {:<20} {}\n",
            plain(at(item, "time")),
            plain(at(item, "kind")),
            plain(at(item, "target")),
            details(item)
        ),
        Some(output::Format::Yaml) => format!("---\n{}", output::yaml(item)),
        Some(_) => format!("{item}\n"),
    }
}

/// Seconds that `wait` waits when nobody says how long: a year.
const FOREVER: u64 = 31_536_000;

/// Grammar of `wait`.
pub fn wait_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(
            choice(
                "condition",
                "CONDITION",
                &["running", "ip", "stopped", "paused", "failed", "removed"],
            )
            .required(true)
            .long(None)
            .index(2),
        )
        .arg(option("timeout", "TIME").short('t'))
}

/// `wait`.
pub fn wait(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let condition = matches.get_one::<String>("condition").map_or("", String::as_str);
    let timeout = match matches.get_one::<String>("timeout") {
        Some(text) => Some(parse::seconds("--timeout", text)?),
        None => None,
    };
    let begin = Instant::now();
    let guest = loop {
        let left = timeout
            .unwrap_or(FOREVER)
            .saturating_sub(begin.elapsed().as_secs());
        match context.client()?.wait(name, &[condition], Some(left)) {
            Err(fault) if fault.is(client::codes::NO_DAEMON) || fault.is(client::codes::LOST) => {
                crate::daemon::reach_again(&context.socket)?;
            }
            told => break told?,
        }
    };
    if let Some(text) = output::record(context, &output::json(&guest)) {
        context.print(&text)?;
    } else if condition == "ip" {
        context.print(&(address(&guest).unwrap_or_default() + "\n"))?;
    }
    Ok(failure::status::OK)
}

/// Grammar of `explain`.
pub fn explain_grammar(command: Command) -> Command {
    command.arg(one_guest())
}

/// `explain`.
pub fn explain(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let explanation = context.client()?.explain(name)?;
    let text = output::record(context, &output::json(&explanation));
    context.print(&text.unwrap_or_else(|| explanation_text(context, &explanation)))?;
    Ok(failure::status::OK)
}

fn explanation_text(context: &Context, explanation: &Explanation) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, title: &str| {
        if !text.is_empty() {
            text.push('\n');
        }
        let bold = if context.color {
            format!("\x1b[1m{title}\x1b[0m")
        } else {
            title.to_owned()
        };
        text.push_str(&format!("{bold}\n"));
    };
    for section in &explanation.sections {
        heading(&mut text, &context.say(&section.title, &[]));
        for line in &section.lines {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if !explanation.commands.is_empty() {
        heading(&mut text, &context.say("cli-explain-commands", &[]));
        for command in &explanation.commands {
            text.push_str(&format!("  {command}\n"));
        }
    }
    text
}

/// Grammar of `ip`.
pub fn ip_grammar(command: Command) -> Command {
    selector(command).arg(switch("ipv6").short('6'))
}

/// `ip`: the address alone for one guest, name and address for several.
pub fn ip(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let names = select::names(context, matches)?;
    let v6 = matches.get_flag("ipv6");
    let mut text = String::new();
    let mut missing = None;
    for name in &names {
        let guest = context.client()?.guest(name)?;
        let found = if v6 { global_v6(&guest) } else { address(&guest) };
        match found {
            Some(address) if names.len() == 1 => text.push_str(&format!("{address}\n")),
            Some(address) => text.push_str(&format!("{name}  {address}\n")),
            None => missing = Some(fault::Fault::new(crate::codes::NO_ADDRESS).arg("name", name)),
        }
    }
    context.print(&text)?;
    missing.map_or(Ok(failure::status::OK), Err)
}

fn global_v6(guest: &Guest) -> Option<String> {
    let bare = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
    let mut all = guest.status.nics.iter().flat_map(|nic| &nic.addresses).map(bare);
    all.find(|address| address.contains(':') && !address.starts_with("fe80"))
}
