//! set, publish, passwd: changing a guest.

use clap::{ArgMatches, Command};
use fault::{Fault, OrFault, Result};
use model::api::{PasswdRequest, PublishRequest, SpecPatch};
use model::{GuestKind, Size};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::grammar::{file, one_guest, option, positional, several, switch};
use crate::verbs::hardware::{KEYMAPS, PROCESSORS};
use crate::verbs::launch::{REACTIONS, limits};
use crate::verbs::life::each;
use crate::{codes, failure, output, parse, password, progress};

/// How the text of a setting becomes JSON.
enum Kind {
    Size,
    Float,
    Integer,
    Truth,
    Text,
    /// A file of this host.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    List,
}

/// Keys of `set` with the fields of the spec that they mean.
const KEYS: &[(&str, &str, Kind)] = &[
    ("memory", "limits.memory", Kind::Size),
    ("swap", "limits.swap", Kind::Size),
    ("cpus", "limits.cpus", Kind::Float),
    ("cpu-weight", "limits.cpu_weight", Kind::Integer),
    ("cpu-pin", "limits.cpu_pin", Kind::Text),
    ("pids", "limits.pids", Kind::Integer),
    ("protect", "protect", Kind::Truth),
    ("autostart", "autostart.enabled", Kind::Truth),
    ("autostart-order", "autostart.order", Kind::Integer),
    ("autostart-delay", "autostart.delay", Kind::Integer),
    ("on-poweroff", "policies.on_poweroff", Kind::Word(REACTIONS)),
    ("on-reboot", "policies.on_reboot", Kind::Word(REACTIONS)),
    ("on-crash", "policies.on_crash", Kind::Word(REACTIONS)),
    ("stop-signal", "stop_signal", Kind::Text),
    ("hostname", "hostname", Kind::Text),
    ("nameserver", "nameservers", Kind::List),
    ("nesting", "nesting", Kind::Truth),
    ("workdir", "workdir", Kind::Text),
    ("iso", "machine.iso", Kind::Path),
    ("kernel", "machine.kernel", Kind::Path),
    ("initrd", "machine.initrd", Kind::Path),
    ("append", "machine.append", Kind::Text),
    ("engine", "machine.engine", Kind::Word(PROCESSORS)),
    ("firmware", "machine.firmware", Kind::Truth),
    ("headless", "machine.headless", Kind::Truth),
    ("keymap", "machine.keymap", Kind::Word(KEYMAPS)),
    ("ephemeral", "machine.discard_writes", Kind::Truth),
];

/// Grammar of `set`.
pub fn set_grammar(command: Command) -> Command {
    let command = command
        .arg(one_guest())
        .arg(positional("setting", "KEY=VALUE").num_args(0..))
        .arg(several("label", "KEY=VALUE").short('l'))
        .arg(file("iso"))
        .arg(option("append", "TEXT").allow_hyphen_values(true))
        .arg(switch("dry-run"));
    limits(command)
}

/// The settings that were given, as key and value, in their order.
fn given(matches: &ArgMatches) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for id in [
        "memory",
        "swap",
        "cpus",
        "cpu-weight",
        "cpu-pin",
        "pids",
        "iso",
        "append",
    ] {
        all.extend(
            matches
                .get_one::<String>(id)
                .map(|text| (id.to_owned(), text.clone())),
        );
    }
    for text in matches.get_many::<String>("setting").into_iter().flatten() {
        all.push(parse::pair(text)?);
    }
    for text in matches.get_many::<String>("label").into_iter().flatten() {
        let (key, value) = parse::pair(text)?;
        all.push((format!("label.{key}"), value));
    }
    Ok(all)
}

