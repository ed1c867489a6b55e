//! launch: a guest from an image, started, with everything that is wanted of it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::{ArgMatches, Command};
use clap_complete::ArgValueCandidates;
use fault::{Fault, OrFault, Result};
use model::api::{LaunchRequest, StopRequest};
use model::{
    Autostart, Guest, GuestKind, GuestSpec, ImageRef, Init, Input, Limits, NicSpec, Operation, Phase,
    Policies, Reaction, Setup, Size,
};

use crate::context::Context;
use crate::grammar::{choice, file, option, positional, several, switch, trailing};
use crate::session::{self, End, Leaving};
use crate::terminal::is_interactive;
use crate::verbs::hardware;
use crate::{codes, failure, live, output, parse, password, progress};

/// What completion offers beside the images that are there: releases that the archive has.
pub const RELEASES: &[&str] = &["debian/11", "debian/12", "debian/13"];

/// Words of the three reactions.
pub const REACTIONS: &[&str] = &["stop", "restart", "destroy"];

/// The network that guests are plugged into unless told otherwise.
const DEFAULT_NETWORK: &str = "default";

/// Seconds to wait for an address before launch ends without one.
const ADDRESS_PATIENCE: u64 = 10;

/// Seconds that the end of a command waits for the removal of its guest.
const REMOVAL: u64 = 10;

/// Grammar of `launch`.
pub fn grammar(command: Command) -> Command {
    let command = command
        .arg(positional("image", "IMAGE").add(ArgValueCandidates::new(live::images)))
        .arg(positional("name", "NAME"))
        .arg(trailing())
        .arg(several("publish", "PORTS").short('p'))
        .arg(option("user", "USER"))
        .arg(several("ssh-key", "FILE").value_hint(clap::ValueHint::FilePath))
        .arg(switch("password-stdin"))
        .arg(option("hostname", "NAME"))
        .arg(several("network", "NAME").add(ArgValueCandidates::new(live::networks)))
        .arg(option("ip", "ADDRESS"))
        .arg(option("mac", "MAC"))
        .arg(several("nameserver", "ADDRESS"))
        .arg(switch("no-network").conflicts_with_all(["network", "ip", "mac", "publish"]))
        .arg(option("locale", "LOCALE"))
        .arg(option("timezone", "ZONE"))
        .arg(several("include", "A,B"))
        .arg(several("mount", "HOST:GUEST[:ro]").value_hint(clap::ValueHint::DirPath))
        .arg(option("proxy", "PROXY"));
    let command = hardware::grammar(limits(command))
        .arg(several("env", "KEY=VALUE").short('e'))
        .arg(option("workdir", "PATH").short('w'))
        .arg(switch("interactive").short('i'))
        .arg(switch("tty").short('t'))
        .arg(switch("no-tty").short('T').conflicts_with("tty"))
        .arg(switch("privileged"))
        .arg(switch("nesting"))
        .arg(switch("rm"))
        .arg(switch("no-start").conflicts_with("rm"))
        .arg(several("label", "KEY=VALUE").short('l'))
        .arg(switch("autostart"))
        .arg(option("autostart-order", "NUMBER").allow_hyphen_values(true))
        .arg(option("autostart-delay", "SECONDS"))
        .arg(choice("on-poweroff", "REACTION", REACTIONS))
        .arg(choice("on-reboot", "REACTION", REACTIONS))
        .arg(choice("on-crash", "REACTION", REACTIONS))
        .arg(option("stop-signal", "SIGNAL"))
        .arg(switch("protect"))
        .arg(choice("engine", "ENGINE", hardware::ENGINES))
        .arg(switch("dry-run"))
        .arg(switch("detach").short('d'));
    command.arg(file("env-file"))
}

/// The options of limits, for `launch` and `set`.
pub fn limits(command: Command) -> Command {
    command
        .arg(option("memory", "SIZE").short('m'))
        .arg(option("swap", "SIZE"))
        .arg(option("cpus", "NUMBER"))
        .arg(option("cpu-weight", "NUMBER"))
        .arg(option("cpu-pin", "LIST"))
        .arg(option("pids", "NUMBER"))
}

