//! Settings of Cilium that delay or prevent what Yellowjack does, from its ConfigMap `cilium-config`. Names and defaults are
//! those of Cilium 1.20 (`pkg/option/config.go`, `pkg/defaults/defaults.go`).

use std::collections::BTreeMap;

use super::check::{Check, Verdict};
use crate::api::labels;

/// The settings, as the ConfigMap has them.
pub(super) type Settings = BTreeMap<String, String>;

const WANTED_SETTINGS: &str =
    "settings of Cilium with which a quarantine takes effect at once and its proof is seen";

/// How long a pod with changed labels keeps its identity, at most, where the settings are absent.
const DEFAULT_WAITS: [(&str, &str); 2] = [
    ("identity-max-jitter", "30s"),
    ("identity-change-grace-period", "5s"),
];

/// The checks of these settings.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    vec![identity_labels(settings), waits(settings), flows(settings)]
}

/// Whether identities are made of the labels that Yellowjack's policies select.
fn identity_labels(settings: &Settings) -> Check {
    let check = |verdict, found: String, todo: &str| {
        Check::new("cilium-labels", verdict, WANTED_SETTINGS, found, todo)
    };
    if settings.get("disable-endpoint-crd").map(String::as_str) == Some("true") {
        let found = "disable-endpoint-crd is true, so that no CiliumEndpoint shows the identity of a pod, and a quarantine \
                     takes as long as Cilium takes for a changed label";
        return check(
            Verdict::Fail,
            found.to_owned(),
            "set disable-endpoint-crd to false",
        );
    }
    let filter = settings.get("labels").map_or("", String::as_str);
    let missing: Vec<&str> = [labels::QUARANTINE, labels::RUN, labels::CELL]
        .into_iter()
        .filter(|key| !is_included(filter, key))
        .collect();
    if missing.is_empty() {
        let found = "identities are made of the labels of Yellowjack".to_owned();
        return check(Verdict::Ok, found, "");
    }
    let found = format!(
        "the setting `labels` leaves out {}, so that Cilium never selects a pod by it",
        missing.join(", ")
    );
    let todo = "add k8s:yellowjack\\.dev to the setting `labels`, and restart Cilium's agents";
    check(Verdict::Fail, found, todo)
}

/// How long Cilium waits after a label has changed.
fn waits(settings: &Settings) -> Check {
    let all: Vec<String> = DEFAULT_WAITS
        .iter()
        .filter_map(|(name, default)| {
            let value = settings.get(*name).map_or(*default, String::as_str);
            let is_none = value.trim_end_matches(['s', 'm', 'h']) == "0";
            (!is_none).then(|| format!("{name} is {value}"))
        })
        .collect();
    if all.is_empty() {
        let found = "a changed label takes effect at once".to_owned();
        return Check::new("cilium-waits", Verdict::Ok, WANTED_SETTINGS, found, "");
    }
    let found = format!(
        "{}: a changed label takes that long; in between a CiliumNetworkPolicy of the Incident denies the pod, unless pods \
         outside of its run have the same labels",
        all.join(", ")
    );
    let todo = "set both to 0s, where relabelled pods are few: Cilium waits so that many at once do not strain the API server";
    Check::new("cilium-waits", Verdict::Warn, WANTED_SETTINGS, found, todo)
}

