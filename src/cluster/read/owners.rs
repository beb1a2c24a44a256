//! Chains of owners: from a pod to its owner, the owner of that, and so on.
//!
//! The pod reconciler resolves chains, which may need requests to the API server; other callers use the
//! cached chains. The responder also reads the complete owners that it suspends. Depth, caches and time
//! are bounded. Writes nothing.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use super::reader::read;
use crate::api::{GROUP, OwnerReferenceTarget};
use crate::cluster::error::ApiError;
use crate::cluster::store::{Pod, Stores};
use crate::guardrails::membership::OwnerLink;
use crate::limits;

/// A pod's owners, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerChain {
    /// The owners.
    pub links: Vec<OwnerLink>,
    /// Whether the chain was followed through kinds that are not in a store.
    pub is_deep: bool,
}

/// Caches chains by pod UID, and what was read to resolve them.
#[derive(Default)]
pub(crate) struct Owners {
    chains: Mutex<HashMap<String, OwnerChain>>,
    /// The owner of each owner that exists, by namespace and all that a reference contains; `None` if it has none. Whoever
    /// makes a pod chooses its owner references, so a UID alone does not identify the object: a pod of another namespace with
    /// the same UID under another name would decide what is cached.
    parents: Mutex<HashMap<(String, OwnerLink), Option<OwnerReference>>>,
    resources: Mutex<HashMap<GroupVersionKind, Option<ApiResource>>>,
}

impl Owners {
    /// The cached chain of a pod.
    #[must_use]
    pub(crate) fn chain_of(&self, pod_uid: &str) -> Option<OwnerChain> {
        self.chains.lock().get(pod_uid).cloned()
    }