fn text<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a String> {
    matches.get_one::<String>(id)
}

fn texts<'a>(matches: &'a ArgMatches, id: &str) -> impl Iterator<Item = &'a String> + use<'a> {
    matches.get_many::<String>(id).into_iter().flatten()
}

fn pairs(matches: &ArgMatches, id: &str) -> Result<BTreeMap<String, String>> {
    texts(matches, id).map(|text| parse::pair(text)).collect()
}

fn number<T: std::str::FromStr>(matches: &ArgMatches, id: &str) -> Result<Option<T>> {
    text(matches, id)
        .map(|text| parse::number(&format!("--{id}"), text))
        .transpose()
}

fn read_file(path: &str) -> Result<String> {
    std::fs::read_to_string(path).or_fault(|| Fault::new(codes::FILE).arg("path", path))
}

/// An image as typed; a path is made absolute, because the daemon's working directory is another.
pub fn image(text: &str, here: &Path) -> Result<ImageRef> {
    match text.parse::<ImageRef>()? {
        ImageRef::Path(path) => {
            let path = parse::absolute(&path, here)
                .ok_or_else(|| Fault::new(model::IMAGE_REF_INVALID).arg("image", text))?;
            Ok(ImageRef::Path(path))
        }
        other => Ok(other),
    }
}

fn read_limits(matches: &ArgMatches) -> Result<Limits> {
    let size = |id: &str| text(matches, id).map(|text| text.parse::<Size>()).transpose();
    Ok(Limits {
        memory: size("memory")?,
        swap: size("swap")?,
        // A machine has whole processors: they are its hardware.
        cpus: match matches.get_flag("vm") {
            true => None,
            false => number(matches, "cpus")?,
        },
        cpu_weight: number(matches, "cpu-weight")?,
        cpu_pin: text(matches, "cpu-pin").cloned(),
        pids: number(matches, "pids")?,
    })
}

fn read_nics(matches: &ArgMatches) -> Result<Vec<NicSpec>> {
    let mut nics = Vec::new();
    for network in texts(matches, "network") {
        nics.push(NicSpec {
            network: network.parse()?,
            ip: None,
            mac: None,
        });
    }
    let ip = text(matches, "ip")
        .map(|text| parse::address("--ip", text, "IPv4"))
        .transpose()?;
    let mac = text(matches, "mac").cloned();
    if ip.is_some() || mac.is_some() {
        if nics.is_empty() {
            nics.push(NicSpec {
                network: DEFAULT_NETWORK.parse()?,
                ip: None,
                mac: None,
            });
        }
        nics[0].ip = ip;
        nics[0].mac = mac;
    }
    Ok(nics)
}

fn read_setup(context: &Context, matches: &ArgMatches) -> Result<Setup> {
    let user = text(matches, "user").cloned();
    let mut ssh_keys = Vec::new();
    for path in texts(matches, "ssh-key") {
        let lines = read_file(path)?;
        let lines = lines
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        ssh_keys.extend(lines.map(str::to_owned));
    }
    let password_hash = if matches.get_flag("password-stdin") {
        let word = password::ask(context, user.as_deref().unwrap_or("root"), true)?;
        Some(password::hash(&word)?)
    } else {
        None
    };
    Ok(Setup {
        user,
        ssh_keys,
        password_hash,
        locale: text(matches, "locale").cloned(),
        timezone: text(matches, "timezone").cloned(),
        include: list(matches, "include"),
        proxy: text(matches, "proxy").cloned(),
    })
}

