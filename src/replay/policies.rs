//! The effective policy of each subject, as the operator would compute it.
//!
//! Built by `setup` from `--policy` and `--runs`, used by `run`. The same function that merges an AgentRun with
//! its policy in the cluster merges them here, so that a replay shows what that policy would have allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::error::ReplayError;
use super::manifests::Manifests;
use crate::api::{
    AgentRunSpec, DEFAULT_POLICY, DetectionSpec, GuardrailPolicySpec, Mode, NetworkSpec,
    PolicyNetwork, PolicyResources, Profile, ResourcesSpec, ResponseAction, ResponseSpec, Target,
};
use crate::detect::Workload;
use crate::guardrails::ClusterFacts;
use crate::guardrails::ceiling::{Effective, evaluate};
use crate::model::{Severity, Signature};
use crate::respond::mode_of;

/// Why a finding leads to less than the action of its severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// The signature's mode is `Observe`.
    Observe,
    /// The response may not include isolation.
    MaxAction(ResponseAction),
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observe => f.write_str("the mode is Observe"),
            Self::MaxAction(action) => write!(f, "maxAction is {action:?}"),
        }
    }
}

/// The effective policy of one run.
#[derive(Clone, Debug)]
pub struct EffectivePolicy {
    /// The profile in force.
    pub workload: Workload,
    effective: Effective,
}

impl EffectivePolicy {
    fn of(run: &AgentRunSpec, policy: Option<&GuardrailPolicySpec>) -> (Self, Vec<String>) {
        // A replay has neither network policies nor quotas, so these parts raise no problems.
        let run = AgentRunSpec {
            network: NetworkSpec::default(),
            resources: ResourcesSpec::default(),
            ..run.clone()
        };
        let policy = policy.map(|policy| GuardrailPolicySpec {
            network: PolicyNetwork::default(),
            resources: PolicyResources::default(),
            ..policy.clone()
        });
        let ruling = evaluate(&run, policy.as_ref(), &ClusterFacts::default());
        let workload = match ruling.effective.profile {
            Profile::Standard => Workload::Standard,
            Profile::Crawler => Workload::Crawler,
        };
        let effective = ruling.effective;
        let problems = ruling.problems.into_iter();
        (
            Self {
                workload,
                effective,
            },
            problems.map(|problem| problem.message).collect(),
        )
    }

    /// Whether findings of this signature are reported.
    #[must_use]
    pub fn is_reported(&self, signature: Signature) -> bool {
        mode_of(&self.effective, signature) != Mode::Disabled
    }

    /// What prevents the action for a finding of this severity.
    #[must_use]
    pub fn held_back(&self, signature: Signature, severity: Severity) -> Option<HeldBack> {
        let max_action = self.effective.max_action;
        if severity < Severity::Quarantine {
            None
        } else if mode_of(&self.effective, signature) == Mode::Observe {
            Some(HeldBack::Observe)
        } else if max_action < ResponseAction::Isolate {
            Some(HeldBack::MaxAction(max_action))
        } else {
            None
        }
    }
}

/// The effective policies of all subjects.
#[derive(Clone, Debug)]
pub struct Policies {
    default: EffectivePolicy,
    by_run: BTreeMap<String, EffectivePolicy>,
    runs: BTreeMap<IpAddr, String>,
}

impl Default for Policies {
    /// The built-in policy for all subjects, and no runs.
    fn default() -> Self {
        let (default, _) = EffectivePolicy::of(&plain_run(DEFAULT_POLICY), None);
        Self {
            default,
            by_run: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }
}

impl Policies {
    /// From the files of the user. The second value has what the operator would refuse in the AgentRuns; the
    /// closest that the policy permits is used, as in the cluster.
    pub(super) fn new(
        manifests: Option<&Manifests>,
        runs: BTreeMap<IpAddr, String>,
    ) -> Result<(Self, Vec<String>), ReplayError> {
        let mut policies = Self {
            runs,
            ..Self::default()
        };
        let Some(manifests) = manifests else {
            return Ok((policies, Vec::new()));
        };
        let (default, mut notes) = default_policy(manifests, policies.runs.is_empty())?;
        policies.default = default;
        for name in policies.runs.values() {
            if policies.by_run.contains_key(name) {
                continue;
            }
            let Some(run) = manifests.runs.get(name) else {
                if manifests.runs.is_empty() {
                    continue; // the policy is for all subjects
                }
                return Err(ReplayError::BadUse(format!(
                    "wanted an AgentRun for the run {name} of --runs, found {}; hint: the names of --runs are those of the AgentRuns in --policy",
                    names(manifests.runs.keys())
                )));
            };
            let (policy, problems) = EffectivePolicy::of(run, manifests.policies.get(&run.policy));
            notes.extend(
                problems
                    .into_iter()
                    .map(|text| format!("AgentRun {name}: {text}")),
            );
            policies.by_run.insert(name.clone(), policy);
        }
        Ok((policies, notes))
    }

    /// Every address that belongs to a run.
    pub(super) fn members(&self) -> impl Iterator<Item = IpAddr> {
        self.runs.keys().copied()
    }

    /// The run of this subject.
    #[must_use]
    pub fn run_of(&self, subject: IpAddr) -> Option<&str> {
        self.runs.get(&subject).map(String::as_str)
    }

