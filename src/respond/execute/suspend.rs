//! Holding the owner of a pod and letting it go: reads the owner, sets the one field that stops its
//! pods, and sets it back. Carries out steps of the plan; what to set is the plan's table of levers,
//! and `owner` finds out what it is set on.
//!
//! Every write names the object by UID and by the version that was read, so that it changes what was
//! looked at or nothing (INV-5).

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::executor::{Done, Outcome, done, failed, record};
use super::owner::{data_of, lever_of};
use crate::api::{ActionKind, ActionResult, Incident, ObjectTarget, RestoreEntry};
use crate::cluster::{ApiError, FieldManager, kind_of};
use crate::limits;
use crate::respond::plan::suspension::{self as lever, Hold};
use crate::respond::plan::{HASTENED_S, Lever, PodView};
use crate::respond::responder::{Responder, save};
use crate::respond::snapshot::{Known, may_hold};

impl Responder {
    /// Finds out what can be done about the owner of the Incident's pod.
    pub(in crate::respond) async fn look_at_owner(
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
                let target = super::executor::pod_target(&PodView {
                    name: subject.name.clone(),
                    uid: subject.uid.clone(),
                    node: None,
                    quarantine: None,
                    grace_s: None,
                });
                Err(failed(ActionKind::Suspend, target, error.into()))
            }
        }
    }

    async fn lever_of(&self, incident: &Incident, namespace: &str) -> Result<Lever, ApiError> {
        let client = self.writer.client();
        let links = if let Some(pod) = self.subject(incident, namespace) {
            let chain = self.owners.resolve(client, &self.stores, &pod, true);
            chain.await?.links
        } else {
            // Gone; who owned it may still be known.
            let chain = self.owners.chain_of(&incident.spec.subject.uid);
            chain.unwrap_or_default().links
        };
        lever_of(&self.owners, client, namespace, links).await
    }

    /// Sets the field that holds an owner, unless the owner changed since it was looked at.
    /// The pods are deleted at once then, before the owner's controller does it in its way.
    pub(in crate::respond) async fn suspend(
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
        let now = lever::value_at(data_of(&object), &hold.field);
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
                Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => {
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
    ) -> Result<Option<DynamicObject>, ApiError> {
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
    ) -> Result<(), ApiError> {
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
    pub(in crate::respond) async fn restore(
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
        let now = lever::value_at(data_of(&object), &entry.field);
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
            Err(ApiError::Conflict(_)) => Ok(Done {
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
            .map_err(|_| error(ApiError::TimedOut(limit)))?
            .map_err(|failure| error(ApiError::from(failure)))?;
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
                Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => {
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
    pub(in crate::respond) async fn read_pod(
        &self,
        namespace: &str,
        pod: &PodView,
    ) -> Result<Option<Pod>, ApiError> {
        let api: Api<Pod> = Api::namespaced(self.writer.client().clone(), namespace);
        let limit = std::time::Duration::from_secs(limits::API_TIMEOUT_S);
        let read = tokio::time::timeout(limit, api.get_opt(&pod.name)).await;
        let found = read
            .map_err(|_| ApiError::TimedOut(limit))?
            .map_err(ApiError::from)?;
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
