//! The report of `status`, made from AgentRuns and Incidents. Pure. It only orders the conditions that the
//! controller has set, and does not evaluate anything again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::{
    AgentRun, AgentRunCondition, Incident, IncidentCondition, PodsSummary, Reason, Verdict,
    condition_is, condition_of,
};
use crate::cli::output;
use crate::cli::read::Listed;

/// The Incidents, if the user may list them.
pub(super) enum Incidents {
    /// All of them.
    All(Listed<Incident>),
    /// The user may not list Incidents.
    Forbidden,
}

/// The state of a run. The order is that of the table: states that need attention come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum State {
    /// A pod is contained.
    Quarantined,
    /// The guardrails are not as the spec requires, or the controller has not reconciled this spec yet.
    Unguarded,
    /// An Incident is open, and nothing is contained.
    Suspicious,
    /// The guardrails are in place, but the pods are not watched.
    Unwatched,
    /// The guardrails are in place, the pods are watched, and no Incident is open.
    Guarded,
    /// The run has ended.
    Ended,
}

impl State {
    /// The name in the output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Quarantined => "Quarantined",
            Self::Unguarded => "Unguarded",
            Self::Suspicious => "Suspicious",
            Self::Unwatched => "Unwatched",
            Self::Guarded => "Guarded",
            Self::Ended => "Ended",
        }
    }

    const fn exit_code(self) -> u8 {
        match self {
            Self::Quarantined => output::QUARANTINED,
            Self::Unguarded => output::NOT_GUARDED,
            Self::Suspicious => output::SUSPICIOUS,
            Self::Unwatched => output::NOT_WATCHED,
            Self::Guarded | Self::Ended => 0,
        }
    }
}

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusReport {
    /// The runs; those that need attention come first.
    pub runs: Vec<RunReport>,
    /// What the report does not contain.
    pub notes: Vec<String>,
    /// Whether the report is about a single run, which is shown in full.
    #[serde(skip)]
    pub is_whole: bool,
}

/// One run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunReport {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The state.
    pub state: State,
    /// Its pods.
    pub pods: Option<PodsSummary>,
    /// The reason of the condition that determines the state.
    pub reason: String,
    /// When that condition changed last.
    pub since: Option<Timestamp>,
    /// The reason of `SignalsFresh`.
    pub signals: String,
    /// The conditions.
    pub conditions: Vec<ConditionLine>,
    /// Its open Incidents.
    pub incidents: Vec<OpenIncident>,
    /// What to do next.
    pub next: Vec<String>,
}

/// A condition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConditionLine {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// The reason.
    pub reason: String,
    /// The message.
    pub message: String,
    /// When its status changed last.
    pub since: Timestamp,
    /// Whether this status is the desired one.
    pub is_fine: bool,
}

/// An open Incident.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenIncident {
    /// The name.
    pub name: String,
    /// The pod. Empty where only the name of the Incident is known.
    pub pod: String,
    /// The signatures of its evidence.
    pub signatures: Vec<String>,
    /// The reason of Contained.
    pub contained: String,
    /// The reason of Verified.
    pub verified: String,
    /// When it was created.
    pub since: Option<Timestamp>,
    /// Whether a human confirmed it.
    pub is_confirmed: bool,
}

impl StatusReport {
    /// The lowest exit code of the runs' states, and 0 where all are fine.
    pub(super) fn exit_code(&self) -> u8 {
        let codes = self.runs.iter().map(|run| run.state.exit_code());
        codes.filter(|code| *code > 0).min().unwrap_or(0)
    }
}

/// The report about these runs.
pub(super) fn of(runs: &Listed<AgentRun>, known: &Incidents, is_whole: bool) -> StatusReport {
    let mut notes = Vec::new();
    if runs.is_truncated {
        notes.push(format!(
            "only the first {} runs were read",
            runs.items.len()
        ));
    }
    match known {
        Incidents::All(incidents) if incidents.is_truncated => notes.push(format!(
            "only the first {} Incidents were read",
            incidents.items.len()
        )),
        Incidents::All(_) => {}
        Incidents::Forbidden => notes.push(
            "you may not list Incidents: only the names of open Incidents are shown".to_owned(),
        ),
    }
    let mut reports: Vec<RunReport> = runs.items.iter().map(|run| report(run, known)).collect();
    reports.sort_by(|a, b| (a.state, &a.namespace, &a.name).cmp(&(b.state, &b.namespace, &b.name)));
    StatusReport {
        runs: reports,
        notes,
        is_whole,
    }
}