    /// The effective policy of this subject.
    #[must_use]
    pub fn of(&self, subject: IpAddr) -> &EffectivePolicy {
        let run = self.runs.get(&subject);
        run.and_then(|name| self.by_run.get(name))
            .unwrap_or(&self.default)
    }
}

/// The effective policy of subjects without a known run: that of the only AgentRun, else the policy.
fn default_policy(
    manifests: &Manifests,
    is_ungrouped: bool,
) -> Result<(EffectivePolicy, Vec<String>), ReplayError> {
    let mut runs = manifests.runs.iter();
    if is_ungrouped && let Some((name, run)) = runs.next() {
        if runs.next().is_some() {
            return Err(ReplayError::BadUse(format!(
                "wanted one AgentRun for all subjects, found {}; hint: assign addresses to them with --runs",
                names(manifests.runs.keys())
            )));
        }
        let (policy, problems) = EffectivePolicy::of(run, manifests.policies.get(&run.policy));
        let notes = problems
            .into_iter()
            .map(|text| format!("AgentRun {name}: {text}"));
        return Ok((policy, notes.collect()));
    }
    let mut policies = manifests.policies.iter();
    let default = manifests.policies.get_key_value(DEFAULT_POLICY);
    let chosen = match (default, policies.next(), policies.next()) {
        (Some(default), ..) => Some(default),
        (None, only, None) => only,
        (None, ..) => {
            return Err(ReplayError::BadUse(format!(
                "wanted a GuardrailPolicy named {DEFAULT_POLICY} or an AgentRun that names one, found {}",
                names(manifests.policies.keys())
            )));
        }
    };
    let name = chosen.map_or(DEFAULT_POLICY, |(name, _)| name);
    Ok(EffectivePolicy::of(
        &plain_run(name),
        chosen.map(|(_, policy)| policy),
    ))
}

/// An AgentRun with default settings.
fn plain_run(policy: &str) -> AgentRunSpec {
    AgentRunSpec {
        target: Target::default(),
        policy: policy.to_owned(),
        network: NetworkSpec::default(),
        resources: ResourcesSpec::default(),
        detection: DetectionSpec::default(),
        response: ResponseSpec::default(),
        trace: None,
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.take(10).map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(text: &str) -> Manifests {
        Manifests::parse(text).unwrap()
    }

    fn run(name: &str, rest: &str) -> String {
        format!(
            "---\napiVersion: yellowjack.dev/v1alpha1\nkind: AgentRun\nmetadata: {{name: {name}}}\nspec:\n  target: {{selector: {{matchLabels: {{app: a}}}}}}\n{rest}"
        )
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn held_back(policies: &Policies, last: u8) -> Option<HeldBack> {
        let policy = policies.of(ip(last));
        policy.held_back(Signature::HorizontalScan, Severity::Quarantine)
    }

    #[test]
    fn each_run_has_its_own_settings_and_other_subjects_those_of_the_policy() {
        let text = [
            run(
                "crawl",
                "  detection: {profile: Crawler, modes: {scan: Observe}}\n",
            ),
            run("train", "  response: {maxAction: Throttle}\n"),
        ]
        .concat();
        let runs = [(ip(1), "crawl"), (ip(2), "train")].map(|(ip, run)| (ip, run.to_owned()));
        let (policies, notes) = Policies::new(Some(&manifests(&text)), runs.into()).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(policies.of(ip(1)).workload, Workload::Crawler);
        assert_eq!(policies.of(ip(2)).workload, Workload::Standard);
        assert_eq!(held_back(&policies, 1), Some(HeldBack::Observe));
        assert_eq!(
            held_back(&policies, 2),
            Some(HeldBack::MaxAction(ResponseAction::Throttle))
        );
        assert_eq!(held_back(&policies, 3), None);
        assert_eq!(
            (policies.run_of(ip(1)), policies.run_of(ip(3))),
            (Some("crawl"), None)
        );
    }

    #[test]
    fn what_the_operator_would_refuse_is_reported_and_the_closest_valid_value_is_used() {
        let text = run("lax", "  detection: {modes: {scan: Disabled}}\n");
        let (policies, notes) = Policies::new(Some(&manifests(&text)), BTreeMap::new()).unwrap();
        assert_eq!(held_back(&policies, 1), Some(HeldBack::Observe));
        let [note] = notes.as_slice() else {
            panic!("one note: {notes:?}")
        };
        assert!(
            note.contains("AgentRun lax: detection.modes.scan"),
            "{note}"
        );
    }

    #[test]
    fn a_run_with_a_policy_that_is_not_in_the_file_is_enforced_and_reported() {
        let text = run(
            "lost",
            "  policy: elsewhere\n  detection: {modes: {scan: Observe}}\n",
        );
        let (policies, notes) = Policies::new(Some(&manifests(&text)), BTreeMap::new()).unwrap();
        assert_eq!(held_back(&policies, 1), None);
        assert!(
            notes.iter().any(|note| note.contains("elsewhere")),
            "{notes:?}"
        );
    }

    #[test]
    fn without_a_policy_every_action_is_taken() {
        let policies = Policies::default();
        assert_eq!(held_back(&policies, 1), None);
        assert!(policies.of(ip(1)).is_reported(Signature::Mining));
    }
}
