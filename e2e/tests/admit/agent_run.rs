//! What is an AgentRun, and what is none.

use serde_json::{Value, json};

use crate::cases::{Case, Change, Kind};

const ONE_TARGET: &str = "exactly one of selector, ref and template must be set";
const EMPTY_SELECTOR: &str =
    "selector must not be empty: it would claim every pod of the namespace";
const NAME: &str = "metadata.name must have at most 48 characters, so that the names and labels derived from it fit";
const TARGET_CHANGED: &str = "target is immutable: delete the AgentRun and apply a new one";
const POLICY_CHANGED: &str = "policy is immutable: delete the AgentRun and apply a new one";

fn selector() -> Value {
    json!({ "selector": { "matchLabels": { "app": "agent" } } })
}

fn reference() -> Value {
    json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": "train" } })
}

fn template() -> Value {
    json!({ "template": { "pod": pod(json!({})) } })
}

/// A pod template whose spec has these fields besides its containers.
fn pod(fields: Value) -> Value {
    let mut spec = json!({ "containers": [{ "name": "agent", "image": "agent:1" }] });
    merge(&mut spec, fields);
    json!({ "spec": spec })
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

pub fn with(field: &str, value: Value) -> Value {
    json!({ "target": selector(), field: value })
}

fn job(fields: Value) -> Value {
    let mut template = template();
    if let Some(inner) = template.get_mut("template") {
        merge(inner, fields);
    }
    json!({ "target": template })
}

pub fn yes(what: &'static str, spec: Value) -> Case {
    Case::admitted(Kind::AgentRun, what, spec)
}

pub fn no(what: &'static str, message: &'static str, spec: Value) -> Case {
    Case::refused(Kind::AgentRun, what, message, spec)
}

pub fn cases() -> Vec<Case> {
    [names_and_targets(), templates(), words()]
        .into_iter()
        .flatten()
        .collect()
}

fn names_and_targets() -> Vec<Case> {
    let all_three = {
        let mut target = selector();
        merge(&mut target, reference());
        merge(&mut target, template());
        target
    };
    let two = json!({ "selector": selector()["selector"], "ref": reference()["ref"] });
    let expression =
        json!({ "selector": { "matchExpressions": [{ "key": "app", "operator": "Exists" }] } });
    vec![
        yes("a name of 48 characters", json!({ "target": selector() })).named("a".repeat(48)),
        no(
            "a name of 49 characters",
            NAME,
            json!({ "target": selector() }),
        )
        .named("a".repeat(49)),
        yes("a selector", json!({ "target": selector() })),
        yes("a selector by expression", json!({ "target": expression })),
        yes("a ref", json!({ "target": reference() })),
        yes("a template", json!({ "target": template() })),
        no("no target", "spec.target: Required value", json!({})),
        no("an empty target", ONE_TARGET, json!({ "target": {} })),
        no("two targets", ONE_TARGET, json!({ "target": two })),
        no("three targets", ONE_TARGET, json!({ "target": all_three })),
        no(
            "a null target",
            ONE_TARGET,
            json!({ "target": { "selector": null } }),
        ),
        no(
            "an empty selector",
            EMPTY_SELECTOR,
            json!({ "target": { "selector": {} } }),
        ),
        no(
            "empty labels",
            EMPTY_SELECTOR,
            json!({ "target": { "selector": { "matchLabels": {} } } }),
        ),
        no(
            "empty labels and expressions",
            EMPTY_SELECTOR,
            json!({ "target": { "selector": { "matchLabels": {}, "matchExpressions": [] } } }),
        ),
        no(
            "a ref without a kind",
            "spec.target.ref.kind: Required value",
            json!({ "target": { "ref": { "apiVersion": "v1", "name": "x" } } }),
        ),
    ]
}

fn templates() -> Vec<Case> {
    const PARALLEL: &str = "parallelism must not exceed completions";
    const LABELS: &str = "labels under yellowjack.dev/ are set by Yellowjack alone";
    const HOST_NETWORK: &str =
        "hostNetwork pods are outside every network policy and cannot be guarded";
    let labelled = |labels: Value| {
        let mut pod = pod(json!({}));
        merge(&mut pod, json!({ "labels": labels }));
        job(json!({ "pod": pod }))
    };
    vec![
        yes(
            "as many pods as completions",
            job(json!({ "parallelism": 4, "completions": 4 })),
        ),
        no(
            "more pods than completions",
            PARALLEL,
            job(json!({ "parallelism": 5, "completions": 4 })),
        ),
        yes(
            "labels of its own",
            labelled(json!({ "app": "x", "not-yellowjack.dev/run": "x" })),
        ),
        no(
            "Yellowjack's run label",
            LABELS,
            labelled(json!({ "yellowjack.dev/run": "other" })),
        ),
        no(
            "the quarantine label",
            LABELS,
            labelled(json!({ "a": "b", "yellowjack.dev/quarantine": "" })),
        ),
        yes(
            "hostNetwork said to be off",
            job(json!({ "pod": pod(json!({ "hostNetwork": false })) })),
        ),
        no(
            "hostNetwork",
            HOST_NETWORK,
            job(json!({ "pod": pod(json!({ "hostNetwork": true })) })),
        ),
        yes(
            "retries inside the pod",
            job(json!({ "pod": pod(json!({ "restartPolicy": "OnFailure" })) })),
        ),
        no(
            "a pod that never ends",
            "Unsupported value: \"Always\": supported values: \"Never\", \"OnFailure\"",
            job(json!({ "pod": pod(json!({ "restartPolicy": "Always" })) })),
        ),
        no(
            "no container",
            "should have at least 1 items",
            job(json!({ "pod": { "spec": { "containers": [] } } })),
        ),
        no(
            "a pod without containers",
            "containers: Required value",
            job(json!({ "pod": { "spec": {} } })),
        ),
        yes(
            "pod fields that this build does not know",
            job(json!({ "pod": pod(json!({ "someFutureField": { "deep": [1] } })) })),
        ),
    ]
}

fn words() -> Vec<Case> {
    let scan = |mode: Value| with("detection", json!({ "modes": { "scan": mode } }));
    vec![
        yes(
            "every mode",
            with(
                "detection",
                json!({ "profile": "Crawler", "modes": { "scan": "Disabled", "mining": "Enforce" } }),
            ),
        ),
        no(
            "a mode that is no word of ours",
            "Unsupported value: \"On\"",
            scan(json!("On")),
        ),
        no(
            "a mode that YAML made a boolean",
            "must be of type string: \"boolean\"",
            scan(json!(true)),
        ),
        yes(
            "a response",
            with(
                "response",
                json!({ "maxAction": "Isolate", "scope": "Run" }),
            ),
        ),
        no(
            "an action that is none",
            "Unsupported value: \"Nuke\"",
            with("response", json!({ "maxAction": "Nuke" })),
        ),
        no(
            "a scope that is none",
            "Unsupported value: \"Node\"",
            with("response", json!({ "scope": "Node" })),
        ),
        no(
            "an empty policy name",
            "spec.policy in body should be at least 1 chars long",
            with("policy", json!("")),
        ),
    ]
}

pub fn changes() -> Vec<Change> {
    let change = |what, before: Value, patch, refused| Change {
        kind: Kind::AgentRun,
        what,
        before,
        patch,
        refused,
    };
    let plain = || json!({ "target": selector() });
    let strict = || with("policy", json!("strict"));
    vec![
        change(
            "another label",
            plain(),
            json!({ "target": { "selector": { "matchLabels": { "app": "other" } } } }),
            Some(TARGET_CHANGED),
        ),
        change(
            "one more label",
            plain(),
            json!({ "target": { "selector": { "matchLabels": { "x": "y" } } } }),
            Some(TARGET_CHANGED),
        ),
        change(
            "a ref for a selector",
            plain(),
            json!({ "target": { "selector": null, "ref": reference()["ref"] } }),
            Some(TARGET_CHANGED),
        ),
        change(
            "the target taken away",
            plain(),
            json!({ "target": null }),
            Some("spec.target: Required value"),
        ),
        change(
            "another policy",
            plain(),
            json!({ "policy": "lax" }),
            Some(POLICY_CHANGED),
        ),
        change(
            "the policy taken away",
            strict(),
            json!({ "policy": null }),
            Some(POLICY_CHANGED),
        ),
        change(
            "the default policy by name",
            plain(),
            json!({ "policy": "default" }),
            None,
        ),
        change(
            "a destination more",
            plain(),
            json!({ "network": { "egress": [{ "cidr": "203.0.113.0/24" }] } }),
            None,
        ),
        change(
            "a stricter response",
            plain(),
            json!({ "response": { "maxAction": "Alert" } }),
            None,
        ),
    ]
}
