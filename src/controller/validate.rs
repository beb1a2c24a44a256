//! Second step: from what was observed to the effective settings, the pods of the run, and the desired objects. Pure;
//! the later steps cannot fail on its result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde_json::Value;

use super::dereference::{Observed, ObservedPod};
use crate::api::{AgentRun, CiliumEnforcement, labels};
use crate::cluster::Pod;
use crate::guardrails::audit::{Protection, all_widening, selects, widening};
use crate::guardrails::ceiling::{Evaluation, Quota, evaluate};
use crate::guardrails::membership::{Claim, covers, overlap_message};
use crate::guardrails::network::{run_network_policy, standing_deny_network_policy};
use crate::guardrails::quota::{limit_range, resource_quota};
use crate::guardrails::{Problem, cilium_policies, job};

/// Input of the later steps.
#[derive(Clone, Debug)]
pub(super) struct Validated {
    /// Effective settings, and refused ones.
    pub evaluation: Evaluation,
    /// Pods of the run that have not ended, by name.
    pub members: Vec<Member>,
    /// UIDs of the pods that are attributed to the run, including those that have ended, because their log lines may
    /// still arrive.
    pub enrolled: Vec<String>,
    /// Messages about pods that another run also claims. At most one is shown.
    pub overlaps: Vec<String>,
    /// Desired objects.
    pub desired: Desired,
    /// NetworkPolicies that allow more than the run's, over all pods, without the accepted ones.
    pub widened_by: Vec<String>,
    /// NetworkPolicies that allow more than the run's for pods outside a quarantine, and that the GuardrailPolicy
    /// accepts.
    pub accepted: Vec<String>,
    /// Whether the quota counts a PriorityClass that the pods of the template do not have.
    pub template_misses_quota: bool,
}

/// A pod of the run.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The pod.
    pub pod: Arc<Pod>,
    /// State of the run label.
    pub run_label: RunLabel,
    /// Whether it is attributed to this run: the run that it was attributed to before, or else the oldest that claims it.
    pub is_attributed: bool,
    /// Whether the target does not cover it any more, because its labels or owner references were changed.
    pub has_left: bool,
}

/// State of the run label on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunLabel {
    /// It names the run, or the target needs no label.
    Correct,
    /// It is missing.
    Missing,
    /// It names another run.
    OtherRun(String),
}

/// Desired objects.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    /// The run's NetworkPolicy.
    pub network: NetworkPolicy,
    /// The standing deny policy of the namespace.
    pub standing_deny: NetworkPolicy,
    /// The ResourceQuota.
    pub quota: Option<ResourceQuota>,
    /// The LimitRange.
    pub limit_range: Option<LimitRange>,
    /// The Job of a `template`.
    pub job: Option<Value>,
}

impl Validated {
    /// Whether the run's settings are accepted without a problem.
    #[must_use]
    pub(super) fn is_accepted(&self) -> bool {
        self.evaluation.problems.is_empty()
    }

    /// Problems with the run's settings.
    #[must_use]
    pub(super) fn problems(&self) -> &[Problem] {
        &self.evaluation.problems
    }
}

/// Computes effective settings, pods and desired objects.
#[must_use]
pub(super) fn validate(observed: &Observed) -> Validated {
    let run = &observed.run;
    let owner = &observed.owner;
    let policy = observed.policy.as_ref().map(|policy| &policy.spec);
    let evaluation = evaluate(&run.spec, policy, &observed.facts);
    let effective = &evaluation.effective;
    let Coverages {
        members,
        enrolled,
        overlaps,
        holders,
    } = coverages(observed);
    let network = &effective.network;
    let desired = Desired {
        network: run_network_policy(owner, &run.spec.target, &holders, network, &observed.facts),
        standing_deny: standing_deny_network_policy(&owner.namespace),
        quota: effective.quota.as_ref().map(|q| resource_quota(owner, q)),
        limit_range: effective.defaults.as_ref().map(|d| limit_range(owner, d)),
        job: run
            .spec
            .target
            .template
            .as_ref()
            .map(|t| job::job(owner, t)),
    };
    let (accepted, widened_by) = widened_by(observed, &members);
    Validated {
        template_misses_quota: template_misses_quota(observed, evaluation.effective.quota.as_ref()),
        evaluation,
        members,
        enrolled,
        overlaps,
        desired,
        widened_by,
        accepted,
    }
}

