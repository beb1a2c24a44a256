//! What is a GuardrailPolicy, and what is none.

use serde_json::{Value, json};

use crate::cases::{Case, Kind};

fn yes(what: &'static str, spec: Value) -> Case {
    Case::admitted(Kind::GuardrailPolicy, what, spec)
}

fn no(what: &'static str, message: &'static str, spec: Value) -> Case {
    Case::refused(Kind::GuardrailPolicy, what, message, spec)
}

pub fn cases() -> Vec<Case> {
    [destinations(), amounts(), modes_and_actions()]
        .into_iter()
        .flatten()
        .collect()
}

#[allow(clippy::too_many_lines)] // a table of cases
fn destinations() -> Vec<Case> {
    const RANGE: &str = "each entry must be a range such as 203.0.113.0/24";
    const HOST_BITS: &str =
        "no entry may have bits set behind its prefix: write 203.0.113.0/24, not 203.0.113.7/24";
    const NAME: &str = "spec.network.allowedFqdns[0] in body should match";
    const ONE: &str = "exactly one of cidr, fqdn and podSelector/namespaceSelector must be set";
    let network = |field: &str, value: Value| json!({ "network": { field: value } });
    vec![
        yes("nothing at all", json!({})),
        yes(
            "allowed ranges",
            network("allowedCidrs", json!(["203.0.113.0/24", "2001:db8::/32"])),
        ),
        yes("no allowed range", network("allowedCidrs", json!([]))),
        no(
            "an allowed address",
            RANGE,
            network("allowedCidrs", json!(["203.0.113.7"])),
        ),
        no(
            "one wrong range of two",
            RANGE,
            network("allowedCidrs", json!(["203.0.113.0/24", "10.0.0.0/40"])),
        ),
        no(
            "bits in an allowed range",
            HOST_BITS,
            network("allowedCidrs", json!(["203.0.113.7/24"])),
        ),
        yes(
            "blocked ranges",
            network("blockedCidrs", json!(["198.51.100.0/24"])),
        ),
        no(
            "a blocked word",
            RANGE,
            network("blockedCidrs", json!(["everything"])),
        ),
        no(
            "bits in a blocked range",
            HOST_BITS,
            network("blockedCidrs", json!(["198.51.100.9/24"])),
        ),
        yes(
            "allowed names",
            network(
                "allowedFqdns",
                json!(["pypi.example", "*.models.example", "*.example"]),
            ),
        ),
        no(
            "a bare star as a name",
            NAME,
            network("allowedFqdns", json!(["*"])),
        ),
        no(
            "a star inside a name",
            NAME,
            network("allowedFqdns", json!(["a.*.example"])),
        ),
        yes(
            "a default destination",
            network("defaultEgress", json!([{ "fqdn": "pypi.example" }])),
        ),
        yes(
            "ranges that may be let in",
            network("allowedIngressCidrs", json!(["203.0.113.0/24"])),
        ),
        no(
            "a word that may be let in",
            RANGE,
            network("allowedIngressCidrs", json!(["anybody"])),
        ),
        no(
            "bits in a range that may be let in",
            HOST_BITS,
            network("allowedIngressCidrs", json!(["203.0.113.7/24"])),
        ),
        yes(
            "a policy of a mesh that is accepted",
            network("acceptedPolicies", json!(["mesh"])),
        ),
        no(
            "a default destination that is none",
            ONE,
            network("defaultEgress", json!([{}])),
        ),
    ]
}

fn amounts() -> Vec<Case> {
    const ABOVE: &str =
        "defaultQuota must not exceed maxQuota: every run that states no quota would be refused";
    let quotas = |default: Value, max: Value| json!({ "resources": { "defaultQuota": default, "maxQuota": max } });
    vec![
        yes(
            "a default below the ceiling",
            quotas(json!({ "pods": "5" }), json!({ "pods": "10" })),
        ),
        yes(
            "a default at the ceiling in other units",
            quotas(json!({ "cpu": "2" }), json!({ "cpu": "2000m" })),
        ),
        yes(
            "a default without a ceiling",
            quotas(json!({ "pods": "5" }), json!({ "cpu": "1" })),
        ),
        no(
            "a default above the ceiling",
            ABOVE,
            quotas(json!({ "memory": "2Gi" }), json!({ "memory": "2G" })),
        ),
        no(
            "a default that is no amount",
            "in body should match",
            quotas(json!({ "pods": "few" }), json!({})),
        ),
    ]
}

fn modes_and_actions() -> Vec<Case> {
    const LAXER: &str =
        "modes must not be laxer than minimum: every run that states none would be refused";
    const ABOVE: &str =
        "minAction must not be above maxAction, which is Suspend where it is left out";
    let detection = |value: Value| json!({ "detection": value });
    let response = |value: Value| json!({ "response": value });
    vec![
        yes(
            "modes at the minimum",
            detection(
                json!({ "modes": { "scan": "Observe", "mining": "Enforce" }, "minimum": "Observe" }),
            ),
        ),
        yes(
            "detection off, said twice",
            detection(json!({ "modes": { "scan": "Disabled" }, "minimum": "Disabled" })),
        ),
        no(
            "scan laxer than the minimum",
            LAXER,
            detection(json!({ "modes": { "scan": "Observe" }, "minimum": "Enforce" })),
        ),
        no(
            "mining laxer than the minimum that is left out",
            LAXER,
            detection(json!({ "modes": { "mining": "Disabled" } })),
        ),
        no(
            "tunnel laxer than the minimum that is left out",
            LAXER,
            detection(json!({ "modes": { "tunnel": "Disabled" } })),
        ),
        no(
            "a mode that is none",
            "Unsupported value: \"Off\"",
            detection(json!({ "minimum": "Off" })),
        ),
        yes(
            "actions in order",
            response(json!({ "minAction": "Isolate", "maxAction": "Terminate" })),
        ),
        yes(
            "one action only",
            response(json!({ "minAction": "Isolate", "maxAction": "Isolate", "scope": "Run" })),
        ),
        no(
            "actions out of order",
            ABOVE,
            response(json!({ "minAction": "Suspend", "maxAction": "Isolate" })),
        ),
        no(
            "a least action above the usual most",
            ABOVE,
            response(json!({ "minAction": "Terminate" })),
        ),
    ]
}
