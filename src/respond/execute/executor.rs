//! Carries out one step of a plan. Each can be done twice without harm, and each names the object
//! by UID, so that a later object of the same name is never meant.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::{ActionKind, ActionRecord, ActionResult, Capture, Incident, ObjectTarget, labels};
use crate::cluster::{ApiError, FieldManager};
use crate::guardrails::audit::selects;
use crate::limits;
use crate::respond::plan::{HASTENED_S, PodView, Step, captured_pod};
use crate::respond::responder::Responder;
use crate::respond::snapshot::Known;

/// What a step left to write down, or what failed.
pub(in crate::respond) type Outcome = Result<Done, Box<Failed>>;

/// A step that failed: its record, and why.
#[derive(Debug)]
pub(in crate::respond) struct Failed {
    /// What to write down.
    pub record: ActionRecord,
    /// Why.
    pub error: ApiError,
}

/// What a step left to write down.
#[derive(Debug, Default)]
pub(in crate::respond) struct Done {
    /// Records of what was done.
    pub records: Vec<ActionRecord>,
    /// What was captured.
    pub capture: Option<Capture>,
    /// What was to be done is not done, and the next plan shall know why.
    pub is_open: bool,
}

impl Responder {
    /// Carries out one step.
    pub(in crate::respond) async fn carry_out(
        &self,
        incident: &Incident,
        step: &Step,
        known: &mut Known,
    ) -> Outcome {
        let namespace = incident.namespace().unwrap_or_default();
        match step {
            Step::Isolate(pods) => self.isolate(incident, &namespace, pods, known).await,
            Step::Capture(pod) => Ok(self.capture(&namespace, pod).await),
            Step::Suspend(hold, pods) => self.suspend(&namespace, hold, pods, known).await,
            Step::Throttle(pod, entries) => self.throttle(&namespace, pod, entries, known).await,
            Step::LookAtOwner => self.look_at_owner(incident, &namespace, known).await,
            Step::LookAtCpu(pod) => self.look_at_cpu(&namespace, pod, known).await,
            Step::Hasten(pod) => self.hasten(&namespace, pod, known).await,
            Step::Terminate(pod, grace_s) => self.terminate(&namespace, pod, *grace_s, known).await,
            Step::Unlabel { pod, pass_to } => {
                self.unlabel(&namespace, pod, pass_to.as_deref(), known)
                    .await
            }
            Step::Restore { entry, held_by } => {
                self.restore(&namespace, entry, held_by.as_deref(), known)
                    .await
            }
            Step::Skip(kind, target, why) => Ok(done(vec![record(
                *kind,
                target.clone(),
                ActionResult::Skipped,
                why,
            )])),
            Step::Save(_) | Step::Expire => Ok(Done::default()),
        }
    }

    async fn isolate(
        &self,
        incident: &Incident,
        namespace: &str,
        pods: &[PodView],
        known: &mut Known,
    ) -> Outcome {
        let name = incident.name_any();
        let mut records = Vec::new();
        for pod in pods {
            self.wait_for_turn().await;
            let target = pod_target(pod);
            match self.label(namespace, pod, Some(&name)).await {
                Ok(()) => {
                    self.measure_latency(incident, pod);
                    known.labels.insert(pod.uid.clone(), Some(name.clone()));
                    let message = "the pod carries the quarantine label";
                    records.push(record(
                        ActionKind::Isolate,
                        target,
                        ActionResult::Succeeded,
                        message,
                    ));
                }
                // The pod ended meanwhile; the next look will say so.
                Err(ApiError::NotFound(_)) => {
                    known.gone.insert(pod.uid.clone());
                }
                Err(error) => return Err(failed(ActionKind::Isolate, target, error)),
            }
        }
        Ok(done(summarise(records)))
    }

    /// Measures the time from the log line with which the pod crossed the threshold to its isolation, which has just
    /// succeeded. Other pods of the run are isolated without a log line of their own.
    fn measure_latency(&self, incident: &Incident, pod: &PodView) {
        let is_subject = pod.uid == incident.spec.subject.uid;
        if let Some(crossed_at) = incident.crossed_at().filter(|_| is_subject) {
            // Negative where the clock of the node that wrote the log is ahead.
            let latency = Timestamp::now().duration_since(crossed_at);
            let latency = Duration::try_from(latency).unwrap_or_default();
            self.isolation_latency.observe(latency);
        }
    }

    /// Sets or removes the quarantine label. The UID in the patch makes the API server refuse it
    /// for a later pod of the same name. That is a conflict, as many other things are, so a conflict
    /// never passes for a pod that is gone: the next look tells.
    async fn label(
        &self,
        namespace: &str,
        pod: &PodView,
        value: Option<&str>,
    ) -> Result<(), ApiError> {
        let patch = json!({
            "metadata": { "uid": pod.uid, "labels": { labels::QUARANTINE: value } },
        });
        let manager = FieldManager::responder();
        self.writer
            .merge::<Pod>(&manager, namespace, &pod.name, &patch)
            .await
            .map(drop)
    }

