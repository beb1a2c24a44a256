//! Quarantined pods of which the Incident was deleted: each gets one of the same name again, without evidence. Otherwise
//! the pod would be held with no record, and without a way to release it.
//!
//! The Incident is written before the label (INV-5) and closed after the label was removed, so a label without an
//! Incident means that the Incident was deleted. What had to be restored is lost with it.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::responder::Responder;
use crate::api::{Incident, labels};
use crate::cluster::{ApiError, FieldManager, IndexKey, Pod};
use crate::limits;
use crate::observability::chain;

impl Responder {
    /// Creates the missing Incidents, at most [`limits::LOST_INCIDENTS_MAX`] at once.
    pub(super) async fn restore_lost_incidents(&self) {
        if !self.may_act() {
            return;
        }
        let incidents = &self.stores().incidents;
        // A namespace that is being deleted takes no new objects, and deletes its pods.
        let is_lost = |pod: &Pod| {
            pod.metadata.deletion_timestamp.is_none()
                && held_by(pod).is_some_and(|name| {
                    let key =
                        ObjectRef::new(name).within(pod.namespace().as_deref().unwrap_or_default());
                    incidents.get(&key).is_none()
                })
        };
        let mut lost = self.stores().pods.with_key(&IndexKey::Quarantined);
        lost.retain(|pod| is_lost(pod));
        for pod in lost.iter().take(limits::LOST_INCIDENTS_MAX) {
            let (namespace, name) = (pod.namespace().unwrap_or_default(), held_by(pod));
            let incident = name.unwrap_or_default();
            match self.create_lost(pod, &namespace, incident).await {
                Ok(()) => tracing::warn!(
                    namespace,
                    pod = pod.name_any(),
                    incident,
                    "The Incident of a quarantined pod was deleted; created it again, without evidence."
                ),
                // It exists: the store lags behind, or another pod with the label came first.
                Err(ApiError::Conflict(_) | ApiError::NotLeader) => {}
                Err(error) => tracing::warn!(
                    namespace,
                    pod = pod.name_any(),
                    incident,
                    error = chain(&error),
                    "Failed to create the Incident of a quarantined pod again; will retry."
                ),
            }
        }
    }

    async fn create_lost(&self, pod: &Pod, namespace: &str, name: &str) -> Result<(), ApiError> {
        let uid = pod.uid().unwrap_or_default();
        let run = self.run_of_pod(&uid);
        let mut all = BTreeMap::from([
            (labels::POD_UID, uid.as_str()),
            (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
        ]);
        if let Some(run) = &run {
            all.insert(labels::RUN, &run.name);
        }
        let resource = ApiResource::erase::<Incident>(&());
        let status = pod.status.as_ref();
        let ips = status.and_then(|status| status.pod_ips.as_deref());
        let ips = ips.unwrap_or_default().iter().map(|ip| ip.ip.as_str());
        let ips: Vec<&str> = ips.take(8).collect();
        let mut object = DynamicObject::new(name, &resource)
            .within(namespace)
            .data(json!({
                "spec": {
                    "subject": {
                        "name": pod.name_any(),
                        "uid": uid,
                        "node": pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()),
                        "podIPs": ips,
                    },
                    "run": run.as_ref().map(|run| json!({ "name": run.name, "uid": run.uid })),
                    "evidence": [],
                },
            }));
        object.metadata.labels = Some(
            all.into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        );
        let manager = FieldManager::responder();
        self.writer()
            .create_dynamic(&manager, &resource, namespace, &object)
            .await
            .map(drop)
    }
}

/// The name of the Incident because of which a pod is in quarantine. A label that was made by hand, where admission policies
/// do not refuse it, may be no name.
fn held_by(pod: &Pod) -> Option<&str> {
    let name = pod.labels().get(labels::QUARANTINE)?;
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: u8| is_edge(&byte) || byte == b'-';
    let bytes = name.as_bytes();
    let is_name = bytes.first().is_some_and(is_edge)
        && bytes.last().is_some_and(is_edge)
        && bytes.iter().all(|byte| is_inner(*byte));
    is_name.then_some(name)
}
