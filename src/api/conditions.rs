//! Condition types and reasons: closed sets, each with a sentence that describes when it is set.
//!
//! The controller and the responder set conditions only through [`set_condition`], which keeps a
//! fixed order for readers and changes `lastTransitionTime` only when the status changes. Conditions
//! of other types stay unchanged. A reason states what was observed, never what was declared (INV-2).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::model::clip;

/// Maximum length of the message of a condition, in bytes. The API server accepts 32 KiB; a person reads 1.
const MESSAGE_BYTES_MAX: usize = 1024;

macro_rules! closed_names {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order in which readers see them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// Its documentation in the code.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim(),)*
                }
            }
        }
    };
}

closed_names! {
    /// Condition types of an AgentRun, in the order in which they are listed.
    AgentRunCondition {
        /// The spec is valid and inside the policy's ceilings.
        Accepted,
        /// The target names pods, or an owner that exists.
        TargetResolved,
        /// The pods are selected by our policies and nothing widens them.
        NetworkGuarded,
        /// The quota counts this run's pods.
        QuotaBound,
        /// Every configured source delivered data recently, and the lines of its logs become signals.
        SignalsFresh,
        /// A finding is open.
        Suspicious,
        /// At least one pod is contained.
        Quarantined,
        /// The guardrails are in place and nothing is quarantined.
        Ready,
        /// kstatus: work towards the spec is in progress.
        Reconciling,
        /// kstatus: Yellowjack cannot act. Never that the agent misbehaved.
        Stalled,
    }
}

closed_names! {
    /// Condition types of an Incident, in the order in which they are listed.
    IncidentCondition {
        /// A finding crossed a line.
        Detected,
        /// The pod is isolated, suspended or gone.
        Contained,
        /// The log that showed the crime showed its end.
        Verified,
        /// A human closed it.
        Closed,
    }
}

