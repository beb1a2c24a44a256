//! The owner of a pod and the field that holds it, as they are now. Reads; writes nothing. Called by the
//! responder, and by whoever wants to know beforehand what a response would hold.

use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::cluster::{ApiError, Owners};
use crate::guardrails::membership::OwnerLink;
use crate::respond::plan::Lever;
use crate::respond::plan::suspension::{self as lever, Choice, Hold};

/// An owner as it was read.
enum Read {
    Found(Box<DynamicObject>),
    Gone,
    /// It cannot be read, in words.
    Closed(String),
}

/// Where owners are read.
struct Place<'a> {
    owners: &'a Owners,
    client: &'a Client,
    namespace: &'a str,
}

/// What can be done about these owners of a pod, nearest first.
pub async fn lever_of(
    owners: &Owners,
    client: &Client,
    namespace: &str,
    mut links: Vec<OwnerLink>,
) -> Result<Lever, ApiError> {
    let place = Place {
        owners,
        client,
        namespace,
    };
    // Each turn drops what is gone from the top; the chain is short.
    while !links.is_empty() {
        let chosen = match lever::choose(&links) {
            Choice::Hold(chosen) => chosen,
            Choice::Nobody => return Ok(Lever::None),
            Choice::Unsupported(why) => return Ok(Lever::Unsupported(why)),
        };
        let mut holds = Vec::new();
        let mut gone = None;
        for link in chosen {
            match place.read_owner(&link).await? {
                Read::Found(object) => match place.hold_on(&links, &link, &object).await? {
                    Ok(hold) => holds.push(hold),
                    Err(why) => return Ok(Lever::Unsupported(why)),
                },
                Read::Gone => gone = Some(link.uid),
                Read::Closed(why) => return Ok(Lever::Unsupported(why)),
            }
        }
        if !holds.is_empty() {
            return Ok(Lever::Owners(holds));
        }
        links.retain(|link| Some(&link.uid) != gone.as_ref());
    }
    Ok(Lever::None)
}

impl Place<'_> {
    async fn read_owner(&self, link: &OwnerLink) -> Result<Read, ApiError> {
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
                .map_or(Read::Gone, |object| Read::Found(Box::new(object)))),
            Err(error) if error.is_forbidden() => Ok(Read::Closed(format!(
                "the operator may not read {kind} {name}: grant it get and patch, or stop it by hand"
            ))),
            Err(error) => Err(error),
        }
    }

    /// The field that holds this owner: its own, or that of the Workload by which Kueue drives it.
    async fn hold_on(
        &self,
        chain: &[OwnerLink],
        link: &OwnerLink,
        object: &DynamicObject,
    ) -> Result<Result<Hold, String>, ApiError> {
        let Some(row) = lever::row_of(&link.api_version, &link.kind) else {
            return Ok(Err(format!("no field suspends {}", link.kind)));
        };
        if row.is_admitted() {
            match self.workload_of(chain).await {
                Ok(Some(hold)) => return Ok(Ok(hold)),
                Ok(None) => {}
                Err(error) if error.is_forbidden() => {
                    if object.labels().contains_key(lever::KUEUE_QUEUE) {
                        return Ok(Err(format!(
                            "{} {} is driven by Kueue, whose Workloads the operator may not read: \
                             grant it list, get and patch, or set spec.active to false by hand",
                            link.kind, link.name
                        )));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(why) = lever::objection(link, data_of(object)) {
            return Ok(Err(why));
        }
        Ok(Ok(Hold::new(link, row, data_of(object))))
    }

    /// The Workload by which Kueue admits one of these owners.
    async fn workload_of(&self, chain: &[OwnerLink]) -> Result<Option<Hold>, ApiError> {
        let (owners, client, namespace) = (self.owners, self.client, self.namespace);
        let kind = owners.preferred(client, lever::KUEUE_GROUP, lever::WORKLOAD);
        let Some(resource) = kind.await? else {
            return Ok(None);
        };
        let uids: Vec<&str> = chain.iter().map(|link| link.uid.as_str()).collect();
        let found = owners.owned_by(client, namespace, &resource, &uids).await?;
        let Some(name) = found else {
            return Ok(None);
        };
        let (version, kind) = (&resource.api_version, lever::WORKLOAD);
        let object = owners.get(client, namespace, version, kind, &name).await?;
        let row = lever::row_of(version, kind);
        let (Some(object), Some(row)) = (object, row) else {
            return Ok(None);
        };
        let link = OwnerLink {
            api_version: version.clone(),
            kind: kind.to_owned(),
            uid: object.uid().unwrap_or_default(),
            name,
        };
        Ok(Some(Hold::new(&link, row, data_of(&object))))
    }
}

/// The object as the API server sent it, but for its metadata.
pub(in crate::respond) const fn data_of(object: &DynamicObject) -> &Value {
    &object.data
}
