//! top: what every guest uses, live and sortable.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use fault::{Fault, OrFault, Result};
use model::api::GuestStats;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::context::Context;
use crate::grammar::{option, several_columns, switch};
use crate::output::{self, Column, Listing, Reader, Wanted, at, plain, size};
use crate::terminal::{Raw, Signals};
use crate::verbs::look::bytes;
use crate::{codes, failure, parse};

const TOP: Listing = Listing {
    columns: &[
        Column {
            name: "name",
            right: false,
            cell: |row, _| plain(at(row, "name")),
        },
        Column {
            name: "state",
            right: false,
            cell: |row, _| plain(at(row, "state")),
        },
        Column {
            name: "cpu",
            right: true,
            cell: |row, _| percent(at(row, "cpu")),
        },
        Column {
            name: "memory",
            right: true,
            cell: |row, reader| bytes(at(row, "memory"), reader),
        },
        Column {
            name: "limit",
            right: true,
            cell: |row, reader| bytes(at(row, "memory_limit"), reader),
        },
        Column {
            name: "mem%",
            right: true,
            cell: |row, _| percent(at(row, "memory_percent")),
        },
        Column {
            name: "pids",
            right: true,
            cell: |row, _| plain(at(row, "pids")),
        },
        Column {
            name: "rx/s",
            right: true,
            cell: |row, reader| rate(at(row, "rx_rate"), reader),
        },
        Column {
            name: "tx/s",
            right: true,
            cell: |row, reader| rate(at(row, "tx_rate"), reader),
        },
        Column {
            name: "read/s",
            right: true,
            cell: |row, reader| rate(at(row, "read_rate"), reader),
        },
        Column {
            name: "write/s",
            right: true,
            cell: |row, reader| rate(at(row, "write_rate"), reader),
        },
        Column {
            name: "oom",
            right: true,
            cell: |row, _| plain(at(row, "oom_kills")),
        },
        Column {
            name: "cpu_time",
            right: true,
            cell: |row, reader| cpu_time(at(row, "cpu_ns"), reader),
        },
    ],
    shown: &[
        "name", "state", "cpu", "memory", "limit", "mem%", "pids", "rx/s", "tx/s", "read/s", "write/s",
    ],
    key: "name",
};

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(String::new, |percent| format!("{percent:.1}"))
}

fn rate(value: &Value, reader: Reader) -> String {
    match reader {
        Reader::Person => size(value.as_u64()),
        Reader::Program => plain(value),
    }
}

fn cpu_time(value: &Value, reader: Reader) -> String {
    match (reader, value.as_u64()) {
        (Reader::Person, Some(ns)) => format!("{}.{:01}s", ns / 1_000_000_000, ns / 100_000_000 % 10),
        _ => plain(value),
    }
}

/// Grammar of `top`.
pub fn grammar(command: Command) -> Command {
    several_columns(command)
        .arg(option("interval", "SECONDS").short('d'))
        .arg(switch("once").visible_alias("batch").short('b'))
        .arg(switch("all").short('a'))
}

/// One look at all guests.
struct Sample {
    when: Instant,
    stats: BTreeMap<String, GuestStats>,
    states: BTreeMap<String, String>,
}

fn sample(context: &Context) -> Result<Sample> {
    let client = context.client()?;
    let guests = client.guests()?;
    let when = Instant::now();
    let stats = client.stats()?;
    let states = guests
        .iter()
        .map(|guest| (guest.name.to_string(), plain(&output::json(&guest.status.phase))));
    Ok(Sample {
        when,
        stats,
        states: states.collect(),
    })
}

/// The rows between two samples; guests without figures only with `all`.
#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn rows(before: &Sample, after: &Sample, all: bool) -> Vec<Value> {
    let seconds = after.when.duration_since(before.when).as_secs_f64().max(0.001);
    let mut rows = Vec::new();
    for (name, state) in &after.states {
        let Some(now) = after.stats.get(name) else {
            if all {
                rows.push(json!({"name": name, "state": state}));
            }
            continue;
        };
        let mut row = output::json(now);
        row["name"] = json!(name);
        row["state"] = json!(state);
        if let Some(limit) = now.memory_limit.filter(|limit| *limit > 0) {
            row["memory_percent"] = json!(now.memory as f64 * 100.0 / limit as f64);
        }
        if let Some(then) = before.stats.get(name) {
            let per_second = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds).round() as u64;
            row["cpu"] = json!(now.cpu_ns.saturating_sub(then.cpu_ns) as f64 / seconds / 1e7);
            row["rx_rate"] = json!(per_second(now.rx_bytes, then.rx_bytes));
            row["tx_rate"] = json!(per_second(now.tx_bytes, then.tx_bytes));
            row["read_rate"] = json!(per_second(now.read_bytes, then.read_bytes));
            row["write_rate"] = json!(per_second(now.write_bytes, then.write_bytes));
        }
        rows.push(row);
    }
    rows
}

/// `top`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let interval: f64 = match matches.get_one::<String>("interval") {
        Some(text) => parse::number("--interval", text)?,
        None => 2.0,
    };
    let interval = Duration::try_from_secs_f64(interval.max(0.2)).unwrap_or(Duration::from_secs(2));
    let all = matches.get_flag("all");
    let live = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !live || matches.get_flag("once") || context.format.is_some() {
        let before = sample(context)?;
        std::thread::sleep(interval.min(Duration::from_secs(1)));
        let after = sample(context)?;
        TOP.print(context, matches, rows(&before, &after, all))?;
        return Ok(failure::status::OK);
    }
    let wanted = Wanted::of(matches)?;
    let sort = wanted.order().unwrap_or("-cpu").to_owned();
    let mut screen = Screen {
        context,
        wanted,
        sort,
        all,
        interval,
    };
    screen.run()?;
    Ok(failure::status::OK)
}

