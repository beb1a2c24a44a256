//! Steps on Cilium: read the identities of pods, and keep the policy of an Incident that denies them.
//!
//! A failure here is recorded and does not stop the response, which has other means.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::executor::{Done, Executor, StepOutcome, done, failed, record};
use crate::api::{ActionKind, ActionResult, CiliumEnforcement, Incident, ObjectTarget};
use crate::cluster::{ApiError, Conflicts, FieldManager};
use crate::guardrails::cilium::{CiliumKind, IdentityLabels, interim_deny, interim_deny_name};
use crate::respond::plan::PodView;
use crate::respond::plan::cilium::texts;
use crate::respond::snapshot::PendingWrites;

/// Reads the identities of these pods.
pub(super) async fn read_identities(
    executor: &Executor,
    namespace: &str,
    pods: &[PodView],
    pending: &mut PendingWrites,
) -> Done {
    let names: Vec<(&str, &str)> = pods
        .iter()
        .map(|pod| (pod.name.as_str(), pod.uid.as_str()))
        .collect();
    let found = crate::cluster::read_identities(executor.reader.client(), namespace, &names).await;
    pending.identities = Some(found.unwrap_or_else(|error| {
        let error = crate::observability::chain(&error);
        tracing::warn!(namespace, error, "Failed to read CiliumEndpoints.");
        HashMap::new()
    }));
    Done::default()
}

/// Stores the policy of the Incident for these identities.
pub(super) async fn deny_identities(
    executor: &Executor,
    incident: &Incident,
    namespace: &str,
    identities: &BTreeSet<IdentityLabels>,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let (name, uid) = (incident.name_any(), incident.uid().unwrap_or_default());
    let desired = interim_deny((&name, &uid), namespace, identities);
    let policy = interim_deny_name(&uid);
    let target = policy_target(&policy);
    let Ok(object) = serde_json::from_value::<DynamicObject>(desired) else {
        pending.interim_deny_failed = true;
        return Ok(Done::default());
    };
    let applied = executor
        .writer
        .apply_namespaced_dynamic(
            &FieldManager::responder(),
            &CiliumKind::NetworkPolicy.resource(),
            namespace,
            &object,
            Conflicts::TakeOver,
        )
        .await;
    match applied {
        Ok(_) => {}
        Err(error @ ApiError::NotLeader) => {
            return Err(failed(ActionKind::Isolate, target, error));
        }
        Err(error) => {
            pending.interim_deny_failed = true;
            let message = crate::observability::chain(&error);
            let result = ActionResult::Failed;
            return Ok(done(record(ActionKind::Isolate, target, result, &message)));
        }
    }
    Ok(Done {
        cilium: Some(CiliumEnforcement {
            interim_identities: texts(identities),
            denied_since: Some(now()),
            ..known(incident)
        }),
        ..Done::default()
    })
}

/// Records that the identities of the pods have the quarantine label.
pub(super) fn record_label_in_force(incident: &Incident) -> Done {
    let known = known(incident);
    Done {
        cilium: Some(CiliumEnforcement {
            denied_since: known.denied_since.or_else(|| Some(now())),
            label_in_force_since: Some(now()),
            ..known
        }),
        ..Done::default()
    }
}

/// Deletes the policy of the Incident.
pub(super) async fn lift(executor: &Executor, incident: &Incident, namespace: &str) -> StepOutcome {
    let policy = interim_deny_name(&incident.uid().unwrap_or_default());
    let resource = CiliumKind::NetworkPolicy.resource();
    let deleted = executor
        .writer
        .delete_dynamic(&resource, namespace, &policy)
        .await;
    let target = policy_target(&policy);
    if let Err(error) = deleted {
        return Err(failed(ActionKind::Restore, target, error));
    }
    let known = known(incident);
    let message = "the CiliumNetworkPolicy of the Incident is deleted";
    let result = ActionResult::Succeeded;
    Ok(Done {
        records: vec![record(ActionKind::Restore, target, result, message)],
        cilium: Some(CiliumEnforcement {
            interim_identities: Vec::new(),
            ..known
        }),
        ..Done::default()
    })
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

fn known(incident: &Incident) -> CiliumEnforcement {
    incident.cilium().cloned().unwrap_or_default()
}

fn policy_target(name: &str) -> ObjectTarget {
    ObjectTarget {
        api_version: "cilium.io/v2".to_owned(),
        kind: "CiliumNetworkPolicy".to_owned(),
        name: name.to_owned(),
        uid: String::new(),
    }
}
