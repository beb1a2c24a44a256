//! What an AgentRun may say about the destinations that it reaches and the amounts that it uses.

use serde_json::{Value, json};

use crate::agent_run::{no, with, yes};
use crate::cases::Case;

const HOST_BITS: &str = "cidr must have no bits set behind its prefix: 203.0.113.7/24 would open the whole of 203.0.113.0/24";
const NO_CIDR: &str = "cidr must be a range such as 203.0.113.0/24 or 2001:db8::/32";
const ONE_DESTINATION: &str =
    "exactly one of cidr, fqdn and podSelector/namespaceSelector must be set";
const EMPTY_NAMESPACES: &str = "namespaceSelector must not be empty: it would open every namespace";

fn egress(rule: Value) -> Value {
    with("network", json!({ "egress": [rule] }))
}

fn ports(port: Value) -> Value {
    egress(json!({ "cidr": "203.0.113.0/24", "ports": [port] }))
}

fn hard(amounts: Value) -> Value {
    with("resources", json!({ "quota": { "hard": amounts } }))
}

pub fn cases() -> Vec<Case> {
    [
        ranges(),
        names(),
        selectors(),
        mixtures(),
        sources(),
        ports_and_amounts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ranges() -> Vec<Case> {
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
    ]
}

fn names() -> Vec<Case> {
    const FQDN: &str = "spec.network.egress[0].fqdn in body should match";
    vec![
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
    ]
}

fn selectors() -> Vec<Case> {
    let labels = json!({ "matchLabels": { "team": "data" } });
    vec![
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
    ]
}

fn mixtures() -> Vec<Case> {
    let everything = json!({ "cidr": "203.0.113.0/24", "fqdn": "a.example", "podSelector": {} });
    vec![
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

/// Rules for what may reach the run's pods.
fn sources() -> Vec<Case> {
    const HOST_BITS: &str = "cidr must have no bits set behind its prefix: 203.0.113.7/24 would let in the whole of 203.0.113.0/24";
    const ONE: &str = "exactly one of cidr and podSelector/namespaceSelector must be set";
    const EMPTY_NAMESPACES: &str =
        "namespaceSelector must not be empty: it would let in every namespace";
    let ingress = |rule: Value| with("network", json!({ "ingress": [rule] }));
    let labels = json!({ "matchLabels": { "team": "data" } });
    vec![
        yes(
            "a range that lets in",
            ingress(json!({ "cidr": "2001:db8::/32", "ports": [{ "port": 8080 }] })),
        ),
        yes(
            "pods of a namespace that lets in",
            ingress(json!({ "namespaceSelector": labels, "podSelector": {} })),
        ),
        yes(
            "pods of a run apart from each other",
            with("network", json!({ "allowWithinRun": false })),
        ),
        no(
            "an address that lets in",
            NO_CIDR,
            ingress(json!({ "cidr": "203.0.113.7" })),
        ),
        no(
            "bits behind a prefix that lets in",
            HOST_BITS,
            ingress(json!({ "cidr": "203.0.113.7/24" })),
        ),
        no("no source", ONE, ingress(json!({}))),
        no(
            "a range and pods as a source",
            ONE,
            ingress(json!({ "cidr": "203.0.113.0/24", "podSelector": {} })),
        ),
        no(
            "every namespace as a source",
            EMPTY_NAMESPACES,
            ingress(json!({ "namespaceSelector": {} })),
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
