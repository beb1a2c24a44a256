//! Updates the pods of a run in `RunMembership` and in the attribution index.
//!
//! `RunMembership` serves the response and contains existing pods only. The index keeps the run of a pod that has
//! ended, because the last lines about the pod arrive later.

use std::collections::HashSet;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::Controller;
use crate::api::{AgentRun, Profile};
use crate::cluster::RunId;
use crate::model::{EventTime, PodKey};
use crate::pipeline::pod_facts::{membership_of, run_key};

impl Controller {
    /// Sets the pods of a run, by UID, and the profile that is in force for them.
    pub(crate) fn update_membership(&self, run: &AgentRun, profile: Profile, pod_uids: &[String]) {
        let (Some(id), Some(membership)) = (RunId::of(run), membership_of(run, profile)) else {
            return;
        };
        let left = self.membership.set(&id, pod_uids.iter().cloned());
        let keys = pod_uids.iter().map(|uid| PodKey::from(uid.as_str()));
        let added: Vec<PodKey> = {
            let index = self.index.read();
            keys.filter(|key| index.membership(key) != Some(&membership))
                .collect()
        };
        let left = self.existing(left);
        if added.is_empty() && left.is_empty() {
            return;
        }
        let mut index = self.index.write();
        for key in added {
            index.enroll(&key, Some(membership.clone()));
        }
        for key in left {
            index.enroll(&key, None);
        }
    }

    /// Removes the pods of a deleted run.
    pub(super) fn remove_membership(&self, run: &AgentRun) {
        self.update_membership(run, Profile::default(), &[]);
        if let Some(uid) = run.metadata.uid.as_ref() {
            self.selected_pods.lock().remove(uid);
        }
        let Some(key) = run_key(run) else { return };
        let mut index = self.index.write();
        if index.has_siblings(&key) {
            index.set_siblings(&key, [], true, EventTime::from(Timestamp::now()));
        }
    }

    /// UID of the run that a pod was attributed to, if it still exists. Its target is immutable.
    pub(super) fn holder_of(&self, pod_uid: &str) -> Option<String> {
        let id = self.membership.run_of(pod_uid)?;
        let key = ObjectRef::new(&id.name).within(&id.namespace);
        let run = self.stores.runs.get(&key)?;
        (run.metadata.uid.as_ref() == Some(&id.uid)).then_some(id.uid)
    }

    /// Among pods that left a run, those that still exist. The others left because they ended, and their last lines
    /// belong to the run.
    fn existing(&self, uids: Vec<String>) -> Vec<PodKey> {
        if uids.is_empty() {
            return Vec::new();
        }
        let pods = self.stores.pods.state();
        let existing: HashSet<String> = pods.iter().filter_map(|pod| pod.uid()).collect();
        let exists = |uid: &String| existing.contains(uid);
        let uids = uids.into_iter().filter(exists);
        uids.map(|uid| PodKey::from(uid.as_str())).collect()
    }
}