    /// Keeps the pod as it is. A pod that is gone already is no error: there is nothing to keep.
    async fn capture(&self, namespace: &str, pod: &PodView) -> Done {
        let target = pod_target(pod);
        let api: Api<Pod> = Api::namespaced(self.writer.client().clone(), namespace);
        let limit = std::time::Duration::from_secs(limits::API_TIMEOUT_S);
        let read = tokio::time::timeout(limit, api.get(&pod.name)).await;
        let (result, message, capture) = match read {
            Ok(Ok(found)) if found.uid().as_deref() == Some(&pod.uid) => {
                let capture = self.capture_of(namespace, &found);
                (
                    ActionResult::Succeeded,
                    "the pod is kept in status.capture".to_owned(),
                    capture,
                )
            }
            Ok(Ok(_)) => (ActionResult::Skipped, "the pod is gone".to_owned(), None),
            Ok(Err(error)) => (
                ActionResult::Failed,
                crate::observability::chain(&error),
                None,
            ),
            Err(_) => (
                ActionResult::Failed,
                format!("no answer within {limit:?}"),
                None,
            ),
        };
        Done {
            records: vec![record(ActionKind::Capture, target, result, &message)],
            capture,
            is_open: false,
        }
    }

    fn capture_of(&self, namespace: &str, pod: &Pod) -> Option<Capture> {
        let selecting = |policy: &NetworkPolicy| selects(policy, pod.labels());
        let known = &self.stores.network_policies;
        let policies = known.within_where(namespace, selecting);
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

    /// Part of suspending: the owner has its pod deleted, and only how long that takes is changed.
    async fn hasten(&self, namespace: &str, pod: &PodView, known: &mut Known) -> Outcome {
        self.wait_for_turn().await;
        self.shorten(namespace, pod, known).await
    }

    /// The same, now: another one is about to delete the pod.
    pub(in crate::respond) async fn shorten(
        &self,
        namespace: &str,
        pod: &PodView,
        known: &mut Known,
    ) -> Outcome {
        let message = format!(
            "the pod's traffic goes on while it ends, so it has {HASTENED_S} s instead of its grace \
             period"
        );
        let said = (ActionKind::Suspend, message.as_str());
        self.delete_pod(namespace, pod, Some(HASTENED_S), said, known)
            .await
    }

    async fn terminate(
        &self,
        namespace: &str,
        pod: &PodView,
        grace_s: Option<u32>,
        known: &mut Known,
    ) -> Outcome {
        self.wait_for_turn().await;
        let said = (ActionKind::Terminate, "the pod is being deleted");
        self.delete_pod(namespace, pod, grace_s, said, known).await
    }

    async fn delete_pod(
        &self,
        namespace: &str,
        pod: &PodView,
        grace_s: Option<u32>,
        (kind, message): (ActionKind, &str),
        known: &mut Known,
    ) -> Outcome {
        let target = pod_target(pod);
        // Delete, not evict: a PodDisruptionBudget must not block containment.
        match self
            .writer
            .delete_pod(namespace, &pod.name, &pod.uid, grace_s)
            .await
        {
            Ok(()) => {
                // It is gone once the watch says so, not before.
                let grace_s = grace_s.map_or(i64::MAX, i64::from);
                known.ending.insert(pod.uid.clone(), grace_s);
                let result = ActionResult::Succeeded;
                Ok(done(vec![record(kind, target, result, message)]))
            }
            Err(error) => Err(failed(kind, target, error)),
        }
    }

    async fn unlabel(
        &self,
        namespace: &str,
        pod: &PodView,
        pass_to: Option<&str>,
        known: &mut Known,
    ) -> Outcome {
        let target = pod_target(pod);
        match self.label(namespace, pod, pass_to).await {
            Ok(()) | Err(ApiError::NotFound(_)) => {
                known
                    .labels
                    .insert(pod.uid.clone(), pass_to.map(ToOwned::to_owned));
                let message = match pass_to {
                    Some(other) => format!("the pod stays in quarantine for Incident {other}"),
                    None => "the quarantine label is off".to_owned(),
                };
                let result = ActionResult::Succeeded;
                Ok(done(vec![record(
                    ActionKind::Restore,
                    target,
                    result,
                    &message,
                )]))
            }
            Err(error) => Err(failed(ActionKind::Restore, target, error)),
        }
    }

    pub(in crate::respond) async fn wait_for_turn(&self) {
        let delay = self
            .limiter
            .reserve(crate::respond::responder::monotonic_now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

/// One record per pod where they are few; with scope `Run` a thousand pods would fill the list.
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

pub(in crate::respond) fn pod_target(pod: &PodView) -> ObjectTarget {
    ObjectTarget {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

pub(in crate::respond) fn record(
    kind: ActionKind,
    target: ObjectTarget,
    result: ActionResult,
    message: &str,
) -> ActionRecord {
    let message = crate::model::clip(message, 1024).to_owned();
    ActionRecord {
        kind,
        target,
        time: Time(Timestamp::now()),
        result,
        message,
    }
}

pub(in crate::respond) fn done(records: Vec<ActionRecord>) -> Done {
    Done {
        records,
        ..Done::default()
    }
}

pub(in crate::respond) fn failed(
    kind: ActionKind,
    target: ObjectTarget,
    error: ApiError,
) -> Box<Failed> {
    let message = crate::observability::chain(&error);
    Box::new(Failed {
        record: record(kind, target, ActionResult::Failed, &message),
        error,
    })
}