/// Whether Hubble sees the flows.
fn flows(settings: &Settings) -> Check {
    let value = |name: &str| settings.get(name).map_or("", String::as_str);
    let check = |verdict, found: &str, todo: &str| {
        Check::new("cilium-flows", verdict, WANTED_SETTINGS, found, todo)
    };
    if value("enable-hubble") == "false" {
        let todo = "set hubble.enabled, and hubble.export.static.enabled or hubble.relay.enabled, in Cilium's chart";
        return check(
            Verdict::Warn,
            "Hubble is off: no flow log of Cilium can be read",
            todo,
        );
    }
    if value("enable-trace-events") == "false" || value("bpf-events-trace-enabled") == "false" {
        let found = "trace events are off: the flow log has drops alone, and does not show answers";
        return check(
            Verdict::Fail,
            found,
            "set bpf.events.trace.enabled in Cilium's chart",
        );
    }
    if value("monitor-aggregation") == "maximum" {
        let found = "monitor-aggregation is maximum: a connection that lives on is not in the log";
        return check(
            Verdict::Warn,
            found,
            "set monitor-aggregation to medium, the default",
        );
    }
    let is_exported = !value("hubble-export-file-path").is_empty();
    let found = if is_exported {
        "Hubble exports flows to a file"
    } else {
        "Hubble is on, and exports no file: use Hubble Relay as a source"
    };
    check(Verdict::Ok, found, "")
}

/// Whether the label filter of Cilium includes a label. A filter is a list of patterns with blanks between them, `!` before
/// those that exclude; with no pattern that includes, all labels are included that none excludes. Patterns are regular
/// expressions that match the begin of the key: the usual ones are literal but for escaped dots.
fn is_included(filter: &str, key: &str) -> bool {
    let patterns = filter
        .split([' ', ','])
        .filter(|pattern| !pattern.is_empty());
    let mut has_inclusive = false;
    let mut is_included = false;
    for pattern in patterns {
        let (excludes, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let pattern = pattern
            .trim_start_matches("k8s:")
            .trim_start_matches("any:");
        if pattern.starts_with("reserved:") {
            continue;
        }
        let literal = pattern.replace("\\.", ".");
        let literal = literal.trim_end_matches('$').trim_end_matches(".*");
        let matches = key.starts_with(literal);
        if excludes && matches {
            return false;
        }
        has_inclusive |= !excludes;
        is_included |= !excludes && matches;
    }
    is_included || !has_inclusive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> Settings {
        all.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn verdicts(all: &[(&str, &str)]) -> Vec<Verdict> {
        checks(&settings(all))
            .iter()
            .map(|check| check.verdict)
            .collect()
    }

    #[test]
    fn the_default_settings_of_cilium_delay_a_label_and_no_more() {
        assert_eq!(verdicts(&[]), [Verdict::Ok, Verdict::Warn, Verdict::Ok]);
        let tuned = [
            ("identity-max-jitter", "0s"),
            ("identity-change-grace-period", "0s"),
            (
                "hubble-export-file-path",
                "/var/run/cilium/hubble/events.log",
            ),
        ];
        assert_eq!(verdicts(&tuned), [Verdict::Ok; 3]);
        let found = waits(&settings(&[("identity-max-jitter", "10s")])).found;
        assert!(
            found.contains("identity-max-jitter is 10s, identity-change-grace-period is 5s"),
            "{found}"
        );
    }

    #[test]
    fn a_filter_without_our_labels_fails() {
        let without = "k8s:app k8s:io.kubernetes.pod.namespace k8s:io.cilium.k8s.policy";
        let check = identity_labels(&settings(&[("labels", without)]));
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.found.contains(labels::QUARANTINE), "{}", check.found);
        for with in [
            "",
            "!k8s:pod-uid",
            "k8s:app k8s:yellowjack\\.dev",
            "k8s:app,k8s:yellowjack.dev/.*",
            "k8s:.*",
        ] {
            assert!(is_included(with, labels::CELL), "{with}");
        }
        assert!(!is_included("!yellowjack.dev/cell", labels::CELL));
        assert!(is_included("!yellowjack.dev/cell", labels::RUN));
    }

    #[test]
    fn settings_that_hide_flows_are_named() {
        for (name, value) in [
            ("enable-hubble", "false"),
            ("bpf-events-trace-enabled", "false"),
            ("monitor-aggregation", "maximum"),
        ] {
            let verdict = flows(&settings(&[(name, value)])).verdict;
            assert_ne!(verdict, Verdict::Ok, "{name}");
        }
    }
}
