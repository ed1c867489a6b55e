//! A frozen shim of protocol version 1: never to be changed. It stands on nothing of ours – the frames and the messages
//! are written out by hand – so that whatever the crates become, today's client is tested against what the first
//! release's shims said.
//!
//! It serves one guest which is a plain child process (the plan's command), with one client after the other.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

fn main() {
    let run_dir = std::env::args().nth(2).expect("serve RUN_DIR");
    let run_dir = Path::new(&run_dir);
    let plan: Value =
        serde_json::from_slice(&std::fs::read(run_dir.join("plan.json")).expect("plan")).expect("JSON");
    // As the first release did: leave an orphan behind, which tells when it listens.
    if std::env::var_os("FROZEN_SERVES").is_none() {
        #[allow(clippy::zombie_processes)] // It shall outlive this process.
        Command::new("/proc/self/exe")
            .args(std::env::args().skip(1))
            .env("FROZEN_SERVES", "1")
            .spawn()
            .expect("a process");
        return;
    }
    let listener = UnixListener::bind(run_dir.join("shim.sock")).expect("socket");
    std::fs::write(run_dir.join("shim.pid"), std::process::id().to_string()).expect("pid file");
    println!("ready");
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .expect("null");
    rustix::stdio::dup2_stdout(null).expect("standard output");
    let mut guest = Guest {
        argv: serde_json::from_value(plan["init"]["argv"].clone()).expect("argv"),
        child: None,
        phase: "defined",
        exit: Value::Null,
    };
    for client in listener.incoming() {
        let mut client = client.expect("a client");
        let hello = json!({"protocol": 1, "version": "0.1.0", "engine": "container",
            "guest": plan["id"], "pid": std::process::id()});
        send(&mut client, &hello);
        while let Some(call) = receive(&mut client) {
            let number = call["call"].clone();
            let request = call["request"].clone();
            let word = request["do"].as_str().unwrap_or_default().to_owned();
            let mut answer = guest.answer(&word);
            answer["call"] = number;
            send(&mut client, &answer);
            if word == "delete" {
                for name in ["shim.sock", "shim.pid", "plan.json", "shim.log"] {
                    let _ = std::fs::remove_file(run_dir.join(name));
                }
                return;
            }
        }
    }
}

struct Guest {
    argv: Vec<String>,
    child: Option<Child>,
    phase: &'static str,
    exit: Value,
}

impl Guest {
    fn answer(&mut self, word: &str) -> Value {
        match word {
            "create" => {
                self.phase = "starting";
                json!({"done": null})
            }
            "start" => {
                let child = Command::new(&self.argv[0])
                    .args(&self.argv[1..])
                    .stdin(Stdio::null())
                    .spawn()
                    .expect("a process");
                self.child = Some(child);
                self.phase = "running";
                json!({"done": null})
            }
            "status" => self.status(),
            "stop" | "wait" => {
                if let Some(mut child) = self.child.take() {
                    if word == "stop" {
                        child.kill().expect("kill");
                    }
                    let status = child.wait().expect("wait");
                    self.exit = match status.code() {
                        Some(code) => json!({"code": code}),
                        None => json!({"signal": 9}),
                    };
                }
                self.phase = "stopped";
                self.status()
            }
            "stats" => {
                json!({"stats": {"cpu_ns": 1, "memory": 2, "memory_limit": null, "pids": 1, "rx_bytes": 0,
                "tx_bytes": 0, "read_bytes": 0, "write_bytes": 0, "oom_kills": 0}})
            }
            "limit" => json!({"unenforced": [{"limit": "memory", "reason": "no memory controller"}]}),
            "run" => json!({"ran": {"exit": {"code": 0}, "output": "ran\n"}}),
            "exec" | "console" => json!({"ticket": "0123"}),
            "delete" | "pause" | "resume" | "amend" | "subscribe" => json!({"done": null}),
            _ => json!({"fault": {"code": "SHM002"}}),
        }
    }

    fn status(&self) -> Value {
        let pid = self.child.as_ref().map(Child::id);
        json!({"status": {"phase": self.phase, "pid": pid, "exit": self.exit, "restarts": 0, "started_ms": 1}})
    }
}

fn send(client: &mut UnixStream, message: &Value) {
    let body = message.to_string();
    let length = u32::try_from(body.len()).expect("a short message");
    let _ = client.write_all(&length.to_le_bytes());
    let _ = client.write_all(body.as_bytes());
}

fn receive(client: &mut UnixStream) -> Option<Value> {
    let mut length = [0; 4];
    client.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    client.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
