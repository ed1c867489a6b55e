//! The client of the REST interface over a Unix socket: blocking, one typed method for every path.
//!
//! Every method fails with the daemon's own fault, or with one of [`codes`] when the daemon cannot be talked to.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fault::Result;
use model::api::{
    Display, ExecRequest, Explanation, Finding, GuestStats, LaunchRequest, PasswdRequest, PublishRequest,
    RenameRequest, Session, SpecPatch, StopRequest, TrashEntry, VersionInfo,
};
use model::{Guest, Id, Image, Network, Operation};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod events;
mod http;

pub use events::Events;
pub use http::Answer;
use http::{Body, encode};

/// Codes of the faults of talking to the daemon; sentences and hints stand in `words/{en,es}/client.ftl`.
pub mod codes {
    use fault::Code;

    /// No daemon listens on the socket.
    pub const NO_DAEMON: Code = Code("API001");
    /// The socket's permissions keep this user out.
    pub const FORBIDDEN: Code = Code("API002");
    /// The connection ended before the answer was complete.
    pub const LOST: Code = Code("API003");
    /// The answer is not what the interface promises.
    pub const BROKEN: Code = Code("API004");
    /// The daemon refused without a fault of its own.
    pub const REFUSED: Code = Code("API005");
    /// The daemon speaks another version of the interface.
    pub const OTHER_VERSION: Code = Code("API006");
}

/// A key that no other request has; none when the kernel gives no random numbers, and then nothing is repeated.
fn fresh_key() -> Option<String> {
    let mut bytes = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    (filled == Ok(bytes.len())).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Version of the interface that this client speaks.
pub const API_VERSION: u32 = 1;

/// Where a daemon is talked to. Holds no connection: every call makes its own, so a new daemon is not noticed.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    revive: Option<Revive>,
}

/// Sees to it that a daemon listens on a socket again; tells whether one does.
pub type Revive = fn(&Path) -> bool;

