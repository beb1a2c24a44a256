//! Finds the owner of a pod that can be suspended, and reads the field that suspends it. Writes nothing.
//! Called by the responder, and by `yellowjack preview`.

use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::cluster::{ApiError, Owners};
use crate::guardrails::membership::OwnerLink;
use crate::respond::plan::OwnerControl;
use crate::respond::plan::suspension::{self, Choice, Suspension};

/// The result of reading an owner.
enum ReadOwner {
    Found(Box<DynamicObject>),
    Gone,
    /// It may not be read, and what to do about that.
    Forbidden(String),
}

/// Reads owners in one namespace.
struct OwnerReader<'a> {
    owners: &'a Owners,
    client: &'a Client,
    namespace: &'a str,
}

/// How the owners of a pod can be suspended. `links` is the chain of owners, nearest first.
pub(crate) async fn owner_control(
    owners: &Owners,
    client: &Client,
    namespace: &str,
    mut links: Vec<OwnerLink>,
) -> Result<OwnerControl, ApiError> {
    let reader = OwnerReader {
        owners,
        client,
        namespace,
    };
    // Each turn removes a deleted owner from the chain, and the chain is bounded.
    while !links.is_empty() {
        let chosen = match suspension::choose(&links) {
            Choice::Suspend(chosen) => chosen,
            Choice::NoOwner => return Ok(OwnerControl::NoOwner),
            Choice::Unsupported(why) => return Ok(OwnerControl::Unsupported(why)),
        };
        let mut suspendable = Vec::new();
        let mut gone = None;
        for link in chosen {
            match reader.read(&link).await? {
                ReadOwner::Found(object) => {
                    match reader.suspension_of(&links, &link, &object).await? {
                        Ok(owner) => suspendable.push(owner),
                        Err(why) => return Ok(OwnerControl::Unsupported(why)),
                    }
                }
                ReadOwner::Gone => gone = Some(link.uid),
                ReadOwner::Forbidden(why) => return Ok(OwnerControl::Unsupported(why)),
            }
        }
        if !suspendable.is_empty() {
            return Ok(OwnerControl::Suspendable(suspendable));
        }
        links.retain(|link| Some(&link.uid) != gone.as_ref());
    }
    Ok(OwnerControl::NoOwner)
}

impl OwnerReader<'_> {
    async fn read(&self, link: &OwnerLink) -> Result<ReadOwner, ApiError> {
        let OwnerLink {
            api_version,
            kind,
            name,
            uid,
        } = link;
        let read = self
            .owners
            .get(self.client, self.namespace, api_version, kind, name);
        match read.await {
            // Another object of the same name is not this owner.
            Ok(found) => Ok(found
                .filter(|object| object.metadata.uid.as_ref() == Some(uid))
                .map_or(ReadOwner::Gone, |object| ReadOwner::Found(Box::new(object)))),
            Err(error) if error.is_forbidden() => Ok(ReadOwner::Forbidden(format!(
                "the operator may not read {kind} {name}: grant it get and patch, or stop it by hand"
            ))),
            Err(error) => Err(error),
        }
    }

    /// The field that suspends this owner: its own, or that of the Workload if Kueue manages it.
    async fn suspension_of(
        &self,
        chain: &[OwnerLink],
        link: &OwnerLink,
        object: &DynamicObject,
    ) -> Result<Result<Suspension, String>, ApiError> {
        let Some(rule) = suspension::rule_for(&link.api_version, &link.kind) else {
            return Ok(Err(format!("no field suspends {}", link.kind)));
        };
        if rule.is_managed_by_kueue() {
            match self.workload_of(chain).await {
                Ok(Some(workload)) => return Ok(Ok(workload)),
                Ok(None) => {}
                Err(error) if error.is_forbidden() => {
                    if object.labels().contains_key(suspension::KUEUE_QUEUE) {
                        return Ok(Err(format!(
                            "{} {} is managed by Kueue, and the operator may not read its Workloads: \
                             grant it list, get and patch, or set spec.active to false by hand",
                            link.kind, link.name
                        )));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(why) = suspension::unsupported_reason(link, data_of(object)) {
            return Ok(Err(why));
        }
        Ok(Ok(Suspension::new(link, rule, data_of(object))))
    }

    /// The Workload through which Kueue admits one of these owners.
    async fn workload_of(&self, chain: &[OwnerLink]) -> Result<Option<Suspension>, ApiError> {
        let (owners, client, namespace) = (self.owners, self.client, self.namespace);
        let kind = owners.preferred(client, suspension::KUEUE_GROUP, suspension::WORKLOAD);
        let Some(resource) = kind.await? else {
            return Ok(None);
        };
        let uids: Vec<&str> = chain.iter().map(|link| link.uid.as_str()).collect();
        let found = owners.owned_by(client, namespace, &resource, &uids).await?;
        let Some(name) = found else {
            return Ok(None);
        };
        let (version, kind) = (&resource.api_version, suspension::WORKLOAD);
        let object = owners.get(client, namespace, version, kind, &name).await?;
        let rule = suspension::rule_for(version, kind);
        let (Some(object), Some(rule)) = (object, rule) else {
            return Ok(None);
        };
        let link = OwnerLink {
            api_version: version.clone(),
            kind: kind.to_owned(),
            uid: object.uid().unwrap_or_default(),
            name,
        };
        Ok(Some(Suspension::new(&link, rule, data_of(&object))))
    }
}

/// The fields of an object, without its metadata.
pub(super) const fn data_of(object: &DynamicObject) -> &Value {
    &object.data
}
