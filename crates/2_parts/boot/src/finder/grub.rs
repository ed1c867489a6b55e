//! GRUB's menu: which entry it would start, and with what.
//!
//! The script is run with the commands that decide this – variables, conditions, `search`, `load_env`, menus, `linux`
//! and `initrd` – and all others do nothing. Loops and functions are passed over, other files are not read, and
//! nothing is written back: an entry chosen for one start only (`next_entry`) would be chosen for ever, so it is not.

use std::collections::HashMap;

use fault::{Fault, Result};

use super::grub_script::{Command, Word, expand, parse};
use super::volumes::{Place, Volumes};
use super::{Choice, NO_KERNEL};

/// Most commands that are run.
const MOST_STEPS: usize = 100_000;
/// Most entries of the menu.
const MOST_ENTRIES: usize = 1000;

/// The default entry of the menu in this place; `None` when there is none.
pub(super) fn choose(volumes: &Volumes<'_>, place: &Place) -> Result<Option<Choice>> {
    let folders = ["grub", "grub2"];
    let found = folders.iter().find_map(|folder| {
        let folder = format!("{}/{folder}", place.folder);
        let text = volumes.text(place.volume, &format!("{folder}/grub.cfg")).ok()?;
        Some((folder, text))
    });
    let Some((folder, text)) = found else {
        return Ok(None);
    };
    let commands = parse(&text);
    let mut shell = Shell::new(volumes, place, &folder);
    shell.run(&commands, 0, commands.len());
    if shell.entries.is_empty() {
        return Ok(None);
    }
    let entry = shell.default_entry();
    let (start, end) = shell.entries[entry].body;
    let title = shell.entries[entry].way.last().map(|step| step.title.clone());
    shell.run(&commands, start, end);
    match shell.kernel.take() {
        Some((volume, kernel)) => Ok(Some(Choice {
            title,
            volume,
            kernel,
            initrds: shell.initrds,
            options: shell.options,
        })),
        None => Err(Fault::new(NO_KERNEL)),
    }
}

/// The variables that GRUB has saved in the file system (`grub-editenv list`).
pub(super) fn read_environment(volumes: &Volumes<'_>, place: &Place) -> Vec<(String, String)> {
    let files = ["grub/grubenv", "grub2/grubenv"];
    let text = files.iter().find_map(|file| {
        volumes
            .text(place.volume, &format!("{}/{file}", place.folder))
            .ok()
    });
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| *name != "next_entry")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A step of the way to an entry: its number on its level, its title and its identifier.
#[derive(Clone, Debug)]
struct Step {
    number: usize,
    title: String,
    id: String,
}

impl Step {
    fn is(&self, name: &str) -> bool {
        match name.parse::<usize>() {
            Ok(number) => number == self.number,
            Err(_) => self.id == name || self.title == name,
        }
    }
}

struct Entry {
    /// The submenus that lead to it, and itself.
    way: Vec<Step>,
    /// Its commands.
    body: (usize, usize),
}

/// A menu while its commands run.
struct Menu {
    /// The command behind its last one.
    end: usize,
    count: usize,
    step: Option<Step>,
}

/// A condition: whether one of its branches was taken, and whether this one is.
struct Branch {
    taken: bool,
    active: bool,
}

struct Shell<'v, 'a> {
    volumes: &'v Volumes<'a>,
    environment: Vec<(String, String)>,
    variables: HashMap<String, String>,
    entries: Vec<Entry>,
    kernel: Option<(usize, String)>,
    initrds: Vec<(usize, String)>,
    options: String,
    steps: usize,
}

impl<'v, 'a> Shell<'v, 'a> {
    fn new(volumes: &'v Volumes<'a>, place: &Place, folder: &str) -> Self {
        let device = device(volumes, place.volume);
        let variables = [
            ("prefix", format!("({device}){folder}")),
            ("config_directory", format!("({device}){folder}")),
            ("root", device),
            ("grub_platform", "pc".to_owned()),
            ("grub_cpu", "i386".to_owned()),
        ];
        Shell {
            volumes,
            environment: read_environment(volumes, place),
            variables: variables.map(|(name, value)| (name.to_owned(), value)).into(),
            entries: Vec::new(),
            kernel: None,
            initrds: Vec::new(),
            options: String::new(),
            steps: 0,
        }
    }

