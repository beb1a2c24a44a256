//! Writes: each with a field manager, a time limit and a counted outcome.
//!
//! Called by `controller` and `respond`. Must not decide what to write, and never retries: the
//! reconcilers do, with backoff and fresh state.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A writer's name in `metadata.managedFields`. One per part of the program, so that each owns its
/// own fields and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldManager(String);

impl FieldManager {
    /// Guardrail objects and the status of AgentRuns.
    #[must_use]
    pub fn controller() -> Self {
        Self("yellowjack/controller".to_owned())
    }

    /// Quarantine, suspension, release, and the status of Incidents.
    #[must_use]
    pub fn responder() -> Self {
        Self("yellowjack/responder".to_owned())
    }

    /// Evidence that one observer writes into Incidents. Managers have at most 128 bytes.
    #[must_use]
    pub fn evidence(observer: &str) -> Self {
        Self(crate::model::clip(&format!("yellowjack/evidence-{observer}"), 128).to_owned())
    }

    /// An agent's Lease.
    #[must_use]
    pub fn agent(node: &str) -> Self {
        Self(crate::model::clip(&format!("yellowjack/agent-{node}"), 128).to_owned())
    }

    /// What one observer saw of contained pods. Not the manager of its evidence: an apply takes back
    /// what it leaves out.
    #[must_use]
    pub fn observation(observer: &str) -> Self {
        Self(crate::model::clip(&format!("yellowjack/observation-{observer}"), 128).to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a server-side apply does about fields that another manager owns with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// Take them over: for objects that Yellowjack made.
    TakeOver,
    /// Fail with [`WriteError::Conflict`]: for whatever may belong to somebody else.
    Respect,
}

/// Why a write did not happen, or is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The time limit passed. The write may have happened all the same.
    #[error("failed to hear from the API server within {0:?}")]
    TimedOut(Duration),
    /// The object changed since it was read, belongs to another manager, or is another object of
    /// the same name.
    #[error("unable to write: the object changed meanwhile or belongs to somebody else")]
    Conflict(#[source] kube::Error),
    /// The object is not there.
    #[error("unable to write: the object does not exist")]
    NotFound(#[source] kube::Error),
    /// The API server refused for good: the same write will fail again.
    #[error("unable to write: the API server refused it")]
    Refused(#[source] kube::Error),
    /// The API server was away, overloaded or broken: the same write may succeed later.
    #[error("failed to write: the API server is away or overloaded")]
    Transient(#[source] kube::Error),
}

impl WriteError {
    /// Sorts an error of the client by what the caller can do about it.
    #[must_use]
    pub fn from_kube(error: kube::Error) -> Self {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => return Self::Transient(error),
        };
        match code {
            404 => Self::NotFound(error),
            409 => Self::Conflict(error),
            400 | 401 | 403 | 405 | 413 | 422 => Self::Refused(error),
            _ => Self::Transient(error),
        }
    }

    /// The API server's own sentence, where it said one: fit for a condition, which people read.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Conflict(error)
            | Self::NotFound(error)
            | Self::Refused(error)
            | Self::Transient(error) => match error {
                kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
                _ => self.to_string(),
            },
            Self::TimedOut(_) => self.to_string(),
        }
    }

    /// Whether the namespace is going away, and with it whatever was to be written.
    #[must_use]
    pub fn is_namespace_going(&self) -> bool {
        let Self::Refused(kube::Error::Api(status)) = self else {
            return false;
        };
        let details = status.details.as_ref();
        details.is_some_and(|details| {
            let mut causes = details.causes.iter();
            causes.any(|cause| cause.reason == "NamespaceTerminating")
        })
    }
}

/// How a write ended, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server accepted it.
    Accepted,
    /// The API server answered with an error.
    Rejected,
    /// No answer within the time limit.
    TimedOut,
}

/// Writes by outcome, since the start.
#[derive(Debug, Default)]
pub struct WriteCounters {
    accepted: AtomicU64,
    rejected: AtomicU64,
    timed_out: AtomicU64,
}

impl WriteCounters {
    /// Writes that ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).load(Ordering::Relaxed)
    }

    const fn counter(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Rejected => &self.rejected,
            Outcome::TimedOut => &self.timed_out,
        }
    }
}

/// Writes to the API server. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    timeout: Duration,
    counters: Arc<WriteCounters>,
}