/// Values of an option that takes several, separated by commas or by giving it again.
pub fn list(matches: &ArgMatches, id: &str) -> Vec<String> {
    let all = texts(matches, id).flat_map(|text| text.split(','));
    all.map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

fn read_policies(matches: &ArgMatches) -> Policies {
    let reaction = |id: &str, usual: Reaction| match text(matches, id).map(String::as_str) {
        Some("stop") => Reaction::Stop,
        Some("restart") => Reaction::Restart,
        Some("destroy") => Reaction::Destroy,
        _ => usual,
    };
    let usual = Policies::default();
    Policies {
        on_poweroff: reaction("on-poweroff", usual.on_poweroff),
        on_reboot: reaction("on-reboot", usual.on_reboot),
        on_crash: reaction("on-crash", usual.on_crash),
    }
}

/// The environment asked for: the lines of `--env-file`, then `--env`; a bare `KEY` takes the caller's value.
fn read_environment(matches: &ArgMatches) -> Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    if let Some(path) = text(matches, "env-file") {
        for line in read_file(path)?.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                let (key, value) = parse::pair(line)?;
                env.insert(key, value);
            }
        }
    }
    for text in texts(matches, "env") {
        env.extend(parse::variable(text)?);
    }
    Ok(env)
}

/// What the command reads from: in the foreground as with `exec`, else only what was asked for.
fn read_input(matches: &ArgMatches) -> Input {
    let foreground = matches.get_flag("rm") && !matches.get_flag("detach");
    let terminal = foreground && is_interactive() && !matches.get_flag("no-tty");
    if texts(matches, "command").next().is_none() {
        Input::Nothing
    } else if matches.get_flag("tty") || terminal {
        Input::Terminal
    } else if matches.get_flag("interactive") || (foreground && !io::stdin().is_terminal()) {
        Input::Pipe
    } else {
        Input::Nothing
    }
}

/// The request that the arguments ask for.
pub fn request(context: &Context, matches: &ArgMatches) -> Result<LaunchRequest> {
    let here = std::env::current_dir().or_fault(|| Fault::new(codes::FILE).arg("path", "."))?;
    let machine = hardware::read(matches, &here)?;
    let (image, name) = hardware::named(matches, &here, machine.as_ref())?;
    let argv: Vec<String> = texts(matches, "command").cloned().collect();
    let autostart = Autostart {
        enabled: matches.get_flag("autostart"),
        order: number(matches, "autostart-order")?.unwrap_or_default(),
        delay: number(matches, "autostart-delay")?.unwrap_or_default(),
    };
    let spec = GuestSpec {
        kind: match machine {
            Some(_) => GuestKind::Machine,
            None => GuestKind::Container,
        },
        image,
        image_digest: None,
        init: if argv.is_empty() {
            Init::System
        } else {
            Init::Command { argv }
        },
        env: read_environment(matches)?,
        input: read_input(matches),
        workdir: text(matches, "workdir").cloned(),
        hostname: text(matches, "hostname").cloned(),
        limits: read_limits(matches)?,
        nics: read_nics(matches)?,
        no_network: matches.get_flag("no-network"),
        publish: texts(matches, "publish")
            .map(|text| parse::publish(text))
            .collect::<Result<_>>()?,
        mounts: texts(matches, "mount")
            .map(|text| parse::mount(text, &here))
            .collect::<Result<_>>()?,
        nameservers: texts(matches, "nameserver")
            .map(|text| parse::address("--nameserver", text, "IPv4, IPv6"))
            .collect::<Result<_>>()?,
        setup: read_setup(context, matches)?,
        privileged: matches.get_flag("privileged"),
        nesting: matches.get_flag("nesting"),
        ephemeral: matches.get_flag("rm"),
        protect: matches.get_flag("protect"),
        autostart,
        policies: read_policies(matches),
        stop_signal: text(matches, "stop-signal").cloned(),
        labels: pairs(matches, "label")?,
        machine,
    };
    Ok(LaunchRequest {
        name,
        spec,
        no_start: matches.get_flag("no-start"),
        hold: false,
    })
}