/// `set`.
pub fn set(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let mut patch = Value::Object(Map::new());
    for (key, value) in given(matches)? {
        if key == "cpus" && context.client()?.guest(name)?.spec.kind == GuestKind::Machine {
            patch["machine"]["cpus"] = processors(&value)?;
        } else {
            assign(&mut patch, &key, &value)?;
        }
    }
    if patch.as_object().is_some_and(Map::is_empty) {
        return Err(Fault::new(codes::NOTHING_TO_DO));
    }
    if matches.get_flag("dry-run") {
        context.print(&output::record(context, &patch).unwrap_or_else(|| output::yaml(&patch)))?;
        return Ok(failure::status::OK);
    }
    let client = context.client()?;
    progress::follow(context, client.set(name, &SpecPatch(patch))?)?;
    context.note("cli-changed", &[("name", name.into())]);
    for unenforced in client.guest(name)?.status.unenforced {
        let args = [
            ("limit", unenforced.limit.into()),
            ("reason", unenforced.reason.into()),
        ];
        context.note("cli-unenforced", &args);
    }
    Ok(failure::status::OK)
}

/// Processors of a machine: a whole number.
fn processors(text: &str) -> Result<Value> {
    match text {
        "none" => Ok(Value::Null),
        text => Ok(json!(parse::number::<u32>("cpus", text)?)),
    }
}

/// Puts one setting into a merge patch (RFC 7396). `none` takes a value away.
fn assign(patch: &mut Value, key: &str, text: &str) -> Result<()> {
    let spelled = key.to_lowercase().replace('_', "-");
    if let Some(label) = key.strip_prefix("label.").or_else(|| key.strip_prefix("labels.")) {
        let value = if matches!(text, "" | "none") {
            Value::Null
        } else {
            json!(text)
        };
        patch["labels"][label] = value;
        return Ok(());
    }
    let found = KEYS
        .iter()
        .find(|(name, path, _)| *name == spelled || *path == key);
    let Some((name, path, kind)) = found else {
        let mut names: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
        names.push("label.KEY");
        return Err(Fault::new(codes::KEY_UNKNOWN)
            .arg("key", key)
            .arg("keys", names.join(", ")));
    };
    let none = matches!(text, "none" | "max" | "unlimited" | "");
    let value = match kind {
        Kind::Truth => json!(parse::truth(name, text)?),
        Kind::Word(words) if words.contains(&text) => json!(text),
        Kind::Word(words) => {
            return Err(Fault::new(codes::VALUE_INVALID)
                .arg("value", text)
                .arg("option", name)
                .arg("allowed", words.join(", ")));
        }
        Kind::List if none => json!([]),
        Kind::List => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
        _ if none => Value::Null,
        Kind::Size => json!(text.parse::<Size>()?),
        Kind::Float => json!(parse::number::<f64>(name, text)?),
        Kind::Integer => json!(parse::number::<i64>(name, text)?),
        Kind::Text => json!(text),
        Kind::Path => {
            let unusable = || Fault::new(codes::FILE).arg("path", text);
            let here = std::env::current_dir().or_fault(unusable)?;
            json!(parse::absolute(text, &here).ok_or_else(unusable)?)
        }
    };
    let mut place = patch;
    for step in path.split('.') {
        place = &mut place[step];
    }
    *place = value;
    Ok(())
}

/// Grammar of `publish`.
pub fn publish_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(positional("ports", "PORTS").num_args(0..))
        .arg(several("remove", "PORTS").short('r'))
}

