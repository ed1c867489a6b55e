//! Changing a specification by a JSON merge patch (RFC 7396), and what each change needs.

use fault::{Fault, OrFault, Result};
use model::GuestSpec;
use serde_json::Value;

use crate::codes::{FIELD_FIXED, SPEC_INVALID};

/// Fields that a guest keeps for life.
const FIXED: &[&str] = &["kind", "image", "image_digest", "privileged", "setup"];
/// Fields whose change a running guest feels at once, or that do not concern it.
const LIVE: &[&str] = &[
    "limits",
    "publish",
    "protect",
    "ephemeral",
    "autostart",
    "policies",
    "labels",
];

/// Applies a merge patch to any document.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(map) = target {
        for (name, value) in fields {
            if value.is_null() {
                map.remove(name);
            } else {
                merge(map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// The specification after the patch.
///
/// # Errors
/// [`SPEC_INVALID`] when it is none any more, [`FIELD_FIXED`] when a field changed that cannot.
pub fn patched(spec: &GuestSpec, patch: &Value) -> Result<GuestSpec> {
    let invalid = || Fault::new(SPEC_INVALID);
    if !patch.is_object() {
        return Err(invalid().because_of("a patch is an object"));
    }
    let mut document = serde_json::to_value(spec).or_fault(invalid)?;
    merge(&mut document, patch);
    let new: GuestSpec = serde_json::from_value(document).or_fault(invalid)?;
    let fixed = changed(spec, &new)
        .into_iter()
        .find(|name| FIXED.contains(&name.as_str()));
    match fixed.or_else(|| crate::hardware::fixed(spec, &new)) {
        Some(field) => Err(Fault::new(FIELD_FIXED).arg("field", field)),
        None => Ok(new),
    }
}

/// Names of the fields in which two specifications differ.
#[must_use]
pub fn changed(old: &GuestSpec, new: &GuestSpec) -> Vec<String> {
    let fields = |spec: &GuestSpec| match serde_json::to_value(spec) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    names.into_iter().filter(differs).cloned().collect()
}

/// Of the fields that changed, those that a running guest takes up only when it starts again.
#[must_use]
pub fn at_next_start(changed: &[String]) -> Vec<String> {
    let waits = |name: &&String| !LIVE.contains(&name.as_str());
    changed.iter().filter(waits).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> GuestSpec {
        serde_json::from_value(json!({ "image": "debian/12" })).unwrap()
    }

    #[test]
    fn a_merge_patch_does_what_rfc_7396_says() {
        for (target, patch, wanted) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!(["a"]), json!({"b": 1}), json!({"b": 1})),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let mut result = target;
            merge(&mut result, &patch);
            assert_eq!(result, wanted);
        }
    }

    #[test]
    fn limits_change_at_once_and_mounts_at_the_next_start() {
        let patch = json!({ "limits": { "memory": 1024 }, "hostname": "srv" });
        let new = patched(&spec(), &patch).unwrap();
        let changed = changed(&spec(), &new);
        assert_eq!(changed, ["hostname", "limits"]);
        assert_eq!(at_next_start(&changed), ["hostname"]);
    }

    #[test]
    fn the_image_is_for_life_and_unknown_fields_are_refused() {
        assert!(
            patched(&spec(), &json!({ "image": "debian/13" }))
                .unwrap_err()
                .is(FIELD_FIXED)
        );
        assert!(
            patched(&spec(), &json!({ "privileged": true }))
                .unwrap_err()
                .is(FIELD_FIXED)
        );
        for bad in [
            json!({ "imag": 1 }),
            json!(null),
            json!([]),
            json!({ "limits": 3 }),
            json!({ "image": null }),
        ] {
            assert!(patched(&spec(), &bad).unwrap_err().is(SPEC_INVALID), "{bad}");
        }
    }
}
