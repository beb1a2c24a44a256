//! Membership: tells the membership and attribution which pods belong to which run.
//!
//! The membership serves the response, by UID, and follows the watch. Attribution keeps what it was told
//! of a pod that has ended, because the last lines of a log come after that.

use jiff::Timestamp;
use kube::ResourceExt;

use super::Controller;
use crate::api::AgentRun;
use crate::cluster::RunId;
use crate::model::{EventTime, PodKey};
use crate::pipeline::pod_facts::{membership_of, run_key};

impl Controller {
    /// The run has exactly these pods now, by UID.
    pub fn enroll(&self, run: &AgentRun, pod_uids: &[String]) {
        let (Some(id), Some(membership)) = (RunId::of(run), membership_of(run)) else {
            return;
        };
        let left = self.membership.set(&id, pod_uids.iter().cloned());
        let keys = pod_uids.iter().map(|uid| PodKey::from(uid.as_str()));
        let news: Vec<PodKey> = {
            let index = self.index.read();
            keys.filter(|key| index.membership(key) != Some(&membership))
                .collect()
        };
        let left = self.living(left);
        if news.is_empty() && left.is_empty() {
            return;
        }
        let mut index = self.index.write();
        for key in news {
            index.enroll(&key, Some(membership.clone()));
        }
        for key in left {
            index.enroll(&key, None);
        }
    }

    /// The run is gone.
    pub(super) fn dismiss(&self, run: &AgentRun) {
        self.enroll(run, &[]);
        let Some(key) = run_key(run) else { return };
        let mut index = self.index.write();
        if index.has_siblings(&key) {
            index.set_siblings(&key, [], true, EventTime::from(Timestamp::now()));
        }
    }

    /// Of pods that left a run, those that live. The others left it because they ended, and their
    /// last lines are the run's.
    fn living(&self, uids: Vec<String>) -> Vec<PodKey> {
        if uids.is_empty() {
            return Vec::new();
        }
        let pods = self.stores.pods.state();
        let living: std::collections::HashSet<String> =
            pods.iter().filter_map(|pod| pod.uid()).collect();
        let lives = |uid: &String| living.contains(uid);
        let living = uids.into_iter().filter(lives);
        living.map(|uid| PodKey::from(uid.as_str())).collect()
    }
}