    /// Runs the commands from one number to before another.
    fn run(&mut self, commands: &[Command], from: usize, until: usize) {
        let mut branches: Vec<Branch> = Vec::new();
        let mut menus = vec![Menu {
            end: until,
            count: 0,
            step: None,
        }];
        let mut at = from;
        while at < until && self.steps < MOST_STEPS {
            self.steps += 1;
            while menus.len() > 1 && menus.last().is_some_and(|menu| at >= menu.end) {
                menus.pop();
            }
            let Some(command) = commands.get(at) else { return };
            let mut words = command.words.as_slice();
            at += 1;
            // Keywords may stand before a command on one line.
            while let Some(first) = words.first() {
                if !self.keyword(first.literal(), &words[1..], &mut branches) {
                    break;
                }
                words = match first.literal() {
                    "then" | "else" => &words[1..],
                    _ => &[],
                };
            }
            let active = branches.iter().all(|branch| branch.active);
            let name = words.first().map_or("", Word::literal);
            if matches!(name, "for" | "while" | "until") {
                at = behind_loop(commands, at, until);
                continue;
            }
            let Some(end) = command.block else {
                if active {
                    self.command(name, &expand(words, &self.variables));
                }
                continue;
            };
            let body = at;
            at = end + 1;
            if active && matches!(name, "menuentry" | "submenu") && menus.len() < 8 {
                let step = self.step(&mut menus, words);
                if name == "submenu" {
                    menus.push(Menu {
                        end,
                        count: 0,
                        step: Some(step),
                    });
                    at = body;
                } else if self.entries.len() < MOST_ENTRIES {
                    let above = menus.iter().filter_map(|menu| menu.step.clone());
                    let way = above.chain([step]).collect();
                    self.entries.push(Entry {
                        way,
                        body: (body, end),
                    });
                }
            }
        }
    }

    /// Handles the words of conditions; whether it was one.
    fn keyword(&self, word: &str, rest: &[Word], branches: &mut Vec<Branch>) -> bool {
        let holds = |rest: &[Word]| self.holds(&expand(rest, &self.variables));
        match (word, branches.last_mut()) {
            ("if", _) => {
                let active = branches.iter().all(|branch| branch.active) && holds(rest);
                branches.push(Branch {
                    taken: active,
                    active,
                });
            }
            ("elif", Some(branch)) => {
                branch.active = !branch.taken && holds(rest);
                branch.taken |= branch.active;
            }
            ("else", Some(branch)) => {
                branch.active = !branch.taken;
                branch.taken = true;
            }
            ("fi", Some(_)) => drop(branches.pop()),
            ("then", _) => {}
            _ => return false,
        }
        true
    }

