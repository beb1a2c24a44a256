//! The report of `preview`, made from what was read. Pure.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::dry_run::{PodContext, Traffic, dry_run};
use crate::api::{
    AgentRun, AgentRunCondition, EvidenceEntry, Incident, IncidentCondition, condition_of,
};
use crate::cli::output::{BAD, DIM, GOOD, WARNING, age, escaped, styled};
use crate::guardrails::ceiling::Effective;
use crate::model::Severity;
use crate::respond::plan::{Breaker, BreakerLimits, Crossing};

/// What was read.
pub(super) struct Material<'a> {
    /// The run.
    pub run: &'a AgentRun,
    /// Its effective settings.
    pub effective: &'a Effective,
    /// Its Incidents.
    pub incidents: &'a [Incident],
    /// The current context of their pods, by UID.
    pub contexts: &'a HashMap<String, PodContext>,
    /// The beginning of the period.
    pub since: Timestamp,
    /// The end of the period.
    pub now: Timestamp,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Preview {
    /// The namespace.
    pub namespace: String,
    /// The run.
    pub run: String,
    /// The current mode of each signature.
    pub modes: Modes,
    /// The strongest action that is allowed.
    pub max_action: String,
    /// The beginning of the period.
    pub since: Timestamp,
    /// The findings, oldest first.
    pub findings: Vec<FindingPreview>,
    /// What could not be known.
    pub unknown: Vec<String>,
    #[serde(skip)]
    now: Timestamp,
}

/// Modes by signature.
#[derive(Debug, Serialize)]
pub(super) struct Modes {
    scan: String,
    mining: String,
    tunnel: String,
}

/// The preview of one Incident.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FindingPreview {
    /// The Incident.
    pub incident: String,
    /// The pod.
    pub pod: String,
    /// The first contact of the evidence.
    pub first_seen: Timestamp,
    /// The evidence: signature, score and summary.
    pub seen: Vec<String>,
    /// What Enforce would have done.
    pub verdict: PreviewVerdict,
    /// The steps if the isolation stops the traffic.
    pub steps: Vec<String>,
    /// The further steps if the traffic continues.
    pub if_traffic_goes_on: Vec<String>,
    /// Reason and message that the condition Contained has or would have.
    pub contained: String,
    /// NetworkPolicies that would still allow traffic.
    pub widened_by: Vec<String>,
}

/// What Enforce would have done about an Incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum PreviewVerdict {
    /// It would have acted on the pod.
    WouldAct,
    /// It would have done nothing: the evidence is below the threshold, or a limit prevents action.
    WouldNot,
    /// It was in force: the Incident has the actions.
    WasEnforced,
    /// Not examined, because there are too many pods.
    NotLookedAt,
}

/// The preview of a run.
pub(super) fn of(material: &Material<'_>) -> Preview {
    let mut findings: Vec<FindingPreview> = material
        .incidents
        .iter()
        .filter_map(|incident| finding_preview(material, incident))
        .collect();
    findings.sort_by(|a, b| (a.first_seen, &a.incident).cmp(&(b.first_seen, &b.incident)));
    let effective = material.effective;
    let mode = |mode| format!("{mode:?}");
    Preview {
        namespace: material.run.namespace().unwrap_or_default(),
        run: material.run.name_any(),
        modes: Modes {
            scan: mode(effective.scan),
            mining: mode(effective.mining),
            tunnel: mode(effective.tunnel),
        },
        max_action: format!("{:?}", effective.max_action),
        since: material.since,
        unknown: unknown(material, &findings),
        findings,
        now: material.now,
    }
}

fn finding_preview(material: &Material<'_>, incident: &Incident) -> Option<FindingPreview> {
    let recent: Vec<&EvidenceEntry> = incident
        .spec
        .evidence
        .iter()
        .filter(|entry| entry.last_seen.0 >= material.since)
        .collect();
    let first_seen = recent.iter().map(|entry| entry.first_seen.0).min()?;
    let is_enforced = recent.iter().any(|entry| entry.is_actionable());
    let has_crossed = recent
        .iter()
        .any(|entry| entry.severity == Severity::Quarantine);
    let mut found = FindingPreview {
        incident: incident.name_any(),
        pod: incident.spec.subject.name.clone(),
        first_seen,
        seen: recent.iter().map(|entry| seen(entry)).collect(),
        verdict: PreviewVerdict::WouldNot,
        steps: Vec::new(),
        if_traffic_goes_on: Vec::new(),
        contained: contained_of(incident),
        widened_by: Vec::new(),
    };
    if is_enforced {
        found.verdict = PreviewVerdict::WasEnforced;
        return Some(found);
    }
    if !has_crossed {
        "the evidence is below the threshold for a quarantine".clone_into(&mut found.contained);
        return Some(found);
    }
    let Some(contexts) = material.contexts.get(&incident.spec.subject.uid) else {
        found.verdict = PreviewVerdict::NotLookedAt;
        return Some(found);
    };
    let stops = dry_run(incident, contexts, Traffic::Stops, material.now);
    let continues = dry_run(incident, contexts, Traffic::Continues, material.now);
    if !stops.steps.is_empty() {
        found.verdict = PreviewVerdict::WouldAct;
    }
    found.contained = stops.contained;
    found.if_traffic_goes_on = continues
        .steps
        .into_iter()
        .skip(stops.steps.len())
        .collect();
    found.steps = stops.steps;
    found.widened_by.clone_from(&contexts.widened_by);
    Some(found)
}

