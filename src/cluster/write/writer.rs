//! Writes to the API server: each with a field manager, a time limit and a counted outcome. Writes that
//! act need the leader gate.
//!
//! Does not decide what to write, and never retries: the reconcilers retry with backoff and fresh state.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::field_manager::FieldManager;
use crate::cluster::error::ApiError;
use crate::cluster::leader::LeaderGate;
use crate::cluster::read::Reader;
use crate::observability::{Counters, WriteOutcome};

/// What a server-side apply does with fields to which another manager gave another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// Take them over: for objects that Yellowjack created.
    TakeOver,
    /// Fail with [`ApiError::Conflict`]: for objects that may belong to others.
    Respect,
}

/// Writes to the API server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    timeout: Duration,
    gate: LeaderGate,
    counters: Arc<Counters<WriteOutcome>>,
}

impl Writer {
    /// A writer with this time limit for each write, which acts only while `gate` is open.
    #[must_use]
    pub(crate) fn new(client: Client, timeout: Duration, gate: LeaderGate) -> Self {
        Self {
            client,
            timeout,
            gate,
            counters: Arc::default(),
        }
    }

    /// The client, for reads.
    #[must_use]
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// A reader that uses the same client.
    #[must_use]
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.client.clone())
    }

    /// Whether a write that acts would be let through now. A hint to save work: each write checks the gate
    /// again.
    #[must_use]
    pub(crate) fn may_act(&self) -> bool {
        self.gate.is_open()
    }

    /// The leader gate.
    #[must_use]
    pub(crate) const fn gate(&self) -> &LeaderGate {
        &self.gate
    }

    /// Writes by outcome.
    #[must_use]
    pub(crate) fn counters(&self) -> &Counters<WriteOutcome> {
        &self.counters
    }

    /// Server-side apply of a namespaced object. Creates it if it does not exist.
    pub(crate) async fn apply<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        object: &K,
        conflicts: Conflicts,
    ) -> Result<K, ApiError>
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
        self.bounded(
            Some(manager),
            api.patch(name, &params, &Patch::Apply(object)),
        )
        .await
    }

    /// Server-side apply of some fields of an existing namespaced object. `fields` includes `apiVersion`
    /// and `kind`. Other fields stay as they are.
    pub(crate) async fn apply_fields<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        fields: &Value,
        conflicts: Conflicts,
    ) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = apply_params(manager, conflicts);
        self.bounded(
            Some(manager),
            api.patch(name, &params, &Patch::Apply(fields)),
        )
        .await
    }

    /// Server-side apply of a cluster-scoped object of a kind that this build has no type for.
    pub(crate) async fn apply_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        name: &str,
        object: &DynamicObject,
        conflicts: Conflicts,
    ) -> Result<DynamicObject, ApiError> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let params = apply_params(manager, conflicts);
        self.bounded(
            Some(manager),
            api.patch(name, &params, &Patch::Apply(object)),
        )
        .await
    }

    /// Server-side apply of a namespaced object of a kind that this build has no type for.
    pub(crate) async fn apply_namespaced_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        object: &DynamicObject,
        conflicts: Conflicts,
    ) -> Result<DynamicObject, ApiError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = apply_params(manager, conflicts);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self.bounded(
            Some(manager),
            api.patch(name, &params, &Patch::Apply(object)),
        )
        .await
    }

    /// Deletes a namespaced object of a kind that this build has no type for. Succeeds if it does not exist.
    pub(crate) async fn delete_dynamic(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = DeleteParams::background();
        match self.bounded(None, api.delete(name, &params)).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates a namespaced object. Fails with [`ApiError::Conflict`] if an object of this name exists.
    pub(crate) async fn create_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        object: &DynamicObject,
    ) -> Result<DynamicObject, ApiError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let params = PostParams {
            field_manager: Some(manager.as_str().to_owned()),
            ..PostParams::default()
        };
        self.bounded(Some(manager), api.create(&params, object))
            .await
    }

    /// Creates a cluster-scoped object. Fails with [`ApiError::Conflict`] if one of this name exists.
    pub(crate) async fn create_cluster_scoped<K>(
        &self,
        manager: &FieldManager,
        object: &K,
    ) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Clone
            + Debug
            + Serialize
            + Sync
            + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let params = PostParams {
            field_manager: Some(manager.as_str().to_owned()),
            ..PostParams::default()
        };
        self.bounded(Some(manager), api.create(&params, object))
            .await
    }

    /// Deletes a cluster-scoped object. Succeeds if it does not exist.
    pub(crate) async fn delete_cluster_scoped<K>(&self, name: &str) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let params = DeleteParams::background();
        match self.bounded(None, api.delete(name, &params)).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Merge patch of a namespaced object. `metadata.uid` or `metadata.resourceVersion` in the patch makes
    /// it conditional.
    pub(crate) async fn merge<K>(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(
            Some(manager),
            api.patch(name, &merge_params(manager), &Patch::Merge(patch)),
        )
        .await
    }

    /// Merge patch of a namespaced object of a kind that this build has no type for.
    pub(crate) async fn merge_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, ApiError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        self.bounded(
            Some(manager),
            api.patch(name, &merge_params(manager), &Patch::Merge(patch)),
        )
        .await
    }

    /// Strategic merge patch of a running pod's resources, through its `resize` subresource.
    /// `metadata.resourceVersion` in the patch makes it conditional.
    pub(crate) async fn resize(
        &self,
        manager: &FieldManager,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Pod, ApiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = merge_params(manager);
        self.bounded(
            Some(manager),
            api.patch_subresource("resize", name, &params, &Patch::Strategic(patch)),
        )
        .await
    }

    /// Replaces the status, if the object still has this resource version. Fails with
    /// [`ApiError::Conflict`] otherwise: a status that was computed from a stale copy must not overwrite
    /// later records.
    pub(crate) async fn status<K, S>(
        &self,
        manager: &FieldManager,
        object: &K,
        status: &S,
    ) -> Result<K, ApiError>
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
        self.bounded(
            Some(manager),
            api.patch_status(name, &merge_params(manager), &Patch::Merge(&patch)),
        )
        .await
    }

    /// Merge patch of the status of an object that cannot be decoded as its type.
    pub(crate) async fn status_dynamic(
        &self,
        manager: &FieldManager,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, ApiError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        self.bounded(
            Some(manager),
            api.patch_status(name, &merge_params(manager), &Patch::Merge(patch)),
        )
        .await
    }

    /// Deletes the object with this name and UID. Succeeds if it does not exist.
    pub(crate) async fn delete<K>(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.delete_in(&api, name, uid, None).await
    }

    /// Deletes the object if it did not change since it was read. Succeeds if it does not exist.
    pub(crate) async fn delete_unchanged<K>(&self, object: &K) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let meta = object.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        });
        let name = meta.name.as_deref().unwrap_or_default();
        match self.bounded(None, api.delete(name, &params)).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the pod with this UID, with this grace period or its own. For a pod that is already being
    /// deleted this can only shorten the grace period.
    pub(crate) async fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        grace_s: Option<u32>,
    ) -> Result<(), ApiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        self.delete_in(&api, name, uid, grace_s).await
    }

    async fn delete_in<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        grace_s: Option<u32>,
    ) -> Result<(), ApiError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let mut params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        params.grace_period_seconds = grace_s;
        match self.bounded(None, api.delete(name, &params)).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Every write passes through here. A write that acts needs an open gate, and ends before another
    /// leader may begin one. A deletion has no manager, and acts.
    async fn bounded<T>(
        &self,
        manager: Option<&FieldManager>,
        write: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<T, ApiError> {
        let (limit, _permit) = if manager.is_some_and(FieldManager::bypasses_leader_gate) {
            (self.timeout, None)
        } else {
            let Some(permit) = self.gate.permit().await else {
                self.counters.count(WriteOutcome::NotLeader);
                return Err(ApiError::NotLeader);
            };
            (self.timeout.min(permit.limit), Some(permit))
        };
        let (outcome, result) = match tokio::time::timeout(limit, write).await {
            Ok(Ok(value)) => (WriteOutcome::Accepted, Ok(value)),
            Ok(Err(error)) => (WriteOutcome::Rejected, Err(error.into())),
            Err(_) => (WriteOutcome::TimedOut, Err(ApiError::TimedOut(limit))),
        };
        self.counters.count(outcome);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Incident;

    /// A writer to an address where no server listens.
    fn writer(gate: LeaderGate) -> Writer {
        let nowhere = http::Uri::from_static("http://127.0.0.1:1/");
        let client = crate::cluster::connect_plain(&nowhere).unwrap();
        Writer::new(client, Duration::from_secs(5), gate)
    }

    async fn apply(writer: &Writer, manager: FieldManager) -> Result<Incident, ApiError> {
        let fields = json!({ "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident" });
        writer
            .apply_fields(&manager, "ns", "name", &fields, Conflicts::Respect)
            .await
    }

    #[tokio::test]
    async fn without_the_lease_writes_that_act_are_refused_and_reports_are_sent() {
        let writer = writer(LeaderGate::closed());
        for manager in [FieldManager::controller(), FieldManager::responder()] {
            let refused = apply(&writer, manager).await;
            assert!(matches!(refused, Err(ApiError::NotLeader)), "{refused:?}");
        }
        let refused = writer.delete::<Pod>("ns", "name", "uid").await;
        assert!(matches!(refused, Err(ApiError::NotLeader)), "{refused:?}");
        assert_eq!(writer.counters().of(WriteOutcome::NotLeader), 3);
        for manager in [
            FieldManager::evidence("node-1"),
            FieldManager::observation("node-1"),
            FieldManager::agent("node-1"),
        ] {
            let sent = apply(&writer, manager).await;
            assert!(matches!(sent, Err(ApiError::Transient(_))), "{sent:?}");
        }
        assert_eq!(writer.counters().of(WriteOutcome::Rejected), 3);
    }

    #[tokio::test]
    async fn the_gate_is_checked_for_each_write() {
        let gate = LeaderGate::without_election();
        let writer = writer(gate.clone());
        gate.open(gate.next_term().await);
        let sent = apply(&writer, FieldManager::responder()).await;
        assert!(matches!(sent, Err(ApiError::Transient(_))), "{sent:?}");
        gate.close();
        let refused = apply(&writer, FieldManager::responder()).await;
        assert!(matches!(refused, Err(ApiError::NotLeader)), "{refused:?}");
    }
}