/// How often a request is sent before it is given up, and the pause before it is sent again: a daemon that is killed
/// still takes connections for a moment.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl Client {
    /// A client of the daemon on this socket; nothing is sent yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client {
            socket: socket.into(),
            revive: None,
        }
    }

    /// The same for a daemon that was there: a request whose answer is lost because it died is sent to the next one,
    /// which knows it by its key when it had been accepted.
    #[must_use]
    pub fn reviving(mut self, revive: Revive) -> Self {
        self.revive = Some(revive);
        self
    }

    /// A client of the daemon on this socket, once a connection to it has succeeded.
    ///
    /// # Errors
    /// [`codes::NO_DAEMON`] or [`codes::FORBIDDEN`].
    pub fn connect(socket: impl Into<PathBuf>) -> Result<Self> {
        let client = Client::new(socket);
        http::connect(&client.socket)?;
        Ok(client)
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T> {
        self.ask("GET", target, None, None)
    }

    fn send<T: DeserializeOwned>(&self, method: &str, target: &str, body: &impl Serialize) -> Result<T> {
        let bytes =
            serde_json::to_vec(body).map_err(|error| fault::Fault::new(codes::BROKEN).because(error))?;
        self.ask(method, target, Some(&bytes), fresh_key().as_deref())
    }

    fn bare<T: DeserializeOwned>(&self, method: &str, target: &str) -> Result<T> {
        self.ask(method, target, None, fresh_key().as_deref())
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        key: Option<&str>,
    ) -> Result<T> {
        let send = || {
            let body = body.map_or(Body::Empty, Body::Json);
            http::send(&self.socket, method, target, body, key).and_then(Answer::json)
        };
        match method == "GET" || key.is_some() {
            true => self.insist(send),
            false => send(),
        }
    }

    /// Does what may be done again, until a daemon lives long enough to answer.
    fn insist<T>(&self, once: impl Fn() -> Result<T>) -> Result<T> {
        let lost = |fault: &fault::Fault| fault.is(codes::LOST) || fault.is(codes::NO_DAEMON);
        let mut tries = 1;
        loop {
            match (once(), self.revive) {
                (Err(fault), Some(revive)) if lost(&fault) && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    if !revive(&self.socket) {
                        return Err(fault);
                    }
                }
                (answer, _) => return answer,
            }
        }
    }

    /// `GET /v1/version`.
    pub fn version(&self) -> Result<VersionInfo> {
        self.get("/v1/version")
    }

    /// `GET /v1/doctor`.
    pub fn doctor(&self) -> Result<Vec<Finding>> {
        self.get("/v1/doctor")
    }

    /// `GET /v1/openapi.json`.
    pub fn openapi(&self) -> Result<serde_json::Value> {
        self.get("/v1/openapi.json")
    }

    /// `GET /v1/guests`.
    pub fn guests(&self) -> Result<Vec<Guest>> {
        self.get("/v1/guests")
    }

    /// `GET /v1/guests/{name}`.
    pub fn guest(&self, name: &str) -> Result<Guest> {
        self.get(&guest(name, ""))
    }

    /// `POST /v1/guests`.
    pub fn launch(&self, request: &LaunchRequest) -> Result<Operation> {
        self.send("POST", "/v1/guests", request)
    }

    /// `POST /v1/guests?dry_run=true`: the plan that a launch would carry out, as the daemon tells it.
    pub fn launch_plan(&self, request: &LaunchRequest) -> Result<serde_json::Value> {
        self.send("POST", "/v1/guests?dry_run=true", request)
    }

    /// `PATCH /v1/guests/{name}`.
    pub fn set(&self, name: &str, patch: &SpecPatch) -> Result<Operation> {
        self.send("PATCH", &guest(name, ""), patch)
    }

    /// `DELETE /v1/guests/{name}`.
    pub fn remove(&self, name: &str, purge: bool, force: bool) -> Result<Operation> {
        self.bare("DELETE", &guest(name, &format!("?purge={purge}&force={force}")))
    }

    /// `POST /v1/guests/{name}/start`.
    pub fn start(&self, name: &str) -> Result<Operation> {
        self.bare("POST", &guest(name, "/start"))
    }

    /// `POST /v1/guests/{name}/stop`.
    pub fn stop(&self, name: &str, request: &StopRequest) -> Result<Operation> {
        self.send("POST", &guest(name, "/stop"), request)
    }

    /// `POST /v1/guests/{name}/restart`.
    pub fn restart(&self, name: &str, request: &StopRequest) -> Result<Operation> {
        self.send("POST", &guest(name, "/restart"), request)
    }

    /// `POST /v1/guests/{name}/pause`.
    pub fn pause(&self, name: &str) -> Result<Operation> {
        self.bare("POST", &guest(name, "/pause"))
    }

    /// `POST /v1/guests/{name}/resume`.
    pub fn resume(&self, name: &str) -> Result<Operation> {
        self.bare("POST", &guest(name, "/resume"))
    }

    /// `POST /v1/guests/{name}/rename`.
    pub fn rename(&self, name: &str, request: &RenameRequest) -> Result<Operation> {
        self.send("POST", &guest(name, "/rename"), request)
    }

    /// `POST /v1/guests/{name}/publish`.
    pub fn publish(&self, name: &str, request: &PublishRequest) -> Result<Operation> {
        self.send("POST", &guest(name, "/publish"), request)
    }

    /// `POST /v1/guests/{name}/passwd`.
    pub fn passwd(&self, name: &str, request: &PasswdRequest) -> Result<Operation> {
        self.send("POST", &guest(name, "/passwd"), request)
    }

    /// `POST /v1/guests/{name}/exec`.
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<Session> {
        self.send("POST", &guest(name, "/exec"), request)
    }

    /// `POST /v1/guests/{name}/console`.
    pub fn console(&self, name: &str) -> Result<Session> {
        self.bare("POST", &guest(name, "/console"))
    }

    /// `POST /v1/guests/{name}/vnc`: where the screen of a machine is served.
    pub fn vnc(&self, name: &str) -> Result<Display> {
        self.bare("POST", &guest(name, "/vnc"))
    }

    /// `GET /v1/guests/{name}/screenshot`: what the screen of a machine shows, a PNG picture or text.
    pub fn screenshot(&self, name: &str, text: bool) -> Result<Answer> {
        let target = guest(name, &format!("/screenshot?text={text}"));
        http::send(&self.socket, "GET", &target, Body::Empty, None)
    }

    /// `GET /v1/guests/{name}/wait`: the guest, as soon as it is `running`, `stopped` or has an `ip` (the words of
    /// `conditions`), or the daemon's fault after `timeout` seconds.
    pub fn wait(&self, name: &str, conditions: &[&str], timeout: Option<u64>) -> Result<Guest> {
        let mut query = format!("?for={}", conditions.join(","));
        if let Some(seconds) = timeout {
            query.push_str(&format!("&timeout={seconds}"));
        }
        self.get(&guest(name, &format!("/wait{query}")))
    }

    /// `GET /v1/guests/{name}/stats`.
    pub fn stats_of(&self, name: &str) -> Result<GuestStats> {
        self.get(&guest(name, "/stats"))
    }

    /// `GET /v1/stats`: use of every running guest, by name.
    pub fn stats(&self) -> Result<BTreeMap<String, GuestStats>> {
        self.get("/v1/stats")
    }

    /// `GET /v1/guests/{name}/explain`.
    pub fn explain(&self, name: &str) -> Result<Explanation> {
        self.get(&guest(name, "/explain"))
    }

    /// `GET /v1/guests/{name}/logs`: the log of `console` or `firmware` as a stream; with `follow` it goes on as long
    /// as the guest.
    pub fn logs(&self, name: &str, source: &str, tail: Option<u64>, follow: bool) -> Result<Answer> {
        let mut query = format!("/logs?source={source}&follow={follow}");
        if let Some(lines) = tail {
            query.push_str(&format!("&tail={lines}"));
        }
        http::send(&self.socket, "GET", &guest(name, &query), Body::Empty, None)
    }

    /// `GET /v1/guests/{name}/files`: what lies at the path inside, as a tar stream.
    pub fn read_files(&self, name: &str, path: &str) -> Result<Answer> {
        let target = guest(name, &format!("/files?path={}", encode(path)));
        http::send(&self.socket, "GET", &target, Body::Empty, None)
    }

    /// `PUT /v1/guests/{name}/files`: unpacks a tar stream into the directory at the path inside.
    pub fn write_files(&self, name: &str, path: &str, tar: &mut dyn Read) -> Result<()> {
        let target = guest(name, &format!("/files?path={}", encode(path)));
        http::send(&self.socket, "PUT", &target, Body::Stream(tar), None).map(drop)
    }

    /// `GET /v1/trash`.
    pub fn trash(&self) -> Result<Vec<TrashEntry>> {
        self.get("/v1/trash")
    }

    /// `DELETE /v1/trash`.
    pub fn empty_trash(&self) -> Result<Operation> {
        self.bare("DELETE", "/v1/trash")
    }

    /// `POST /v1/trash/{id}/restore`.
    pub fn restore(&self, id: &Id) -> Result<Operation> {
        self.bare("POST", &format!("/v1/trash/{}/restore", encode(&id.0)))
    }

    /// `GET /v1/images`.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.get("/v1/images")
    }

    /// `GET /v1/images/{digest or reference}`.
    pub fn image(&self, reference: &str) -> Result<Image> {
        self.get(&format!("/v1/images/{}", encode(reference)))
    }

    /// `DELETE /v1/images/{digest or reference}`.
    pub fn remove_image(&self, reference: &str) -> Result<Operation> {
        self.bare("DELETE", &format!("/v1/images/{}", encode(reference)))
    }

    /// `POST /v1/images/prune`.
    pub fn prune_images(&self) -> Result<Operation> {
        self.bare("POST", "/v1/images/prune")
    }

    /// `GET /v1/networks`.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.get("/v1/networks")
    }

    /// `GET /v1/networks/{name}`.
    pub fn network(&self, name: &str) -> Result<Network> {
        self.get(&format!("/v1/networks/{}", encode(name)))
    }

    /// `GET /v1/operations`.
    pub fn operations(&self) -> Result<Vec<Operation>> {
        self.get("/v1/operations")
    }

    /// `GET /v1/operations/{id}`.
    pub fn operation(&self, id: &str) -> Result<Operation> {
        self.get(&format!("/v1/operations/{}", encode(id)))
    }

    /// `DELETE /v1/operations/{id}`: asks the operation to end; what it had done is undone.
    pub fn cancel(&self, id: &str) -> Result<Operation> {
        self.bare("DELETE", &format!("/v1/operations/{}", encode(id)))
    }

    /// `GET /v1/operations/{id}/wait`: the operation as soon as its revision is above `revision`, or as it is after
    /// half a minute.
    pub fn wait_operation(&self, id: &str, revision: u64) -> Result<Operation> {
        self.get(&format!("/v1/operations/{}/wait?revision={revision}", encode(id)))
    }

    /// `GET /v1/events`: the stored events after this revision.
    pub fn events(&self, since: u64) -> Result<Vec<model::Event>> {
        self.get(&format!("/v1/events?since={since}"))
    }

    /// `GET /v1/events` as a websocket: the stored events after this revision (all when 0), then every new one.
    pub fn follow_events(&self, since: u64) -> Result<Events> {
        self.insist(|| Events::open(&self.socket, since))
    }
}

fn guest(name: &str, rest: &str) -> String {
    format!("/v1/guests/{}{rest}", encode(name))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_request_whose_answer_is_lost_is_sent_again_with_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let mut keys = Vec::new();
            for answer in ["", "HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\ntrue"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap();
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let key = text.lines().find(|line| line.starts_with("Idempotency-Key: "));
                keys.push(key.unwrap().to_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            keys
        });
        let client = Client::new(&path).reviving(|_| true);
        assert!(client.bare::<bool>("POST", "/v1/x").unwrap());
        let keys = daemon.join().unwrap();
        assert_eq!(keys[0], keys[1]);
        assert_ne!(fresh_key(), fresh_key());
    }

    #[test]
    fn without_anybody_to_revive_it_a_dead_daemon_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(folder.path().join("nobody"));
        let told = client.bare::<bool>("POST", "/v1/x").unwrap_err();
        assert!(told.is(codes::NO_DAEMON), "{told}");
    }
}
