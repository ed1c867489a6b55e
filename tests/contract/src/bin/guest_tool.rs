//! What runs inside the suite's guests: one program, so that a guest's tree needs nothing else but a shell.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap_or(255)),
        // Ends on SIGTERM with status 7; says so on standard output when it listens.
        ["wait-for-term"] => return wait_for_term(),
        ["count", from] => count(from.parse().unwrap_or(0)),
        ["burn"] => burn(),
        ["hog"] => hog(),
        ["reboot"] => reboot(false),
        ["poweroff"] => reboot(true),
        // Reboots once: the file tells whether it has.
        ["reboot-once", file] => {
            if std::fs::metadata(file).is_ok() {
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            let _ = std::fs::write(file, "once");
            reboot(false);
        }
        ["namespaces"] => {
            for name in ["user", "net", "uts", "ipc", "pid", "mnt"] {
                let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
                println!("{name} {}", link.display());
            }
        }
        ["terminal"] => return terminal(),
        ["flood"] => flood(),
        ["cat"] => {
            let mut bytes = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut bytes);
            let _ = std::io::stdout().write_all(&bytes);
        }
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

fn wait_for_term() -> ExitCode {
    let Ok(signals) = hostos::process::signals_as_descriptor(&[15]) else {
        return ExitCode::FAILURE;
    };
    println!("ready");
    loop {
        std::thread::sleep(Duration::from_millis(5));
        if let Ok(Some((15, _))) = hostos::process::next_signal(&signals) {
            return ExitCode::from(7);
        }
    }
}

fn count(from: u64) {
    for number in from.. {
        println!("{number}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn burn() {
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(3));
    }
}

fn hog() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

fn flood() {
    let line = [b'x'; 4096];
    let mut out = std::io::stdout();
    while out.write_all(&line).is_ok() {}
}

fn reboot(off: bool) {
    use rustix::system::{RebootCommand, reboot};
    let command = if off {
        RebootCommand::PowerOff
    } else {
        RebootCommand::Restart
    };
    let done = reboot(command);
    println!("{done:?}");
}

/// Tells the size of its terminal whenever a line comes.
fn terminal() -> ExitCode {
    let mut line = String::new();
    loop {
        let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) else {
            return ExitCode::FAILURE;
        };
        let name = rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new())
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        println!("size {} {} {name}", size.ws_row, size.ws_col);
        line.clear();
        if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
            return ExitCode::SUCCESS;
        }
    }
}
