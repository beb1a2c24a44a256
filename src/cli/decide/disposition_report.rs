//! Text about a disposition: what it will do, for the confirmation prompt, and what it did. Pure.

use std::fmt::Write as _;

use kube::ResourceExt;
use serde::Serialize;

use crate::api::{
    ActionKind, ActionRecord, ActionResult, Disposition, Incident, IncidentCondition, Verdict,
};
use crate::cli::output::{BAD, GOOD, WARNING, escaped, styled};

/// How far a disposition was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    /// Carried out.
    Done,
    /// Stored, without waiting for its result.
    Stored,
    /// Stored, but not carried out within the time to wait.
    Pending,
}

/// The result of a disposition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DispositionReport {
    /// The namespace.
    pub namespace: String,
    /// The Incident.
    pub incident: String,
    /// The pod that it is about.
    pub pod: String,
    /// The disposition.
    pub disposition: Option<Disposition>,
    /// How far it was carried out.
    pub outcome: Outcome,
    /// The actions that carried it out.
    pub actions: Vec<ActionLine>,
    /// The fields that are not restored yet.
    pub left: Vec<String>,
    /// The message of the condition Closed.
    pub closed: Option<String>,
}

/// One action.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionLine {
    /// The kind of the action.
    pub action: String,
    /// Kind and name of the object.
    pub target: String,
    /// The result.
    pub result: String,
    /// The message.
    pub message: String,
}

/// The verdict as in the API.
pub(super) const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirm => "Confirm",
        Verdict::Release => "Release",
        Verdict::Terminate => "Terminate",
    }
}

/// The lines of the confirmation prompt: the evidence, and what the disposition will do.
pub(super) fn question(incident: &Incident, disposition: &Disposition) -> Vec<String> {
    let mut lines = vec![format!(
        "Incident {} about pod {}:",
        incident.name_any(),
        incident.spec.subject.name
    )];
    for entry in &incident.spec.evidence {
        lines.push(format!(
            "  {} ({}): {}",
            entry.signature,
            entry.severity.name(),
            entry.summary
        ));
        lines.extend(
            entry
                .counter_evidence
                .iter()
                .map(|against| format!("    against it: {against}")),
        );
    }
    match disposition.verdict {
        Verdict::Release => {
            lines.push("Release removes the quarantine label, and restores:".to_owned());
            let saved = incident.status.iter().flat_map(|status| &status.restore);
            for entry in saved {
                let before = entry.original_value.as_ref();
                let before = before.map_or_else(|| "unset".to_owned(), ToString::to_string);
                let (kind, name) = (&entry.target.kind, &entry.target.name);
                lines.push(format!("  {kind} {name} {} to {before}", entry.field));
            }
        }
        Verdict::Confirm => lines.push("Confirm leaves the pod as it is, contained.".to_owned()),
        Verdict::Terminate => lines.push(
            "Terminate suspends the owner of the pod, with all its pods, and deletes the pod. This \
             cannot be undone."
                .to_owned(),
        ),
    }
    lines
}

impl DispositionReport {
    /// From the Incident before the disposition and as it is now.
    pub(super) fn of(before: &Incident, now: &Incident, was_waited: bool) -> Self {
        let status = now.status.as_ref();
        let old = before.status.iter().flat_map(|status| &status.actions);
        let old: Vec<&ActionRecord> = old.collect();
        let actions = status.map_or(&[][..], |status| &status.actions);
        let outcome = match (!now.is_open(), was_waited) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Pending,
            (false, false) => Outcome::Stored,
        };
        let left = status.iter().flat_map(|status| &status.restore);
        let closed = now.condition(IncidentCondition::Closed);
        Self {
            namespace: now.namespace().unwrap_or_default(),
            incident: now.name_any(),
            pod: now.spec.subject.name.clone(),
            disposition: now.spec.disposition.clone(),
            outcome,
            actions: actions
                .iter()
                .filter(|action| !old.contains(action))
                .map(action_line)
                .collect(),
            left: left
                .map(|entry| {
                    format!(
                        "{} {} {}",
                        entry.target.kind, entry.target.name, entry.field
                    )
                })
                .collect(),
            closed: closed.map(|condition| condition.message.clone()),
        }
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let disposition = self.disposition.as_ref();
        let verdict = disposition.map_or("nothing", |d| verdict_name(d.verdict));
        let is_confirmed = disposition.is_some_and(|d| d.verdict == Verdict::Confirm);
        let (style, what) = match self.outcome {
            Outcome::Done => (GOOD, "carried out"),
            Outcome::Stored if is_confirmed => (GOOD, "stored; the pod stays as it is"),
            Outcome::Stored => (GOOD, "stored; the controller will carry it out"),
            Outcome::Pending => (
                BAD,
                "stored, but not carried out yet: does a controller run?",
            ),
        };
        let by = disposition.map_or("", |d| d.decided_by.as_str());
        let _ = writeln!(
            text,
            "Incident {} (pod {}): {verdict} by {}: {}",
            escaped(&self.incident),
            escaped(&self.pod),
            escaped(by),
            styled(style, what)
        );
        for line in &self.actions {
            let style = match line.result.as_str() {
                "Succeeded" => GOOD,
                "Skipped" => WARNING,
                _ => BAD,
            };
            let _ = writeln!(
                text,
                "  {} {} {}: {}",
                styled(style, &line.result.to_lowercase()),
                line.action.to_lowercase(),
                escaped(&line.target),
                escaped(&line.message)
            );
        }
        for left in &self.left {
            let _ = writeln!(
                text,
                "  {} {}",
                styled(WARNING, "still held:"),
                escaped(left)
            );
        }
        if self.outcome == Outcome::Pending {
            text.push_str("  next: yellowjack doctor\n");
        }
        text
    }
}

