//! The state of an Incident: headline, phase, conditions, pod, and the fields that a release restores.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::Value;

use super::story::{Answer, Moment, ObjectName, Pair, Phase, PodPart, RestorePart};
use super::{Lookup, ReportInput, clean, findings};
use crate::api::{
    ActionKind, ActionResult, Incident, IncidentCondition, Reason, Verdict, condition_of, labels,
};
use crate::limits;
use crate::model::{clip, duration};

/// Longest name in a headline. The full name is below it.
const HEADLINE_NAME_BYTES_MAX: usize = 80;

/// The conditions of an Incident.
pub(super) fn conditions(incident: &Incident) -> &[Condition] {
    incident
        .status
        .as_ref()
        .map_or(&[], |status| &status.conditions)
}

/// Status and reason of one condition.
pub(super) fn status_and_reason(incident: &Incident, condition: IncidentCondition) -> (&str, &str) {
    condition_of(conditions(incident), condition.name()).map_or(("Unknown", ""), |found| {
        (found.status.as_str(), found.reason.as_str())
    })
}

/// Whether the reason excludes any action: a setting or the evidence itself, and not a limit.
fn is_excluded(reason: &str) -> bool {
    [Reason::AlertOnly, Reason::ObserveOnly, Reason::NodeMismatch]
        .iter()
        .any(|known| known.name() == reason)
}

pub(super) fn phase(incident: &Incident) -> Phase {
    let contained = status_and_reason(incident, IncidentCondition::Contained);
    let disposition = incident.spec.disposition.as_ref();
    let verdict = disposition.map(|disposition| disposition.verdict);
    match (
        contained,
        status_and_reason(incident, IncidentCondition::Verified).0,
    ) {
        _ if status_and_reason(incident, IncidentCondition::Closed).0 == "True" => Phase::Closed,
        _ if matches!(verdict, Some(Verdict::Release | Verdict::Terminate)) => Phase::Ending,
        (("True", _), "True") => Phase::Proven,
        (("True", _), "False") => Phase::Survives,
        (("True", _), _) => Phase::Unproven,
        ((_, reason), _) if is_excluded(reason) => Phase::Watched,
        _ => Phase::Uncontained,
    }
}

pub(super) fn name_of(incident: &Incident) -> ObjectName {
    let text = |text: Option<&String>| clean(text.map_or("", String::as_str));
    ObjectName {
        namespace: text(incident.metadata.namespace.as_ref()),
        name: text(incident.metadata.name.as_ref()),
    }
}

pub(super) fn headline(incident: &Incident) -> String {
    let what = findings::strongest(incident).map_or("did something", |entry| {
        findings::behavior_of(&entry.signature)
    });
    format!("Pod {} {what}", short(&incident.spec.subject.name))
}

/// A name for the headline, cut if it is unusually long.
fn short(name: &str) -> String {
    let cut = clip(name, HEADLINE_NAME_BYTES_MAX);
    let dots = if cut.len() < name.len() { "…" } else { "" };
    format!("{}{dots}", clean(cut))
}

/// The actions and their result.
pub(super) fn summary(incident: &Incident, phase: Phase) -> String {
    let took = reaction(incident).map_or_else(String::new, |span| {
        format!(", {span} after the first contact that counts")
    });
    match phase {
        Phase::Proven => format!(
            "Its traffic is denied{took}. The same log continued and shows no more traffic of the pod."
        ),
        Phase::Unproven => {
            format!("Its traffic is denied{took}. No log proves yet that it stopped.")
        }
        Phase::Survives => {
            "It is contained, and the log still shows traffic of the pod.".to_owned()
        }
        Phase::Uncontained => {
            "Its traffic was not stopped. The conditions below give the reason.".to_owned()
        }
        Phase::Watched => {
            "It is recorded. Nothing was done to the pod, and its traffic continues.".to_owned()
        }
        Phase::Ending => "The decision is being carried out.".to_owned(),
        Phase::Closed => incident.spec.disposition.as_ref().map_or_else(
            || "It is closed.".to_owned(),
            |disposition| {
                format!(
                    "{} by {}: {}",
                    done_word(disposition.verdict),
                    clean(&disposition.decided_by),
                    clean(&disposition.justification)
                )
            },
        ),
    }
}

const fn done_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirm => "Confirmed",
        Verdict::Release => "Released",
        Verdict::Terminate => "Ended",
    }
}

/// The time from the first contact that counts to the isolation. The API stores whole seconds.
fn reaction(incident: &Incident) -> Option<String> {
    let actions = &incident.status.as_ref()?.actions;
    let isolated = actions
        .iter()
        .filter(|action| {
            action.kind == ActionKind::Isolate && action.result == ActionResult::Succeeded
        })
        .map(|action| action.time.0)
        .min()?;
    // The strongest evidence led to it. An alert of another signature may be hours older.
    let first = findings::strongest(incident)?.first_seen.0;
    let seconds = isolated.as_second().saturating_sub(first.as_second());
    match seconds {
        ..0 => None,
        0..=1 => Some("about a second".to_owned()),
        // No tenths: the API stores whole seconds.
        2..120 => Some(format!("{seconds} s")),
        _ => Some(duration::rounded(seconds.saturating_mul(1_000_000))),
    }
}

