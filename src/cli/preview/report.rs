//! What `preview` says, from what was read. Pure.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::foresee::{Surroundings, Traffic, foresee};
use crate::api::{
    AgentRun, AgentRunCondition, EvidenceEntry, Incident, IncidentCondition, condition_of,
};
use crate::cli::people::{BAD, DIM, GOOD, WORTH_A_LOOK, age, painted, shown};
use crate::guardrails::ceiling::Effective;
use crate::model::Severity;
use crate::respond::plan::{Breaker, BreakerLimits};

/// What was read.
pub struct Material<'a> {
    /// The run.
    pub run: &'a AgentRun,
    /// What is in force for it.
    pub effective: &'a Effective,
    /// Its Incidents.
    pub incidents: &'a [Incident],
    /// What is there now around their pods, by UID.
    pub around: &'a HashMap<String, Surroundings>,
    /// How far it is looked back.
    pub since: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Namespace.
    pub namespace: String,
    /// The run.
    pub run: String,
    /// What a finding of each signature leads to now.
    pub modes: Modes,
    /// The highest rung of the ladder.
    pub max_action: String,
    /// From when on.
    pub since: Timestamp,
    /// The findings, oldest first.
    pub findings: Vec<Foretold>,
    /// What could not be known.
    pub unknown: Vec<String>,
    #[serde(skip)]
    now: Timestamp,
}

/// Modes by signature.
#[derive(Debug, Serialize)]
pub struct Modes {
    scan: String,
    mining: String,
    tunnel: String,
}

/// What Enforce makes of one Incident.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Foretold {
    /// The Incident.
    pub incident: String,
    /// The pod.
    pub pod: String,
    /// First contact that counts.
    pub first_seen: Timestamp,
    /// What was seen: signature, score and summary.
    pub seen: Vec<String>,
    /// What it comes to.
    pub verdict: Foresight,
    /// The steps, where the traffic ends with the isolation.
    pub steps: Vec<String>,
    /// The steps, where it goes on.
    pub if_traffic_goes_on: Vec<String>,
    /// What Contained would say, or says.
    pub contained: String,
    /// Policies that would widen the isolation.
    pub widened_by: Vec<String>,
}

/// What Enforce makes of an Incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Foresight {
    /// The pod would have been acted on.
    WouldAct,
    /// Nothing would have been done: the evidence is below the line, or a bound holds.
    WouldNot,
    /// It was not withheld: what was done stands in the Incident.
    WasEnforced,
    /// Too many pods to look at.
    NotLookedAt,
}

/// The preview of a run.
pub fn of(material: &Material<'_>) -> Preview {
    let mut findings: Vec<Foretold> = material
        .incidents
        .iter()
        .filter_map(|incident| foretold(material, incident))
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

fn foretold(material: &Material<'_>, incident: &Incident) -> Option<Foretold> {
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
    let mut found = Foretold {
        incident: incident.name_any(),
        pod: incident.spec.subject.name.clone(),
        first_seen,
        seen: recent.iter().map(|entry| seen(entry)).collect(),
        verdict: Foresight::WouldNot,
        steps: Vec::new(),
        if_traffic_goes_on: Vec::new(),
        contained: said_contained(incident),
        widened_by: Vec::new(),
    };
    if is_enforced {
        found.verdict = Foresight::WasEnforced;
        return Some(found);
    }
    if !has_crossed {
        "the evidence is below the threshold for a quarantine".clone_into(&mut found.contained);
        return Some(found);
    }
    let Some(around) = material.around.get(&incident.spec.subject.uid) else {
        found.verdict = Foresight::NotLookedAt;
        return Some(found);
    };
    let stops = foresee(incident, around, Traffic::Stops, material.now);
    let goes_on = foresee(incident, around, Traffic::GoesOn, material.now);
    if !stops.steps.is_empty() {
        found.verdict = Foresight::WouldAct;
    }
    found.contained = stops.contained;
    found.if_traffic_goes_on = goes_on.steps.into_iter().skip(stops.steps.len()).collect();
    found.steps = stops.steps;
    found.widened_by.clone_from(&around.widened_by);
    Some(found)
}

fn seen(entry: &EvidenceEntry) -> String {
    format!(
        "{} at {:.1} of {:.1} nats: {}",
        entry.signature, entry.score, entry.threshold, entry.summary
    )
}

fn said_contained(incident: &Incident) -> String {
    let contained = incident.condition(IncidentCondition::Contained);
    contained.map_or_else(String::new, |said| {
        format!("{}: {}", said.reason, said.message)
    })
}

/// What this preview cannot know, so that nobody takes it for a promise.
fn unknown(material: &Material<'_>, findings: &[Foretold]) -> Vec<String> {
    let mut unknown = material.notes.clone();
    let conditions = material
        .run
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let signals = condition_of(conditions, AgentRunCondition::SignalsFresh.name());
    match signals {
        Some(said) if said.status == "True" => unknown.push(format!(
            "what no log showed: the signals are fresh since {}, and before that nobody looked",
            age(said.last_transition_time.0, material.now)
        )),
        Some(said) => unknown.push(format!("what the pods do: SignalsFresh is {}", said.reason)),
        None => unknown.push("what the pods do: no controller looked at the run".to_owned()),
    }
    let crossed: Vec<Timestamp> = findings
        .iter()
        .filter(|found| found.verdict == Foresight::WouldAct)
        .map(|found| found.first_seen)
        .collect();
    let at_once = crossed
        .iter()
        .any(|at| Breaker::at(*at, crossed.iter().copied(), 0, BreakerLimits::default()).is_open());
    if at_once {
        unknown.push(
            "whether the circuit breaker would have held it back: more than 5 pods crossed within 5 minutes"
                .to_owned(),
        );
    }
    unknown.extend(
        [
            "the controller's own limits: protected namespaces, the cap of quarantines, --observe-all",
            "what would not have happened any more once the first pod was stopped",
            "owners and network policies as they were then: those of now are taken",
            "whether a deny takes effect here: yellowjack doctor --probe",
            "Incidents that were closed long ago: they expire (--incident-ttl)",
        ]
        .map(ToOwned::to_owned),
    );
    unknown
}

impl Preview {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}/{}: modes scan={} mining={} tunnel={}, maxAction {}; the last {}",
            shown(&self.namespace),
            shown(&self.run),
            self.modes.scan,
            self.modes.mining,
            self.modes.tunnel,
            self.max_action,
            age(self.since, self.now)
        );
        let would = self
            .findings
            .iter()
            .filter(|found| found.verdict == Foresight::WouldAct);
        let _ = writeln!(
            text,
            "with Enforce {} of {} findings would have been acted on",
            would.count(),
            self.findings.len()
        );
        for found in &self.findings {
            found.write(&mut text, self.now);
        }
        let _ = writeln!(text, "{}", painted(DIM, "not known:"));
        for unknown in &self.unknown {
            let _ = writeln!(text, "  - {}", shown(unknown));
        }
        text
    }
}