closed_names! {
    /// Why a condition has its status. Reasons of both kinds, in one closed set. Each names its
    /// conditions, its meaning and what to do: docs/conditions.md is generated from it.
    Reason {
        /// Accepted: the spec is valid and inside its policy.
        /// Do: nothing.
        Valid,
        /// Accepted: a rule of the run goes beyond its policy; the message names both.
        /// Do: request less, or have the policy's owner raise its ceiling; nothing is applied until
        /// then.
        ExceedsPolicy,
        /// Accepted: the policy that the run names does not exist.
        /// Do: create the GuardrailPolicy, or name another one in spec.policy.
        PolicyNotFound,
        /// Accepted: the cluster's network backend cannot enforce names.
        /// Do: allow addresses in place of names.
        FqdnNotEnforceable,
        /// Accepted: a value passed the schema and is not usable; the message names it.
        /// Do: correct the value that the message names.
        Invalid,
        /// TargetResolved: pods or an owner were found.
        /// Do: nothing.
        Resolved,
        /// TargetResolved: nothing of that name or selector exists yet.
        /// Do: nothing if the pods are not created yet; otherwise compare spec.target with what
        /// exists.
        TargetNotFound,
        /// TargetResolved: another run claims a pod of this one; the message names both, and the one that the pod belongs to.
        /// Do: delete one of the two runs, or apply it again with a narrower target.
        Overlap,
        /// NetworkGuarded: our policies select every pod and no other NetworkPolicy or policy of Cilium widens them; the message names the kinds of policy that the cluster serves and that are not read.
        /// Do: nothing; where the message names such kinds, look at their policies yourself.
        PoliciesApplied,
        /// NetworkGuarded: another policy allows more; the message names it.
        /// Do: delete or narrow the policy that the message names; network policies only add up.
        UnionWidened,
        /// NetworkGuarded: traffic that the policies deny was seen to pass.
        /// Do: check whether the cluster's network plugin enforces NetworkPolicy on that node.
        NoEnforcement,
        /// NetworkGuarded: the policies are not stored yet, or not known to select.
        /// Do: wait; if it stays, the message names what is missing.
        Unverified,
        /// NetworkGuarded or QuotaBound: an object with the name of a guardrail belongs to another owner.
        /// Do: rename or delete the object that the message names.
        NameConflict,
        /// NetworkGuarded: the labels or owner references of a pod of the run were changed, so that the target does not cover
        /// it. It stays in the run until it ends.
        /// Do: find out who changed them; set them back, or delete the pod.
        PodLeft,
        /// NetworkGuarded: a pod uses the host's network, to which no policy applies.
        /// Do: remove hostNetwork from the pod.
        HostNetwork,
        /// QuotaBound: the quota counts the run's pods.
        /// Do: nothing.
        QuotaEnforced,
        /// QuotaBound: neither the run nor its policy names a quota.
        /// Do: nothing, or set spec.resources.quota.
        NoQuotaRequested,
        /// QuotaBound: the quota's priority class is on none of the run's pods.
        /// Do: give the pods the quota's priority class, or take it off the quota.
        ScopeMatchesNoPods,
        /// QuotaBound: Kubernetes has not counted yet.
        /// Do: wait.
        QuotaNotCounted,
        /// SignalsFresh: every configured source delivered data recently, and its lines are usable.
        /// Do: nothing; if the message names a log with many unreadable lines, check what else writes
        /// to it.
        SourcesFresh,
        /// SignalsFresh: a flow source is silent or unavailable.
        /// Do: check whether the log that the message names is still written, and read from the place
        /// where it is written.
        FlowsStale,
        /// SignalsFresh: a relay does not reach a node on which the run has pods.
        /// Do: check whether Cilium's agent on the node that the message names is running, and reachable
        /// for Hubble Relay.
        NodesUnseen,
        /// SignalsFresh: a log has contacts and does not show whether they succeed, so no pod is quarantined for
        /// silence or denials in it. Do: let the log's writer export replies and allowed flows too, with is_reply and
        /// TCP flags; docs/sources.md names the settings.
        AnswersNotShown,
        /// SignalsFresh: a source of node metrics is silent or unavailable.
        /// Do: check whether the source that the message names answers.
        MetricsStale,
        /// SignalsFresh: a source reported that it lost events.
        /// Do: give the producer of the log a larger buffer, or less to write.
        EventsLost,
        /// SignalsFresh: a log delivers lines, and none or almost none of them can be read in the format
        /// that was configured or detected; the pods are not observed.
        /// Do: configure the format that the message names (`--source FORMAT:PATH`), or point the source
        /// at the log of flows; `yellowjack doctor --source FORMAT:PATH` shows what the file contains.
        NotUnderstood,
        /// SignalsFresh: the lines of a log are dated more than 2 minutes ahead, so they are attributed to no pod.
        /// Do: set the clock of the machine that writes the log, or of the one that reads it.
        ClockAhead,
        /// SignalsFresh: a log delivers lines in its format, and for five times --stale-after none
        /// became a signal: a filter or a field mask of its writer leaves out what detection needs.
        /// Do: change the log's writer as the message describes; docs/sources.md has the recipe for each format.
        NothingUsable,
        /// SignalsFresh: a log delivers flows, and for five times --stale-after none was a known pod's:
        /// the log of another node or cluster, addresses after translation, or the host's network.
        /// Do: log the pods' own addresses on their nodes; for a log of several nodes give the agent --all-pods.
        NothingAttributed,
        /// SignalsFresh: no source is configured.
        /// Do: give the controller --source, or run an agent on the node.
        NoSource,
        /// Suspicious: nothing is open.
        /// Do: nothing.
        NoOpenIncidents,
        /// Suspicious: an Incident is open; the message names it.
        /// Do: read the Incident, and set its spec.disposition.
        IncidentOpen,
        /// Quarantined: no pod is contained.
        /// Do: nothing.
        NotQuarantined,
        /// Quarantined or Contained: a deny is in place and selects the pod; not yet seen to hold.
        /// Do: wait for the proof; then decide about the Incident.
        Isolated,
        /// Quarantined or Verified: the traffic was seen to stop.
        /// Do: decide about the Incident.
        Verified,
        /// Quarantined or Verified: traffic was seen after the deny was in place.
        /// Do: look at the policies in status.widenedBy; the response continues by itself as far as
        /// maxAction permits.
        ConnectionsSurvive,
        /// Quarantined or Contained: the owner is suspended.
        /// Do: decide about the Incident; a release resumes the owner.
        OwnerSuspended,
        /// Quarantined or Contained: the pod is gone. Closed: it was an alert, and the pod has been gone for
        /// --alert-ttl.
        /// Do: decide about the Incident; nothing where it is closed.
        PodGone,
        /// Ready: the guardrails are in place and nothing is quarantined.
        /// Do: nothing.
        GuardrailsInPlace,
        /// Ready: at least one pod is contained.
        /// Do: see the run's Incidents.
        PodsQuarantined,
        /// Ready: a condition that Ready depends on is not true; the message names it.
        /// Do: see the condition that the message names.
        GuardrailsIncomplete,
        /// Ready: the run has ended.
        /// Do: nothing.
        Completed,
        /// Reconciling: work towards the spec is in progress.
        /// Do: wait.
        InProgress,
        /// Reconciling or Stalled: nothing is left to do.
        /// Do: nothing.
        UpToDate,
        /// Stalled: the API server refuses what Yellowjack must do.
        /// Do: read the API server's error in the message: a role, a quota or an admission policy
        /// refuses the write.
        ApiRefused,
        /// Stalled: the object cannot be parsed; the message contains the error.
        /// Do: correct the object as the message describes.
        Malformed,
        /// Detected: a finding crossed the line.
        /// Do: read the evidence.
        FindingCrossed,
        /// Detected: a finding is worth a look; nothing is done to the pod.
        /// Do: read the evidence; the pod runs on.
        AlertOnly,
        /// Contained: the mode is Observe; nothing was done.
        /// Do: stop the pod by hand if the evidence convinces you, or set the mode to Enforce.
        ObserveOnly,
        /// Contained: the run's or the policy's maxAction stops below isolation.
        /// Do: stop the pod by hand, or raise maxAction.
        ActionLimited,
        /// Contained: the Incident names another node than that of its pod, so its evidence does not count.
        /// Do: find out who wrote it: a node agent writes about pods of its own node.
        NodeMismatch,
        /// Contained: the namespace or pod is protected from automatic action.
        /// Do: stop the pod by hand if the evidence convinces you.
        Protected,
        /// Contained: too many pods crossed at once; something else broke.
        /// Do: find what broke for many pods at once: DNS, the network plugin, a registry. Findings
        /// made in this state are not acted on later.
        BreakerOpen,
        /// Contained: the cap of concurrent quarantines is reached.
        /// Do: decide about older Incidents, or raise --max-quarantines or
        /// --max-quarantines-per-namespace, whichever the message names.
        CapReached,
        /// NetworkGuarded: Cilium does not select a pod by the label of the run yet, because the pod ran before it got the label.
        /// Contained: Cilium does not select the pod by its quarantine label yet, and its other labels are also those of other
        /// pods, so no policy denies it before.
        /// Do: wait for the time that the message names; set Cilium's identity-max-jitter and
        /// identity-change-grace-period to 0s to shorten it.
        EnforcementPending,
        /// Contained: an action failed and is retried.
        /// Do: read the message; it is retried automatically.
        ActionFailed,
        /// Verified: nothing was observed yet that could prove it.
        /// Do: wait.
        AwaitingProof,
        /// Verified: no source delivers data, so silence proves nothing.
        /// Do: see SignalsFresh of the run; until a log delivers data, examine the pod's node yourself.
        SourceSilent,
        /// Verified: nothing new passes, and no source shows connections that were open before.
        /// Do: look for open connections on the pod's node; configure the log as docs/sources.md requires,
        /// so that it shows them next time.
        OpenConnectionsUnverifiable,
        /// Closed: waits for a human.
        /// Do: set spec.disposition to Release, Confirm or Terminate.
        AwaitingHuman,
        /// Closed: a human released it, and what was changed is restored.
        /// Do: nothing.
        Released,
        /// Closed: a human ended it.
        /// Do: nothing.
        Terminated,
    }
}

