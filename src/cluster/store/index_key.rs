//! Under which keys pods and Incidents are found besides their namespace and name. Pure; each key has a reader in the
//! responder, which would visit all objects without it.

use jiff::Timestamp;
use kube::ResourceExt;

use super::pod::Pod;
use crate::api::{Incident, labels};

/// A key of an index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IndexKey {
    /// Pods in quarantine.
    Quarantined,
    /// Pods in quarantine in this namespace.
    QuarantinedIn(String),
    /// Incidents about the pod with this UID.
    Subject(String),
    /// Open Incidents of the AgentRun with this UID.
    Run(String),
    /// Open Incidents about pods of the controller with this UID, the next pod of which may take the place of an isolated one.
    ReplacedBy(String),
    /// Open Incidents in this namespace that changed fields of an object, which a release restores.
    ChangedFieldsIn(String),
    /// Open Incidents that changed fields of the object with this UID.
    ChangedFieldsOf(String),
    /// Incidents that call for more than an alert, created within this minute of Unix time.
    CrossedIn(i64),
}

impl IndexKey {
    /// The keys of the minutes from `from` to `to`.
    pub(crate) fn crossed_between(from: Timestamp, to: Timestamp) -> impl Iterator<Item = Self> {
        (minute_of(from)..=minute_of(to)).map(Self::CrossedIn)
    }
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// The keys of a pod.
pub(super) fn keys_of_pod(pod: &Pod) -> Vec<IndexKey> {
    if !pod.labels().contains_key(labels::QUARANTINE) {
        return Vec::new();
    }
    let namespace = pod.namespace().unwrap_or_default();
    vec![IndexKey::Quarantined, IndexKey::QuarantinedIn(namespace)]
}

/// The keys of an Incident.
pub(super) fn keys_of_incident(incident: &Incident) -> Vec<IndexKey> {
    let mut keys = vec![IndexKey::Subject(incident.spec.subject.uid.clone())];
    if incident.is_actionable()
        && let Some(created) = &incident.metadata.creation_timestamp
    {
        keys.push(IndexKey::CrossedIn(minute_of(created.0)));
    }
    if incident.is_closed() {
        return keys;
    }
    if let Some(run) = &incident.spec.run {
        keys.push(IndexKey::Run(run.uid.clone()));
    }
    let status = incident.status.as_ref();
    if let Some(replacement) = status.and_then(|status| status.replacement.as_ref()) {
        keys.push(IndexKey::ReplacedBy(replacement.controller.uid.clone()));
    }
    if !incident.restore().is_empty() {
        let namespace = incident.namespace().unwrap_or_default();
        keys.push(IndexKey::ChangedFieldsIn(namespace));
    }
    for entry in incident.restore() {
        keys.push(IndexKey::ChangedFieldsOf(entry.target.uid.clone()));
    }
    keys
}
