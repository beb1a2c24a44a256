//! Terms: what was in force for a subject, as the operator would work it out.
//!
//! Built by `setup` from `--policy` and `--runs`, asked by `run`. The same function that merges an
//! AgentRun with its policy in the cluster merges them here, so a replay under a policy shows what
//! that policy would have let happen.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::ReplayError;
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

/// Why a finding leads to less than its severity says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// The signature's mode is `Observe`.
    Observe,
    /// The response may not go as far as isolation.
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

/// What was in force for one run.
#[derive(Clone, Debug)]
pub struct InForce {
    /// What the owner said that the run does.
    pub workload: Workload,
    effective: Effective,
}

impl InForce {
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
        let workload = match run.detection.profile {
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

    /// Whether findings of this signature are said at all.
    #[must_use]
    pub fn is_reported(&self, signature: Signature) -> bool {
        mode_of(&self.effective, signature) != Mode::Disabled
    }

    /// What keeps a finding of this severity from its action.
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

/// What was in force for everybody.
#[derive(Clone, Debug)]
pub struct Terms {
    everybody: InForce,
    by_run: BTreeMap<String, InForce>,
    runs: BTreeMap<IpAddr, String>,
}

impl Default for Terms {
    /// The built-in policy for everybody, and no runs.
    fn default() -> Self {
        let (everybody, _) = InForce::of(&plain_run(DEFAULT_POLICY), None);
        Self {
            everybody,
            by_run: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }
}

impl Terms {
    /// From what the user gave. The second is what an operator would refuse in the AgentRuns; the
    /// nearest that the policy permits is in force, as in the cluster.
    pub(super) fn new(
        manifests: Option<&Manifests>,
        runs: BTreeMap<IpAddr, String>,
    ) -> Result<(Self, Vec<String>), ReplayError> {
        let mut terms = Self {
            runs,
            ..Self::default()
        };
        let Some(manifests) = manifests else {
            return Ok((terms, Vec::new()));
        };
        let (everybody, mut notes) = for_everybody(manifests, terms.runs.is_empty())?;
        terms.everybody = everybody;
        for name in terms.runs.values() {
            if terms.by_run.contains_key(name) {
                continue;
            }
            let Some(run) = manifests.runs.get(name) else {
                if manifests.runs.is_empty() {
                    continue; // the policy is for everybody
                }
                return Err(ReplayError::BadUse(format!(
                    "wanted an AgentRun for the run {name} of --runs, found {}; hint: the names of --runs are those of the AgentRuns in --policy",
                    names(manifests.runs.keys())
                )));
            };
            let (in_force, problems) = InForce::of(run, manifests.policies.get(&run.policy));
            notes.extend(
                problems
                    .into_iter()
                    .map(|text| format!("AgentRun {name}: {text}")),
            );
            terms.by_run.insert(name.clone(), in_force);
        }
        Ok((terms, notes))
    }

    /// Every address that belongs to a run.
    pub(super) fn members(&self) -> impl Iterator<Item = IpAddr> {
        self.runs.keys().copied()
    }

    /// The run that this subject belongs to.
    #[must_use]
    pub fn run_of(&self, subject: IpAddr) -> Option<&str> {
        self.runs.get(&subject).map(String::as_str)
    }

    /// What was in force for this subject.
    #[must_use]
    pub fn of(&self, subject: IpAddr) -> &InForce {
        let run = self.runs.get(&subject);
        run.and_then(|name| self.by_run.get(name))
            .unwrap_or(&self.everybody)
    }
}

/// What holds for subjects of no known run: the only AgentRun, else the policy.
fn for_everybody(
    manifests: &Manifests,
    is_ungrouped: bool,
) -> Result<(InForce, Vec<String>), ReplayError> {
    let mut runs = manifests.runs.iter();
    if is_ungrouped && let Some((name, run)) = runs.next() {
        if runs.next().is_some() {
            return Err(ReplayError::BadUse(format!(
                "wanted one AgentRun for all subjects, found {}; hint: say with --runs which address belongs to which",
                names(manifests.runs.keys())
            )));
        }
        let (in_force, problems) = InForce::of(run, manifests.policies.get(&run.policy));
        let notes = problems
            .into_iter()
            .map(|text| format!("AgentRun {name}: {text}"));
        return Ok((in_force, notes.collect()));
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
    Ok(InForce::of(
        &plain_run(name),
        chosen.map(|(_, policy)| policy),
    ))
}

/// An AgentRun that says nothing of its own.
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

    fn held_back(terms: &Terms, last: u8) -> Option<HeldBack> {
        let in_force = terms.of(ip(last));
        in_force.held_back(Signature::HorizontalScan, Severity::Quarantine)
    }

    #[test]
    fn each_run_is_under_its_own_terms_and_strangers_under_the_policy() {
        let text = [
            run(
                "crawl",
                "  detection: {profile: Crawler, modes: {scan: Observe}}\n",
            ),
            run("train", "  response: {maxAction: Throttle}\n"),
        ]
        .concat();
        let runs = [(ip(1), "crawl"), (ip(2), "train")].map(|(ip, run)| (ip, run.to_owned()));
        let (terms, notes) = Terms::new(Some(&manifests(&text)), runs.into()).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(terms.of(ip(1)).workload, Workload::Crawler);
        assert_eq!(terms.of(ip(2)).workload, Workload::Standard);
        assert_eq!(held_back(&terms, 1), Some(HeldBack::Observe));
        assert_eq!(
            held_back(&terms, 2),
            Some(HeldBack::MaxAction(ResponseAction::Throttle))
        );
        assert_eq!(held_back(&terms, 3), None);
        assert_eq!(
            (terms.run_of(ip(1)), terms.run_of(ip(3))),
            (Some("crawl"), None)
        );
    }

    #[test]
    fn what_the_operator_would_refuse_is_said_and_the_nearest_holds() {
        let text = run("lax", "  detection: {modes: {scan: Disabled}}\n");
        let (terms, notes) = Terms::new(Some(&manifests(&text)), BTreeMap::new()).unwrap();
        assert_eq!(held_back(&terms, 1), Some(HeldBack::Observe));
        let [note] = notes.as_slice() else {
            panic!("one note: {notes:?}")
        };
        assert!(
            note.contains("AgentRun lax: detection.modes.scan"),
            "{note}"
        );
    }

    #[test]
    fn a_run_whose_policy_is_not_in_the_file_is_enforced_and_told() {
        let text = run(
            "lost",
            "  policy: elsewhere\n  detection: {modes: {scan: Observe}}\n",
        );
        let (terms, notes) = Terms::new(Some(&manifests(&text)), BTreeMap::new()).unwrap();
        assert_eq!(held_back(&terms, 1), None);
        assert!(
            notes.iter().any(|note| note.contains("elsewhere")),
            "{notes:?}"
        );
    }

    #[test]
    fn without_a_policy_nothing_is_held_back() {
        let terms = Terms::default();
        assert_eq!(held_back(&terms, 1), None);
        assert!(terms.of(ip(1)).is_reported(Signature::Mining));
    }
}
