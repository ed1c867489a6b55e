//! Runs a kernel in a machine of its own on this terminal, for people who work on the machine:
//! `cargo run --release -p machine --example run -- KERNEL INITRD 'COMMAND LINE' [MEMORY MiB] [CPUS] [DISK]…`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use machine::control::Event;
use machine::machine::Machine;
use machine::plan::{Boot, Disk, DiskBus, Fd, MachinePlan, PLAN_VERSION, Processor, Time};
use rustix::event::{PollFd, PollFlags};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut fds: Vec<OwnedFd> = Vec::new();
    let mut add = |file: OwnedFd| {
        fds.push(file);
        Fd(fds.len() - 1)
    };
    let open = |path: &str| OwnedFd::from(File::open(path).expect(path));
    let number = |at: usize, usual: u64| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let firmware = args[0].ends_with(".bin") && args[0].contains("bios");
    let boot = if firmware {
        Boot::Firmware {
            image: add(open(&args[0])),
            vga: None,
            order: Vec::new(),
        }
    } else {
        Boot::Kernel {
            kernel: add(open(&args[0])),
            initrd: args[1..2]
                .iter()
                .filter(|path| !path.is_empty())
                .map(|path| add(open(path)))
                .collect(),
            command_line: args[2].clone(),
        }
    };
    let disks = args.iter().skip(5).enumerate().map(|(at, path)| Disk {
        name: format!("disk{at}"),
        file: Some(add(File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect(path)
            .into())),
        format: if path.ends_with("qcow2") {
            "qcow2".into()
        } else {
            "raw".into()
        },
        bus: DiskBus::Virtio,
        cdrom: false,
        read_only: false,
        scratch: None,
    });
    let disks = disks.collect();
    let serial = add(std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .expect("standard output"));
    let counting = std::env::var_os("COUNTING").is_some();
    let plan = MachinePlan {
        version: PLAN_VERSION,
        name: "run".into(),
        uuid: [7; 16],
        cpus: number(4, 1) as u32,
        memory: number(3, 256) << 20,
        processor: if std::env::var_os("REFERENCE").is_some() {
            Processor::Reference
        } else {
            Processor::Software
        },
        time: if counting {
            Time::Counting {
                epoch: 1_700_000_000_000_000_000,
                seed: 1,
            }
        } else {
            Time::Host
        },
        boot,
        disks,
        nics: Vec::new(),
        shares: Vec::new(),
        display: None,
        serial,
        firmware_log: None,
    };
    run(&plan, fds);
}

/// Runs to the machine's end, or for as many seconds as the variable SECONDS says.
fn run(plan: &MachinePlan, fds: Vec<OwnedFd>) {
    let began = std::time::Instant::now();
    let machine = Machine::new(plan, fds).expect("a machine");
    machine.resume();
    let limit = std::env::var("SECONDS")
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    let timeout = limit.map(|seconds| rustix::event::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    });
    loop {
        let mut ready = [PollFd::from_borrowed_fd(machine.life().as_fd(), PollFlags::IN)];
        let events = rustix::event::poll(&mut ready, timeout.as_ref()).unwrap_or(1);
        let (end, news) = machine.life().take();
        for event in news {
            eprintln!(
                "{}",
                if event == Event::Panicked {
                    "panicked".to_owned()
                } else {
                    format!("{event:?}")
                }
            );
        }
        if end.is_some() || events == 0 {
            machine.pause();
            let seconds = began.elapsed().as_secs_f64();
            for number in 0..machine.cpus().count() {
                let mut cpu = machine.cpus().processor(number).expect("a processor");
                let retired = cpu.retired().unwrap_or(0);
                eprintln!(
                    "cpu{number}: {retired} instructions, {:.1} M/s",
                    retired as f64 / seconds / 1e6
                );
                if let Ok(state) = cpu.save() {
                    eprintln!(
                        "rip {:#x} rflags {:#x} cr3 {:#x} {:x?} {:?}",
                        state.rip, state.rflags, state.cr3, state.registers, state.activity
                    );
                }
            }
            eprintln!("{end:?} after {seconds:.2} s {:?}", machine.trouble());
            return;
        }
    }
}