/// `launch`.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let mut request = request(context, matches)?;
    if matches.get_flag("dry-run") {
        let plan = context.client()?.launch_plan(&request)?;
        let text = output::record(context, &plan).unwrap_or_else(|| output::yaml(&plan));
        context.print(&text)?;
        return Ok(failure::status::OK);
    }
    let foreground = request.spec.ephemeral
        && matches!(request.spec.init, Init::Command { .. })
        && !matches.get_flag("detach");
    if foreground {
        request.hold = true;
        return Ok(in_foreground(context, &request).unwrap_or_else(|fault| {
            // A status of ours must not be taken for the command's.
            failure::tell(context, &fault, None);
            if fault.is(codes::OUTPUT_CLOSED) {
                return failure::status::PIPE;
            }
            failure::not_run(&fault)
        }));
    }
    let operation = context.client()?.launch(&request)?;
    if matches.get_flag("detach") {
        context.note("cli-detached", &[("operation", operation.id.to_string().into())]);
        return print_new(context, &operation, None);
    }
    let operation = progress::follow(context, operation)?;
    // By its identity: somebody may have given it another name meanwhile.
    let id = operation.result.get("id").cloned();
    let guest = settle(context, &id.unwrap_or_else(|| name_of(&operation, &request)))?;
    print_new(context, &operation, Some(&guest))?;
    tell_next(context, &guest);
    if !request.no_start {
        super::life::still_up(context, &guest)?;
    }
    Ok(failure::status::OK)
}

/// The name that the guest got.
fn name_of(operation: &Operation, request: &LaunchRequest) -> String {
    let told = operation.result.get("name").cloned();
    let asked = || request.name.as_ref().map(ToString::to_string);
    let target = || operation.target.rsplit('/').next().unwrap_or_default().to_owned();
    told.or_else(asked).unwrap_or_else(target)
}

/// The guest once it has an address, or as it is when it gets none in time.
fn settle(context: &Context, name: &str) -> Result<Guest> {
    let client = context.client()?;
    let guest = client.guest(name)?;
    let waiting = guest.status.phase == Phase::Running && !guest.spec.no_network && address(&guest).is_none();
    if waiting && let Ok(guest) = client.wait(name, &["ip", "stopped"], Some(ADDRESS_PATIENCE)) {
        return Ok(guest);
    }
    Ok(guest)
}

/// The first IPv4 address of a guest, else its first address, without prefix length.
#[must_use]
pub fn address(guest: &Guest) -> Option<String> {
    let bare = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
    let all: Vec<String> = guest
        .status
        .nics
        .iter()
        .flat_map(|nic| &nic.addresses)
        .map(bare)
        .collect();
    all.iter()
        .find(|address| address.contains('.'))
        .or(all.first())
        .cloned()
}

/// Data of a launch: the id with `--quiet`, the record with `--format`.
fn print_new(context: &Context, operation: &Operation, guest: Option<&Guest>) -> Result<u8> {
    let record = guest.map_or_else(|| output::json(operation), output::json);
    if let Some(text) = output::record(context, &record) {
        context.print(&text)?;
    } else if context.quiet {
        let id = guest
            .map(|guest| guest.id.to_string())
            .or_else(|| operation.result.get("id").cloned());
        context.print(&format!("{}\n", id.unwrap_or_else(|| operation.target.clone())))?;
    }
    Ok(failure::status::OK)
}

/// What is there now, and what to type next.
fn tell_next(context: &Context, guest: &Guest) {
    let name = guest.name.as_str();
    let image = guest.spec.image.to_string();
    match (guest.status.phase, address(guest)) {
        (Phase::Running, Some(address)) => {
            let args = [
                ("name", name.into()),
                ("address", address.into()),
                ("image", image.into()),
            ];
            context.note("cli-launched-at", &args);
        }
        (Phase::Running, None) => {
            context.note("cli-launched", &[("name", name.into()), ("image", image.into())])
        }
        _ => {
            let phase = crate::verbs::look::phase_text(context, guest.status.phase);
            context.note(
                "cli-launched-not-running",
                &[("name", name.into()), ("state", phase.into())],
            );
        }
    }
    for forward in &guest.spec.publish {
        let at = forward
            .ip
            .map_or_else(|| "localhost".to_owned(), |ip| ip.to_string());
        let args = [
            ("at", at.into()),
            ("host", forward.host_port.into()),
            ("guest", forward.guest_port.into()),
        ];
        context.note("cli-launched-port", &args);
    }
    if let Some(processor) = &guest.status.processor {
        context.note(
            "cli-launched-processor",
            &[("by", super::show::processor_text(context, processor).into())],
        );
    }
    for unenforced in &guest.status.unenforced {
        let args = [
            ("limit", unenforced.limit.as_str().into()),
            ("reason", unenforced.reason.as_str().into()),
        ];
        context.note("cli-unenforced", &args);
    }
    if io::stderr().is_terminal() && guest.status.phase == Phase::Running {
        let next = if guest.spec.kind == GuestKind::Machine {
            "cli-next-machine"
        } else if guest.spec.init == Init::System {
            "cli-next-system"
        } else {
            "cli-next-command"
        };
        context.note(next, &[("name", name.into())]);
    }
}