impl Writer {
    /// A writer whose every write takes at most `timeout`.
    #[must_use]
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self {
            client,
            timeout,
            counters: Arc::default(),
        }
    }

    /// The client, for reads.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Writes by outcome.
    #[must_use]
    pub fn counters(&self) -> &WriteCounters {
        &self.counters
    }

    /// Server-side apply of a namespaced object. Creates it where it is missing.
    pub async fn apply<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        object: &K,
        conflicts: Conflicts,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + Sync
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = apply_params(manager, conflicts);
        self.bounded(api.patch(name, &params, &Patch::Apply(object)))
            .await
    }

    /// Server-side apply of some fields of a namespaced object that exists. `fields` has the
    /// `apiVersion` and `kind`. What is left out stays as it is.
    pub async fn apply_fields<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        fields: &Value,
        conflicts: Conflicts,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = apply_params(manager, conflicts);
        self.bounded(api.patch(name, &params, &Patch::Apply(fields)))
            .await
    }

    /// Server-side apply of a cluster-scoped object of a kind that this build has no type for.
    pub async fn apply_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        name: &str,
        object: &DynamicObject,
        conflicts: Conflicts,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let params = apply_params(manager, conflicts);
        self.bounded(api.patch(name, &params, &Patch::Apply(object)))
            .await
    }

    /// Creates a namespaced object as it is written. An object of this name that exists is
    /// [`WriteError::Conflict`]: creating never changes anything.
    pub async fn create_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        object: &DynamicObject,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = PostParams {
            field_manager: Some(manager.as_str().to_owned()),
            ..PostParams::default()
        };
        self.bounded(api.create(&params, object)).await
    }

    /// Merge patch of a namespaced object. Put `metadata.uid` or `metadata.resourceVersion` into
    /// the patch to make it conditional.
    pub async fn merge<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(api.patch(name, &merge_params(manager), &Patch::Merge(patch)))
            .await
    }

    /// Merge patch of a namespaced object of a kind that this build has no type for.
    pub async fn merge_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        self.bounded(api.patch(name, &merge_params(manager), &Patch::Merge(patch)))
            .await
    }

    /// Strategic merge patch of a running pod's resources, through its `resize` subresource. Put
    /// `metadata.resourceVersion` into the patch to make it conditional.
    pub async fn resize(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Pod, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = merge_params(manager);
        self.bounded(api.patch_subresource("resize", name, &params, &Patch::Strategic(patch)))
            .await
    }

    /// Replaces the status, if the object still is of this resource version.
    ///
    /// A status is a record; one that was computed from a stale copy must not overwrite what
    /// happened since. [`WriteError::Conflict`] means: look again.
    pub async fn status<K, S>(
        &self,
        manager: &FieldManager,
        object: &K,
        status: &S,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
        S: Serialize + Sync,
    {
        let meta = object.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": meta.resource_version, "uid": meta.uid },
            "status": status,
        });
        self.bounded(api.patch_status(name, &merge_params(manager), &Patch::Merge(&patch)))
            .await
    }

    /// Merge patch of the status of an object that cannot be decoded as its type.
    pub async fn status_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, WriteError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        self.bounded(api.patch_status(name, &merge_params(manager), &Patch::Merge(patch)))
            .await
    }

    /// Deletes the object of this name, if it is the one with this UID. Gone already is success.
    pub async fn delete<K>(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.delete_in(&api, name, uid, None).await
    }

    /// The same for a pod, which may take so many seconds to end, or its own grace period. One that
    /// is being deleted already gets less time by this, never more.
    pub async fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        grace_s: Option<u32>,
    ) -> Result<(), WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        self.delete_in(&api, name, uid, grace_s).await
    }

    async fn delete_in<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        grace_s: Option<u32>,
    ) -> Result<(), WriteError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let mut params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        params.grace_period_seconds = grace_s;
        match self.bounded(api.delete(name, &params)).await {
            Ok(_) | Err(WriteError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn bounded<T>(
        &self,
        write: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<T, WriteError> {
        let (outcome, result) = match tokio::time::timeout(self.timeout, write).await {
            Ok(Ok(value)) => (Outcome::Accepted, Ok(value)),
            Ok(Err(error)) => (Outcome::Rejected, Err(WriteError::from_kube(error))),
            Err(_) => (Outcome::TimedOut, Err(WriteError::TimedOut(self.timeout))),
        };
        self.counters
            .counter(outcome)
            .fetch_add(1, Ordering::Relaxed);
        result
    }
}

fn apply_params(manager: &FieldManager, conflicts: Conflicts) -> PatchParams {
    let params = PatchParams::apply(manager.as_str());
    match conflicts {
        Conflicts::TakeOver => params.force(),
        Conflicts::Respect => params,
    }
}

fn merge_params(manager: &FieldManager) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.as_str().to_owned()),
        ..PatchParams::default()
    }
}