fn seen(entry: &EvidenceEntry) -> String {
    format!(
        "{} at {:.1} of {:.1} nats: {}",
        entry.signature, entry.score, entry.threshold, entry.summary
    )
}

fn contained_of(incident: &Incident) -> String {
    let contained = incident.condition(IncidentCondition::Contained);
    contained.map_or_else(String::new, |condition| {
        format!("{}: {}", condition.reason, condition.message)
    })
}

/// What this preview cannot know, so that it is not read as a promise.
fn unknown(material: &Material<'_>, findings: &[FindingPreview]) -> Vec<String> {
    let mut unknown = material.notes.clone();
    let conditions = material
        .run
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let signals = condition_of(conditions, AgentRunCondition::SignalsFresh.name());
    match signals {
        Some(condition) if condition.status == "True" => unknown.push(format!(
            "what no log showed: the signals have been fresh for {}, and nothing is known of the time before",
            age(condition.last_transition_time.0, material.now)
        )),
        Some(condition) => unknown.push(format!("what the pods do: SignalsFresh is {}", condition.reason)),
        None => unknown.push("what the pods do: no controller has reconciled the run".to_owned()),
    }
    let namespace = material
        .run
        .metadata
        .namespace
        .as_deref()
        .unwrap_or_default();
    let crossed: Vec<Crossing<'_>> = findings
        .iter()
        .filter(|found| found.verdict == PreviewVerdict::WouldAct)
        .map(|found| Crossing {
            namespace,
            time: found.first_seen,
        })
        .collect();
    let at_once = crossed.iter().any(|last| {
        let crossed = crossed.iter().copied();
        let limits = BreakerLimits::default();
        Breaker::at(last.time, last.namespace, crossed, 0, limits).is_open()
    });
    if at_once {
        unknown.push(
            "whether the circuit breaker would have prevented it: more than 5 pods crossed the threshold within 5 minutes"
                .to_owned(),
        );
    }
    unknown.extend(
        [
            "the limits of the controller: protected namespaces, the maximum of quarantines, --observe-all",
            "what would not have happened after the first pod was stopped",
            "owners and network policies at that time: the current ones are used",
            "whether a deny takes effect here: yellowjack doctor --probe",
            "Incidents that have expired since they were closed (--incident-ttl)",
        ]
        .map(ToOwned::to_owned),
    );
    unknown
}

impl Preview {
    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}/{}: modes scan={} mining={} tunnel={}, maxAction {}; the last {}",
            escaped(&self.namespace),
            escaped(&self.run),
            self.modes.scan,
            self.modes.mining,
            self.modes.tunnel,
            self.max_action,
            age(self.since, self.now)
        );
        let would = self
            .findings
            .iter()
            .filter(|found| found.verdict == PreviewVerdict::WouldAct);
        let _ = writeln!(
            text,
            "with Enforce {} of {} findings would have been acted on",
            would.count(),
            self.findings.len()
        );
        for found in &self.findings {
            found.write(&mut text, self.now);
        }
        let _ = writeln!(text, "{}", styled(DIM, "not known:"));
        for unknown in &self.unknown {
            let _ = writeln!(text, "  - {}", escaped(unknown));
        }
        text
    }
}

