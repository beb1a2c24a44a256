//! What is an AgentRun, and what is none.

use serde_json::{Value, json};

use crate::cases::{Case, Change, Kind};

const ONE_TARGET: &str = "exactly one of selector, ref and template must be set";
const EMPTY_SELECTOR: &str =
    "selector must not be empty: it would claim every pod of the namespace";
const EMPTY_NAMESPACES: &str = "namespaceSelector must not be empty: it would open every namespace";
const ONE_DESTINATION: &str =
    "exactly one of cidr, fqdn and podSelector/namespaceSelector must be set";
const NO_CIDR: &str = "cidr must be a range such as 203.0.113.0/24 or 2001:db8::/32";
const HOST_BITS: &str = "cidr must have no bits set behind its prefix: 203.0.113.7/24 would open the whole of 203.0.113.0/24";
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

fn with(field: &str, value: Value) -> Value {
    json!({ "target": selector(), field: value })
}

fn egress(rule: Value) -> Value {
    with("network", json!({ "egress": [rule] }))
}

fn ports(port: Value) -> Value {
    egress(json!({ "cidr": "203.0.113.0/24", "ports": [port] }))
}

fn hard(amounts: Value) -> Value {
    with("resources", json!({ "quota": { "hard": amounts } }))
}

fn job(fields: Value) -> Value {
    let mut template = template();
    if let Some(inner) = template.get_mut("template") {
        merge(inner, fields);
    }
    json!({ "target": template })
}

fn yes(what: &'static str, spec: Value) -> Case {
    Case::admitted(Kind::AgentRun, what, spec)
}

fn no(what: &'static str, message: &'static str, spec: Value) -> Case {
    Case::refused(Kind::AgentRun, what, message, spec)
}

pub fn cases() -> Vec<Case> {
    [
        names_and_targets(),
        templates(),
        destinations(),
        ports_and_amounts(),
        words(),
    ]
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

fn destinations() -> Vec<Case> {
    const FQDN: &str = "spec.network.egress[0].fqdn in body should match";
    let everything = json!({ "cidr": "203.0.113.0/24", "fqdn": "a.example", "podSelector": {} });
    let labels = json!({ "matchLabels": { "team": "data" } });
    vec![
        yes("an IPv4 range", egress(json!({ "cidr": "203.0.113.0/24" }))),
        yes(
            "one IPv4 address",
            egress(json!({ "cidr": "203.0.113.7/32" })),
        ),
        yes(
            "the whole Internet, which the policy judges",
            egress(json!({ "cidr": "0.0.0.0/0" })),
        ),
        yes("an IPv6 range", egress(json!({ "cidr": "2001:db8::/32" }))),
        yes("every IPv6 address", egress(json!({ "cidr": "::/0" }))),
        no(
            "an address without a prefix",
            NO_CIDR,
            egress(json!({ "cidr": "203.0.113.7" })),
        ),
        no(
            "a prefix that is too long",
            NO_CIDR,
            egress(json!({ "cidr": "203.0.113.0/33" })),
        ),
        no(
            "IPv4 in the clothes of IPv6",
            NO_CIDR,
            egress(json!({ "cidr": "::ffff:203.0.113.0/120" })),
        ),
        no(
            "octets with leading zeros",
            NO_CIDR,
            egress(json!({ "cidr": "010.0.0.0/8" })),
        ),
        no(
            "bits behind an IPv4 prefix",
            HOST_BITS,
            egress(json!({ "cidr": "203.0.113.7/24" })),
        ),
        no(
            "bits behind an IPv6 prefix",
            HOST_BITS,
            egress(json!({ "cidr": "2001:db8::1/32" })),
        ),
        yes("a name", egress(json!({ "fqdn": "pypi.example" }))),
        yes("a pattern", egress(json!({ "fqdn": "*.models.example" }))),
        no("a bare star", FQDN, egress(json!({ "fqdn": "*" }))),
        no(
            "a whole top-level domain",
            FQDN,
            egress(json!({ "fqdn": "*.example" })),
        ),
        no(
            "a star in the middle",
            FQDN,
            egress(json!({ "fqdn": "a.*.example" })),
        ),
        no(
            "a name of one label",
            FQDN,
            egress(json!({ "fqdn": "localhost" })),
        ),
        no(
            "a final dot",
            FQDN,
            egress(json!({ "fqdn": "pypi.example." })),
        ),
        no("capitals", FQDN, egress(json!({ "fqdn": "PyPI.example" }))),
        yes(
            "the pods of this namespace",
            egress(json!({ "podSelector": {} })),
        ),
        yes(
            "a namespace",
            egress(json!({ "namespaceSelector": labels })),
        ),
        yes(
            "pods of a namespace",
            egress(json!({ "namespaceSelector": labels, "podSelector": labels })),
        ),
        no(
            "every namespace",
            EMPTY_NAMESPACES,
            egress(json!({ "namespaceSelector": {} })),
        ),
        no(
            "every pod of every namespace",
            EMPTY_NAMESPACES,
            egress(json!({ "namespaceSelector": {}, "podSelector": {} })),
        ),
        no("no destination", ONE_DESTINATION, egress(json!({}))),
        no(
            "ports alone",
            ONE_DESTINATION,
            egress(json!({ "ports": [{ "port": 443 }] })),
        ),
        no("three destinations", ONE_DESTINATION, egress(everything)),
        no(
            "a range and a selector",
            ONE_DESTINATION,
            egress(json!({ "cidr": "203.0.113.0/24", "podSelector": {} })),
        ),
        no(
            "a null range",
            ONE_DESTINATION,
            egress(json!({ "cidr": null })),
        ),
        no(
            "a null name",
            ONE_DESTINATION,
            egress(json!({ "fqdn": null })),
        ),
        no(
            "null pods",
            ONE_DESTINATION,
            egress(json!({ "podSelector": null })),
        ),
    ]
}

fn ports_and_amounts() -> Vec<Case> {
    const RANGE: &str = "endPort must not be below port";
    const EMPTY_QUOTA: &str = "hard must name at least one resource";
    const AMOUNT: &str = "in body should match";
    vec![
        yes("a port", ports(json!({ "port": 443 }))),
        yes(
            "a range of ports",
            ports(json!({ "port": 8000, "endPort": 8100, "protocol": "UDP" })),
        ),
        yes(
            "a range of one port",
            ports(json!({ "port": 8000, "endPort": 8000 })),
        ),
        no(
            "a range that runs backwards",
            RANGE,
            ports(json!({ "port": 8000, "endPort": 7999 })),
        ),
        no(
            "a protocol without ports",
            "protocol: Unsupported value: \"ICMP\"",
            ports(json!({ "port": 1, "protocol": "ICMP" })),
        ),
        no(
            "a port by name",
            "port in body must be of type integer",
            ports(json!({ "port": "https" })),
        ),
        yes(
            "amounts of every form",
            hard(
                json!({ "pods": "10", "requests.cpu": "500m", "requests.memory": "1.5Gi", "a": "1e3", "b": "2k" }),
            ),
        ),
        no("a quota of nothing", EMPTY_QUOTA, hard(json!({}))),
        no("a negative amount", AMOUNT, hard(json!({ "pods": "-1" }))),
        no(
            "an amount that Kubernetes cannot read",
            AMOUNT,
            hard(json!({ "pods": "1K" })),
        ),
        no(
            "an amount with a blank",
            AMOUNT,
            hard(json!({ "pods": "1 Gi" })),
        ),
        no(
            "an amount that is a word",
            AMOUNT,
            hard(json!({ "pods": "many" })),
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
