//! The REST interface through the real daemon: every path of the OpenAPI document is called, and no body breaks it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;

use labs::{Host, SOCKET, host, sh};
use serde_json::{Value, json};

/// Status and body of an answer.
fn call(method: &str, path: &str, body: Option<&str>) -> (u16, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let data = body.map(|body| {
        std::fs::write(&file, body).unwrap();
        format!(
            "-H 'Content-Type: application/json' --data-binary @{}",
            file.display()
        )
    });
    let line = format!(
        "curl -sS -g --max-time 60 --unix-socket {SOCKET} -X {method} {} -w '\\n%{{http_code}}' 'http://posada{path}'",
        data.unwrap_or_default()
    );
    let out = sh(&line).ok();
    let (text, status) = out.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), text.to_owned())
}

/// Calls that must be answered with 2xx; the operation they start, if any, is waited for.
fn good(host: &Host, method: &str, path: &str, body: Value) -> Value {
    let text = body.to_string();
    let (status, answer) = call(method, path, (!body.is_null()).then_some(text.as_str()));
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
    if answer["target"].is_string() && answer["state"].is_string() && !path.contains("/operations") {
        let id = answer["id"].as_str().unwrap();
        labs::until("the operation ends", std::time::Duration::from_secs(60), || {
            let state = host.json(&format!("operation show {id}"))["state"].clone();
            assert_ne!(
                state,
                "failed",
                "{method} {path}: {}",
                host.ok(&format!("operation show {id}"))
            );
            state == "done"
        });
    }
    answer
}

/// Calls by path of the document, noted down.
struct Calls<'a> {
    host: &'a Host,
    called: BTreeSet<String>,
}

impl Calls<'_> {
    fn go(&mut self, method: &str, template: &str, path: &str, body: Value) -> Value {
        self.called.insert(format!("{method} {template}"));
        good(self.host, method, path, body)
    }

    fn plain(&mut self, path: &str) -> Value {
        self.go("GET", path, path, Value::Null)
    }

    /// A path below `/v1/guests/api`.
    fn guest(&mut self, method: &str, rest: &str, query: &str, body: Value) -> Value {
        let template = format!("/v1/guests/{{name}}{rest}");
        self.go(method, &template, &format!("/v1/guests/api{rest}{query}"), body)
    }
}

/// Paths that only look.
fn look_at_everything(calls: &mut Calls) {
    for noun in [
        "version",
        "doctor",
        "openapi.json",
        "guests",
        "stats",
        "images",
        "networks",
        "operations",
        "events",
        "trash",
    ] {
        calls.plain(&format!("/v1/{noun}"));
    }
    calls.go(
        "GET",
        "/v1/images/{reference}",
        "/v1/images/debian%2F12",
        Value::Null,
    );
    let networks = calls.host.client().networks().unwrap();
    calls.go(
        "GET",
        "/v1/networks/{name}",
        &format!("/v1/networks/{}", networks[0].name),
        Value::Null,
    );
}

/// A guest's life, path by path; returns the operation that removed it.
fn live(calls: &mut Calls) -> Value {
    let spec = json!({"image": "debian/12", "init": {"type": "command", "argv": ["sleep", "infinity"]}});
    calls.go(
        "POST",
        "/v1/guests",
        "/v1/guests?dry_run=true",
        json!({"name": "api", "spec": spec}),
    );
    calls.go(
        "POST",
        "/v1/guests",
        "/v1/guests",
        json!({"name": "api", "spec": spec}),
    );
    calls.guest("GET", "", "", Value::Null);
    calls.guest("PATCH", "", "", json!({"labels": {"a": "b"}}));
    for (rest, query) in [
        ("/wait", "?for=running&timeout=10"),
        ("/stats", ""),
        ("/explain", ""),
        ("/logs", "?tail=10"),
        ("/files", "?path=/etc/hostname"),
    ] {
        calls.guest("GET", rest, query, Value::Null);
    }
    for (rest, body) in [
        ("/exec", json!({"argv": ["true"]})),
        ("/console", Value::Null),
        ("/pause", Value::Null),
        ("/resume", Value::Null),
        (
            "/publish",
            json!({"add": [{"host_port": 8321, "guest_port": 80}]}),
        ),
        ("/passwd", json!({"password_hash": "$6$abc$def"})),
        ("/restart", json!({"force": true})),
        ("/stop", json!({"force": true})),
        ("/start", Value::Null),
    ] {
        calls.guest("POST", rest, "", body);
    }
    let put = "tar -C /etc -cf - hostname | curl -sS --fail --unix-socket /run/posada/api.sock -X PUT \
               --data-binary @- -H 'Content-Type: application/x-tar' 'http://posada/v1/guests/api/files?path=/root'";
    sh(put).ok();
    calls.called.insert("PUT /v1/guests/{name}/files".to_owned());
    // A container has no screen: refused, not failed.
    for (method, path) in [
        ("POST", "/v1/guests/api/vnc"),
        ("GET", "/v1/guests/api/screenshot?text=true"),
    ] {
        let (status, answer) = call(method, path, None);
        assert!((400..500).contains(&status), "{path}: {status} {answer}");
    }
    calls.called.extend([
        "POST /v1/guests/{name}/vnc".to_owned(),
        "GET /v1/guests/{name}/screenshot".to_owned(),
    ]);
    calls.guest("POST", "/rename", "", json!({"name": "api2"}));
    calls.go(
        "DELETE",
        "/v1/guests/{name}",
        "/v1/guests/api2?purge=false&force=true",
        Value::Null,
    )
}