/// Runs an application container as if its command ran here: its console is this terminal, its status is ours.
fn in_foreground(context: &Context, request: &LaunchRequest) -> Result<u8> {
    let client = context.client()?;
    let operation = progress::follow(context, client.launch(request)?)?;
    let name = name_of(&operation, request);
    let attached = client.console(&name).and_then(|session| session::open(&session));
    let session = match attached {
        Ok(session) => session,
        Err(fault) => {
            // Without its console nobody would see it end.
            let _ = client.remove(&name, true, true);
            return Err(fault);
        }
    };
    let start = client.start(&name)?;
    let input = request.spec.input != Input::Nothing;
    let end = match session::run(session, input, Leaving::Never) {
        Ok(end) => end,
        Err(fault) => {
            // Nobody reads what it says any more: it ends as it would at a closed pipe.
            let _ = client
                .remove(&name, true, true)
                .and_then(|operation| progress::follow(context, operation));
            return Err(fault);
        }
    };
    if let Err(fault) = progress::follow(context, start) {
        failure::tell(context, &fault, Some(&name));
        // It may have been removed already, as guests of `--rm` are.
        let _ = client
            .remove(&name, true, true)
            .and_then(|operation| progress::follow(context, operation));
        return Ok(failure::not_run(&fault));
    }
    if end.is_interrupted() {
        // Ctrl-C here is Ctrl-C there: a guest that is removed when it stops ends with its command.
        progress::follow(
            context,
            client.stop(
                &name,
                &StopRequest {
                    force: false,
                    timeout: Some(3),
                },
            )?,
        )?;
    }
    if request.spec.ephemeral {
        await_removal(client, &name);
    }
    if end == End::Left {
        // The command has ended, but nobody can tell how: its shim is gone.
        return Err(Fault::new(codes::SESSION_LOST));
    }
    Ok(end.status())
}