struct Screen<'a> {
    context: &'a Context,
    wanted: Wanted,
    sort: String,
    all: bool,
    interval: Duration,
}

/// Keys and the columns they sort by.
const KEYS: &[(u8, &str)] = &[
    (b'c', "-cpu"),
    (b'm', "-memory"),
    (b'p', "-pids"),
    (b'n', "name"),
    (b's', "state"),
    (b'r', "-rx/s"),
    (b't', "-tx/s"),
    (b'd', "-read/s"),
    (b'w', "-write/s"),
];

impl Screen<'_> {
    fn run(&mut self) -> Result<()> {
        let failed = || Fault::new(codes::NO_TERMINAL);
        let signals = Signals::watch(&[signal_hook::consts::SIGWINCH]).or_fault(failed)?;
        let raw = Raw::enter().or_fault(failed)?;
        self.context.print("\x1b[?1049h\x1b[?25l")?;
        let outcome = self.attend(&signals);
        let _ = self.context.print("\x1b[?25h\x1b[?1049l");
        drop(raw);
        outcome
    }

    fn attend(&mut self, signals: &Signals) -> Result<()> {
        let mut before = sample(self.context)?;
        std::thread::sleep(Duration::from_millis(300));
        let mut after = sample(self.context)?;
        loop {
            self.draw(&rows(&before, &after, self.all))?;
            let until = Instant::now() + self.interval;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                match wait(signals, left)? {
                    Some(Input::Key(b'q' | 0x03 | 0x1b)) => return Ok(()),
                    Some(Input::Key(b'a')) => self.all = !self.all,
                    Some(Input::Key(key)) => self.choose(key),
                    Some(Input::Resized) => {}
                    None => continue,
                }
                self.draw(&rows(&before, &after, self.all))?;
            }
            before = after;
            after = sample(self.context)?;
        }
    }

    /// A key that sorts; the same key again turns the order round.
    fn choose(&mut self, key: u8) {
        let Some((_, column)) = KEYS.iter().find(|(known, _)| *known == key.to_ascii_lowercase()) else {
            return;
        };
        let turned = match self.sort.strip_prefix('-') {
            Some(plain) => plain.to_owned(),
            None => format!("-{}", self.sort),
        };
        let same = self.sort.trim_start_matches('-') == column.trim_start_matches('-');
        self.sort = if same { turned } else { (*column).to_owned() };
    }

    fn draw(&self, rows: &[Value]) -> Result<()> {
        let wanted = self.wanted.sorted(&self.sort);
        let rows = TOP.choose(&wanted, rows.to_vec())?;
        let table = TOP.text(self.context, &wanted, &rows)?;
        let height = usize::from(crate::terminal::size().rows);
        let column = self.sort.trim_start_matches('-').to_owned();
        let head = self.context.say(
            "cli-top-head",
            &[("count", rows.len().into()), ("column", column.into())],
        );
        let mut text = String::from("\x1b[H");
        let lines = [head]
            .into_iter()
            .chain([String::new()])
            .chain(table.lines().map(str::to_owned));
        for line in lines.take(height.saturating_sub(1)) {
            text.push_str(&line);
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        text.push_str(&self.context.say("cli-top-keys", &[]));
        text.push_str("\x1b[K");
        self.context.print(&text)
    }
}

enum Input {
    Key(u8),
    Resized,
}

fn wait(signals: &Signals, time: Duration) -> Result<Option<Input>> {
    let failed = || Fault::new(codes::NO_TERMINAL);
    let stdin = io::stdin();
    let Some((_, resized)) = signals.pipes.first() else {
        return Ok(None);
    };
    let mut fds = [
        PollFd::new(&stdin, PollFlags::IN),
        PollFd::new(resized, PollFlags::IN),
    ];
    let time = Timespec::try_from(time).or_fault(failed)?;
    match poll(&mut fds, Some(&time)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(failed().because(error)),
    }
    let key_came = !fds[0].revents().is_empty();
    let mut bytes = [0_u8; 16];
    if !key_came {
        let _ = io::Read::read(&mut &*resized, &mut bytes);
        return Ok(Some(Input::Resized));
    }
    match rustix::io::read(&stdin, &mut bytes[..]) {
        Ok(0) => Ok(Some(Input::Key(b'q'))),
        // Arrow keys and the like are longer; they mean nothing here.
        Ok(count) if count > 1 => Ok(Some(Input::Key(0))),
        Ok(_) => Ok(Some(Input::Key(bytes[0]))),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_two_samples() {
        let begin = Instant::now();
        let of = |when, cpu_ns, rx_bytes| Sample {
            when,
            stats: BTreeMap::from([(
                "web".to_owned(),
                GuestStats {
                    cpu_ns,
                    rx_bytes,
                    memory: 64 << 20,
                    memory_limit: Some(256 << 20),
                    ..GuestStats::default()
                },
            )]),
            states: BTreeMap::from([
                ("web".to_owned(), "running".to_owned()),
                ("db".to_owned(), "stopped".to_owned()),
            ]),
        };
        let before = of(begin, 1_000_000_000, 1000);
        let after = of(begin + Duration::from_secs(2), 2_000_000_000, 5000);
        let rows = rows(&before, &after, true);
        assert_eq!(rows.len(), 2);
        assert_eq!(percent(at(&rows[1], "cpu")), "50.0");
        assert_eq!(at(&rows[1], "rx_rate").as_u64(), Some(2000));
        assert_eq!(percent(at(&rows[1], "memory_percent")), "25.0");
        assert_eq!(super::rows(&before, &after, false).len(), 1);
    }
}