impl Foretold {
    fn write(&self, text: &mut String, now: Timestamp) {
        let (style, word) = match self.verdict {
            Foresight::WouldAct => (BAD, "would act"),
            Foresight::WouldNot => (GOOD, "would do nothing"),
            Foresight::WasEnforced => (WORTH_A_LOOK, "was enforced"),
            Foresight::NotLookedAt => (WORTH_A_LOOK, "not looked at: too many pods"),
        };
        let _ = writeln!(
            text,
            "  {} pod {} ({} ago, incident {})",
            painted(style, word),
            shown(&self.pod),
            age(self.first_seen, now),
            shown(&self.incident)
        );
        for seen in &self.seen {
            let _ = writeln!(text, "    saw: {}", shown(seen));
        }
        for step in &self.steps {
            let _ = writeln!(text, "    then: {}", shown(step));
        }
        for step in &self.if_traffic_goes_on {
            let _ = writeln!(text, "    if traffic goes on: {}", shown(step));
        }
        if !self.widened_by.is_empty() {
            let names = self.widened_by.join(", ");
            let _ = writeln!(
                text,
                "    these policies would let it through: {}",
                shown(&names)
            );
        }
        if self.verdict != Foresight::WouldAct && !self.contained.is_empty() {
            let _ = writeln!(text, "    because: {}", shown(&self.contained));
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
        let around = Surroundings {
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
            around: &[("u".to_owned(), around)].into(),
            since: "2026-01-02T00:00:00Z".parse().unwrap(),
            now: "2026-01-03T00:00:00Z".parse().unwrap(),
            notes: Vec::new(),
        })
    }

    #[test]
    fn each_finding_is_judged_by_itself_and_old_ones_are_left_out() {
        let at = "2026-01-02T10:00:00Z";
        let preview = preview(&[
            incident("a", "Quarantine", true, at),
            incident("b", "Alert", true, at),
            incident("c", "Quarantine", false, at),
            incident("d", "Quarantine", true, "2026-01-01T10:00:00Z"),
        ]);
        let verdicts: Vec<_> = preview.findings.iter().map(|found| found.verdict).collect();
        let expected = [
            Foresight::WouldAct,
            Foresight::WouldNot,
            Foresight::WasEnforced,
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(preview.modes.scan, "Observe");
    }

    #[test]
    fn the_text_names_steps_and_what_is_not_known_and_steers_nothing() {
        let preview = preview(&[incident("a", "Quarantine", true, "2026-01-02T10:00:00Z")]);
        let text = anstream::adapter::strip_str(&preview.text()).to_string();
        for words in [
            "then: isolate pod",
            "these policies would let it through: theirs",
            "not known:",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(preview.text().contains("p\\u{1b}[1A"), "{text}");
    }

    #[test]
    fn many_pods_at_once_make_the_breaker_a_question() {
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
        let asks = |preview: &Preview| {
            preview
                .unknown
                .iter()
                .any(|text| text.contains("circuit breaker"))
        };
        assert!(asks(&preview(&many)));
        assert!(!asks(&preview(&many[..5])));
    }
}