    /// Removes the chain of a deleted pod.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.chains.lock().remove(pod_uid);
    }

    /// Resolves the chain of a pod and caches it. Only with `is_deep` it makes requests to the API
    /// server; without, the chain ends at the first owner that is not in a store.
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        stores: &Stores,
        pod: &Pod,
        is_deep: bool,
    ) -> Result<OwnerChain, ApiError> {
        let namespace = pod.namespace().unwrap_or_default();
        let mut links = Vec::new();
        let mut next = controller_of(&pod.metadata).cloned();
        while let Some(owner) = next {
            next = if links.len() + 1 < limits::OWNER_DEPTH_MAX {
                self.parent(client, stores, &namespace, &owner, is_deep)
                    .await?
            } else {
                None
            };
            links.push(link(owner));
        }
        let chain = OwnerChain { links, is_deep };
        if let Some(uid) = pod.uid() {
            self.chains.lock().insert(uid, chain.clone());
        }
        Ok(chain)
    }

    /// Whether the object that a `ref` target names exists.
    pub(crate) async fn exists(
        &self,
        client: &Client,
        namespace: &str,
        target: &OwnerReferenceTarget,
    ) -> Result<bool, ApiError> {
        let kind = kind_of(&target.api_version, &target.kind);
        let Some(resource) = self.resource(client, kind).await? else {
            return Ok(false);
        };
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        match read(api.get_metadata_opt(&target.name)).await {
            Err(error) if error.is_forbidden() => Ok(false),
            answer => Ok(answer?.is_some()),
        }
    }

    /// A complete object; `None` if it, or its kind, does not exist.
    pub(crate) async fn get(
        &self,
        client: &Client,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, ApiError> {
        let Some(resource) = self.resource(client, kind_of(api_version, kind)).await? else {
            return Ok(None);
        };
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        read(api.get_opt(name)).await
    }

    /// The resource of a kind in the preferred version of its group; `None` if it is not served.
    pub(crate) async fn preferred(
        &self,
        client: &Client,
        group: &str,
        kind: &str,
    ) -> Result<Option<ApiResource>, ApiError> {
        let key = GroupVersionKind::gvk(group, "", kind);
        if let Some(known) = self.resources.lock().get(&key) {
            return Ok(known.clone());
        }
        let answer = read(async {
            match kube::discovery::group(client, group).await {
                Ok(found) => Ok(found.recommended_kind(kind).map(|(resource, _)| resource)),
                Err(kube::Error::Discovery(_)) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found = match answer.await {
            Err(error) if error.is_forbidden() || matches!(error, ApiError::NotFound(_)) => None,
            other => other?,
        };
        self.remember(key, found.as_ref());
        Ok(found)
    }

    /// The name of an object of this resource that one of these UIDs owns; `None` if none is found
    /// among the first [`limits::OWNED_OBJECTS_READ_MAX`].
    pub(crate) async fn owned_by(
        &self,
        client: &Client,
        namespace: &str,
        resource: &ApiResource,
        uids: &[&str],
    ) -> Result<Option<String>, ApiError> {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, resource);
        let mut params = ListParams::default().limit(limits::OWNED_PAGE);
        let mut read_count = 0;
        loop {
            let page = read(api.list_metadata(&params)).await?;
            let mut named = page.items.iter().flat_map(|object| {
                let owners = object.metadata.owner_references.iter().flatten();
                owners.map(|owner| (owner.uid.as_str(), object.name_any()))
            });
            if let Some((_, name)) = named.find(|(owner, _)| uids.contains(owner)) {
                return Ok(Some(name));
            }
            read_count += page.items.len();
            let next = page.metadata.continue_.filter(|next| !next.is_empty());
            match next {
                Some(next) if read_count < limits::OWNED_OBJECTS_READ_MAX => {
                    params = params.continue_token(&next);
                }
                _ => return Ok(None),
            }
        }
    }

    async fn parent(
        &self,
        client: &Client,
        stores: &Stores,
        namespace: &str,
        owner: &OwnerReference,
        is_deep: bool,
    ) -> Result<Option<OwnerReference>, ApiError> {
        let kind = kind_of(&owner.api_version, &owner.kind);
        if kind.group == GROUP {
            return Ok(None);
        }
        if kind.group == "batch" && kind.kind == "Job" {
            let job = stores
                .jobs
                .get(&ObjectRef::new(&owner.name).within(namespace));
            if let Some(job) = job.filter(|job| job.metadata.uid.as_ref() == Some(&owner.uid)) {
                return Ok(controller_of(&job.metadata).cloned());
            }
        }
        let key = (namespace.to_owned(), link(owner.clone()));
        if let Some(known) = self.parents.lock().get(&key) {
            return Ok(known.clone());
        }
        if !is_deep {
            return Ok(None);
        }
        let Some(resource) = self.resource(client, kind).await? else {
            return Ok(None);
        };
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let found = match read(api.get_metadata_opt(&owner.name)).await {
            // An owner without read permission ends the chain; retries would not help.
            Err(error) if error.is_forbidden() => {
                return Ok(None);
            }
            answer => answer?,
        };
        // Another object of the same name is not this owner, and its owner is not that of this one.
        let same = found.filter(|object| object.metadata.uid.as_ref() == Some(&owner.uid));
        let Some(same) = same else { return Ok(None) };
        let parent = controller_of(&same.metadata).cloned();
        let mut parents = self.parents.lock();
        if parents.len() >= limits::OWNERS_CACHED_MAX {
            parents.clear();
        }
        parents.insert(key, parent.clone());
        Ok(parent)
    }

    /// The resource of a kind; `None` if the cluster does not serve it, or denies access to it.
    pub(crate) async fn resource(
        &self,
        client: &Client,
        kind: GroupVersionKind,
    ) -> Result<Option<ApiResource>, ApiError> {
        if let Some(known) = self.resources.lock().get(&kind) {
            return Ok(known.clone());
        }
        if !is_group_version(&kind) {
            return Ok(None);
        }
        let answer = read(async {
            match kube::discovery::pinned_kind(client, &kind).await {
                Ok((resource, _)) => Ok(Some(resource)),
                Err(kube::Error::Discovery(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await;
        let found = match answer {
            Err(error) if error.is_forbidden() || matches!(error, ApiError::NotFound(_)) => None,
            other => other?,
        };
        self.remember(kind, found.as_ref());
        Ok(found)
    }

    /// Caches only what was found: a kind that is not served now may be installed later.
    fn remember(&self, kind: GroupVersionKind, found: Option<&ApiResource>) {
        let Some(found) = found else { return };
        let mut resources = self.resources.lock();
        if resources.len() >= limits::OWNER_KINDS_MAX {
            resources.clear();
        }
        resources.insert(kind, Some(found.clone()));
    }
}

/// The kind from the `apiVersion` and `kind` of an object or reference.
#[must_use]
pub(crate) fn kind_of(api_version: &str, kind: &str) -> GroupVersionKind {
    let types = TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    GroupVersionKind::try_from(types)
        .unwrap_or_else(|_| GroupVersionKind::gvk("", api_version, kind))
}

/// Whether group and version can be those of an API. An owner reference may contain any text, which would become the path
/// of a request that fails each time.
fn is_group_version(kind: &GroupVersionKind) -> bool {
    let is_label = |text: &str| {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !text.is_empty() && text.chars().all(is_allowed)
    };
    (kind.group.is_empty() || kind.group.split('.').all(is_label)) && is_label(&kind.version)
}

/// The controlling owner of the object, or else its first owner.
fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .or_else(|| owners.first())
}

fn link(owner: OwnerReference) -> OwnerLink {
    OwnerLink {
        api_version: owner.api_version,
        kind: owner.kind,
        name: owner.name,
        uid: owner.uid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_api_version_that_can_exist_is_looked_up() {
        for (api_version, is_one) in [
            ("v1", true),
            ("apps/v1", true),
            ("jobset.x-k8s.io/v1alpha2", true),
            ("a b/v1", false),
            ("apps/v1/../../v1", false),
            ("apps/", false),
            ("", false),
            ("../v1", false),
        ] {
            let kind = kind_of(api_version, "Any");
            assert_eq!(is_group_version(&kind), is_one, "{api_version:?}");
        }
    }
}