/// Operations, trash and images once a guest is gone.
fn afterwards(calls: &mut Calls, removed: &Value) {
    let id = removed["id"].as_str().unwrap();
    calls.go(
        "GET",
        "/v1/operations/{id}",
        &format!("/v1/operations/{id}"),
        Value::Null,
    );
    calls.go(
        "GET",
        "/v1/operations/{id}/wait",
        &format!("/v1/operations/{id}/wait"),
        Value::Null,
    );
    let trash = calls.host.client().trash().unwrap();
    let entry = &trash
        .iter()
        .find(|entry| entry.name.as_str() == "api2")
        .unwrap()
        .id;
    calls.go(
        "POST",
        "/v1/trash/{id}/restore",
        &format!("/v1/trash/{entry}/restore"),
        Value::Null,
    );
    good(
        calls.host,
        "DELETE",
        "/v1/guests/api2?purge=false&force=true",
        Value::Null,
    );
    calls.go("POST", "/v1/images/prune", "/v1/images/prune", Value::Null);
    // These answer with a refusal here: the work has ended, the image is used.
    let (status, answer) = call("DELETE", &format!("/v1/operations/{id}"), None);
    assert!(status < 500, "{status} {answer}");
    let (status, answer) = call("DELETE", "/v1/images/debian%2F12", None);
    assert!(
        (400..500).contains(&status),
        "an image in use was removed: {status} {answer}"
    );
    calls.called.extend([
        "DELETE /v1/operations/{id}".to_owned(),
        "DELETE /v1/images/{reference}".to_owned(),
    ]);
    calls.go("DELETE", "/v1/trash", "/v1/trash", Value::Null);
}

#[test]
fn every_path_of_the_document_is_answered() {
    let (host, _turn) = host();
    host.launch_sleeper("seed", "");
    let document: Value = host.client().openapi().unwrap();
    let mut wanted = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
        {
            wanted.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut calls = Calls {
        host: &host,
        called: BTreeSet::new(),
    };
    look_at_everything(&mut calls);
    let removed = live(&mut calls);
    afterwards(&mut calls, &removed);
    let without: Vec<&String> = wanted.difference(&calls.called).collect();
    assert!(
        without.is_empty(),
        "paths of the document that nothing calls: {without:?}"
    );
    let unknown: Vec<&String> = calls.called.difference(&wanted).collect();
    assert!(
        unknown.is_empty(),
        "paths that the document does not tell: {unknown:?}"
    );
    host.purge(&["seed", "api2"]);
}

#[test]
fn malformed_bodies_are_refused_with_a_fault_and_harm_nothing() {
    let (host, _turn) = host();
    host.launch_sleeper("mal", "");
    let pid = host.daemon_pid();
    let document: Value = host.client().openapi().unwrap();
    let deep = "[".repeat(20_000);
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "0",
        "\"x\"",
        "{\"name\":1}",
        "{\"unknown\":true}",
        "{\"spec\":{}}",
        "{\"name\":\"../../etc\",\"spec\":{\"image\":\"debian/12\"}}",
        "{\"spec\":{\"image\":\"file:\"}}",
        "{\"spec\":{\"image\":\"debian/12\",\"limits\":{\"cpus\":-1e308}}}",
        "{\"spec\":{\"image\":\"debian/12\",\"limits\":{\"memory\":-1}}}",
        "{\"add\":[{\"host_port\":70000,\"guest_port\":80}]}",
        "{\"argv\":[\"\\u0000\"]}",
        "{\"timeout\":-1}",
        "\u{feff}{}",
        "{\"name\":\"\\ud800\"}",
        &deep,
        &long,
    ];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["post", "patch"]
            .into_iter()
            .filter(|method| methods.get(*method).is_some())
        {
            if methods[method]["requestBody"].is_null() {
                continue;
            }
            let path = path
                .replace("{name}", "mal")
                .replace("{id}", "mal")
                .replace("{reference}", "mal");
            for body in bodies {
                // An empty object is a proper body where every field has a default; what is refused must be said well.
                let (status, answer) = call(&method.to_uppercase(), &path, Some(body));
                assert!(
                    status < 500,
                    "{method} {path} with {}: {status} {answer}",
                    &body[..body.len().min(80)]
                );
                if status >= 400 {
                    let fault: Value =
                        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{method} {path}: {answer}"));
                    assert!(
                        fault["fault"]["code"].is_string() && fault["message"].is_string(),
                        "{method} {path}: {answer}"
                    );
                }
            }
        }
    }
    assert_eq!(host.daemon_pid(), pid, "the daemon is another one");
    host.purge(&["mal"]);
}

#[test]
fn unknown_paths_methods_and_guests_are_faults_too() {
    let (host, _turn) = host();
    host.launch_sleeper("some", "");
    for (method, path, wanted) in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/guests/nobody", 404),
        ("PUT", "/v1/version", 405),
    ] {
        let (status, answer) = call(method, path, None);
        assert_eq!(status, wanted, "{method} {path}: {answer}");
        assert!(
            serde_json::from_str::<Value>(&answer).unwrap()["fault"]["code"].is_string(),
            "{answer}"
        );
    }
    host.purge(&["some"]);
}

#[test]
fn the_socket_is_for_root_and_its_group_only() {
    let (host, _turn) = host();
    host.ok("ls");
    let mode = sh(&format!("stat -c '%a %U' {SOCKET}")).ok();
    assert!(["660 root\n", "600 root\n"].contains(&mode.as_str()), "{mode}");
    let asked = sh(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups curl -sS --unix-socket {SOCKET} http://posada/v1/version"
    ));
    assert_ne!(asked.code, 0, "nobody was answered");
}
