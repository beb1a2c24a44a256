//! Simulates a plan without a cluster: applies each step to the snapshot as if it had succeeded.
//!
//! Used by `yellowjack preview` and by the tests of the plan. The real executor is `respond::execute`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::next_step::plan;
use super::snapshot::{OwnerControl, PodView, SHORTENED_GRACE_S, Snapshot};
use super::status::{push_action, push_restore_entry};
use super::step::{Plan, Step};
use super::suspension::Suspension;
use super::throttle::CpuReduction;
use crate::api::{ActionKind, ActionRecord, ActionResult, ObjectTarget};

/// A snapshot that changes with each simulated step.
#[derive(Clone, Debug)]
pub(crate) struct Simulation {
    /// The state after the steps so far.
    pub snapshot: Snapshot,
    /// What [`Step::ReadOwner`] finds.
    pub owner: OwnerControl,
    /// What [`Step::ReadCpu`] finds.
    pub cpu: CpuReduction,
}

impl Simulation {
    /// Plans the next step.
    pub(crate) fn plan(&mut self) -> Plan {
        let name = self.snapshot.incident.metadata.name.as_deref();
        let pods = self.snapshot.pods.iter();
        let is_labelled = |pod: &&PodView| name.is_some() && pod.quarantine.as_deref() == name;
        self.snapshot.labelled = pods.filter(is_labelled).cloned().collect();
        plan(&self.snapshot)
    }

    /// Applies a step, as if it had succeeded, and records it in the Incident.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Isolate(pods) => {
                let name = self.snapshot.incident.metadata.name.clone();
                for pod in pods {
                    self.change(pod, |pod| pod.quarantine.clone_from(&name));
                    self.record(ActionKind::Isolate, pod.target());
                }
            }
            Step::Capture(pod) => self.record(ActionKind::Capture, pod.target()),
            Step::RecordRestore(entry) => {
                let status = self.snapshot.incident.status.get_or_insert_default();
                push_restore_entry(&mut status.restore, entry);
            }
            Step::ReadOwner => self.snapshot.owner = self.owner.clone(),
            Step::ReadCpu(_) => self.snapshot.cpu = Some(self.cpu.clone()),
            Step::Throttle(pod, _) => {
                self.snapshot.cpu = None;
                self.record(ActionKind::Throttle, pod.target());
            }
            Step::Suspend(suspension, pods) => self.suspend(suspension, pods),
            Step::Skip(kind, target, _) => {
                self.record_result(*kind, target.clone(), ActionResult::Skipped);
            }
            Step::ShortenGracePeriod(pod) => {
                self.shorten_grace_period(pod);
                self.record(ActionKind::Suspend, pod.target());
            }
            Step::Terminate(pod, _) => {
                self.snapshot.pods.retain(|other| other.uid != pod.uid);
                self.record(ActionKind::Terminate, pod.target());
            }
            Step::RemoveQuarantineLabel { pod, pass_to } => {
                self.change(pod, |pod| pod.quarantine.clone_from(pass_to));
                self.record(ActionKind::Restore, pod.target());
            }
            Step::Restore { entry, needed_by } => {
                if needed_by.is_none() {
                    self.set_owner_field(&entry.target, entry.original_value.clone());
                }
                let status = self.snapshot.incident.status.get_or_insert_default();
                status.restore.retain(|other| other != entry);
            }
            // A simulated cluster has no Cilium.
            Step::ReadIdentities(_)
            | Step::DenyIdentities(_)
            | Step::RecordLabelInForce
            | Step::LiftInterimDeny
            | Step::Expire => {}
        }
    }

    /// Removes the pods that are being deleted with the shortened grace period.
    pub(crate) fn end_shortened_pods(&mut self) {
        let is_short = |pod: &PodView| pod.grace_s.is_some() && !pod.has_long_grace();
        self.snapshot.pods.retain(|pod| !is_short(pod));
    }

    fn suspend(&mut self, suspension: &Suspension, pods: &[PodView]) {
        let suspended = Some(suspension.suspended_value.clone());
        self.set_owner_field(&suspension.target, suspended);
        self.snapshot.owner = OwnerControl::Unread;
        for pod in pods {
            self.shorten_grace_period(pod);
        }
        self.record(ActionKind::Suspend, suspension.target.clone());
    }

    fn set_owner_field(&mut self, target: &ObjectTarget, value: Option<serde_json::Value>) {
        if let OwnerControl::Suspendable(owners) = &mut self.owner
            && let Some(owner) = owners.iter_mut().find(|owner| owner.target == *target)
        {
            owner.current = value;
        }
    }

    fn shorten_grace_period(&mut self, pod: &PodView) {
        self.change(pod, |pod| pod.grace_s = Some(i64::from(SHORTENED_GRACE_S)));
    }

    fn change(&mut self, pod: &PodView, change: impl FnOnce(&mut PodView)) {
        let mut pods = self.snapshot.pods.iter_mut();
        if let Some(found) = pods.find(|other| other.uid == pod.uid) {
            change(found);
        }
    }

    fn record(&mut self, kind: ActionKind, target: ObjectTarget) {
        self.record_result(kind, target, ActionResult::Succeeded);
    }

    fn record_result(&mut self, kind: ActionKind, target: ObjectTarget, result: ActionResult) {
        let record = ActionRecord {
            kind,
            target,
            time: Time(self.snapshot.now),
            result,
            message: String::new(),
        };
        let status = self.snapshot.incident.status.get_or_insert_default();
        push_action(&mut status.actions, record);
    }
}