pub(super) fn answers(incident: &Incident) -> Vec<Answer> {
    IncidentCondition::ALL
        .iter()
        .map(|condition| {
            let found = condition_of(conditions(incident), condition.name());
            let status = found.map_or("Unknown", |found| found.status.as_str());
            Answer {
                question: condition.name().to_owned(),
                answer: word(status).to_owned(),
                tone: tone(*condition, status, incident).to_owned(),
                reason: found.map(|found| clean(&found.reason)).unwrap_or_default(),
                sentence: found.map_or_else(
                    || "The condition is not set yet.".to_owned(),
                    |found| clean(&found.message),
                ),
                since: found.map(|found| Moment::new(found.last_transition_time.0)),
            }
        })
        .collect()
}

fn word(status: &str) -> &'static str {
    match status {
        "True" => "yes",
        "False" => "no",
        _ => "unknown",
    }
}

fn tone(condition: IncidentCondition, status: &str, incident: &Incident) -> &'static str {
    match (condition, status) {
        (IncidentCondition::Contained | IncidentCondition::Verified, "True") => "good",
        (IncidentCondition::Contained, "False") if phase(incident) == Phase::Uncontained => "bad",
        (IncidentCondition::Verified, "False") => "bad",
        (IncidentCondition::Detected | IncidentCondition::Closed, _)
        | (IncidentCondition::Contained, "False") => "calm",
        _ => "wait",
    }
}

pub(super) fn run_name(incident: &Incident) -> Option<String> {
    incident.spec.run.as_ref().map(|run| clean(&run.name))
}

pub(super) fn run_note(input: &ReportInput) -> Option<String> {
    let run = input.incident.spec.run.as_ref()?;
    Some(match &input.run {
        Lookup::Gone => "It no longer exists. Deleting a run releases nothing.".to_owned(),
        Lookup::Unread(why) => format!("It could not be read: {}.", clean(why)),
        Lookup::Found(found) if found.metadata.uid.as_ref() != Some(&run.uid) => {
            "A later run has its name; the one of this Incident no longer exists.".to_owned()
        }
        Lookup::Found(found) => {
            let policy = &found.spec.policy;
            format!("It exists, under GuardrailPolicy {}.", clean(policy))
        }
    })
}

/// Metadata of the Incident's pod: current, or else as captured.
pub(super) fn pod_metadata(input: &ReportInput) -> Option<ObjectMeta> {
    let subject = &input.incident.spec.subject;
    let living = input
        .pod
        .found()
        .filter(|pod| pod.metadata.uid.as_ref() == Some(&subject.uid));
    if let Some(pod) = living {
        return Some(pod.metadata.clone());
    }
    let capture = input.incident.status.as_ref()?.capture.as_ref()?;
    let metadata = capture.pod.get("metadata")?;
    // Metadata that cannot be parsed is left out of the report.
    serde_json::from_value(metadata.clone()).ok()
}

pub(super) fn pod(input: &ReportInput) -> PodPart {
    let subject = &input.incident.spec.subject;
    let metadata = pod_metadata(input);
    let owner = metadata.as_ref().and_then(|metadata| {
        let owners = metadata.owner_references.iter().flatten();
        owners
            .map(|owner| clean(&format!("{} {}", owner.kind, owner.name)))
            .next()
    });
    let label = metadata.and_then(|metadata| metadata.labels?.get(labels::QUARANTINE).cloned());
    let capture = input
        .incident
        .status
        .as_ref()
        .and_then(|status| status.capture.as_ref());
    PodPart {
        name: clean(&subject.name),
        uid: clean(&subject.uid),
        node: subject.node.as_deref().map(clean),
        addresses: subject
            .pod_ips
            .iter()
            .take(limits::POD_ADDRESSES_MAX * 2)
            .map(|ip| clean(ip))
            .collect(),
        now: pod_now(&input.pod, &subject.uid),
        owner,
        quarantine: label.as_deref().map(clean),
        captured: capture.map(|capture| Moment::new(capture.time.0)),
    }
}

fn pod_now(pod: &Lookup<Pod>, uid: &str) -> String {
    match pod {
        Lookup::Gone => "It no longer exists.".to_owned(),
        Lookup::Unread(why) => format!("It could not be read: {}.", clean(why)),
        Lookup::Found(pod) if pod.metadata.uid.as_deref() != Some(uid) => {
            "A later pod has its name; the one of this Incident no longer exists.".to_owned()
        }
        Lookup::Found(pod) => {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            let leaves = if pod.metadata.deletion_timestamp.is_some() {
                ", and being deleted"
            } else {
                ""
            };
            format!(
                "It exists, phase {}{leaves}.",
                clean(phase.unwrap_or("unknown"))
            )
        }
    }
}

pub(super) fn restore(incident: &Incident) -> Vec<RestorePart> {
    let entries = incident.status.iter().flat_map(|status| &status.restore);
    entries
        .take(limits::RESTORE_MAX)
        .map(|entry| RestorePart {
            object: clean(&format!("{} {}", entry.target.kind, entry.target.name)),
            field: clean(&entry.field),
            before: entry
                .original_value
                .as_ref()
                .map_or_else(|| "not set".to_owned(), value),
            set: value(&entry.applied_value),
        })
        .collect()
}

fn value(value: &Value) -> String {
    clean(&value.to_string())
}

pub(super) fn trace(incident: &Incident) -> Vec<Pair> {
    let Some(trace) = &incident.spec.trace else {
        return Vec::new();
    };
    let parts = [
        ("run", &trace.run),
        ("episode", &trace.episode),
        ("experiment", &trace.experiment),
    ];
    parts
        .into_iter()
        .filter_map(|(name, value)| {
            value.as_deref().map(|value| Pair {
                name: name.to_owned(),
                value: clean(value),
            })
        })
        .collect()
}
