//! Objects that cannot be read: said and counted once per version, and an AgentRun among them gets
//! a condition where the API server takes one. They never stop the others.

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

/// How often a condition is tried before the object is left alone until it changes.
const TRIES_MAX: u32 = 5;

/// Longest error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// What was said, and which AgentRuns wait for a condition.
#[derive(Default)]
pub struct Malformed {
    /// The version that was said last, by kind and name.
    said: Mutex<HashMap<String, String>>,
    waiting: Mutex<HashMap<(String, String), String>>,
    any: Notify,
    count: AtomicU64,
}

impl Malformed {
    /// Versions of objects that could not be read, since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Says and counts it, once per version.
    pub fn note(&self, kind: &str, namespace: &str, name: &str, version: &str, error: &str) {
        let key = format!("{kind}/{namespace}/{name}");
        let mut said = self.said.lock();
        if said.get(&key).is_some_and(|known| known == version) {
            return;
        }
        if said.len() >= limits::MALFORMED_MAX {
            said.clear();
        }
        said.insert(key, version.to_owned());
        drop(said);
        self.count.fetch_add(1, Ordering::Relaxed);
        let error = clip(error, ERROR_BYTES_MAX);
        tracing::warn!(
            kind,
            namespace,
            name,
            error,
            "An object cannot be read; the others go on."
        );
    }

    /// As [`Self::note`], for an AgentRun, which gets a condition as well.
    pub fn report(&self, namespace: &str, name: &str, version: &str, error: &str) {
        self.note("AgentRun", namespace, name, version, error);
        self.wait_again(namespace, name, error);
    }

    /// The AgentRun can be read by now.
    pub fn mended(&self, namespace: &str, name: &str) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            waiting.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }

    /// The AgentRun waits for its condition.
    fn wait_again(&self, namespace: &str, name: &str, error: &str) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < limits::MALFORMED_MAX {
            let error = BoundedText::new(error).as_str().to_owned();
            waiting.insert((namespace.to_owned(), name.to_owned()), error);
            self.any.notify_one();
        }
    }

    fn take(&self) -> Vec<((String, String), String)> {
        let mut waiting = self.waiting.lock();
        waiting.drain().collect()
    }
}

impl Controller {
    /// Gives malformed AgentRuns their condition, for ever.
    pub(super) async fn tell_malformed(&self) {
        loop {
            // Who does not lead keeps them: it may lead one day.
            self.writer.gate().wait_until_open().await;
            let batch = self.malformed.take();
            if batch.is_empty() {
                self.malformed.any.notified().await;
            }
            for ((namespace, name), error) in batch {
                self.tell_one(&namespace, &name, &error).await;
            }
        }
    }

    async fn tell_one(&self, namespace: &str, name: &str, error: &str) {
        for tries in 0..TRIES_MAX {
            match self.set_malformed(namespace, name, error).await {
                Ok(()) | Err(ApiError::Refused(_) | ApiError::NotFound(_)) => return,
                Err(ApiError::NotLeader) => {
                    self.malformed.wait_again(namespace, name, error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return;
                }
                Err(failed) => {
                    let failed = chain(&failed);
                    tracing::debug!(namespace, name, failed, "Could not set a condition yet.");
                    tokio::time::sleep(Duration::from_secs(1 << tries)).await;
                }
            }
        }
    }

    /// Sets `Stalled` and `Ready` through the untyped API, and keeps the other conditions.
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
        let message = format!("the AgentRun cannot be read: {error}");
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
        malformed.report("ns", "run", "1", "missing field");
        malformed.report("ns", "run", "1", "missing field");
        malformed.report("ns", "run", "2", "missing field");
        malformed.note("Incident", "ns", "run", "2", "missing field");
        assert_eq!(malformed.count(), 3);
        assert_eq!(malformed.take().len(), 1);
    }

    #[test]
    fn a_run_that_was_mended_before_anybody_led_is_not_called_malformed() {
        let malformed = Malformed::default();
        malformed.report("ns", "run", "1", "missing field");
        malformed.mended("ns", "run");
        assert_eq!(malformed.take(), []);
    }

    #[test]
    fn a_flood_of_broken_objects_is_bounded() {
        let malformed = Malformed::default();
        for n in 0..3 * limits::MALFORMED_MAX {
            malformed.report("ns", &n.to_string(), "1", "broken");
        }
        assert!(malformed.take().len() <= limits::MALFORMED_MAX);
        assert!(malformed.said.lock().len() <= limits::MALFORMED_MAX);
    }
}