fn report(run: &AgentRun, known: &Incidents) -> RunReport {
    let conditions = run.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let (state, deciding) = state_of(run);
    let deciding = deciding.and_then(|kind| condition_of(conditions, kind.name()));
    let signals = condition_of(conditions, AgentRunCondition::SignalsFresh.name());
    let incidents = incidents_of(run, known);
    let reason = deciding.map_or_else(
        || "NotLookedAt".to_owned(),
        |condition| condition.reason.clone(),
    );
    RunReport {
        namespace: run.namespace().unwrap_or_default(),
        name: run.name_any(),
        state,
        pods: run.status.as_ref().and_then(|status| status.pods.clone()),
        since: deciding.map(|condition| condition.last_transition_time.0),
        signals: signals.map_or_else(
            || "Unknown".to_owned(),
            |condition| condition.reason.clone(),
        ),
        next: next_of(run, state, &reason, &incidents),
        reason,
        conditions: conditions.iter().map(condition_line).collect(),
        incidents,
    }
}

/// The state, and the condition that determines it.
fn state_of(run: &AgentRun) -> (State, Option<AgentRunCondition>) {
    use AgentRunCondition as C;
    let status = run.status.as_ref();
    let conditions = status.map_or(&[][..], |s| &s.conditions);
    let is = |kind: C| condition_is(conditions, kind.name());
    if is(C::Quarantined) {
        return (State::Quarantined, Some(C::Quarantined));
    }
    let seen = status.and_then(|status| status.observed_generation);
    if seen.is_none() || seen != run.metadata.generation {
        return (State::Unguarded, None);
    }
    let has_ended = condition_of(conditions, C::Ready.name()).is_some_and(|condition| {
        condition.status == "True" && condition.reason == Reason::Completed.name()
    });
    if has_ended && !is(C::Suspicious) {
        return (State::Ended, Some(C::Ready));
    }
    let required = [
        C::Accepted,
        C::TargetResolved,
        C::NetworkGuarded,
        C::QuotaBound,
    ];
    let missing = required.into_iter().find(|kind| {
        condition_of(conditions, kind.name()).is_none_or(|condition| !is_fine(condition))
    });
    if is(C::Stalled) {
        return (State::Unguarded, Some(C::Stalled));
    }
    if let Some(kind) = missing {
        return (State::Unguarded, Some(kind));
    }
    if is(C::Suspicious) {
        return (State::Suspicious, Some(C::Suspicious));
    }
    if !is(C::Ready) {
        return (State::Unguarded, Some(C::Ready));
    }
    if !is(C::SignalsFresh) {
        return (State::Unwatched, Some(C::SignalsFresh));
    }
    (State::Guarded, Some(C::Ready))
}

fn condition_line(condition: &Condition) -> ConditionLine {
    ConditionLine {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0,
        is_fine: is_fine(condition),
    }
}

/// Whether a condition has its desired status. Conditions of others count as fine.
fn is_fine(condition: &Condition) -> bool {
    use AgentRunCondition as C;
    let abnormal = [C::Suspicious, C::Quarantined, C::Reconciling, C::Stalled];
    let normal = [
        C::Accepted,
        C::TargetResolved,
        C::NetworkGuarded,
        C::QuotaBound,
        C::SignalsFresh,
        C::Ready,
    ];
    let is_one_of = |kinds: &[C]| kinds.iter().any(|kind| kind.name() == condition.type_);
    if is_one_of(&abnormal) {
        return condition.status == "False";
    }
    !is_one_of(&normal)
        || condition.status == "True"
        || condition.reason == Reason::NoQuotaRequested.name()
}

