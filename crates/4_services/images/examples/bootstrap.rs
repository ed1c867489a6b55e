//! Drives a bootstrap without the command line: `cargo run --example bootstrap -- debian/12 DIR [CACHE]`.
#![allow(clippy::unwrap_used, reason = "an example ends where something fails")]

use std::sync::Mutex;

use model::{Progress, Watcher};

struct Printer(Mutex<String>, std::time::Instant);

impl Watcher for Printer {
    fn progress(&self, p: Progress) {
        let mut last = self.0.lock().unwrap();
        if *last != p.step {
            eprintln!("{:6.2} {} {}", self.1.elapsed().as_secs_f64(), p.step, p.detail);
            *last = p.step;
        }
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let beside = std::env::current_exe().unwrap();
    let bin = beside.parent().unwrap().parent().unwrap();
    let list = |name: &str| -> Vec<String> {
        std::env::var(name)
            .map(|v| v.split(',').map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let request = images::BootstrapRequest {
        image: args[1].parse().unwrap(),
        target: args[2].clone().into(),
        arch: std::env::var("ARCH").ok(),
        variant: match std::env::var("VARIANT").as_deref() {
            Ok("standard") => images::Variant::Standard,
            Ok("buildd") => images::Variant::Buildd,
            _ => images::Variant::Minbase,
        },
        include: list("INCLUDE"),
        exclude: list("EXCLUDE"),
        components: Vec::new(),
        mirror: std::env::var("MIRROR").ok(),
        keyring: std::env::var("KEYRING").ok().map(Into::into),
        cache_dir: args.get(3).map_or_else(|| "/tmp/posada-cache".into(), Into::into),
        worker_exe: bin.join("posada-worker"),
        shim_exe: bin.join("posada-shim"),
        ids: jail::recipe::IdRange {
            base: 1_000_000_000,
            count: 65_536,
        },
        patience: images::Patience::default(),
        now: None,
    };
    let watcher = Printer(Mutex::new(String::new()), std::time::Instant::now());
    match images::bootstrap(&request, &watcher) {
        Ok(summary) => eprintln!(
            "{:6.2} {} packages, {} MB fetched, {} MB, {:?}",
            watcher.1.elapsed().as_secs_f64(),
            summary.packages.len(),
            summary.fetched >> 20,
            summary.size >> 20,
            summary.notes
        ),
        Err(fault) => {
            eprintln!("{fault}");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