/// Whether the run's NetworkPolicy or the standing deny policy selects the pod.
#[must_use]
pub(super) fn is_selected(desired: &Desired, pod: &Pod) -> bool {
    is_quarantined(pod) || selects(&desired.network, pod.labels())
}

/// Whether the pod has the quarantine label.
#[must_use]
pub(super) fn is_quarantined(pod: &Pod) -> bool {
    pod.labels().contains_key(labels::QUARANTINE)
}

#[derive(Default)]
struct Coverages {
    members: Vec<Member>,
    enrolled: Vec<String>,
    overlaps: Vec<String>,
    /// Names of the other runs that pods of this target belong to.
    holders: BTreeSet<String>,
}

fn coverages(observed: &Observed) -> Coverages {
    let own = claim(&observed.run);
    let claims = |run: &AgentRun, seen: &ObservedPod| {
        let claim = claim(run);
        covers(&claim, seen.pod.labels(), &seen.owners) || seen.holder.as_deref() == Some(claim.uid)
    };
    let covered: Vec<&ObservedPod> = observed
        .pods
        .iter()
        .filter(|seen| claims(&observed.run, seen))
        .collect();
    let mut found = Coverages::default();
    if covered.is_empty() {
        return found;
    }
    for seen in covered {
        let pod_labels = seen.pod.labels();
        let claimants: Vec<&Arc<AgentRun>> = observed
            .runs
            .iter()
            .filter(|run| claims(run, seen))
            .collect();
        // A new run that claims a pod must not end its observation under the old run, and changed labels must not move it
        // to another one. So the pod stays with its holder, and is else attributed to the oldest claimant; of those from
        // the same second, to the first by name.
        let is_holder = |run: &&&Arc<AgentRun>| seen.holder.as_deref() == Some(claim(run).uid);
        let holder = claimants.iter().find(is_holder);
        let oldest = claimants.iter().min_by_key(|run| age_key(run));
        let Some(holder) = holder.or(oldest).map(|run| claim(run)) else {
            continue;
        };
        let is_attributed = holder.uid == own.uid;
        if is_attributed {
            found.enrolled.extend(seen.pod.uid());
        }
        if seen.pod.has_ended() {
            continue;
        }
        let mut among: Vec<Claim<'_>> = claimants.iter().map(|run| claim(run)).collect();
        among.sort_by_key(|claim| claim.name);
        if among.len() > 1 {
            let message = overlap_message(&seen.pod.name_any(), &among, holder.name);
            found.overlaps.push(message);
        }
        // The guard of a holder that does not cover the pod any more may not select it, so this one does.
        let is_guarded_by_holder = covers(&holder, pod_labels, &seen.owners);
        if !is_attributed && is_guarded_by_holder {
            found.holders.insert(holder.name.to_owned());
        }
        let needs_label = among.len() > 1 && is_guarded_by_holder;
        found.members.push(Member {
            run_label: run_label(observed, pod_labels, needs_label),
            is_attributed,
            has_left: !covers(&own, pod_labels, &seen.owners)
                && seen.pod.metadata.deletion_timestamp.is_none(),
            pod: Arc::clone(&seen.pod),
        });
    }
    found
        .members
        .sort_by(|a, b| a.pod.metadata.name.cmp(&b.pod.metadata.name));
    found.overlaps.sort();
    found
}

fn claim(run: &AgentRun) -> Claim<'_> {
    Claim {
        name: run.metadata.name.as_deref().unwrap_or_default(),
        uid: run.metadata.uid.as_deref().unwrap_or_default(),
        target: &run.spec.target,
    }
}