/// `publish`: without ports, what is published.
pub fn publish(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let read = |id: &str| -> Result<Vec<model::Publish>> {
        matches
            .get_many::<String>(id)
            .into_iter()
            .flatten()
            .map(|text| parse::publish(text))
            .collect()
    };
    let client = context.client()?;
    let request = PublishRequest {
        add: read("ports")?,
        remove: removals(matches, client, name)?,
    };
    if request.add.is_empty() && request.remove.is_empty() {
        let guest = client.guest(name)?;
        let record = output::json(&guest.spec.publish);
        let lines = || {
            guest
                .spec
                .publish
                .iter()
                .map(|forward| parse::publish_text(forward) + "\n")
                .collect()
        };
        context.print(&output::record(context, &record).unwrap_or_else(lines))?;
        return Ok(failure::status::OK);
    }
    progress::follow(context, client.publish(name, &request)?)?;
    for forward in &request.add {
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
    for forward in &request.remove {
        context.note(
            "cli-unpublished",
            &[("port", parse::publish_text(forward).into())],
        );
    }
    Ok(failure::status::OK)
}

/// Forwards to take away; a host port alone means the guest's forwards of that port.
fn removals(matches: &ArgMatches, client: &client::Client, name: &str) -> Result<Vec<model::Publish>> {
    let mut remove = Vec::new();
    for text in matches.get_many::<String>("remove").into_iter().flatten() {
        match text.parse::<u16>() {
            Ok(port) => {
                let all = client.guest(name)?.spec.publish;
                let found: Vec<_> = all
                    .into_iter()
                    .filter(|forward| forward.host_port == port)
                    .collect();
                if found.is_empty() {
                    return Err(Fault::new(codes::NOTHING_TO_DO));
                }
                remove.extend(found);
            }
            Err(_) => remove.push(parse::publish(text)?),
        }
    }
    Ok(remove)
}

/// Grammar of `passwd`.
pub fn passwd_grammar(command: Command) -> Command {
    command
        .arg(one_guest())
        .arg(positional("user", "USER"))
        .arg(switch("password-stdin"))
}

/// `passwd`.
pub fn passwd(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = matches.get_one::<String>("guest").map_or("", String::as_str);
    let user = matches.get_one::<String>("user").cloned();
    let shown = user.clone().unwrap_or_else(|| "root".to_owned());
    let word = password::ask(context, &shown, matches.get_flag("password-stdin"))?;
    let request = PasswdRequest {
        user,
        password_hash: password::hash(&word)?,
    };
    each(context, &[name.to_owned()], "cli-password-set", |client, name| {
        client.passwd(name, &request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_a_merge_patch() {
        let mut patch = json!({});
        for (key, value) in [
            ("memory", "1G"),
            ("cpus", "0.5"),
            ("cpu_pin", "none"),
            ("protect", "sí"),
            ("label.tier", "front"),
            ("label.old", "none"),
            ("policies.on_crash", "restart"),
            ("nameserver", "1.1.1.1, 9.9.9.9"),
            ("iso", "none"),
            ("kernel", "/boot/k"),
            ("engine", "kvm"),
        ] {
            assign(&mut patch, key, value).unwrap();
        }
        let wanted = json!({
            "limits": {"memory": 1 << 30, "cpus": 0.5, "cpu_pin": null},
            "protect": true,
            "labels": {"tier": "front", "old": null},
            "policies": {"on_crash": "restart"},
            "nameservers": ["1.1.1.1", "9.9.9.9"],
            "machine": {"iso": null, "kernel": "/boot/k", "engine": "kvm"},
        });
        assert_eq!(patch, wanted);
        assert!(
            assign(&mut patch, "colour", "red")
                .unwrap_err()
                .is(codes::KEY_UNKNOWN)
        );
        assert!(
            assign(&mut patch, "protect", "perhaps")
                .unwrap_err()
                .is(codes::VALUE_INVALID)
        );
    }

    #[test]
    fn every_key_means_a_field_of_the_spec() {
        let spec: model::GuestSpec = serde_json::from_value(json!({"image": "debian/12"})).unwrap();
        for (name, path, kind) in KEYS {
            let mut patched = serde_json::to_value(&spec).unwrap();
            let value = match kind {
                Kind::Size => json!(1),
                Kind::Float => json!(1.0),
                Kind::Integer => json!(1),
                Kind::Truth => json!(true),
                Kind::Text => json!("x"),
                Kind::Path => json!("/x"),
                Kind::Word(words) => json!(words[0]),
                Kind::List => json!(["1.1.1.1"]),
            };
            let mut place = &mut patched;
            for step in path.split('.') {
                place = &mut place[step];
            }
            *place = value;
            assert!(
                serde_json::from_value::<model::GuestSpec>(patched).is_ok(),
                "{name}"
            );
        }
    }
}
