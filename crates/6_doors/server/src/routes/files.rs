//! Files of a guest, as tar streams, and its console log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use control::Files;
use control::codes::STATE_BROKEN;
use fault::{Fault, OrFault};
use model::Phase;
use model::api::ErrorBody;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use utoipa::IntoParams;

use crate::answer::{Answer, Refusal};
use crate::codes::BODY_INVALID;
use crate::request::{Named, Params};
use crate::state::Door;
use crate::stream::{self, Block};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(150);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathQuery {
    /// Absolute path inside the guest.
    path: String,
}

/// What lies at a path inside, as a tar stream.
#[utoipa::path(get, path = "/v1/guests/{name}/files", operation_id = "read_files",
    params(("name" = String, Path), PathQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar"), (status = "default", body = ErrorBody)))]
pub(crate) async fn read(
    State(door): State<Door>,
    Named(name): Named,
    Params(query): Params<PathQuery>,
) -> Result<Response, Refusal> {
    let (files, first) = door
        .ask(move |control| begin(control.read_files(&name, &query.path)?))
        .await?;
    let stream = files.stream.try_clone();
    let stream = stream.or_fault(|| Fault::new(STATE_BROKEN).arg("path", "descriptor"))?;
    let body = stream::body_of(first, stream, files);
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

/// Reads the first block of a stream, which is a fault in JSON when the process inside could not begin.
fn begin(files: Files) -> fault::Result<(Files, Vec<u8>)> {
    let broken = || Fault::new(STATE_BROKEN).arg("path", "stream");
    let mut stream = File::from(files.stream.try_clone().or_fault(broken)?);
    // The least that a tar archive begins with; a fault is shorter or told whole within the limit.
    let mut first = vec![0; 512];
    let mut length = 0;
    while length < first.len() {
        match stream.read(&mut first[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken().because(error)),
        }
    }
    first.truncate(length);
    if first.starts_with(b"{\"code\"") {
        let mut rest = Vec::new();
        let mut whole = first.clone();
        if stream.take(64 * 1024).read_to_end(&mut rest).is_ok() {
            whole.append(&mut rest);
        }
        if let Ok(fault) = serde_json::from_slice::<Fault>(&whole) {
            return Err(fault);
        }
        return Ok((files, whole));
    }
    if first.is_empty() {
        return Err(broken().because_of("the copy ended before it began"));
    }
    Ok((files, first))
}

/// Unpack a tar stream into the directory at a path inside.
#[utoipa::path(put, path = "/v1/guests/{name}/files", operation_id = "write_files",
    params(("name" = String, Path), PathQuery), request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(crate) async fn write(
    State(door): State<Door>,
    Named(name): Named,
    Params(query): Params<PathQuery>,
    request: Request,
) -> Answer<serde_json::Value> {
    let files = door
        .ask(move |control| control.write_files(&name, &query.path))
        .await?;
    let (sender, receiver) = channel::<Bytes>(4);
    let writing = tokio::task::spawn_blocking(move || unload(files, receiver));
    let mut body = request.into_body();
    let mut broken = None;
    while let Some(frame) = next_frame(&mut body).await {
        match frame {
            // The other side gives up only with a reason, which it tells below.
            Ok(bytes) => {
                if sender.send(bytes).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(Fault::new(BODY_INVALID).because(error));
                break;
            }
        }
    }
    drop(sender);
    let done = writing
        .await
        .unwrap_or_else(|_| Err(Fault::new(crate::codes::DEFECT)));
    match broken {
        Some(fault) => Err(Refusal(fault)),
        None => {
            done?;
            Ok(Json(serde_json::json!({})))
        }
    }
}

async fn next_frame(body: &mut axum::body::Body) -> Option<Result<Bytes, axum::Error>> {
    use axum::body::HttpBody;
    loop {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await?;
        match frame {
            Ok(frame) => {
                // Trailers say nothing to us.
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Writes blocks into the guest; what comes back afterwards is the fault of the process inside, or nothing.
fn unload(files: Files, mut blocks: Receiver<Bytes>) -> fault::Result<()> {
    let broken = || Fault::new(STATE_BROKEN).arg("path", "stream");
    let mut stream = File::from(files.stream.try_clone().or_fault(broken)?);
    let mut failed = None;
    while let Some(bytes) = blocks.blocking_recv() {
        if let Err(error) = stream.write_all(&bytes) {
            failed = Some(broken().because(error));
            break;
        }
    }
    drop(blocks);
    // The process inside is told of the end, and tells how it went: `done`, or its fault.
    let _ = rustix::net::shutdown(files.stream.as_fd(), rustix::net::Shutdown::Write);
    let mut told = Vec::new();
    // Whatever it tells after a reset is lost, and the write's own error tells then.
    let _ = stream.take(64 * 1024).read_to_end(&mut told);
    if told == b"done" {
        return Ok(());
    }
    if let Ok(fault) = serde_json::from_slice::<Fault>(&told) {
        return Err(fault);
    }
    Err(failed.unwrap_or_else(|| broken().because_of("the copy ended without a word")))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsQuery {
    /// Only so many last lines.
    #[serde(default)]
    tail: Option<usize>,
    /// Go on as long as the guest runs.
    #[serde(default)]
    follow: bool,
    /// Of what: `console`, or of a machine `firmware`.
    #[serde(default)]
    source: LogSource,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogSource {
    #[default]
    Console,
    Firmware,
}

/// The console log, or what a machine's firmware says, as a stream of bytes.
#[utoipa::path(get, path = "/v1/guests/{name}/logs", operation_id = "logs_guest",
    params(("name" = String, Path), LogsQuery),
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = ErrorBody)))]
pub(crate) async fn logs(
    State(door): State<Door>,
    Named(name): Named,
    Params(query): Params<LogsQuery>,
) -> Result<Response, Refusal> {
    let asked = name.clone();
    let firmware = query.source == LogSource::Firmware;
    let (guest, files) = door
        .ask(move |control| control.log_files(&asked, firmware))
        .await?;
    let (sender, body) = stream::body();
    tokio::spawn(async move {
        let files = files;
        let reading = tokio::task::spawn_blocking({
            let sender = sender.clone();
            move || send_tail(&files, query.tail, &sender)
        });
        let Ok(Some(log)) = reading.await else {
            return;
        };
        if query.follow {
            follow(&door, &guest.id.0, firmware, log, &sender).await;
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// A log under way: its file, and where it lies.
struct Log {
    path: PathBuf,
    file: Option<File>,
}

/// Sends the last lines of the files, older first; gives back the newest file, read to its end. None when the client
/// has gone.
fn send_tail(files: &[PathBuf], tail: Option<usize>, sender: &Sender<Block>) -> Option<Log> {
    let mut open: Vec<(PathBuf, File)> = files
        .iter()
        .filter_map(|path| Some((path.clone(), File::open(path).ok()?)))
        .collect();
    let mut skip = match tail {
        Some(lines) => count_lines(&mut open).saturating_sub(lines),
        None => 0,
    };
    let mut block = vec![0; 64 * 1024];
    for (_, file) in &mut open {
        while let Ok(length @ 1..) = file.read(&mut block) {
            let mut rest = &block[..length];
            while skip > 0 {
                let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                    rest = &[];
                    break;
                };
                rest = &rest[end + 1..];
                skip -= 1;
            }
            if !rest.is_empty() && sender.blocking_send(Ok(Bytes::copy_from_slice(rest))).is_err() {
                return None;
            }
        }
    }
    let path = files.last().cloned().unwrap_or_default();
    let file = open.pop().map(|(_, file)| file);
    Some(Log { path, file })
}

/// Lines of all files together, each read once and set back to its beginning.
fn count_lines(files: &mut [(PathBuf, File)]) -> usize {
    let mut lines = 0;
    let mut ended = true;
    let mut block = vec![0; 64 * 1024];
    for (_, file) in files {
        while let Ok(length @ 1..) = file.read(&mut block) {
            lines += block[..length].split(|byte| *byte == b'\n').count() - 1;
            ended = block[length - 1] == b'\n';
        }
        // Files on disk can always be set back.
        let _ = file.seek(SeekFrom::Start(0));
    }
    lines + usize::from(!ended)
}

async fn follow(door: &Door, id: &str, firmware: bool, mut log: Log, sender: &Sender<Block>) {
    loop {
        let id = id.to_owned();
        let alive = door.ask(move |control| {
            let phase = control.guest(&id)?.status.phase;
            let files = control.log_files(&id, firmware)?.1;
            Ok((
                matches!(
                    phase,
                    Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping
                ),
                files,
            ))
        });
        let Ok((alive, files)) = alive.await else {
            return;
        };
        if log.path.as_os_str().is_empty() {
            log.path = files.last().cloned().unwrap_or_default();
        }
        for bytes in news(&mut log) {
            if sender.send(Ok(bytes)).await.is_err() {
                return;
            }
        }
        if !alive || sender.is_closed() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What has been written since the last look, also into a new file that took the old one's place. Files are on disk
/// and blocks small: reading does not block for long.
fn news(log: &mut Log) -> Vec<Bytes> {
    let mut all = Vec::new();
    let mut block = vec![0; 64 * 1024];
    for _ in 0..2 {
        if let Some(file) = &mut log.file {
            while let Ok(length @ 1..) = file.read(&mut block) {
                all.push(Bytes::copy_from_slice(&block[..length]));
                if all.len() >= 64 {
                    return all;
                }
            }
        }
        if same_file(log.file.as_ref(), &log.path) {
            break;
        }
        log.file = File::open(&log.path).ok();
    }
    all
}

fn same_file(file: Option<&File>, path: &Path) -> bool {
    let open = file.and_then(|file| file.metadata().ok());
    match (open, path.metadata()) {
        (Some(open), Ok(there)) => open.ino() == there.ino() && open.dev() == there.dev(),
        (_, Err(_)) => true,
        (None, Ok(_)) => false,
    }
}
