//! show: everything about a guest, for people in sections, for programs as the API's record.

use clap::{ArgMatches, Command};
use fault::{Fault, Result};
use model::{ExitStatus, Guest, GuestKind, Init, MachineEngine, Processor};
use serde_json::Value;

use crate::context::Context;
use crate::grammar::selector;
use crate::output::{self, age};
use crate::verbs::look::phase_text;
use crate::{codes, failure, parse, select};

/// Grammar of `show`.
pub fn grammar(command: Command) -> Command {
    selector(command)
}

/// `show`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let selector = select::Selector::of(matches)?;
    if selector.is_empty() {
        return Err(Fault::new(codes::NOTHING_SELECTED));
    }
    let one = selector.is_plain() && selector.names.len() == 1;
    let guests = if selector.is_plain() {
        let client = context.client()?;
        selector
            .names
            .iter()
            .map(|name| client.guest(name))
            .collect::<Result<Vec<_>>>()?
    } else {
        select::records(context, matches)?
    };
    let records: Vec<Value> = guests.iter().map(output::json).collect();
    let whole = if one {
        records.into_iter().next().unwrap_or(Value::Null)
    } else {
        Value::Array(records)
    };
    let text = output::record(context, &whole).unwrap_or_else(|| {
        guests
            .iter()
            .map(|guest| page(context, guest))
            .collect::<Vec<_>>()
            .join("\n")
    });
    context.print(&text)?;
    Ok(failure::status::OK)
}

/// Lines of `heading: value`.
struct Page<'a> {
    context: &'a Context,
    rows: Vec<(String, String)>,
}

impl Page<'_> {
    fn row(&mut self, id: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.rows.push((self.context.say(id, &[]), value));
        }
    }

    fn text(self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(heading, _)| heading.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        let mut last = String::new();
        for (heading, value) in self.rows {
            let shown = if heading == last { "" } else { heading.as_str() };
            let pad = " ".repeat(width - shown.chars().count());
            text.push_str(&format!("{shown}{pad}  {}\n", output::fit(&value, 400)));
            last = heading;
        }
        text
    }
}

/// How a guest ended, in words.
pub fn exit_text(context: &Context, exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => context.say("cli-exit-code", &[("code", code.into())]),
        ExitStatus::Signal(signal) => context.say("cli-exit-signal", &[("signal", signal.into())]),
        ExitStatus::Poweroff => context.say("cli-exit-poweroff", &[]),
        ExitStatus::Reboot => context.say("cli-exit-reboot", &[]),
    }
}

fn kind_word(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Container => "cli-kind-container",
        GuestKind::Machine => "cli-kind-machine",
    }
}

/// What executes a machine, in words, and why.
pub fn processor_text(context: &Context, processor: &Processor) -> String {
    match (processor.engine, &processor.reason) {
        (MachineEngine::Kvm, _) => context.say("cli-by-kvm", &[]),
        (_, Some(reason)) => {
            let why = context.words.fault(reason).sentence;
            context.say("cli-by-software-because", &[("why", why.into())])
        }
        (_, None) => context.say("cli-by-software", &[]),
    }
}

/// The hardware of a machine.
fn hardware(page: &mut Page<'_>, guest: &Guest) {
    let Some(hardware) = guest
        .spec
        .machine
        .as_ref()
        .filter(|_| guest.spec.kind == GuestKind::Machine)
    else {
        return;
    };
    let engine = match &guest.status.processor {
        Some(processor) => processor_text(page.context, processor),
        None => output::plain(&output::json(&hardware.engine)),
    };
    page.row("cli-show-processor", engine);
    page.row("cli-show-processors", hardware.cpus.unwrap_or(1).to_string());
    if let Some(size) = hardware.disk_size {
        page.row("cli-show-disks", size.to_string());
    }
    for disk in &hardware.disks {
        let mode = if disk.read_only { ":ro" } else { "" };
        let format = disk.format.as_deref().unwrap_or("raw");
        page.row("cli-show-disks", format!("{}{mode} ({format})", disk.source));
    }
    for (id, path) in [
        ("cli-show-iso", &hardware.iso),
        ("cli-show-kernel", &hardware.kernel),
        ("cli-show-initrd", &hardware.initrd),
        ("cli-show-append", &hardware.append),
        ("cli-show-keymap", &hardware.keymap),
    ] {
        page.row(id, path.clone().unwrap_or_default());
    }
    for (set, id) in [
        (hardware.firmware, "cli-flag-firmware"),
        (hardware.headless, "cli-flag-headless"),
        (hardware.discard_writes, "cli-flag-discard-writes"),
    ] {
        if set {
            page.row("cli-show-flags", page.context.say(id, &[]));
        }
    }
}

