//! What becomes of a human's word, in words: what it will do before, what it did after. Pure.

use std::fmt::Write as _;

use kube::ResourceExt;
use serde::Serialize;

use crate::api::{
    ActionKind, ActionRecord, ActionResult, Disposition, Incident, IncidentCondition, Verdict,
};
use crate::cli::people::{BAD, GOOD, WORTH_A_LOOK, painted, shown};

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// Stored, and nobody waited for more.
    Stored,
    /// Stored, and not carried out within the time.
    Pending,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tale {
    /// Namespace.
    pub namespace: String,
    /// The Incident.
    pub incident: String,
    /// The pod that it is about.
    pub pod: String,
    /// The word.
    pub disposition: Option<Disposition>,
    /// How far it came.
    pub outcome: Outcome,
    /// What was done for it.
    pub actions: Vec<Deed>,
    /// What still waits to be restored.
    pub left: Vec<String>,
    /// The last word of the controller about it.
    pub closed: Option<String>,
}

/// One thing that was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// What.
    pub action: String,
    /// To what: kind and name.
    pub target: String,
    /// How it ended.
    pub result: String,
    /// What was said about it.
    pub message: String,
}

/// The verdict as the API has it.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirm => "Confirm",
        Verdict::Release => "Release",
        Verdict::Terminate => "Terminate",
    }
}

/// What whoever decides must know, a line each.
pub fn question(incident: &Incident, word: &Disposition) -> Vec<String> {
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
    match word.verdict {
        Verdict::Release => {
            lines.push("Release takes the quarantine label off, and sets back:".to_owned());
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
            "Terminate suspends the owner of the pod, with all its pods, and deletes the pod. There is \
             no way back."
                .to_owned(),
        ),
    }
    lines
}

impl Tale {
    /// From the Incident before the word and as it is now.
    pub fn of(before: &Incident, now: &Incident, was_waited: bool) -> Self {
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
                .map(deed)
                .collect(),
            left: left
                .map(|entry| {
                    format!(
                        "{} {} {}",
                        entry.target.kind, entry.target.name, entry.field
                    )
                })
                .collect(),
            closed: closed.map(|said| said.message.clone()),
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let word = self.disposition.as_ref();
        let verdict = word.map_or("nothing", |word| verdict_name(word.verdict));
        let is_confirmed = word.is_some_and(|word| word.verdict == Verdict::Confirm);
        let (style, what) = match self.outcome {
            Outcome::Done => (GOOD, "carried out"),
            Outcome::Stored if is_confirmed => (GOOD, "stored; the pod stays as it is"),
            Outcome::Stored => (GOOD, "stored; nobody waited until it is carried out"),
            Outcome::Pending => (
                BAD,
                "stored, and not carried out yet: does a controller run?",
            ),
        };
        let by = word.map_or("", |word| word.decided_by.as_str());
        let _ = writeln!(
            text,
            "Incident {} (pod {}): {verdict} by {}: {}",
            shown(&self.incident),
            shown(&self.pod),
            shown(by),
            painted(style, what)
        );
        for deed in &self.actions {
            let style = match deed.result.as_str() {
                "Succeeded" => GOOD,
                "Skipped" => WORTH_A_LOOK,
                _ => BAD,
            };
            let _ = writeln!(
                text,
                "  {} {} {}: {}",
                painted(style, &deed.result.to_lowercase()),
                deed.action.to_lowercase(),
                shown(&deed.target),
                shown(&deed.message)
            );
        }
        for left in &self.left {
            let _ = writeln!(
                text,
                "  {} {}",
                painted(WORTH_A_LOOK, "still held:"),
                shown(left)
            );
        }
        if self.outcome == Outcome::Pending {
            text.push_str("  next: yellowjack doctor\n");
        }
        text
    }
}

fn deed(action: &ActionRecord) -> Deed {
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
    Deed {
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
    fn only_what_came_after_the_word_is_told() {
        let old = action("Suspend", "Succeeded", "before");
        let new = action(
            "Restore",
            "Skipped",
            "somebody changed it since, so it is left alone",
        );
        let before = incident(&json!([old]), &saved(), "False");
        let now = incident(&json!([old, new]), &json!([]), "True");
        let tale = Tale::of(&before, &now, true);
        assert_eq!(tale.outcome, Outcome::Done);
        assert_eq!(tale.actions.len(), 1);
        let text = anstream::adapter::strip_str(&tale.text()).to_string();
        assert!(
            text.contains("skipped restore Job work: somebody changed"),
            "{text}"
        );
        assert!(!text.contains('\u{7}'), "{text:?}");
    }

    #[test]
    fn what_waits_is_said_as_long_as_it_waits() {
        let before = incident(&json!([]), &saved(), "False");
        let tale = Tale::of(&before, &before, true);
        assert_eq!(tale.outcome, Outcome::Pending);
        assert!(
            tale.text().contains("Job work /spec/suspend"),
            "{}",
            tale.text()
        );
        assert_eq!(Tale::of(&before, &before, false).outcome, Outcome::Stored);
    }

    #[test]
    fn whoever_releases_reads_the_evidence_and_what_is_set_back() {
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
