//! Operations against real files: order, restart at any step, undo, cancel, panics.

#![allow(clippy::unwrap_used, reason = "a test ends where its ground fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fault::{Code, Fault, Result};
use model::{CANCELLED, OperationState};
use ops::{Kind, New, Runner, Step, Work};
use serde_json::json;
use store::{Store, Txn};

/// What the steps of these tests refuse with.
const REFUSED: Code = Code("OPS003");

/// Steps that make files in a directory.
struct World {
    dir: PathBuf,
    refuse: AtomicBool,
}

fn make(world: &World, name: &str) -> Result<()> {
    std::fs::write(world.dir.join(name), b"").map_err(|e| Fault::new(REFUSED).because(e))
}

fn unmake(world: &World, name: &str) -> Result<()> {
    match std::fs::remove_file(world.dir.join(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::new(REFUSED).because(error)),
        _ => Ok(()),
    }
}

fn build() -> Kind<World> {
    let first = Step {
        name: "step-a",
        run: |world: &World, work: &mut Work| {
            work.write_down("colour", &"blue");
            make(world, "a")
        },
        undo: |world, _| unmake(world, "a"),
    };
    let second = Step {
        name: "step-b",
        run: |world: &World, work: &mut Work| {
            if world.refuse.load(Ordering::Relaxed) {
                make(world, "b")?;
                return Err(Fault::new(REFUSED));
            }
            make(world, &work.need::<String>("colour")?)
        },
        undo: |world, work| {
            unmake(world, "b")?;
            let name = work.note::<String>("colour")?;
            name.map_or(Ok(()), |name| unmake(world, &name))
        },
    };
    Kind {
        name: "build",
        steps: vec![first, second],
        abandoned: |world, _, _| make(world, "abandoned"),
    }
}

