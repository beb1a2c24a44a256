//! Cilium: whether it selects the pods of a run by the label of the run; and its policies, those of others that may widen a guard
//! and those of Incidents that were left over, which are read together with the facts about the cluster.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use super::Controller;
use super::apply::Applied;
use super::dereference::Observed;
use super::validate::Validated;
use crate::api::Incident;
use crate::cluster::{ApiError, Pod, read, read_identities};
use crate::guardrails::ClusterFacts;
use crate::guardrails::cilium::{CiliumKind, is_left_over};
use crate::guardrails::cilium_policies::CiliumPolicy;
use crate::limits;
use crate::observability::chain;
use crate::pipeline::pod_facts::own_addresses;

/// How soon to read again whether Cilium selects a pod by the label of its run.
const IDENTITY_RECHECK: Duration = Duration::from_secs(5);

/// Pods of a run with an identity that has the label of the run, by UID of the run. An identity loses it only together with the
/// pod's label, which only the controller changes.
pub(super) type SelectedPods = Mutex<HashMap<String, HashSet<String>>>;

/// Whether the pod was made so recently that Cilium's agent may not have written its endpoint yet.
fn is_young(pod: &Pod) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| {
        Timestamp::now().duration_since(created.0).unsigned_abs() < limits::IDENTITY_CHANGE_MAX
    })
}

impl Controller {
    /// Reads whether Cilium selects the pods of the run by its label: a label that a running pod got is in force after up to
    /// 36 s, and the guard does not select the pod before. A pod without an endpoint is not managed by Cilium, or has just
    /// started.
    pub(super) async fn read_identities(
        &self,
        observed: &Observed,
        validated: &Validated,
        applied: &mut Applied,
    ) {
        let owner = &observed.owner;
        if !observed.on_cilium || observed.run.spec.target.selector.is_some() {
            return;
        }
        let known = self.selected_pods.lock().remove(&owner.uid);
        let mut known = known.unwrap_or_default();
        let running: Vec<&Arc<Pod>> = validated
            .members
            .iter()
            .map(|member| &member.pod)
            .filter(|pod| !own_addresses(pod).is_empty())
            .collect();
        let uids: HashSet<String> = running.iter().filter_map(|pod| pod.uid()).collect();
        known.retain(|uid| uids.contains(uid));
        let unknown: Vec<(&str, &str, &Pod)> = running
            .into_iter()
            .filter_map(|pod| {
                let meta = &pod.metadata;
                Some((meta.name.as_deref()?, meta.uid.as_deref()?, &**pod))
            })
            .filter(|(_, uid, _)| !known.contains(*uid))
            .collect();
        let names: Vec<(&str, &str)> = unknown.iter().map(|(name, uid, _)| (*name, *uid)).collect();
        match read_identities(self.writer.client(), &owner.namespace, &names).await {
            Ok(identities) => {
                for (name, uid, pod) in &unknown {
                    match identities.get(*uid) {
                        Some(identity) if identity.has_run(&owner.name) => {
                            known.insert((*uid).to_owned());
                        }
                        Some(_) => {
                            let awaiting = &mut applied.awaiting_identity;
                            awaiting.get_or_insert_with(|| (*name).to_owned());
                            applied.recheck = Some(IDENTITY_RECHECK);
                        }
                        None if is_young(pod) => applied.recheck = Some(IDENTITY_RECHECK),
                        None => {}
                    }
                }
            }
            Err(error) => {
                applied.recheck = Some(IDENTITY_RECHECK);
                let error = chain(&error);
                tracing::debug!(
                    namespace = owner.namespace,
                    error,
                    "Failed to read CiliumEndpoints."
                );
            }
        }
        self.selected_pods.lock().insert(owner.uid.clone(), known);
    }

    /// Reads the policies of Cilium that allow something. A kind that cannot be read stays among those that are not read.
    pub(super) async fn read_cilium_policies(&self, facts: &mut ClusterFacts) {
        for kind in [
            CiliumKind::NetworkPolicy,
            CiliumKind::ClusterwideNetworkPolicy,
        ] {
            let resource = kind.resource();
            let unread = &mut facts.unread_policy_kinds;
            let Some(at) = unread.iter().position(|name| *name == resource.kind) else {
                continue;
            };
            match self.cilium_policies(&resource).await {
                Ok(Some(found)) => {
                    unread.remove(at);
                    facts.cilium_policies.extend(found);
                }
                Ok(None) => {}
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(kind = resource.kind, error, "Failed to read policies.");
                }
            }
        }
    }

    /// The policies of one of Cilium's kinds that allow something; `None` if there are too many.
    async fn cilium_policies(
        &self,
        resource: &ApiResource,
    ) -> Result<Option<Vec<CiliumPolicy>>, ApiError> {
        let api = Api::<DynamicObject>::all_with(self.writer.client().clone(), resource);
        let mut params = ListParams::default().limit(limits::CILIUM_POLICIES_PAGE);
        let (mut found, mut count) = (Vec::new(), 0);
        loop {
            let page = read(api.list(&params)).await?;
            count += page.items.len();
            if count > limits::CILIUM_POLICIES_MAX {
                return Ok(None);
            }
            for policy in page.items.iter().filter(|policy| self.is_left_over(policy)) {
                self.delete_left_over(resource, policy).await;
            }
            let objects = page
                .items
                .iter()
                .filter_map(|o| serde_json::to_value(o).ok());
            found.extend(objects.filter_map(|object| CiliumPolicy::of(&resource.kind, &object)));
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => params = params.continue_token(&next),
                _ => return Ok(Some(found)),
            }
        }
    }

    fn is_left_over(&self, policy: &DynamicObject) -> bool {
        let meta = &policy.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let owner = meta.owner_references.iter().flatten().next();
        let incident = owner.and_then(|owner| {
            let key = ObjectRef::<Incident>::new(&owner.name).within(namespace);
            self.stores.incidents.get(&key)
        });
        is_left_over(meta, incident.as_deref(), Timestamp::now())
    }

    async fn delete_left_over(&self, resource: &ApiResource, policy: &DynamicObject) {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        let deleted = self.writer.delete_dynamic(resource, &namespace, &name);
        match deleted.await {
            Ok(()) => tracing::warn!(
                namespace,
                policy = name,
                "Deleted the policy of an Incident that has no record of it."
            ),
            Err(ApiError::NotLeader) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(
                    namespace,
                    policy = name,
                    error,
                    "Failed to delete a policy."
                );
            }
        }
    }
}