fn age_key(run: &AgentRun) -> (Option<jiff::Timestamp>, Option<&str>) {
    let created = run.metadata.creation_timestamp.as_ref();
    (created.map(|time| time.0), run.metadata.name.as_deref())
}

/// A pod that a selector chooses `needs_label` only if other runs claim it too, so that their guards leave it out.
fn run_label(
    observed: &Observed,
    pod_labels: &BTreeMap<String, String>,
    needs_label: bool,
) -> RunLabel {
    if observed.run.spec.target.selector.is_some() && !needs_label {
        return RunLabel::Correct;
    }
    match pod_labels.get(labels::RUN) {
        Some(name) if *name == observed.owner.name => RunLabel::Correct,
        Some(name) => RunLabel::OtherRun(name.clone()),
        None => RunLabel::Missing,
    }
}

fn template_misses_quota(observed: &Observed, quota: Option<&Quota>) -> bool {
    let Some(template) = &observed.run.spec.target.template else {
        return false;
    };
    let counted = quota.and_then(|quota| quota.priority_class.as_deref());
    let carried = template.pod.spec.get("priorityClassName");
    counted.is_some() && counted != carried.and_then(Value::as_str)
}

/// Whether Cilium denies a pod in quarantine. Its denies take precedence over every policy that allows.
fn is_denied_by_cilium(observed: &Observed, pod: &Pod) -> bool {
    observed.incidents.iter().any(|incident| {
        let is_denied = |known: &CiliumEnforcement| known.denied_since.is_some();
        pod.metadata.uid.as_ref() == Some(&incident.spec.subject.uid)
            && incident.cilium().is_some_and(is_denied)
    })
}

/// Audits the NetworkPolicies, and Cilium's, over all pods, or, before the first pod exists, over the labels of the template. Returns
/// the names of the policies that the GuardrailPolicy accepts, and of the others. In a quarantine none is accepted.
fn widened_by(observed: &Observed, members: &[Member]) -> (Vec<String>, Vec<String>) {
    let policies = || observed.network_policies.iter().map(AsRef::as_ref);
    let guarded = Protection::Guarded(&observed.owner);
    let network = observed.policy.as_ref().map(|policy| &policy.spec.network);
    let is_accepted =
        |name: &String| network.is_some_and(|network| network.accepted_policies.contains(name));
    let (mut guarded_by, mut names): (Vec<String>, Vec<String>) = Default::default();
    let namespace = &observed.owner.namespace;
    let of_cilium = |labels: &BTreeMap<String, String>| {
        cilium_policies::widening(namespace, labels, &observed.facts.cilium_policies)
    };
    for member in members {
        let pod_labels = member.pod.labels();
        if is_quarantined(&member.pod) {
            if is_denied_by_cilium(observed, &member.pod) {
                continue;
            }
            let protection = Protection::Quarantined {
                cluster_deny: observed.cluster_deny,
            };
            names.extend(widening(pod_labels, policies(), protection));
        } else {
            guarded_by.extend(all_widening(pod_labels, policies(), guarded));
            guarded_by.extend(of_cilium(pod_labels));
        }
    }
    if members.is_empty()
        && let Some(template) = &observed.run.spec.target.template
    {
        let mut future = template.pod.labels.clone();
        future.insert(labels::RUN.to_owned(), observed.owner.name.clone());
        guarded_by.extend(all_widening(&future, policies(), guarded));
        guarded_by.extend(of_cilium(&future));
    }
    let (accepted, others): (Vec<_>, Vec<_>) = guarded_by.into_iter().partition(is_accepted);
    names.extend(others);
    let in_order = |mut names: Vec<String>| {
        names.sort();
        names.dedup();
        names.truncate(crate::limits::WIDENING_NAMES_MAX);
        names
    };
    (in_order(accepted), in_order(names))
}
