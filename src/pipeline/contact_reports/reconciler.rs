//! The keeper, in the leading controller: says in each report's status which of its pods are really
//! the run's and on that node, and deletes reports that nobody needs.
//!
//! Admission lets an agent report for its own node alone, but it could name pods that are elsewhere
//! or belong to another run. Agents know only the pods of their own node, so the controller, which
//! knows all of them, looks for the others.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::convert::newest;
use crate::api::{AgentRun, ContactReport, ContactReportStatus};
use crate::cluster::{ApiError, FieldManager, Pod, RunMembership, Stores, Writer};
use crate::limits;
use crate::observability::chain;

/// How often reports are gone through. There are none where no pod fails on several targets.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Writes in one round; the next one goes on.
const WRITES_MAX: usize = 64;

/// How long a report stays whose run is not known: the run may come through the watch later.
const UNKNOWN_RUN_KEPT: SignedDuration = SignedDuration::from_mins(1);

/// How much longer a report stays than its contacts are needed, so that its observer empties it first.
const OLD_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// See the module.
pub struct ReportKeeper {
    /// What the cluster looks like.
    pub stores: Stores,
    /// Which pod belongs to which run.
    pub membership: RunMembership,
    /// The way to the API server.
    pub writer: Writer,
}

/// What is to be done about a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Nothing.
    Keep,
    /// Its status is to be this.
    Verify(ContactReportStatus),
    /// It is to go.
    Delete,
}

impl ReportKeeper {
    /// Works for ever.
    pub async fn run(self) {
        loop {
            self.writer.gate().wait_until_open().await;
            let mut writes = 0;
            for report in self.stores.contact_reports.state() {
                if writes >= WRITES_MAX {
                    break;
                }
                let upkeep = self.upkeep_of(&report, Timestamp::now());
                if upkeep != Upkeep::Keep {
                    writes += 1;
                    self.carry_out(&report, upkeep).await;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn carry_out(&self, report: &ContactReport, upkeep: Upkeep) {
        let done = match upkeep {
            Upkeep::Keep => return,
            Upkeep::Verify(status) => {
                let manager = FieldManager::controller();
                let written = self.writer.status(&manager, report, &status).await;
                written.map(drop)
            }
            Upkeep::Delete => self.writer.delete_unchanged(report).await,
        };
        match done {
            // It changed or went meanwhile; the next round sees how it is then.
            Ok(()) | Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => {}
            Err(error) => {
                let (name, error) = (report.name_any(), chain(&error));
                tracing::warn!(name, error, "A ContactReport could not be kept up to date.");
            }
        }
    }

    pub(super) fn upkeep_of(&self, report: &ContactReport, now: Timestamp) -> Upkeep {
        let created = report.metadata.creation_timestamp.as_ref();
        let created = created.map_or(now, |created| created.0);
        let last = newest(report).map_or(created, |newest| newest.max(created));
        let kept =
            SignedDuration::from_micros(limits::CONTRIBUTION_KEPT_US).saturating_add(OLD_KEPT);
        let is_empty = report.spec.pods.is_empty() && report.spec.answered.is_empty();
        let is_unknown = !self.knows_run(report) && now.duration_since(created) > UNKNOWN_RUN_KEPT;
        if is_empty || is_unknown || now.duration_since(last) > kept {
            return Upkeep::Delete;
        }
        let before = report.status.clone().unwrap_or_default();
        let status = self.status_of(report, &before);
        if report.status.is_some() && status == before {
            Upkeep::Keep
        } else {
            Upkeep::Verify(status)
        }
    }

    fn knows_run(&self, report: &ContactReport) -> bool {
        let namespace = report.namespace().unwrap_or_default();
        let reference = ObjectRef::<AgentRun>::new(&report.spec.run.name).within(&namespace);
        let run = self.stores.runs.get(&reference);
        run.is_some_and(|run| run.metadata.uid.as_deref() == Some(&report.spec.run.uid))
    }

    /// A pod that was found once stays found: what it did counts also when it is gone.
    fn status_of(
        &self,
        report: &ContactReport,
        before: &ContactReportStatus,
    ) -> ContactReportStatus {
        let known: BTreeSet<&String> = before.verified_pods.iter().collect();
        let pods = report.spec.pods.iter();
        let verified: BTreeSet<&String> = pods
            .filter(|pod| known.contains(&pod.uid) || self.is_there(report, &pod.name, &pod.uid))
            .map(|pod| &pod.uid)
            .collect();
        ContactReportStatus {
            has_pods: before.has_pods || !verified.is_empty() || self.has_pods(report),
            verified_pods: verified.into_iter().cloned().collect(),
        }
    }

    /// Whether this pod belongs to the report's run and is on its node.
    fn is_there(&self, report: &ContactReport, name: &str, uid: &str) -> bool {
        let namespace = report.namespace().unwrap_or_default();
        let run = self.membership.run_of(uid);
        let is_of_run =
            run.is_some_and(|run| run.uid == report.spec.run.uid && run.namespace == namespace);
        let pod = self
            .stores
            .pods
            .get(&ObjectRef::new(name).within(&namespace));
        is_of_run
            && pod.is_some_and(|pod| {
                pod.metadata.uid.as_deref() == Some(uid) && is_on_node(report, &pod)
            })
    }

    /// Whether the run has any pod on the report's node.
    fn has_pods(&self, report: &ContactReport) -> bool {
        let namespace = report.namespace().unwrap_or_default();
        let of_run = self.membership.pods_of(&report.spec.run.uid);
        let is_one = |pod: &Pod| {
            let uid = pod.metadata.uid.as_ref();
            uid.is_some_and(|uid| of_run.contains(uid)) && is_on_node(report, pod)
        };
        !of_run.is_empty() && !self.stores.pods.within_where(&namespace, is_one).is_empty()
    }
}

/// Whether a pod is on the node that the report is about. A controller reports of all nodes; admission
/// lets no agent write such a report.
fn is_on_node(report: &ContactReport, pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    report.spec.node.is_none() || node == report.spec.node.as_ref()
}