fn kinds() -> Vec<Kind<World>> {
    let one = |name, step, run| Kind {
        name,
        steps: vec![Step {
            name: step,
            run,
            undo: ops::nothing,
        }],
        abandoned: |_, _, _| Ok(()),
    };
    let wait: fn(&World, &mut Work) -> Result<()> = |_, work| {
        loop {
            work.safe_point()?;
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    vec![
        build(),
        one("wait", "step-wait", wait),
        one("panic", "step-panic", |_, _| panic!("a defect")),
    ]
}

struct Ground {
    _dir: tempfile::TempDir,
    path: PathBuf,
    world: Arc<World>,
}

fn ground() -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    Ground {
        path: dir.path().join("store.redb"),
        world: Arc::new(World {
            dir: files,
            refuse: AtomicBool::new(false),
        }),
        _dir: dir,
    }
}

fn runner(path: &Path) -> Arc<Runner<World>> {
    let store = Store::open(path, 1, &[]).unwrap();
    Arc::new(Runner::new(Arc::new(store), kinds()))
}

fn ask(kind: &'static str) -> New {
    New {
        kind,
        target: "things/x".to_owned(),
        queue: "x".to_owned(),
        args: json!({}),
        actor: "uid:0".into(),
    }
}

fn ended(runner: &Runner<World>, id: &model::Id) -> model::Operation {
    let operation = runner.wait(id, u64::MAX, Duration::from_secs(20)).unwrap();
    assert!(operation.ended.is_some(), "{operation:?}");
    operation
}

fn files(world: &World) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(&world.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

#[test]
fn the_steps_of_build_are_idempotent_and_undone() {
    let mut grounds = Vec::new();
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        let world = World {
            dir: dir.path().to_owned(),
            refuse: AtomicBool::new(false),
        };
        grounds.push(dir);
        (world, json!({}))
    };
    ops::harness::prove(&build(), fresh, files).unwrap();
}

#[test]
fn an_operation_runs_to_its_end_and_tells_so() {
    let ground = ground();
    let runner = runner(&ground.path);
    let operation = runner.submit(&ground.world, ask("build"), Txn::new()).unwrap();
    let operation = ended(&runner, &operation.id);
    assert_eq!(operation.state, OperationState::Done);
    assert_eq!(files(&ground.world), ["a", "blue"]);
}

#[test]
fn a_failed_step_is_undone_with_those_before_it() {
    let ground = ground();
    ground.world.refuse.store(true, Ordering::Relaxed);
    let runner = runner(&ground.path);
    let operation = runner.submit(&ground.world, ask("build"), Txn::new()).unwrap();
    let operation = ended(&runner, &operation.id);
    assert_eq!(operation.state, OperationState::Failed);
    assert!(operation.fault.unwrap().is(REFUSED));
    assert_eq!(files(&ground.world), ["abandoned"]);
}

#[test]
fn requests_for_one_target_queue_and_a_cancelled_one_frees_it() {
    let ground = ground();
    let runner = runner(&ground.path);
    let first = runner.submit(&ground.world, ask("wait"), Txn::new()).unwrap();
    let second = runner.submit(&ground.world, ask("build"), Txn::new()).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(runner.get(&second.id).unwrap().state, OperationState::Queued);
    assert_eq!(runner.open_in("x").unwrap().len(), 2);
    runner.cancel(&first.id).unwrap();
    let first = ended(&runner, &first.id);
    assert_eq!(first.state, OperationState::Cancelled);
    assert!(first.fault.unwrap().is(CANCELLED));
    assert_eq!(ended(&runner, &second.id).state, OperationState::Done);
    assert!(runner.cancel(&second.id).unwrap_err().is(ops::ENDED));
}

#[test]
fn a_panic_is_a_failed_operation_and_the_next_one_runs() {
    let ground = ground();
    let runner = runner(&ground.path);
    let bad = runner.submit(&ground.world, ask("panic"), Txn::new()).unwrap();
    let good = runner.submit(&ground.world, ask("build"), Txn::new()).unwrap();
    assert!(ended(&runner, &bad.id).fault.unwrap().is(ops::DEFECT));
    assert_eq!(ended(&runner, &good.id).state, OperationState::Done);
}

#[test]
fn operations_whose_daemon_died_are_resumed_by_the_next() {
    let ground = ground();
    let crash = ground.path.with_extension("crash");
    let build = {
        let runner = runner(&ground.path);
        let wait = runner.submit(&ground.world, ask("wait"), Txn::new()).unwrap();
        let build = runner.submit(&ground.world, ask("build"), Txn::new()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        // The daemon dies here: what its file holds is what the next one finds.
        std::fs::copy(&ground.path, &crash).unwrap();
        runner.cancel(&wait.id).unwrap();
        ended(&runner, &build.id);
        build.id
    };
    for name in files(&ground.world) {
        unmake(&ground.world, &name).unwrap();
    }
    let runner = runner(&crash);
    assert_eq!(runner.resume(&ground.world).unwrap(), 2);
    let waiting = runner.list().unwrap().remove(0);
    assert_eq!(waiting.kind, "wait");
    runner.cancel(&waiting.id).unwrap();
    assert_eq!(ended(&runner, &build).state, OperationState::Done);
    assert_eq!(files(&ground.world), ["a", "blue"]);
}

#[test]
fn a_request_that_comes_again_is_known_by_its_key() {
    let ground = ground();
    let runner = runner(&ground.path);
    let again = || New {
        actor: ops::Actor {
            name: "uid:0".to_owned(),
            key: Some("k1".to_owned()),
        },
        ..ask("build")
    };
    assert_eq!(runner.asked_before("k1").unwrap(), None);
    let begun = runner.submit(&ground.world, again(), Txn::new()).unwrap();
    let second = runner.submit(&ground.world, again(), Txn::new()).unwrap_err();
    assert!(second.is(store::CONFLICT), "{second}");
    assert_eq!(runner.asked_before("k1").unwrap().unwrap().id, begun.id);
    ended(&runner, &begun.id);
}
