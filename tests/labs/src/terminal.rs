//! A terminal with a program on it, as a person would use it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal whose other side is the controlling terminal of a program.
pub struct Terminal {
    master: File,
    child: Child,
    heard: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts the command on a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn new(command: &Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new())
            .expect("ptsname")
            .into_string()
            .expect("an ASCII path");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name)
            .expect("the terminal's other side");
        // A session of its own with the terminal in control, so that Ctrl-C and size changes arrive.
        let mut on = Command::new("setsid");
        on.args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on.env(name, value),
                None => on.env_remove(name),
            };
        }
        on.env("TERM", "xterm-256color");
        let side = || Stdio::from(OwnedFd::from(slave.try_clone().expect("a copy of a descriptor")));
        let child = on
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid can be started");
        let master = File::from(master);
        let (tell, heard) = channel();
        let mut reader = master.try_clone().expect("a copy of a descriptor");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let terminal = Terminal {
            master,
            child,
            heard,
            seen: String::new(),
        };
        terminal.resize(24, 80);
        terminal
    }

    /// Changes the size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("a size of a terminal");
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn type_(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("the terminal takes what is typed");
    }

    /// Waits until the text appears among what has not been expected yet; returns what came before it.
    ///
    /// # Panics
    /// When it does not appear in time.
    #[track_caller]
    pub fn expect(&mut self, text: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            match self
                .heard
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited in vain for {text:?}; seen: {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {text:?}; seen: {:?}", self.seen),
            }
        }
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn end(mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                while let Ok(bytes) = self.heard.try_recv() {
                    self.seen.push_str(&String::from_utf8_lossy(&bytes));
                }
                panic!("the program on the terminal did not end; seen: {:?}", self.seen);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
