//! Every bound of the schemas, derived from the schemas themselves.
//!
//! A full example of each kind is broken at one place at a time: one character too many, one item
//! too many, a number below its minimum, a word outside its enum, a required field left out. The
//! server must refuse each. Bounds that no other rule overlaps are also tried exactly
//! at the limit, which the server must admit.

use std::collections::BTreeSet;

use anyhow::Context;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use yellowjack_e2e::{TestEnv, with_namespace};

use crate::cases::{Kind, dry_create, judge, report};
use crate::examples;

/// One way to break, or not yet break, the example.
struct Probe {
    what: String,
    value: Value,
    refused: Option<String>,
}

#[tokio::test]
async fn every_bound_of_the_schemas_holds() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (mut wrong, mut count) = (Vec::new(), 0);
        for (kind, part, example) in examples::all() {
            let schema = schema_of(kind, part)?;
            wrong.extend(judge(
                kind,
                "the example",
                send(&env, kind, part, &example).await,
                None,
            ));
            let mut probes = Vec::new();
            let mut place =
                |what: String, value: &Value, pointer: &str, refused: Option<String>| {
                    let mut broken = example.clone();
                    if let Some(slot) = broken.pointer_mut(pointer) {
                        *slot = value.clone();
                    }
                    probes.push(Probe {
                        what: format!("{part}{pointer}: {what}"),
                        value: broken,
                        refused,
                    });
                };
            walk(&schema, &example, "", &mut place);
            for probe in probes {
                count += 1;
                let answer = send(&env, kind, part, &probe.value).await;
                wrong.extend(judge(kind, &probe.what, answer, probe.refused.as_deref()));
            }
        }
        println!("figure api.bounds {count} cases");
        assert!(count > 300, "only {count} bounds were found");
        report(&wrong)
    })
    .await
}

/// Fields under the names of older versions, which `upgrade` stores and reads.
const FORMER: [&str; 7] = [
    "Incident.spec.disposition.by",
    "Incident.spec.disposition.why",
    "Incident.spec.evidence.against",
    "Incident.spec.evidence.course",
    "Incident.spec.evidence.node",
    "Incident.status.restore.before",
    "Incident.status.restore.set",
];

/// A field that no example has is a field whose bounds nobody tries.
#[test]
fn the_examples_hold_every_field_of_the_schemas() -> anyhow::Result<()> {
    let mut missing = BTreeSet::new();
    let mut found = BTreeSet::new();
    for (kind, part, example) in examples::all() {
        let root = format!("{kind:?}.{part}");
        fields(&schema_of(kind, part)?, None, &root, &mut missing);
        fields(&schema_of(kind, part)?, Some(&example), &root, &mut found);
    }
    let is_former = |field: &str| FORMER.iter().any(|former| field.starts_with(former));
    missing.retain(|field| !found.contains(field) && !is_former(field));
    assert!(missing.is_empty(), "in no example: {missing:#?}");
    Ok(())
}

/// The paths of a schema's fields; of those alone that the value has, where one is given.
fn fields(schema: &Value, value: Option<&Value>, path: &str, into: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner = value.map(|value| &value[name]);
        if inner.is_none_or(|inner| !inner.is_null()) {
            let path = format!("{path}.{name}");
            fields(property, inner, &path, into);
            into.insert(path);
        }
    }
    let items = &schema["items"];
    match value {
        None if items.is_object() => fields(items, None, path, into),
        Some(Value::Array(list)) => {
            for item in list {
                fields(items, Some(item), path, into);
            }
        }
        _ => {}
    }
}

fn schema_of(kind: Kind, part: &str) -> anyhow::Result<Value> {
    let name = format!("{kind:?}");
    let crds = yellowjack::testing::api::crds();
    let crd = crds
        .iter()
        .find(|crd| crd.spec.names.kind == name)
        .context("no such CRD")?;
    let crd = serde_json::to_value(crd)?;
    Ok(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone())
}

/// Sends the part to the server, which stores nothing of a spec and overwrites a status.
async fn send(env: &TestEnv, kind: Kind, part: &str, value: &Value) -> Result<(), kube::Error> {
    if part == "spec" {
        return dry_create(env, kind, "case", value).await;
    }
    let api = kind.api(env);
    let spec = match kind {
        Kind::Incident => json!({ "subject": { "name": "a", "uid": "u" } }),
        _ => json!({ "target": { "selector": { "matchLabels": { "a": "b" } } } }),
    };
    if api.get_opt("case").await?.is_none() {
        api.create(&PostParams::default(), &kind.object("case", &spec))
            .await?;
    }
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "status": value }));
    api.patch_status("case", &params, &patch).await.map(|_| ())
}

type Place<'a> = &'a mut dyn FnMut(String, &Value, &str, Option<String>);

