//! The body of `posada daemon`: from arguments to a served socket, and to its end.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use control::codes::RUN_DIR_TAKEN;
use control::{Control, Settings};
use fault::{Fault, OrFault, Result};

use crate::arguments::{self, Action, Arguments};
use crate::codes::{NOT_ROOT, SOCKET_TAKEN, START_FAILED};
use crate::state::{Door, Peer, router};
use crate::{listen, notify};

/// Exit status of a daemon that found another one at work in its directories; the command line waits for that one.
const BEATEN: u8 = 3;
/// Members of this group may use the daemon.
const GROUP: &str = "posada";
/// Time that requests have to end after SIGTERM.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match arguments::parse(args) {
        Ok(arguments) => arguments,
        Err(fault) => {
            tell(&fault);
            return ExitCode::from(2);
        }
    };
    match arguments.action {
        Action::Help => print!("{}", arguments::HELP),
        Action::PrintDocument => print!("{}", crate::document()),
        Action::Serve => {
            if let Err(fault) = serve(&arguments) {
                tell(&fault);
                let beaten = [RUN_DIR_TAKEN, store::STORE_TAKEN, SOCKET_TAKEN];
                let beaten = beaten.iter().any(|code| fault.is(*code));
                return if beaten {
                    ExitCode::from(BEATEN)
                } else {
                    ExitCode::FAILURE
                };
            }
        }
    }
    ExitCode::SUCCESS
}

fn tell(fault: &Fault) {
    let words = words::Words::for_environment(|name| std::env::var(name).ok());
    let told = words.fault(fault);
    eprintln!("error[{}]: {}", fault.code(), told.sentence);
    for cause in told.causes {
        eprintln!("{}: {cause}", words.say("cause", &[]));
    }
    if let Some(hint) = told.hint {
        eprintln!("{}: {hint}", words.say("try", &[]));
    }
}

fn serve(arguments: &Arguments) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Fault::new(NOT_ROOT));
    }
    raise_descriptor_limit();
    let group = group_id(&std::fs::read_to_string("/etc/group").unwrap_or_default(), GROUP);
    let settings = settings(arguments, group)?;
    let socket = arguments
        .socket
        .clone()
        .unwrap_or_else(|| arguments.run_dir.join("api.sock"));
    let control = Control::open(settings)?;
    let handed = listen::handed_over(|name| std::env::var(name).ok());
    let ours = handed.is_none();
    let listener = match handed {
        Some(listener) => listener,
        None => listen::bind(&socket, group)?,
    };
    let started = || Fault::new(START_FAILED);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(256)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .or_fault(started)?;
    let done = runtime.block_on(run(control, listener));
    runtime.shutdown_timeout(Duration::from_millis(200));
    if ours {
        // Gone already when the run directory is.
        let _ = std::fs::remove_file(&socket);
    }
    done.or_fault(started)
}

async fn run(control: Arc<Control>, listener: UnixListener) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let service = router(Door::new(control)?).into_make_service_with_connect_info::<Peer>();
    let address = std::env::var_os("NOTIFY_SOCKET");
    notify::notify(address.as_deref(), "READY=1");
    let (tell, told) = tokio::sync::watch::channel(false);
    let end = async move || {
        let mut told = told;
        // The sender lives as long as the server.
        let _ = told.wait_for(|told| *told).await;
    };
    let server = axum::serve(listener, service).with_graceful_shutdown(end());
    let signalled = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify::notify(address.as_deref(), "STOPPING=1");
        tell.send_replace(true);
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        done = async { server.await } => done,
        () = signalled => Ok(()),
    }
}

/// The default of 1,024 open files is too few for a hundred guests' shims and their clients.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A lower limit is one that we can live with.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn settings(arguments: &Arguments, group: Option<u32>) -> Result<Settings> {
    let exe = std::fs::read_link("/proc/self/exe").or_fault(|| Fault::new(START_FAILED))?;
    // After an upgrade the running file has another name; the new one stands where it stood.
    let exe = match exe.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(text) => PathBuf::from(text),
        None => exe,
    };
    let dir = exe.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Settings {
        state_dir: arguments.state_dir.clone(),
        cache_dir: arguments.cache_dir.clone(),
        run_dir: arguments.run_dir.clone(),
        shim_exe: dir.join("posada-shim"),
        machine_exe: dir.join("posada-machine"),
        worker_exe: dir.join("posada-worker"),
        posada_exe: exe,
        group,
        proxy: proxy(),
    })
}

/// The proxy of this host: of the environment, else of apt's configuration.
fn proxy() -> Option<String> {
    let variables = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"];
    let given = variables.iter().find_map(|name| std::env::var(name).ok());
    if let Some(proxy) = given.filter(|proxy| !proxy.is_empty()) {
        return Some(proxy);
    }
    let mut files = vec![PathBuf::from("/etc/apt/apt.conf")];
    let dir = std::fs::read_dir("/etc/apt/apt.conf.d")
        .into_iter()
        .flatten()
        .flatten();
    files.extend(dir.map(|entry| entry.path()));
    files.sort();
    files
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|text| apt_proxy(&text))
}

/// The value of a line `Acquire::http::Proxy "URL";` (apt.conf(5)).
fn apt_proxy(text: &str) -> Option<String> {
    let one = |line: &str| {
        let rest = line.trim().strip_prefix("Acquire::http::Proxy")?.trim_start();
        let value = rest.trim_end_matches(';').trim().trim_matches('"');
        value.starts_with("http").then(|| value.to_owned())
    };
    text.lines().find_map(one)
}

/// The number of a group in a file like /etc/group (group(5)).
fn group_id(text: &str, name: &str) -> Option<u32> {
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    };
    text.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_name() {
        let text = "root:x:0:\nposada:x:997:ana\n";
        assert_eq!(group_id(text, "posada"), Some(997));
        assert_eq!(group_id(text, "posad"), None);
        assert_eq!(group_id("posada:x", "posada"), None);
    }

    #[test]
    fn the_proxy_of_apt_is_read() {
        assert_eq!(
            apt_proxy("Acquire::http::Proxy \"http://p:3142\";\n").as_deref(),
            Some("http://p:3142")
        );
        assert_eq!(apt_proxy("Acquire::http::Proxy \"DIRECT\";"), None);
        assert_eq!(apt_proxy("// Acquire::http::Proxy \"http://p\";"), None);
    }
}
