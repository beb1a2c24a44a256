//! The part of a snapshot about Cilium: by which labels it selects the pods of an Incident, and which other pods have the same.

use std::sync::Arc;

use kube::ResourceExt;

use super::plan::{Identities, PodIdentity, PodView};
use super::snapshot::{PendingWrites, SnapshotSources};
use crate::api::labels;
use crate::cluster::Pod;
use crate::guardrails::cilium::{IdentityLabels, cells_per_run};

impl SnapshotSources {
    /// By which labels Cilium selects the pods, as far as that was read, and how many others that are not in quarantine have
    /// these labels.
    pub(super) fn identities(
        &self,
        namespace: &str,
        contained: &[PodView],
        pending: &PendingWrites,
    ) -> Identities {
        if !self.cluster_deny.is_stored_for_cilium() {
            return Identities::NotUsed;
        }
        let Some(found) = &pending.identities else {
            return Identities::Unread;
        };
        let is_contained = |uid: Option<&String>| contained.iter().any(|pod| Some(&pod.uid) == uid);
        let known = found.iter().map(|(uid, identity)| {
            let has_same = |pod: &Pod| {
                identity.selects(pod.labels())
                    && !is_contained(pod.metadata.uid.as_ref())
                    && !pod.labels().contains_key(labels::QUARANTINE)
                    && !pod.has_ended()
            };
            let others = self.stores.pods.within_where(namespace, has_same);
            PodIdentity {
                others_max: self.share_of_cell(uid, identity, &others),
                others: others.len(),
                labels: identity.clone(),
            }
        });
        Identities::Known(known.collect())
    }

    /// How many other pods the policy of an Incident may deny for a while: none, except those of the same cell, as many as the
    /// pods of a run share one when they are spread evenly.
    fn share_of_cell(&self, uid: &str, identity: &IdentityLabels, others: &[Arc<Pod>]) -> usize {
        let run = self.membership.run_of(uid);
        let (true, Some(run)) = (identity.has_cell(), run) else {
            return 0;
        };
        let of_run = self.membership.pods_of(&run.uid);
        let is_of_run = |pod: &Arc<Pod>| {
            let uid = pod.metadata.uid.as_ref();
            uid.is_some_and(|uid| of_run.contains(uid))
        };
        let cells = cells_per_run(self.stores.runs.len());
        if others.iter().all(is_of_run) {
            of_run.len().div_ceil(cells).saturating_sub(1)
        } else {
            0
        }
    }
}