/// Visits every place of the example with its schema, and places what breaks it there.
fn walk(schema: &Value, value: &Value, pointer: &str, place: Place<'_>) {
    match value {
        Value::Object(map) => {
            object_bounds(schema, map, pointer, place);
            for (key, inner) in map {
                let named = &schema["properties"][key];
                let schema = if named.is_null() {
                    &schema["additionalProperties"]
                } else {
                    named
                };
                if schema.is_object() {
                    walk(
                        schema,
                        inner,
                        &format!("{pointer}/{}", key.replace('/', "~1")),
                        place,
                    );
                }
            }
        }
        Value::Array(list) => {
            list_bounds(schema, list, pointer, place);
            for (index, inner) in list.iter().enumerate() {
                let mut items = schema["items"].clone();
                if schema["x-kubernetes-validations"].is_array() {
                    // A rule of the list speaks of its items.
                    items["x-kubernetes-validations"] = schema["x-kubernetes-validations"].clone();
                }
                walk(&items, inner, &format!("{pointer}/{index}"), place);
            }
        }
        Value::String(_) => text_bounds(schema, pointer, place),
        Value::Number(_) => number_bounds(schema, pointer, place),
        _ => {}
    }
}

fn object_bounds(
    schema: &Value,
    map: &serde_json::Map<String, Value>,
    pointer: &str,
    place: Place<'_>,
) {
    for required in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let mut without = map.clone();
        without.remove(required);
        place(
            format!("no {required}"),
            &without.into(),
            pointer,
            Some("Required value".to_owned()),
        );
    }
    if let (Some(max), Some((_, value))) = (schema["maxProperties"].as_u64(), map.iter().next()) {
        let of = |count: u64| {
            (0..count)
                .map(|n| (format!("k{n}"), value.clone()))
                .collect()
        };
        place(
            "the most entries".to_owned(),
            &Value::Object(of(max)),
            pointer,
            None,
        );
        let refused = Some(format!("must have at most {max} items"));
        place(
            "an entry too many".to_owned(),
            &Value::Object(of(max + 1)),
            pointer,
            refused,
        );
    }
}

fn list_bounds(schema: &Value, list: &[Value], pointer: &str, place: Place<'_>) {
    let Some(first) = list.first() else { return };
    if let Some(max) = schema["maxItems"].as_u64() {
        let of = |count: u64| Value::Array((0..count).map(|_| first.clone()).collect());
        // Items of a list map or a set must differ, and copies do not.
        if schema["x-kubernetes-list-type"].is_null() {
            place("the most items".to_owned(), &of(max), pointer, None);
        }
        let refused = Some(format!("must have at most {max} items"));
        place(
            "an item too many".to_owned(),
            &of(max + 1),
            pointer,
            refused,
        );
    }
    if schema["minItems"].as_u64().is_some() {
        let refused = Some("should have at least".to_owned());
        place("too few items".to_owned(), &json!([]), pointer, refused);
    }
}

fn text_bounds(schema: &Value, pointer: &str, place: Place<'_>) {
    let limited = ["pattern", "format", "enum", "x-kubernetes-validations"];
    let is_plain = limited.iter().all(|rule| schema[rule].is_null());
    if let Some(max) = schema["maxLength"].as_u64() {
        let of = |count: u64| Value::String((0..count).map(|_| 'a').collect());
        if is_plain {
            place("the longest text".to_owned(), &of(max), pointer, None);
        }
        let refused = Some("Too long".to_owned());
        place("a text too long".to_owned(), &of(max + 1), pointer, refused);
    }
    if schema["minLength"].as_u64().is_some() {
        let refused = Some("should be at least".to_owned());
        place("an empty text".to_owned(), &json!(""), pointer, refused);
    }
    if let Some(words) = schema["enum"].as_array() {
        let refused = Some("Unsupported value".to_owned());
        place("another word".to_owned(), &json!("Bogus"), pointer, refused);
        assert!(words.iter().all(Value::is_string), "{pointer}");
    }
    if schema["format"] == "date-time" {
        let refused = Some("must be of type date-time".to_owned());
        place("no time".to_owned(), &json!("noon"), pointer, refused);
    }
    let kind = schema["format"].as_str().unwrap_or("string");
    let refused = Some(format!("must be of type {kind}"));
    place("a number".to_owned(), &json!(7), pointer, refused);
}

fn number_bounds(schema: &Value, pointer: &str, place: Place<'_>) {
    if let Some(max) = schema["maximum"].as_f64() {
        let refused = Some("should be less than or equal to".to_owned());
        place(
            "a number too large".to_owned(),
            &whole(max + 1.0),
            pointer,
            refused,
        );
    }
    if let Some(min) = schema["minimum"].as_f64() {
        let refused = Some("should be greater than or equal to".to_owned());
        place(
            "a number too small".to_owned(),
            &whole(min - 1.0),
            pointer,
            refused,
        );
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let refused = Some(format!("must be of type {kind}"));
    place(
        "a text for a number".to_owned(),
        &json!("seven"),
        pointer,
        refused,
    );
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "schema limits are small whole numbers"
)]
fn whole(number: f64) -> Value {
    json!(number as i64)
}
