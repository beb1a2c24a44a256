//! Holding the owner of a pod and letting it go: reads the owner, sets the one field that stops its
//! pods, and sets it back. Carries out steps of the plan; what to set is the plan's table of levers.
//!
//! Every write names the object by UID and by the version that was read, so that it changes what was
//! looked at or nothing (INV-5).

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::execute::{Done, Outcome, done, failed, record};
use super::plan::lever::{self, Choice, Hold};
use super::plan::{HASTENED_S, Lever, PodView};
use super::responder::{Responder, save};
use super::view::{Known, may_hold};
use crate::api::{ActionKind, ActionResult, Incident, ObjectTarget, RestoreEntry};
use crate::cluster::{FieldManager, OwnerError, WriteError, kind_of};
use crate::guardrails::membership::OwnerLink;
use crate::limits;

/// An owner as it was read.
enum Read {
    Found(Box<DynamicObject>),
    Gone,
    /// It cannot be read, in words.
    Closed(String),
}

impl Responder {
    /// Finds out what can be done about the owner of the Incident's pod.
    pub(super) async fn look_at_owner(
        &self,
        incident: &Incident,
        namespace: &str,
        known: &mut Known,
    ) -> Outcome {
        match self.lever_of(incident, namespace).await {
            Ok(lever) => {
                known.lever = Some(lever);
                Ok(Done::default())
            }
            Err(error) => {
                let subject = &incident.spec.subject;
                let target = super::execute::pod_target(&PodView {
                    name: subject.name.clone(),
                    uid: subject.uid.clone(),
                    quarantine: None,
                    grace_s: None,
                });
                Err(failed(ActionKind::Suspend, target, error.into()))
            }
        }
    }