fn incidents_of(run: &AgentRun, known: &Incidents) -> Vec<OpenIncident> {
    match known {
        Incidents::All(incidents) => {
            let is_of = |incident: &&Incident| {
                let of = incident.spec.run.as_ref();
                incident.metadata.namespace == run.metadata.namespace
                    && of.is_some_and(|of| Some(&of.uid) == run.metadata.uid.as_ref())
                    && incident.is_open()
            };
            incidents
                .items
                .iter()
                .filter(is_of)
                .map(open_incident)
                .collect()
        }
        Incidents::Forbidden => {
            let names = run.status.iter().flat_map(|status| &status.open_incidents);
            names.map(|name| unread_incident(name)).collect()
        }
    }
}

fn open_incident(incident: &Incident) -> OpenIncident {
    let reason = |kind: IncidentCondition| {
        incident.condition(kind).map_or_else(
            || "Unknown".to_owned(),
            |condition| condition.reason.clone(),
        )
    };
    let mut signatures: Vec<String> = incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.signature.clone())
        .collect();
    signatures.sort();
    signatures.dedup();
    OpenIncident {
        name: incident.name_any(),
        pod: incident.spec.subject.name.clone(),
        signatures,
        contained: reason(IncidentCondition::Contained),
        verified: reason(IncidentCondition::Verified),
        since: incident.metadata.creation_timestamp.as_ref().map(|at| at.0),
        is_confirmed: incident.verdict() == Some(Verdict::Confirm),
    }
}

fn unread_incident(name: &str) -> OpenIncident {
    OpenIncident {
        name: name.to_owned(),
        pod: String::new(),
        signatures: Vec::new(),
        contained: "Unknown".to_owned(),
        verified: "Unknown".to_owned(),
        since: None,
        is_confirmed: false,
    }
}

/// What to do next about a run.
fn next_of(run: &AgentRun, state: State, reason: &str, incidents: &[OpenIncident]) -> Vec<String> {
    let namespace = run.namespace().unwrap_or_default();
    let undecided = incidents.iter().find(|incident| !incident.is_confirmed);
    let mut next = Vec::new();
    if let Some(incident) = undecided {
        let name = &incident.name;
        next.push(format!(
            "read the evidence: yellowjack explain -n {namespace} {name}"
        ));
        next.push(format!(
            "decide: yellowjack release|confirm|terminate {name} -n {namespace} --why TEXT"
        ));
    }
    let about_state = match state {
        State::Unguarded => unguarded(reason),
        State::Unwatched => unwatched(reason),
        State::Quarantined if incidents.is_empty() => {
            "a pod has the quarantine label without an Incident: find out who set it"
        }
        State::Quarantined if reason == Reason::ConnectionsSurvive.name() => {
            "traffic continues: end the pod (yellowjack terminate), or set maxAction to Suspend"
        }
        State::Quarantined | State::Suspicious | State::Guarded | State::Ended => "",
    };
    if !about_state.is_empty() {
        next.push(about_state.to_owned());
    }
    next
}

fn unguarded(reason: &str) -> &'static str {
    let is = |known: Reason| known.name() == reason;
    if is(Reason::ExceedsPolicy) || is(Reason::PolicyNotFound) || is(Reason::Invalid) {
        "change the AgentRun or its GuardrailPolicy as described in the message"
    } else if is(Reason::FqdnNotEnforceable) {
        "use addresses instead of names: this cluster's network does not enforce FQDN rules"
    } else if is(Reason::TargetNotFound) || is(Reason::Overlap) {
        "check spec.target: it must select existing pods that belong to no other run"
    } else if is(Reason::UnionWidened) {
        "narrow or remove the NetworkPolicies that the message names"
    } else if is(Reason::NoEnforcement) {
        "the network does not enforce policies: check with yellowjack doctor --probe"
    } else if is(Reason::HostNetwork) {
        "run the pod without hostNetwork: no NetworkPolicy applies to it"
    } else if is(Reason::NameConflict) {
        "rename or remove the object that the message names"
    } else if is(Reason::ScopeMatchesNoPods) || is(Reason::QuotaNotCounted) {
        "give the pods the PriorityClass of the quota, or remove it from the quota"
    } else if is(Reason::ApiRefused) || is(Reason::Malformed) {
        "read the message, then: yellowjack doctor"
    } else if reason == "NotLookedAt" {
        "no controller has reconciled this spec yet: yellowjack doctor"
    } else {
        "wait; if this persists, read the message"
    }
}