/// A guest that is removed when it stops is gone when its command seems to end here; not waited for without end.
fn await_removal(client: &client::Client, name: &str) {
    // One that is gone already is as good, and what does not go in time shows in `ls`.
    let _ = client.wait(name, &["removed"], Some(REMOVAL));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<LaunchRequest> {
        let context = Context::new(words::Words::english(), "/nowhere".into());
        let all = ["posada", "launch"].iter().chain(args);
        let matches = crate::help::tree(&context.words)
            .try_get_matches_from(all)
            .unwrap();
        request(&context, matches.subcommand().unwrap().1)
    }

    #[test]
    fn the_first_lab_is_understood() {
        let request = parsed(&[
            "debian/12",
            "srv",
            "--include",
            "openssh-server,sudo",
            "--user",
            "ana",
            "--publish",
            "2200:22",
            "--ip",
            "10.1.2.20",
            "--hostname",
            "srv1",
            "--locale",
            "es_ES.UTF-8",
            "--timezone",
            "Europe/Madrid",
            "--memory",
            "512M",
            "--cpus",
            "1.5",
            "--on-crash",
            "restart",
            "--label",
            "tier=front",
            "--autostart-order",
            "-3",
        ])
        .unwrap();
        assert_eq!(request.name.unwrap().as_str(), "srv");
        let spec = request.spec;
        assert_eq!(spec.setup.include, ["openssh-server", "sudo"]);
        assert_eq!(spec.nics[0].ip.unwrap().to_string(), "10.1.2.20");
        assert_eq!(spec.limits.memory, Some(Size(512 << 20)));
        assert_eq!(spec.limits.cpus, Some(1.5));
        assert_eq!(spec.policies.on_crash, Reaction::Restart);
        assert_eq!(spec.autostart.order, -3);
        assert_eq!(spec.init, Init::System);
    }

    #[test]
    fn the_lab_of_the_first_machine_is_understood() {
        let request = parsed(&[
            "debian/12",
            "db",
            "--vm",
            "--memory",
            "512M",
            "--cpus",
            "2",
            "--disk",
            "4G",
            "--disk",
            "/d.qcow2:ro",
            "--keymap",
            "es",
            "--ephemeral",
        ])
        .unwrap();
        let spec = request.spec;
        assert_eq!(spec.kind, GuestKind::Machine);
        assert_eq!(
            (spec.limits.memory, spec.limits.cpus),
            (Some(Size(512 << 20)), None)
        );
        let hardware = spec.machine.unwrap();
        assert_eq!(
            (hardware.cpus, hardware.disk_size),
            (Some(2), Some(Size(4 << 30)))
        );
        assert_eq!(hardware.disks[0].source, "/d.qcow2");
        assert!(hardware.disks[0].read_only && hardware.discard_writes && !spec.ephemeral);
        assert_eq!(parsed(&["debian/12", "web"]).unwrap().spec.machine, None);
    }

    #[test]
    fn a_machine_that_starts_alone_needs_no_image() {
        for (args, image, name) in [
            (&["--vm", "--iso", "/f.iso", "db"][..], "none", Some("db")),
            (&["--vm", "--kernel", "/k", "--append=-x"], "none", None),
            (&["--vm", "--disk", "./4G", "none", "db"], "none", Some("db")),
            (&["--vm", "--disk", "/f.qcow2", "debian/12"], "debian/12", None),
            (
                &["--vm", "--iso", "/f.iso", "debian/12", "db"],
                "debian/12",
                Some("db"),
            ),
        ] {
            let request = parsed(args).unwrap();
            assert_eq!(request.spec.image.to_string(), image, "{args:?}");
            assert_eq!(request.name.as_ref().map(model::Name::as_str), name, "{args:?}");
        }
    }

    #[test]
    fn a_command_makes_an_application_container() {
        let request = parsed(&["--rm", "debian/12", "job", "-e", "A=1", "--", "ls", "-l", "--all"]).unwrap();
        assert_eq!(
            request.spec.init,
            Init::Command {
                argv: vec!["ls".into(), "-l".into(), "--all".into()]
            }
        );
        assert!(request.spec.ephemeral);
        assert_eq!(request.spec.env["A"], "1");
    }

    #[test]
    fn wrong_values_are_told_by_their_codes() {
        for (args, code) in [
            (&["debian", "web"][..], "IMG001"),
            (&["debian/12", "Web"], "NAM001"),
            (&["debian/12", "--publish", "x"], "CLI007"),
            (&["debian/12", "--memory", "lots"], "SIZ001"),
            (&["debian/12", "--cpus", "many"], "CLI031"),
            (&["debian/12", "--mount", "x"], "CLI008"),
            (&["debian/12", "--ssh-key", "/does/not/exist"], "CLI013"),
            (&[], "CLI003"),
            (&["--vm", "db"], "IMG001"),
            (&["debian/12", "--iso", "f.iso"], "CLI035"),
            (&["debian/12", "--headless"], "CLI035"),
            (&["debian/12", "--engine", "kvm"], "CLI035"),
            (&["debian/12", "--vm", "--engine", "container"], "CLI005"),
            (&["debian/12", "--vm", "--disk", "1G", "--disk", "2G"], "CLI005"),
            (&["debian/12", "--vm", "--cpus", "1.5"], "CLI031"),
            (&["--vm", "--iso", "f.iso", "Db"], "NAM001"),
        ] {
            assert_eq!(parsed(args).unwrap_err().code(), code, "{args:?}");
        }
    }
}