fn action_line(action: &ActionRecord) -> ActionLine {
    let result = match action.result {
        ActionResult::Succeeded => "Succeeded",
        ActionResult::Failed => "Failed",
        ActionResult::Skipped => "Skipped",
    };
    let kind = match action.kind {
        ActionKind::Alert => "Alert",
        ActionKind::Throttle => "Throttle",
        ActionKind::Capture => "Capture",
        ActionKind::Isolate => "Isolate",
        ActionKind::Suspend => "Suspend",
        ActionKind::Terminate => "Terminate",
        ActionKind::Restore => "Restore",
    };
    ActionLine {
        action: kind.to_owned(),
        target: format!("{} {}", action.target.kind, action.target.name),
        result: result.to_owned(),
        message: action.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn incident(actions: &Value, restore: &Value, closed: &str) -> Incident {
        let incident = json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
            "metadata": { "name": "i", "namespace": "ns" },
            "spec": {
                "subject": { "name": "p", "uid": "u" },
                "evidence": [{ "observer": "n", "signature": "Mining", "severity": "Quarantine", "score": 30.0,
                    "threshold": 20.0, "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z",
                    "contacts": 1, "summary": "S", "counterEvidence": ["it may be a test"] }],
                "disposition": { "verdict": "Release", "decidedBy": "ana\u{7}", "justification": "w" },
            },
            "status": { "actions": actions, "restore": restore, "conditions": [{ "type": "Closed",
                "status": closed, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
        });
        serde_json::from_value(incident).unwrap()
    }

    fn action(kind: &str, result: &str, message: &str) -> Value {
        json!({ "type": kind, "target": { "apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "j" },
                "time": "2026-01-01T00:00:00Z", "result": result, "message": message })
    }

    fn saved() -> Value {
        json!([{ "target": { "apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "j" },
                 "field": "/spec/suspend", "originalValue": false, "appliedValue": true }])
    }

    #[test]
    fn only_actions_after_the_disposition_are_listed() {
        let old = action("Suspend", "Succeeded", "before");
        let new = action(
            "Restore",
            "Skipped",
            "it was changed since, so it is left alone",
        );
        let before = incident(&json!([old]), &saved(), "False");
        let now = incident(&json!([old, new]), &json!([]), "True");
        let report = DispositionReport::of(&before, &now, true);
        assert_eq!(report.outcome, Outcome::Done);
        assert_eq!(report.actions.len(), 1);
        let text = anstream::adapter::strip_str(&report.text()).to_string();
        assert!(
            text.contains("skipped restore Job work: it was changed"),
            "{text}"
        );
        assert!(!text.contains('\u{7}'), "{text:?}");
    }

    #[test]
    fn fields_that_are_not_restored_yet_are_listed() {
        let before = incident(&json!([]), &saved(), "False");
        let report = DispositionReport::of(&before, &before, true);
        assert_eq!(report.outcome, Outcome::Pending);
        assert!(
            report.text().contains("Job work /spec/suspend"),
            "{}",
            report.text()
        );
        assert_eq!(
            DispositionReport::of(&before, &before, false).outcome,
            Outcome::Stored
        );
    }

    #[test]
    fn the_prompt_of_a_release_has_the_evidence_and_what_is_restored() {
        let before = incident(&json!([]), &saved(), "False");
        let lines = question(&before, before.spec.disposition.as_ref().unwrap()).join("\n");
        for words in [
            "Mining",
            "it may be a test",
            "Job work /spec/suspend to false",
        ] {
            assert!(lines.contains(words), "{lines}");
        }
    }
}
