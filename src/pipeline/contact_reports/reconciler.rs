//! The reconciler of ContactReports, in the leading controller: writes to each report's status which of its pods belong
//! to the run and are on the report's node, and deletes obsolete reports.
//!
//! Admission limits an agent to reports for its own node, but an agent could name pods of other nodes or other runs.
//! Agents know only the pods of their own node, so the controller, which knows all pods, verifies them.

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

/// Interval between two passes over all reports. Reports exist only where a pod failed on several targets.
const RECONCILE_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum number of writes in one round; the rest follow in the next.
const WRITES_PER_ROUND_MAX: usize = 64;

/// How long a report of an unknown run is kept: the watch may deliver the run later.
const UNKNOWN_RUN_RETENTION: SignedDuration = SignedDuration::from_mins(1);

/// How much longer a report is kept than its contacts are needed, so that its observer empties it first.
const RETENTION_MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// Verifies and deletes ContactReports.
pub(crate) struct ReportReconciler {
    /// Stored objects.
    pub stores: Stores,
    /// Which pod belongs to which run.
    pub membership: RunMembership,
    /// Writer to the API server.
    pub writer: Writer,
}

/// What to do with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReportAction {
    /// Nothing.
    Keep,
    /// Set its status.
    Verify(ContactReportStatus),
    /// Delete it.
    Delete,
}

impl ReportReconciler {
    /// Reconciles reports while this process leads. Never returns.
    pub(crate) async fn run(self) {
        loop {
            self.writer.gate().wait_until_open().await;
            let mut writes = 0;
            for report in self.stores.contact_reports.state() {
                if writes >= WRITES_PER_ROUND_MAX {
                    break;
                }
                let action = self.action_for(&report, Timestamp::now());
                if action != ReportAction::Keep {
                    writes += 1;
                    self.execute(&report, action).await;
                }
            }
            tokio::time::sleep(RECONCILE_INTERVAL).await;
        }
    }

    async fn execute(&self, report: &ContactReport, action: ReportAction) {
        let done = match action {
            ReportAction::Keep => return,
            ReportAction::Verify(status) => {
                let manager = FieldManager::controller();
                let written = self.writer.status(&manager, report, &status).await;
                written.map(drop)
            }
            ReportAction::Delete => self.writer.delete_unchanged(report).await,
        };
        match done {
            // It was changed or deleted concurrently; the next round handles its new state.
            Ok(()) | Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => {}
            Err(error) => {
                let (name, error) = (report.name_any(), chain(&error));
                tracing::warn!(
                    name,
                    error,
                    "Failed to update or delete a ContactReport; retrying."
                );
            }
        }
    }

    /// What to do with a report at this time.
    pub(super) fn action_for(&self, report: &ContactReport, now: Timestamp) -> ReportAction {
        let created = report.metadata.creation_timestamp.as_ref();
        let created = created.map_or(now, |created| created.0);
        let last = newest(report).map_or(created, |newest| newest.max(created));
        let kept = SignedDuration::from_micros(limits::CONTRIBUTION_KEPT_US)
            .saturating_add(RETENTION_MARGIN);
        let is_empty = report.spec.pods.is_empty() && report.spec.answered.is_empty();
        let is_unknown =
            !self.has_run(report) && now.duration_since(created) > UNKNOWN_RUN_RETENTION;
        if is_empty || is_unknown || now.duration_since(last) > kept {
            return ReportAction::Delete;
        }
        let before = report.status.clone().unwrap_or_default();
        let status = self.status_of(report, &before);
        if report.status.is_some() && status == before {
            ReportAction::Keep
        } else {
            ReportAction::Verify(status)
        }
    }

    fn has_run(&self, report: &ContactReport) -> bool {
        let namespace = report.namespace().unwrap_or_default();
        let reference = ObjectRef::<AgentRun>::new(&report.spec.run.name).within(&namespace);
        let run = self.stores.runs.get(&reference);
        run.is_some_and(|run| run.metadata.uid.as_deref() == Some(&report.spec.run.uid))
    }

    /// Status of a report. A pod that was verified once stays verified: its contacts count after its deletion.
    fn status_of(
        &self,
        report: &ContactReport,
        before: &ContactReportStatus,
    ) -> ContactReportStatus {
        let known: BTreeSet<&String> = before.verified_pods.iter().collect();
        let pods = report.spec.pods.iter();
        let verified: BTreeSet<&String> = pods
            .filter(|pod| known.contains(&pod.uid) || self.is_pod_of(report, &pod.name, &pod.uid))
            .map(|pod| &pod.uid)
            .collect();
        ContactReportStatus {
            has_pods: before.has_pods || !verified.is_empty() || self.has_pods(report),
            verified_pods: verified.into_iter().cloned().collect(),
        }
    }

    /// Whether this pod belongs to the report's run and is on its node.
    fn is_pod_of(&self, report: &ContactReport, name: &str, uid: &str) -> bool {
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

/// Whether a pod is on the report's node. Reports of a controller cover all nodes; admission prevents agents from
/// writing such a report.
fn is_on_node(report: &ContactReport, pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    report.spec.node.is_none() || node == report.spec.node.as_ref()
}
