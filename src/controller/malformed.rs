//! Objects that cannot be parsed: logged and counted once per version. A malformed AgentRun also gets a condition, if
//! the API server accepts one. Other objects are not affected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::Controller;
use crate::api::{AgentRun, AgentRunCondition, Reason, set_condition};
use crate::cluster::{ApiError, FieldManager, read};
use crate::limits;
use crate::model::{BoundedText, clip};
use crate::observability::chain;

/// Attempts to set the condition before the object is ignored until it changes.
const ATTEMPTS_MAX: u32 = 5;

/// Maximum length of a logged error, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// Versions that were reported, and AgentRuns that wait for a condition.
#[derive(Default)]
pub(super) struct Malformed {
    /// The version that was reported last, by kind and name.
    reported: Mutex<HashMap<String, String>>,
    waiting: Mutex<HashMap<(String, String), String>>,
    added: Notify,
    count: AtomicU64,
}

impl Malformed {
    /// Number of malformed object versions, since the start of the process.
    #[must_use]
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Logs and counts an object, once per version.
    pub(super) fn record(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        version: &str,
        error: &str,
    ) {
        let key = format!("{kind}/{namespace}/{name}");
        let mut reported = self.reported.lock();
        if reported.get(&key).is_some_and(|known| known == version) {
            return;
        }
        if reported.len() >= limits::MALFORMED_MAX {
            reported.clear();
        }
        reported.insert(key, version.to_owned());
        drop(reported);
        self.count.fetch_add(1, Ordering::Relaxed);
        let error = clip(error, ERROR_BYTES_MAX);
        tracing::warn!(
            kind,
            namespace,
            name,
            error,
            "Failed to parse an object; it is ignored until it changes."
        );
    }

    /// As [`Self::record`], for an AgentRun, which also gets a condition.
    pub(super) fn record_run(&self, namespace: &str, name: &str, version: &str, error: &str) {
        self.record("AgentRun", namespace, name, version, error);
        self.queue_condition(namespace, name, error);
    }

    /// Removes an AgentRun that can be parsed again, or was deleted.
    pub(super) fn clear_run(&self, namespace: &str, name: &str) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            waiting.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }

    /// Queues an AgentRun for its condition.
    fn queue_condition(&self, namespace: &str, name: &str, error: &str) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < limits::MALFORMED_MAX {
            let error = BoundedText::new(error).as_str().to_owned();
            waiting.insert((namespace.to_owned(), name.to_owned()), error);
            self.added.notify_one();
        }
    }

    fn take(&self) -> Vec<((String, String), String)> {
        let mut waiting = self.waiting.lock();
        waiting.drain().collect()
    }
}

impl Controller {
    /// Sets the conditions of malformed AgentRuns while this process leads. Never returns.
    pub(super) async fn report_malformed_runs(&self) {
        loop {
            // A process that does not lead keeps them, because it may become the leader.
            self.writer.gate().wait_until_open().await;
            let batch = self.malformed.take();
            if batch.is_empty() {
                self.malformed.added.notified().await;
            }
            for ((namespace, name), error) in batch {
                self.report_malformed_run(&namespace, &name, &error).await;
            }
        }
    }

    async fn report_malformed_run(&self, namespace: &str, name: &str, error: &str) {
        for attempt in 0..ATTEMPTS_MAX {
            match self.set_malformed(namespace, name, error).await {
                Ok(()) | Err(ApiError::Refused(_) | ApiError::NotFound(_)) => return,
                Err(ApiError::NotLeader) => {
                    self.malformed.queue_condition(namespace, name, error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return;
                }
                Err(failed) => {
                    let failed = chain(&failed);
                    tracing::debug!(
                        namespace,
                        name,
                        failed,
                        "Failed to set the condition of a malformed AgentRun; retrying."
                    );
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                }
            }
        }
    }

    /// Sets `Stalled` and `Ready` through the untyped API and keeps the other conditions.
    async fn set_malformed(
        &self,
        namespace: &str,
        name: &str,
        error: &str,
    ) -> Result<(), ApiError> {
        let resource = ApiResource::erase::<AgentRun>(&());
        let client = self.writer.client().clone();
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let object = read(api.get(name)).await?;
        let stored = object.data.pointer("/status/conditions").cloned();
        let before: Vec<Condition> = stored
            .and_then(|list| serde_json::from_value(list).ok())
            .unwrap_or_default();
        let mut conditions = before.clone();
        let message = format!("the AgentRun cannot be parsed: {error}");
        for (condition, status, reason) in [
            (AgentRunCondition::Stalled, true, Reason::Malformed),
            (
                AgentRunCondition::Ready,
                false,
                Reason::GuardrailsIncomplete,
            ),
        ] {
            set_condition(
                &mut conditions,
                condition.name(),
                Some(status),
                reason,
                &message,
                object.metadata.generation,
                Timestamp::now(),
            );
        }
        if conditions == before {
            return Ok(());
        }
        let patch = json!({
            "metadata": {
                "uid": object.metadata.uid,
                "resourceVersion": object.metadata.resource_version,
            },
            "status": {
                "conditions": conditions,
                "observedGeneration": object.metadata.generation,
            },
        });
        let manager = FieldManager::controller();
        self.writer
            .status_dynamic(&manager, &resource, namespace, name, &patch)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_counted_once() {
        let malformed = Malformed::default();
        malformed.record_run("ns", "run", "1", "missing field");
        malformed.record_run("ns", "run", "1", "missing field");
        malformed.record_run("ns", "run", "2", "missing field");
        malformed.record("Incident", "ns", "run", "2", "missing field");
        assert_eq!(malformed.count(), 3);
        assert_eq!(malformed.take().len(), 1);
    }

    #[test]
    fn a_run_that_was_corrected_before_a_process_led_gets_no_condition() {
        let malformed = Malformed::default();
        malformed.record_run("ns", "run", "1", "missing field");
        malformed.clear_run("ns", "run");
        assert_eq!(malformed.take(), []);
    }

    #[test]
    fn a_flood_of_broken_objects_is_bounded() {
        let malformed = Malformed::default();
        for n in 0..3 * limits::MALFORMED_MAX {
            malformed.record_run("ns", &n.to_string(), "1", "broken");
        }
        assert!(malformed.take().len() <= limits::MALFORMED_MAX);
        assert!(malformed.reported.lock().len() <= limits::MALFORMED_MAX);
    }
}
