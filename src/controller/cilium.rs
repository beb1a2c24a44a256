//! Cilium's policies: those of others that may widen a guard, and those of Incidents that were left over. Read together with
//! the facts about the cluster.

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::Controller;
use crate::api::{Incident, labels};
use crate::cluster::{ApiError, read};
use crate::guardrails::ClusterFacts;
use crate::guardrails::cilium::{CiliumKind, interim_deny_name};
use crate::guardrails::cilium_policies::CiliumPolicy;
use crate::limits;
use crate::observability::chain;

impl Controller {
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

    /// Whether a policy was made for an Incident that has no record of it: the process ended between the two writes, and the
    /// response then took another course. A policy of the last minute may be recorded yet.
    fn is_left_over(&self, policy: &DynamicObject) -> bool {
        let meta = &policy.metadata;
        let is_ours = policy.labels().get(labels::MANAGED_BY).map(String::as_str)
            == Some(labels::MANAGED_BY_VALUE);
        let owner = meta.owner_references.iter().flatten().next();
        let (true, Some(owner)) = (is_ours, owner) else {
            return false;
        };
        if meta.name.as_deref() != Some(&interim_deny_name(&owner.uid)) {
            return false;
        }
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        let age = created.map(|time| Timestamp::now().duration_since(time).unsigned_abs());
        if age.is_none_or(|age| age < limits::IDENTITY_CHANGE_MAX) {
            return false;
        }
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = ObjectRef::<Incident>::new(&owner.name).within(namespace);
        let incident = self.stores.incidents.get(&key);
        let known = incident.and_then(|incident| incident.status.as_ref()?.cilium.clone());
        known.is_none_or(|known| known.interim_identities.is_empty())
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
