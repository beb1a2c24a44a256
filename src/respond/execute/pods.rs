//! Steps on pods: isolate, capture, delete, and remove the quarantine label.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;

use super::executor::{Done, Executor, StepOutcome, done, failed, record};
use crate::api::{ActionKind, ActionRecord, ActionResult, Capture, Incident, labels};
use crate::cluster::{ApiError, FieldManager, Stores};
use crate::guardrails::audit::selects;
use crate::limits;
use crate::observability::LatencyHistogram;
use crate::respond::plan::{PodView, SHORTENED_GRACE_S, captured_pod};
use crate::respond::snapshot::PendingWrites;

/// Sets the quarantine label on pods.
pub(super) async fn isolate(
    executor: &Executor,
    incident: &Incident,
    namespace: &str,
    pods: &[PodView],
    pending: &mut PendingWrites,
) -> StepOutcome {
    let name = incident.name_any();
    let mut records = Vec::new();
    for pod in pods {
        executor.wait_for_turn().await;
        match set_label(executor, namespace, pod, Some(&name)).await {
            Ok(()) => {
                measure_latency(&executor.isolation_latency, incident, pod);
                pending.labels.insert(pod.uid.clone(), Some(name.clone()));
                let message = "the pod carries the quarantine label";
                let (kind, result) = (ActionKind::Isolate, ActionResult::Succeeded);
                records.push(record(kind, pod.target(), result, message));
            }
            // The pod was deleted in the meantime.
            Err(ApiError::NotFound(_)) => {
                pending.gone.insert(pod.uid.clone());
            }
            Err(error) => return Err(failed(ActionKind::Isolate, pod.target(), error)),
        }
    }
    Ok(Done {
        records: summarise(records),
        ..Done::default()
    })
}

/// Measures the time from the log line with which the pod crossed the threshold to its isolation, which
/// has just succeeded. Other pods of the run are isolated without a log line of their own.
fn measure_latency(histogram: &LatencyHistogram, incident: &Incident, pod: &PodView) {
    let is_subject = pod.uid == incident.spec.subject.uid;
    let uid = incident.metadata.uid.as_deref().unwrap_or_default();
    if let Some(crossed_at) = incident.crossed_at().filter(|_| is_subject) {
        // Negative if the clock of the node that wrote the log is ahead.
        let latency = Timestamp::now().duration_since(crossed_at);
        histogram.observe_once(uid, Duration::try_from(latency).unwrap_or_default());
    }
}

/// Sets or removes the quarantine label. The UID in the patch makes the API server refuse it for a
/// later pod of the same name, with a conflict. Other causes lead to a conflict too, so a conflict
/// does not mean that the pod is gone.
async fn set_label(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    value: Option<&str>,
) -> Result<(), ApiError> {
    let patch = json!({
        "metadata": { "uid": pod.uid, "labels": { labels::QUARANTINE: value } },
    });
    let manager = FieldManager::responder();
    executor
        .writer
        .merge::<Pod>(&manager, namespace, &pod.name, &patch)
        .await
        .map(drop)
}

/// Copies the pod into the Incident. A failure is recorded and does not stop the response.
pub(super) async fn capture(executor: &Executor, namespace: &str, pod: &PodView) -> Done {
    let (result, message, capture) = match executor.read_pod(namespace, pod).await {
        Ok(Some(found)) => {
            let capture = capture_of(&executor.stores, namespace, &found);
            let message = "the pod is kept in status.capture".to_owned();
            (ActionResult::Succeeded, message, capture)
        }
        Ok(None) => (ActionResult::Skipped, "the pod is gone".to_owned(), None),
        Err(error) => {
            let message = crate::observability::chain(&error);
            (ActionResult::Failed, message, None)
        }
    };
    Done {
        records: vec![record(ActionKind::Capture, pod.target(), result, &message)],
        capture,
        ..Done::default()
    }
}

fn capture_of(stores: &Stores, namespace: &str, pod: &Pod) -> Option<Capture> {
    let selecting = |policy: &NetworkPolicy| selects(policy, pod.labels());
    let policies = stores.network_policies.within_where(namespace, selecting);
    let mut selected_by: Vec<String> = policies.iter().map(|p| p.name_any()).collect();
    selected_by.sort();
    selected_by.truncate(limits::CAPTURED_POLICIES_MAX);
    let pod = captured_pod(serde_json::to_value(pod).ok()?);
    Some(Capture {
        time: Time(Timestamp::now()),
        selected_by,
        pod,
    })
}

/// Shortens the grace period of a pod. Recorded as part of the suspension: the owner has the pod
/// deleted, and only the time that this takes changes.
pub(super) async fn shorten_grace_period(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let message = format!(
        "the pod's traffic continues while it ends, so it has {SHORTENED_GRACE_S} s instead of its \
         grace period"
    );
    let action = (ActionKind::Suspend, message.as_str());
    let grace_s = Some(SHORTENED_GRACE_S);
    delete(executor, namespace, pod, grace_s, action, pending).await
}

/// Deletes a pod.
pub(super) async fn terminate(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    grace_s: Option<u32>,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let action = (ActionKind::Terminate, "the pod is being deleted");
    delete(executor, namespace, pod, grace_s, action, pending).await
}

async fn delete(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    grace_s: Option<u32>,
    (kind, message): (ActionKind, &str),
    pending: &mut PendingWrites,
) -> StepOutcome {
    // Delete, not evict: a PodDisruptionBudget must not block containment.
    let deletion = executor
        .writer
        .delete_pod(namespace, &pod.name, &pod.uid, grace_s);
    match deletion.await {
        Ok(()) => {
            // The pod counts as gone only when the store no longer has it.
            let grace_s = grace_s.map_or(i64::MAX, i64::from);
            pending.deleted.insert(pod.uid.clone(), grace_s);
            let result = ActionResult::Succeeded;
            Ok(done(record(kind, pod.target(), result, message)))
        }
        Err(error) => Err(failed(kind, pod.target(), error)),
    }
}

/// Removes the quarantine label, or sets it to another Incident.
pub(super) async fn remove_label(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    pass_to: Option<&str>,
    pending: &mut PendingWrites,
) -> StepOutcome {
    match set_label(executor, namespace, pod, pass_to).await {
        Ok(()) | Err(ApiError::NotFound(_)) => {
            let label = pass_to.map(ToOwned::to_owned);
            pending.labels.insert(pod.uid.clone(), label);
            let message = match pass_to {
                Some(other) => format!("the pod stays in quarantine for Incident {other}"),
                None => "the quarantine label is removed".to_owned(),
            };
            let (kind, result) = (ActionKind::Restore, ActionResult::Succeeded);
            Ok(done(record(kind, pod.target(), result, &message)))
        }
        Err(error) => Err(failed(ActionKind::Restore, pod.target(), error)),
    }
}

/// One record for each pod if they are few. With scope `Run`, a thousand pods would fill the list, so
/// there is one record for all.
fn summarise(records: Vec<ActionRecord>) -> Vec<ActionRecord> {
    const FEW: usize = 4;
    let count = records.len();
    if count <= FEW {
        return records;
    }
    let first = records.into_iter().next();
    let message = format!("{count} pods of the run carry the quarantine label");
    first
        .map(|first| ActionRecord { message, ..first })
        .into_iter()
        .collect()
}