fn unwatched(reason: &str) -> &'static str {
    if reason == Reason::NoSource.name() {
        "give the controller or the node agents a log (--source): without one nothing is watched"
    } else if reason == Reason::EventsLost.name() {
        "the log lost events: enlarge the collector's buffers, or collect less"
    } else {
        "check the log's collector and the node agents: yellowjack doctor"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(conditions: &[(&str, &str, &str)], generation: i64) -> AgentRun {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({ "type": kind, "status": status, "reason": reason, "message": "m",
                        "lastTransitionTime": "2026-01-01T00:00:00Z" })
            })
            .collect();
        let run = json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "AgentRun",
            "metadata": { "name": "r", "namespace": "ns", "uid": "u", "generation": 1 },
            "spec": { "target": {} },
            "status": { "observedGeneration": generation, "conditions": conditions,
                        "pods": { "total": 1, "quarantined": 0 }, "openIncidents": ["i"] },
        });
        serde_json::from_value(run).unwrap()
    }

    fn fine<'a>(but: &[(&'a str, &'a str, &'a str)]) -> Vec<(&'a str, &'a str, &'a str)> {
        let all = [
            ("Accepted", "True", "Valid"),
            ("TargetResolved", "True", "Resolved"),
            ("NetworkGuarded", "True", "PoliciesApplied"),
            ("QuotaBound", "False", "NoQuotaRequested"),
            ("SignalsFresh", "True", "SourcesFresh"),
            ("Suspicious", "False", "NoOpenIncidents"),
            ("Quarantined", "False", "NotQuarantined"),
            ("Ready", "True", "GuardrailsInPlace"),
            ("Stalled", "False", "UpToDate"),
        ];
        let changed = |kind: &str| but.iter().find(|(other, _, _)| *other == kind).copied();
        all.into_iter()
            .map(|condition| changed(condition.0).unwrap_or(condition))
            .collect()
    }

    fn check(but: &[(&str, &str, &str)], state: State, code: u8) {
        let listed = Listed {
            items: vec![run(&fine(but), 1)],
            is_truncated: false,
        };
        let report = of(&listed, &Incidents::Forbidden, false);
        assert_eq!(report.runs[0].state, state, "{but:?}");
        assert_eq!(report.exit_code(), code, "{but:?}");
    }

    #[test]
    fn the_state_is_the_worst_of_the_conditions() {
        check(&[], State::Guarded, 0);
        check(&[("Ready", "True", "Completed")], State::Ended, 0);
        let stale = ("SignalsFresh", "False", "FlowsStale");
        check(&[stale], State::Unwatched, 13);
        let open = ("Suspicious", "True", "IncidentOpen");
        check(&[open, stale], State::Suspicious, 12);
        let wide = ("NetworkGuarded", "False", "UnionWidened");
        check(&[wide, open], State::Unguarded, 11);
        let quarantined = ("Quarantined", "True", "Isolated");
        check(&[wide, open, quarantined], State::Quarantined, 10);
        check(&[("Accepted", "Unknown", "Invalid")], State::Unguarded, 11);
    }

    #[test]
    fn a_spec_that_was_not_reconciled_is_not_guarded() {
        let old = Listed {
            items: vec![run(&fine(&[]), 0)],
            is_truncated: false,
        };
        let report = of(&old, &Incidents::Forbidden, false);
        assert_eq!(report.runs[0].state, State::Unguarded);
        assert!(
            report.runs[0]
                .next
                .iter()
                .any(|next| next.contains("no controller"))
        );
    }

    #[test]
    fn without_the_right_to_list_incidents_their_names_are_shown() {
        let listed = Listed {
            items: vec![run(&fine(&[]), 1)],
            is_truncated: true,
        };
        let report = of(&listed, &Incidents::Forbidden, false);
        assert_eq!(report.runs[0].incidents[0].name, "i");
        assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    }

    #[test]
    fn every_reason_has_a_next_step() {
        for reason in Reason::ALL {
            assert!(!unguarded(reason.name()).is_empty());
            assert!(!unwatched(reason.name()).is_empty());
        }
    }
}