/// The condition of this type, if it is there.
#[must_use]
pub fn condition_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is there and `True`.
#[must_use]
pub fn condition_is(conditions: &[Condition], type_: &str) -> bool {
    condition_of(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Sets one condition. `lastTransitionTime` becomes `now` only when the status changes; an unchanged
/// condition stays identical, so comparing statuses shows whether a write is due.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &'static str,
    status: Option<bool>,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: jiff::Timestamp,
) {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let kept_since = condition_of(conditions, type_)
        .filter(|old| old.status == status)
        .map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.name().to_owned(),
        message: clip(message, MESSAGE_BYTES_MAX).to_owned(),
        observed_generation: generation,
        last_transition_time: kept_since.unwrap_or(Time(now)),
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    conditions.sort_by_key(|condition| place(&condition.type_));
}

/// Place of a condition type in the list; unknown ones come last and keep their order.
fn place(type_: &str) -> usize {
    let agent_run = AgentRunCondition::ALL
        .iter()
        .position(|known| known.name() == type_);
    let incident = IncidentCondition::ALL
        .iter()
        .position(|known| known.name() == type_);
    agent_run.or(incident).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn set(conditions: &mut Vec<Condition>, status: Option<bool>, reason: Reason, second: i64) {
        set_condition(
            conditions,
            "Ready",
            status,
            reason,
            "m",
            Some(1),
            at(second),
        );
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, None, Reason::Unverified, 1);
        set(&mut conditions, Some(true), Reason::GuardrailsInPlace, 2);
        set(&mut conditions, Some(true), Reason::Completed, 3);
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].reason, "Completed");
        assert_eq!(conditions[0].last_transition_time.0, at(2));
    }

    #[test]
    fn order_is_fixed_and_foreign_conditions_stay() {
        let mut conditions = Vec::new();
        let foreign = Condition {
            type_: "TheirOwn".into(),
            ..condition("True")
        };
        conditions.push(foreign.clone());
        set(&mut conditions, Some(true), Reason::GuardrailsInPlace, 1);
        set_condition(
            &mut conditions,
            "Accepted",
            Some(true),
            Reason::Valid,
            "",
            None,
            at(1),
        );
        let types: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Accepted", "Ready", "TheirOwn"]);
        assert_eq!(conditions[2], foreign);
    }

    fn condition(status: &str) -> Condition {
        Condition {
            type_: String::new(),
            status: status.into(),
            reason: "R".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(at(0)),
        }
    }

    #[test]
    fn every_reason_is_a_valid_kubernetes_reason() {
        for reason in Reason::ALL {
            let name = reason.name();
            assert!(
                name.len() <= 64 && name.chars().all(char::is_alphanumeric),
                "{name}"
            );
            assert!(name.starts_with(char::is_uppercase), "{name}");
        }
    }
}
