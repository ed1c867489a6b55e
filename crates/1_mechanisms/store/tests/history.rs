//! The store against a model of itself, against a crash, and against newer and older layouts.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use store::{CONFLICT, Expected, Migration, STORE_NEWER, STORE_TAKEN, Store, Txn};

#[derive(Clone, Debug)]
enum Action {
    Put(u8, u32),
    PutIfAbsent(u8, u32),
    PutIfUnchanged(u8, u32, bool),
    Delete(u8),
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        (0..4u8, any::<u32>()).prop_map(|(k, v)| Action::Put(k, v)),
        (0..4u8, any::<u32>()).prop_map(|(k, v)| Action::PutIfAbsent(k, v)),
        (0..4u8, any::<u32>(), any::<bool>()).prop_map(|(k, v, b)| Action::PutIfUnchanged(k, v, b)),
        (0..4u8).prop_map(Action::Delete),
        Just(Action::Reopen),
    ];
    proptest::collection::vec(one, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_back_as_the_model_says(actions in actions()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let mut store = Store::open(&path, 1, &[]).unwrap();
        let mut model: BTreeMap<String, (u64, u32)> = BTreeMap::new();
        let (mut revision, mut facts) = (0, 0);
        for action in actions {
            let key = |k: u8| format!("things/{k}");
            let (txn, k, value, allowed) = match action {
                Action::Put(k, v) => (Txn::new(), k, Some(v), true),
                Action::PutIfAbsent(k, v) => (
                    Txn::new().expect(&key(k), Expected::Absent), k, Some(v), !model.contains_key(&key(k)),
                ),
                Action::PutIfUnchanged(k, v, stale) => {
                    let seen = model.get(&key(k)).map_or(0, |entry| entry.0) + u64::from(stale);
                    (
                        Txn::new().expect(&key(k), Expected::Revision(seen)), k, Some(v),
                        !stale && model.contains_key(&key(k)),
                    )
                }
                Action::Delete(k) => (Txn::new(), k, None, true),
                Action::Reopen => {
                    drop(store);
                    store = Store::open(&path, 1, &[]).unwrap();
                    prop_assert!(store.revision() >= revision);
                    revision = store.revision();
                    continue;
                }
            };
            let txn = match value {
                Some(v) => txn.put(&key(k), &v),
                None => txn.delete(&key(k)),
            };
            let done = store.commit(txn.event(&json!({ "kind": "did" })));
            prop_assert_eq!(done.is_ok(), allowed);
            if allowed {
                revision += 1;
                facts += 1;
                match value {
                    Some(v) => { model.insert(key(k), (revision, v)); }
                    None => { model.remove(&key(k)); }
                }
            }
            prop_assert_eq!(store.revision(), revision);
            prop_assert_eq!(store.events(0, 100).unwrap().len(), facts);
        }
        let stored: BTreeMap<_, _> = store.list::<u32>("things/").unwrap().into_iter()
            .map(|(key, entry)| (key, (entry.revision, entry.value))).collect();
        prop_assert_eq!(stored, model);
    }
}

#[test]
fn what_was_acknowledged_is_in_a_copy_of_the_file_taken_at_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, 1, &[]).unwrap();
    for number in 0..50u32 {
        store
            .commit(Txn::new().put(&format!("n/{number:03}"), &number))
            .unwrap();
        let copy = dir.path().join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        let copied = Store::open(&copy, 1, &[]).unwrap();
        assert_eq!(copied.list::<u32>("n/").unwrap().len() as u32, number + 1);
        drop(copied);
        std::fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn a_second_daemon_is_refused_with_a_clear_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let _first = Store::open(&path, 1, &[]).unwrap();
    let second = Store::open(&path, 1, &[]).err().unwrap();
    assert!(second.is(STORE_TAKEN), "{second}");
}

#[test]
fn a_newer_layout_is_refused_and_an_older_one_migrated_after_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, 1, &[]).unwrap();
    store
        .commit(Txn::new().put("old/a", &1).put("gone/b", &2))
        .unwrap();
    drop(store);
    fn second(key: &str, value: Value) -> fault::Result<Option<(String, Value)>> {
        Ok(key
            .strip_prefix("old/")
            .map(|rest| (format!("new/{rest}"), json!({ "n": value }))))
    }
    let migrations = [Migration {
        to: 2,
        record: second,
    }];
    let store = Store::open(&path, 2, &migrations).unwrap();
    let all = store.list::<Value>("").unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0, "new/a");
    assert_eq!(all[0].1.value, json!({ "n": 1 }));
    drop(store);
    let before = Store::open(&dir.path().join("store.redb.format1"), 1, &[]).unwrap();
    assert_eq!(before.list::<Value>("").unwrap().len(), 2);
    let newer = Store::open(&path, 1, &[]).err().unwrap();
    assert!(newer.is(STORE_NEWER), "{newer}");
}

#[test]
fn a_file_that_is_no_store_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, b"this is not a store").unwrap();
    let fault = Store::open(&path, 1, &[]).err().unwrap();
    assert!(fault.is(store::STORE_BROKEN), "{fault}");
}

#[test]
fn a_waiter_wakes_when_the_revision_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), 1, &[]).unwrap();
    assert_eq!(store.wait_beyond(0, Duration::from_millis(10)), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            store.commit(Txn::new().put("a", &1)).unwrap();
        });
        assert_eq!(store.wait_beyond(0, Duration::from_secs(20)), 1);
    });
}

#[test]
fn a_conflict_names_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb"), 1, &[]).unwrap();
    let fault = store
        .commit(Txn::new().expect("guests/x", Expected::Present))
        .unwrap_err();
    assert!(fault.is(CONFLICT), "{fault}");
    assert!(fault.args().any(|(_, value)| value == "guests/x"));
}

#[test]
fn no_revision_means_two_things_when_a_crash_took_what_was_only_observed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, 1, &[]).unwrap();
    store.commit(Txn::new().put("kept", &1)).unwrap();
    let copy = dir.path().join("copy.redb");
    let seen = store
        .commit(
            Txn::new()
                .put("lost", &1)
                .event(&json!({ "kind": "lost" }))
                .observed(),
        )
        .unwrap();
    std::fs::copy(&path, &copy).unwrap();
    let after = Store::open(&copy, 1, &[]).unwrap();
    let next = after.commit(Txn::new().event(&json!({ "kind": "new" }))).unwrap();
    assert!(next > seen, "{next} {seen}");
    assert_eq!(after.events(seen, 10).unwrap().len(), 1);
}
