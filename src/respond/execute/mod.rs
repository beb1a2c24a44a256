//! Executes the steps of a plan. Repeating a step is harmless. Each write names its object by UID, so
//! that it never changes a later object of the same name.

mod cilium;
mod executor;
mod owner;
mod pods;
mod restore;
mod suspend;
mod throttle;

use kube::ResourceExt;

use super::plan::Step;
use super::snapshot::PendingWrites;
use crate::api::{ActionResult, Incident};

pub(crate) use owner::owner_control;

pub(super) use executor::{Done, Executor, StepOutcome};

use executor::{done, record};

/// Executes one step.
pub(super) async fn execute(
    executor: &Executor,
    incident: &Incident,
    step: &Step,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let namespace = incident.namespace().unwrap_or_default();
    let namespace = namespace.as_str();
    match step {
        Step::Isolate(pods) => pods::isolate(executor, incident, namespace, pods, pending).await,
        Step::ReadIdentities(pods) => {
            Ok(cilium::read_identities(executor, namespace, pods, pending).await)
        }
        Step::DenyIdentities(identities) => {
            cilium::deny_identities(executor, incident, namespace, identities, pending).await
        }
        Step::RecordLabelInForce => Ok(cilium::record_label_in_force(incident)),
        Step::LiftInterimDeny => cilium::lift(executor, incident, namespace).await,
        Step::Capture(pod) => Ok(pods::capture(executor, namespace, pod).await),
        Step::Suspend(owner, pods) => {
            suspend::suspend(executor, namespace, owner, pods, pending).await
        }
        Step::Throttle(pod, entries) => {
            throttle::throttle(executor, namespace, pod, entries, pending).await
        }
        Step::ReadOwner => suspend::read_owner(executor, incident, namespace, pending).await,
        Step::ReadCpu(pod) => throttle::read_cpu(executor, namespace, pod, pending).await,
        Step::ShortenGracePeriod(pod) => {
            executor.wait_for_turn().await;
            pods::shorten_grace_period(executor, namespace, pod, pending).await
        }
        Step::Terminate(pod, grace_s) => {
            executor.wait_for_turn().await;
            pods::terminate(executor, namespace, pod, *grace_s, pending).await
        }
        Step::RemoveQuarantineLabel { pod, pass_to } => {
            pods::remove_label(executor, namespace, pod, pass_to.as_deref(), pending).await
        }
        Step::Restore { entry, needed_by } => match needed_by {
            Some(other) => restore::hand_over(executor, namespace, entry, other, pending).await,
            None => restore::restore(executor, namespace, entry, pending).await,
        },
        Step::Skip(kind, target, why) => {
            let target = target.clone();
            Ok(done(record(*kind, target, ActionResult::Skipped, why)))
        }
        Step::RecordRestore(_) | Step::Expire => Ok(Done::default()),
    }
}