    async fn lever_of(&self, incident: &Incident, namespace: &str) -> Result<Lever, OwnerError> {
        let client = self.writer.client();
        let mut links = if let Some(pod) = self.subject(incident, namespace) {
            let chain = self.owners.resolve(client, &self.stores, &pod, true);
            chain.await?.links
        } else {
            // Gone; who owned it may still be known.
            let chain = self.owners.chain_of(&incident.spec.subject.uid);
            chain.unwrap_or_default().links
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
                match self.read_owner(namespace, &link).await? {
                    Read::Found(object) => {
                        match self.hold_on(namespace, &links, &link, &object).await? {
                            Ok(hold) => holds.push(hold),
                            Err(why) => return Ok(Lever::Unsupported(why)),
                        }
                    }
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

    async fn read_owner(&self, namespace: &str, link: &OwnerLink) -> Result<Read, OwnerError> {
        let OwnerLink {
            api_version,
            kind,
            name,
            uid,
        } = link;
        let client = self.writer.client();
        let read = self.owners.get(client, namespace, api_version, kind, name);
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
        namespace: &str,
        chain: &[OwnerLink],
        link: &OwnerLink,
        object: &DynamicObject,
    ) -> Result<Result<Hold, String>, OwnerError> {
        let Some(row) = lever::row_of(&link.api_version, &link.kind) else {
            return Ok(Err(format!("no field suspends {}", link.kind)));
        };
        if row.is_admitted() {
            match self.workload_of(namespace, chain).await {
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
        let object = json(object);
        if let Some(why) = lever::objection(link, &object) {
            return Ok(Err(why));
        }
        Ok(Ok(Hold::new(link, row, &object)))
    }

    /// The Workload by which Kueue admits one of these owners.
    async fn workload_of(
        &self,
        namespace: &str,
        chain: &[OwnerLink],
    ) -> Result<Option<Hold>, OwnerError> {
        let (owners, client) = (&self.owners, self.writer.client());
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
        Ok(Some(Hold::new(&link, row, &json(&object))))
    }

    /// Sets the field that holds an owner, unless the owner changed since it was looked at.
    /// The pods are deleted at once then, before the owner's controller does it in its way.
    pub(super) async fn suspend(
        &self,
        namespace: &str,
        hold: &Hold,
        pods: &[PodView],
        known: &mut Known,
    ) -> Outcome {
        self.wait_for_turn().await;
        // Whatever comes of it, the plan looks again.
        known.lever = None;
        let target = &hold.target;
        let error = |error| failed(ActionKind::Suspend, target.clone(), error);
        let found = self.read_target(namespace, target).await;
        let Some(object) = found.map_err(|e| error(e.into()))? else {
            return Ok(Done::default());
        };
        let now = lever::value_at(&json(&object), &hold.field);
        if now != hold.now {
            return Ok(Done::default());
        }
        if !hold.is_set() {
            match self
                .set_field(namespace, target, &object, &hold.field, &hold.set)
                .await
            {
                Ok(()) => {}
                // It changed between the two; the next look tells how.
                Err(WriteError::Conflict(_) | WriteError::NotFound(_)) => {
                    return Ok(Done::default());
                }
                Err(refused) => return Err(error(refused)),
            }
        }
        let mut message = format!(
            "{} is {}, so that no replacement goes on",
            hold.field, hold.set
        );
        for pod in pods {
            // A failure is no reason to forget that the owner is held; the next look hastens again.
            let said = match self.shorten(namespace, pod, known).await {
                Ok(_) => format!("; its pod has {HASTENED_S} s to end, for its traffic goes on"),
                Err(failed) => format!("; its pod was not hastened: {}", failed.record.message),
            };
            message.push_str(&said);
        }
        Ok(done(vec![record(
            ActionKind::Suspend,
            target.clone(),
            ActionResult::Succeeded,
            &message,
        )]))
    }

    /// The object of a record, if it is still the same.
    async fn read_target(
        &self,
        namespace: &str,
        target: &ObjectTarget,
    ) -> Result<Option<DynamicObject>, OwnerError> {
        let ObjectTarget {
            api_version,
            kind,
            name,
            uid,
        } = target;
        let client = self.writer.client();
        let read = self.owners.get(client, namespace, api_version, kind, name);
        let found = read.await?;
        Ok(found.filter(|object| object.metadata.uid.as_ref() == Some(uid)))
    }

    /// Sets one field of the object, if nobody wrote it since it was read. `null` removes the field.
    async fn set_field(
        &self,
        namespace: &str,
        target: &ObjectTarget,
        read: &DynamicObject,
        field: &str,
        value: &Value,
    ) -> Result<(), WriteError> {
        let kind = kind_of(&target.api_version, &target.kind);
        let resource = self.owners.resource(self.writer.client(), kind).await?;
        let Some(resource) = resource else {
            return Ok(());
        };
        let mut patch = lever::patch_of(field, value);
        if let Some(fields) = patch.as_object_mut() {
            let version = &read.metadata.resource_version;
            let metadata = json!({ "uid": target.uid, "resourceVersion": version });
            fields.insert("metadata".to_owned(), metadata);
        }
        let manager = FieldManager::responder();
        self.writer
            .merge_dynamic(&manager, &resource, namespace, &target.name, &patch)
            .await
            .map(drop)
    }

    /// Sets a field back to what it was, unless somebody changed it since or another Incident
    /// still holds it.
    pub(super) async fn restore(
        &self,
        namespace: &str,
        entry: &RestoreEntry,
        held_by: Option<&str>,
        known: &mut Known,
    ) -> Outcome {
        if let Some(other) = held_by {
            return self.hand_over(namespace, entry, other, known).await;
        }
        known.lever = None;
        let target = &entry.target;
        let error = |error| failed(ActionKind::Restore, target.clone(), error);
        let found = self.read_target(namespace, target).await;
        let Some(object) = found.map_err(|e| error(e.into()))? else {
            return Ok(restored(entry, ActionResult::Skipped, "it is gone"));
        };
        let now = lever::value_at(&json(&object), &entry.field);
        let resting = lever::resting(entry);
        let before = entry.before.as_ref();
        let back = format!("{} is {} again", entry.field, text(before));
        if now.as_ref().or(resting.as_ref()) == before.or(resting.as_ref()) {
            // By somebody else, or by us before a crash kept it out of the record.
            return Ok(restored(entry, ActionResult::Succeeded, &back));
        }
        if now.as_ref() != Some(&entry.set) {
            let why = "somebody changed it since, so it is left alone";
            return Ok(restored(entry, ActionResult::Skipped, why));
        }
        let written = if target.kind == "Pod" {
            self.give_back(namespace, entry, &object).await
        } else {
            let value = before.cloned().unwrap_or(Value::Null);
            self.set_field(namespace, target, &object, &entry.field, &value)
                .await
        };
        match written {
            Ok(()) => Ok(restored(entry, ActionResult::Succeeded, &back)),
            // It changed between the two: once more.
            Err(WriteError::Conflict(_)) => Ok(Done {
                is_open: true,
                ..Done::default()
            }),
            Err(refused) => Err(error(refused)),
        }
    }

    /// Leaves a field as it is for another Incident that still needs it. What must be restored is
    /// noted there before it is struck here, so that the last release finds it.
    async fn hand_over(
        &self,
        namespace: &str,
        entry: &RestoreEntry,
        other: &str,
        known: &mut Known,
    ) -> Outcome {
        let error = |error| failed(ActionKind::Restore, entry.target.clone(), error);
        let api: Api<Incident> = Api::namespaced(self.writer.client().clone(), namespace);
        let limit = std::time::Duration::from_secs(limits::API_TIMEOUT_S);
        let read = tokio::time::timeout(limit, api.get_opt(other)).await;
        let found = read
            .map_err(|_| error(WriteError::TimedOut(limit)))?
            .map_err(|failure| error(WriteError::from_kube(failure)))?;
        let Some(holder) = found.filter(may_hold) else {
            known.let_go.insert(other.to_owned());
            return Ok(Done {
                is_open: true,
                ..Done::default()
            });
        };
        let mut status = holder.status.clone().unwrap_or_default();
        let same =
            |known: &RestoreEntry| known.target == entry.target && known.field == entry.field;
        if !status.restore.iter().any(same) {
            save(&mut status.restore, entry);
            let manager = FieldManager::responder();
            match self.writer.status(&manager, &holder, &status).await {
                Ok(_) => {}
                // It was written meanwhile: once more, with what it says now.
                Err(WriteError::Conflict(_) | WriteError::NotFound(_)) => {
                    return Ok(Done {
                        is_open: true,
                        ..Done::default()
                    });
                }
                Err(failure) => return Err(error(failure)),
            }
        }
        let why = format!("Incident {other} still needs it as it is");
        Ok(restored(entry, ActionResult::Skipped, &why))
    }

    /// A pod, whole and as it is now; `None` where it is gone.
    pub(super) async fn read_pod(
        &self,
        namespace: &str,
        pod: &PodView,
    ) -> Result<Option<Pod>, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.writer.client().clone(), namespace);
        let limit = std::time::Duration::from_secs(limits::API_TIMEOUT_S);
        let read = tokio::time::timeout(limit, api.get_opt(&pod.name)).await;
        let found = read
            .map_err(|_| WriteError::TimedOut(limit))?
            .map_err(WriteError::from_kube)?;
        Ok(found.filter(|found| found.uid().as_deref() == Some(&pod.uid)))
    }
}

fn restored(entry: &RestoreEntry, result: ActionResult, message: &str) -> Done {
    let target = entry.target.clone();
    done(vec![record(ActionKind::Restore, target, result, message)])
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "unset".to_owned(), Value::to_string)
}

/// The object as the API server sent it.
fn json(object: &DynamicObject) -> Value {
    object.data.clone()
}