    /// Whether a condition holds. Commands that are not known fail.
    fn holds(&self, words: &[String]) -> bool {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["!", rest @ ..] => {
                let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
                // One step down for each sign that is taken away.
                rest.first().is_none_or(|word| word != "!") && !self.holds(&rest)
            }
            ["true"] => true,
            ["[", inside @ .., "]"] | ["test", inside @ ..] => inside
                .split(|word| *word == "-o")
                .any(|all| all.split(|word| *word == "-a").all(|test| self.test(test))),
            _ => false,
        }
    }

    fn test(&self, test: &[&str]) -> bool {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        match test {
            ["!", rest @ ..] if rest.first() != Some(&"!") => !self.test(rest),
            ["-z", text] => text.is_empty(),
            ["-n", text] => !text.is_empty(),
            ["-e" | "-f" | "-s" | "-d", path] => {
                let (volume, path) = self.file(path);
                volume.is_some_and(|volume| self.volumes.exists(volume, &path))
            }
            [a, "=" | "==", b] => a == b,
            [a, "!=", b] => a != b,
            [a, "<", b] => a < b,
            [a, ">", b] => a > b,
            [a, "-eq", b] => number(a) == number(b),
            [a, "-ne", b] => number(a) != number(b),
            [a, "-lt", b] => number(a) < number(b),
            [a, "-le", b] => number(a) <= number(b),
            [a, "-gt", b] => number(a) > number(b),
            [a, "-ge", b] => number(a) >= number(b),
            [text] => !text.is_empty(),
            _ => false,
        }
    }

    fn command(&mut self, name: &str, words: &[String]) {
        let arguments = words.get(1..).unwrap_or_default();
        match name {
            "set" => {
                if let Some((name, value)) = arguments.first().and_then(|word| word.split_once('=')) {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
            }
            "unset" => {
                for name in arguments {
                    self.variables.remove(name);
                }
            }
            "load_env" => self.variables.extend(self.environment.iter().cloned()),
            "search" | "search.fs_uuid" | "search.fs_label" | "search.file" => self.search(name, arguments),
            "linux" | "linux16" | "linuxefi" => {
                if let Some((kernel, options)) = arguments.split_first()
                    && let (Some(volume), path) = self.file(kernel)
                {
                    self.kernel = Some((volume, path));
                    self.options = options
                        .iter()
                        .map(|word| quote(word))
                        .collect::<Vec<_>>()
                        .join(" ");
                }
            }
            "initrd" | "initrd16" | "initrdefi" => {
                let files = arguments.iter().filter(|word| !word.starts_with("newc:"));
                let files = files.map(|path| self.file(path));
                self.initrds = files.filter_map(|(volume, path)| Some((volume?, path))).collect();
            }
            _ => {
                // `name=value` alone is a command too, and its value may have quotes.
                if let Some((name, value)) = words.first().and_then(|word| word.split_once('='))
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
            }
        }
    }

    /// `search --fs-uuid --set=root UUID` and its likes.
    fn search(&mut self, name: &str, arguments: &[String]) {
        let mut key = match name {
            "search.fs_uuid" => "UUID",
            "search.fs_label" => "LABEL",
            _ => "FILE",
        };
        let (mut wanted, mut variable) = (None, "root".to_owned());
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--fs-uuid" | "-u" => key = "UUID",
                "--label" | "-l" => key = "LABEL",
                "--file" | "-f" => key = "FILE",
                "--set" | "-s" => variable = words.next().cloned().unwrap_or_default(),
                word if word.starts_with("--set=") => word["--set=".len()..].clone_into(&mut variable),
                "--hint" => drop(words.next()),
                word if word.starts_with('-') => {}
                word if wanted.is_none() => wanted = Some(word.to_owned()),
                // The short forms have the variable behind the name.
                word if name != "search" => {
                    word.clone_into(&mut variable);
                    break;
                }
                // `--set` with its name left out.
                _ => {}
            }
        }
        // `search --set --fs-uuid UUID`: the word behind --set was an option.
        if variable.starts_with('-') {
            if variable == "--fs-uuid" || variable == "-u" {
                key = "UUID";
            } else if variable == "--label" || variable == "-l" {
                key = "LABEL";
            }
            "root".clone_into(&mut variable);
        }
        let Some(wanted) = wanted else { return };
        let volume = match key {
            "FILE" => self.volumes.by_file(&wanted),
            key => self.volumes.by_name(&format!("{key}={wanted}")),
        };
        if let Some(volume) = volume {
            self.variables.insert(variable, device(self.volumes, volume));
        }
    }

    /// The volume and the path there that a file name of GRUB means.
    fn file(&self, name: &str) -> (Option<usize>, String) {
        let (device, path) = match name.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((device, path)) => (device.to_owned(), path),
            None => (self.variables.get("root").cloned().unwrap_or_default(), name),
        };
        let number = match device.split_once(',') {
            Some(("hd0", part)) => {
                let digits = part.trim_start_matches(|c: char| !c.is_ascii_digit());
                digits.parse().ok()
            }
            None if device == "hd0" => Some(0),
            _ => None,
        };
        let volume = number.and_then(|number| self.volumes.by_partition(number));
        (volume, path.to_owned())
    }

    /// Counts an entry or a submenu and reads its title and identifier.
    fn step(&self, menus: &mut [Menu], words: &[Word]) -> Step {
        let words = expand(words, &self.variables);
        let (mut title, mut id) = (None, String::new());
        let mut rest = words.into_iter().skip(1);
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--id" => id = rest.next().unwrap_or_default(),
                "--class" | "--users" | "--hotkey" => drop(rest.next()),
                option if option.starts_with("--id=") => option["--id=".len()..].clone_into(&mut id),
                option if option.starts_with("--") => {}
                _ => title = title.or(Some(word)),
            }
        }
        let menu = menus.last_mut();
        let number = menu.map_or(0, |menu| {
            menu.count += 1;
            menu.count - 1
        });
        Step {
            number,
            title: title.unwrap_or_default(),
            id,
        }
    }

    /// The number of the entry that `default` names by numbers, titles or identifiers, with `>` between levels; the
    /// first one when it names none.
    fn default_entry(&self) -> usize {
        let default = self.variables.get("default").map_or("", String::as_str);
        // A doubled sign is one that belongs to a title.
        let default = default.replace(">>", "\0");
        let names: Vec<String> = default.split('>').map(|name| name.replace('\0', ">")).collect();
        let named = |entry: &Entry| {
            names.len() <= entry.way.len() && entry.way.iter().zip(&names).all(|(step, name)| step.is(name))
        };
        let exact = self
            .entries
            .iter()
            .position(|entry| entry.way.len() == names.len() && named(entry));
        // The identifier of an entry in a submenu may stand alone; a submenu stands for its first entry.
        let alone = || {
            let last = |entry: &Entry| {
                entry
                    .way
                    .last()
                    .is_some_and(|step| !step.id.is_empty() && step.id == default)
            };
            self.entries.iter().position(last)
        };
        exact
            .or_else(|| self.entries.iter().position(named))
            .or_else(alone)
            .unwrap_or(0)
    }
}

/// GRUB's name for a file system on the one disk there is.
fn device(volumes: &Volumes<'_>, volume: usize) -> String {
    match volumes.partition(volume) {
        0 => "hd0".to_owned(),
        number => format!("hd0,gpt{number}"),
    }
}

/// A word of the command line as GRUB hands it on: with quotes when it has blanks.
fn quote(word: &str) -> String {
    if word.contains(' ') {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}

/// The number of the command behind the `done` of a loop.
fn behind_loop(commands: &[Command], from: usize, until: usize) -> usize {
    let mut depth = 1;
    for (at, command) in commands.iter().enumerate().take(until).skip(from) {
        for word in &command.words {
            match word.literal() {
                "for" | "while" | "until" => depth += 1,
                "done" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
            // Only the first word, or the one behind `do`, begins a command.
            if !matches!(word.literal(), "do" | "then" | "else") {
                break;
            }
        }
    }
    until
}