impl FindingPreview {
    fn write(&self, text: &mut String, now: Timestamp) {
        let (style, word) = match self.verdict {
            PreviewVerdict::WouldAct => (BAD, "would act"),
            PreviewVerdict::WouldNot => (GOOD, "would do nothing"),
            PreviewVerdict::WasEnforced => (WARNING, "was enforced"),
            PreviewVerdict::NotLookedAt => (WARNING, "not examined: too many pods"),
        };
        let _ = writeln!(
            text,
            "  {} pod {} ({} ago, incident {})",
            styled(style, word),
            escaped(&self.pod),
            age(self.first_seen, now),
            escaped(&self.incident)
        );
        for seen in &self.seen {
            let _ = writeln!(text, "    saw: {}", escaped(seen));
        }
        for step in &self.steps {
            let _ = writeln!(text, "    then: {}", escaped(step));
        }
        for step in &self.if_traffic_goes_on {
            let _ = writeln!(text, "    if traffic continues: {}", escaped(step));
        }
        if !self.widened_by.is_empty() {
            let names = self.widened_by.join(", ");
            let _ = writeln!(
                text,
                "    these policies would still allow its traffic: {}",
                escaped(&names)
            );
        }
        if self.verdict != PreviewVerdict::WouldAct && !self.contained.is_empty() {
            let _ = writeln!(text, "    because: {}", escaped(&self.contained));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ResponseAction;
    use crate::guardrails::ClusterFacts;
    use crate::guardrails::ceiling::evaluate;
    use crate::respond::plan::{Bounds, CpuReduction, OwnerControl};
    use serde_json::json;

    fn incident(name: &str, severity: &str, observe_only: bool, last_seen: &str) -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
            "metadata": { "name": name, "namespace": "ns" },
            "spec": { "subject": { "name": "p\u{1b}[1A", "uid": "u" },
                "evidence": [{ "observer": "n", "signature": "HorizontalScan", "severity": severity,
                    "observeOnly": observe_only, "score": 30.0, "threshold": 20.0, "contacts": 40,
                    "summary": "s", "firstSeen": last_seen, "lastSeen": last_seen }] },
        }))
        .unwrap()
    }

    fn preview(incidents: &[Incident]) -> Preview {
        let run: AgentRun = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "AgentRun",
            "metadata": { "name": "r", "namespace": "ns" },
            "spec": { "target": {}, "detection": { "modes": { "scan": "Observe" } } },
        }))
        .unwrap();
        let effective = evaluate(&run.spec, None, &ClusterFacts::default()).effective;
        let contexts = PodContext {
            bounds: Bounds {
                max_action: ResponseAction::Suspend,
                scope: effective.scope,
            },
            owner: OwnerControl::NoOwner,
            cpu: CpuReduction::Refused(String::new()),
            widened_by: vec!["theirs".to_owned()],
            protected: None,
        };
        of(&Material {
            run: &run,
            effective: &effective,
            incidents,
            contexts: &[("u".to_owned(), contexts)].into(),
            since: "2026-01-02T00:00:00Z".parse().unwrap(),
            now: "2026-01-03T00:00:00Z".parse().unwrap(),
            notes: Vec::new(),
        })
    }

    #[test]
    fn each_finding_is_judged_by_itself_and_old_findings_are_omitted() {
        let at = "2026-01-02T10:00:00Z";
        let preview = preview(&[
            incident("a", "Quarantine", true, at),
            incident("b", "Alert", true, at),
            incident("c", "Quarantine", false, at),
            incident("d", "Quarantine", true, "2026-01-01T10:00:00Z"),
        ]);
        let verdicts: Vec<_> = preview.findings.iter().map(|found| found.verdict).collect();
        let expected = [
            PreviewVerdict::WouldAct,
            PreviewVerdict::WouldNot,
            PreviewVerdict::WasEnforced,
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(preview.modes.scan, "Observe");
    }

    #[test]
    fn the_text_has_steps_and_unknowns_and_no_control_characters() {
        let preview = preview(&[incident("a", "Quarantine", true, "2026-01-02T10:00:00Z")]);
        let text = anstream::adapter::strip_str(&preview.text()).to_string();
        for words in [
            "then: isolate pod",
            "these policies would still allow its traffic: theirs",
            "not known:",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(preview.text().contains("p\\u{1b}[1A"), "{text}");
    }

    #[test]
    fn with_many_pods_at_once_the_breaker_is_unknown() {
        let many: Vec<Incident> = (0..6)
            .map(|number| {
                incident(
                    &number.to_string(),
                    "Quarantine",
                    true,
                    "2026-01-02T10:00:00Z",
                )
            })
            .collect();
        let mentions_breaker = |preview: &Preview| {
            preview
                .unknown
                .iter()
                .any(|text| text.contains("circuit breaker"))
        };
        assert!(mentions_breaker(&preview(&many)));
        assert!(!mentions_breaker(&preview(&many[..5])));
    }
}