fn page(context: &Context, guest: &Guest) -> String {
    let (spec, status) = (&guest.spec, &guest.status);
    let now = output::now();
    let mut page = Page {
        context,
        rows: Vec::new(),
    };
    page.row("cli-show-name", guest.name.as_str());
    page.row("cli-show-id", guest.id.to_string());
    let mut state = phase_text(context, status.phase);
    if let Some(started) = &status.started
        && status.pid.is_some()
    {
        state.push_str(&format!(
            " ({})",
            context.say("cli-since", &[("age", age(started, now).into())])
        ));
    }
    page.row("cli-show-state", state);
    if let Some(reason) = &status.reason {
        let told = context.words.fault(reason);
        page.row(
            "cli-show-reason",
            format!("[{}] {}", reason.code(), told.sentence),
        );
    }
    if let Some(exit) = status.exit {
        page.row("cli-show-exit", exit_text(context, exit));
    }
    if status.restarts > 0 {
        page.row("cli-show-restarts", status.restarts.to_string());
    }
    page.row(
        "cli-show-created",
        format!(
            "{} ({})",
            guest.created,
            context.say("cli-ago", &[("age", age(&guest.created, now).into())])
        ),
    );
    page.row("cli-show-kind", context.say(kind_word(spec.kind), &[]));
    page.row("cli-show-image", spec.image.to_string());
    page.row("cli-show-digest", spec.image_digest.clone().unwrap_or_default());
    if let Init::Command { argv } = &spec.init {
        page.row("cli-show-command", argv.join(" "));
    }
    for (key, value) in &spec.env {
        page.row("cli-show-env", format!("{key}={value}"));
    }
    network(&mut page, guest);
    hardware(&mut page, guest);
    limits(&mut page, guest);
    for mount in &spec.mounts {
        let mode = if mount.read_only { ":ro" } else { "" };
        page.row(
            "cli-show-mounts",
            format!("{}:{}{mode}", mount.source, mount.target),
        );
    }
    if spec.autostart.enabled {
        let args = [
            ("order", spec.autostart.order.into()),
            ("delay", spec.autostart.delay.into()),
        ];
        page.row("cli-show-autostart", context.say("cli-autostart", &args));
    }
    let reaction = |reaction| output::plain(&output::json(&reaction));
    page.row(
        "cli-show-policies",
        format!(
            "on_poweroff={} on_reboot={} on_crash={}",
            reaction(spec.policies.on_poweroff),
            reaction(spec.policies.on_reboot),
            reaction(spec.policies.on_crash)
        ),
    );
    for (set, id) in [
        (spec.protect, "cli-flag-protect"),
        (spec.privileged, "cli-flag-privileged"),
        (spec.nesting, "cli-flag-nesting"),
        (spec.ephemeral, "cli-flag-ephemeral"),
    ] {
        if set {
            page.row("cli-show-flags", context.say(id, &[]));
        }
    }
    if let Some(base) = status.id_base {
        page.row("cli-show-ids", format!("{base}–{}", base.saturating_add(65_535)));
    }
    for (key, value) in &spec.labels {
        page.row("cli-show-labels", format!("{key}={value}"));
    }
    page.row(
        "cli-show-pid",
        status.pid.map(|pid| pid.to_string()).unwrap_or_default(),
    );
    page.text()
}

fn network(page: &mut Page<'_>, guest: &Guest) {
    page.row(
        "cli-show-hostname",
        guest.spec.hostname.clone().unwrap_or_default(),
    );
    for nic in &guest.status.nics {
        let line = format!(
            "{} · {} · {} · {}",
            nic.network,
            nic.guest_link,
            nic.mac,
            nic.addresses.join(" ")
        );
        page.row("cli-show-network", line);
    }
    for forward in &guest.spec.publish {
        page.row("cli-show-ports", parse::publish_text(forward));
    }
}

fn limits(page: &mut Page<'_>, guest: &Guest) {
    let limits = &guest.spec.limits;
    let mut row = |name: &str, value: Option<String>| {
        let Some(value) = value else { return };
        let unenforced = guest
            .status
            .unenforced
            .iter()
            .find(|unenforced| unenforced.limit == name);
        let mut line = format!("{name}={value}");
        if let Some(unenforced) = unenforced {
            let args = [("reason", unenforced.reason.as_str().into())];
            line.push_str(&format!("  ({})", page.context.say("cli-not-enforced", &args)));
        }
        page.row("cli-show-limits", line);
    };
    row("memory", limits.memory.map(|size| size.to_string()));
    row("swap", limits.swap.map(|size| size.to_string()));
    row("cpus", limits.cpus.map(|cpus| cpus.to_string()));
    row("cpu_weight", limits.cpu_weight.map(|weight| weight.to_string()));
    row("cpu_pin", limits.cpu_pin.clone());
    row("pids", limits.pids.map(|pids| pids.to_string()));
}
