//! Evaluates an AgentRun against its GuardrailPolicy: which settings are in force, and which are refused.
//!
//! The controller calls [`evaluate`] before it builds anything. A run may be stricter than its policy, never laxer. A
//! setting beyond the policy is not in force (fail closed) and is reported in a problem; the nearest setting that the
//! policy permits is used instead.

use std::collections::BTreeMap;

use crate::api::{
    AgentRunSpec, DEFAULT_POLICY, GuardrailPolicySpec, Mode, PolicyNetwork, PolicyResources,
    PolicyResponse, Profile, Reason, ResourceDefaults, ResponseAction, ResponseScope,
    SignatureModes,
};

use super::allow_list::{Author, NetworkRules, RuleLimits};
use super::pod_security::{PrivilegedField, privileged_fields};
use super::quantity::Amount;
use super::{ClusterFacts, Problem, selector};

/// The settings that are in force for a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effective {
    /// Allowed connections.
    pub network: NetworkRules,
    /// The quota, if any.
    pub quota: Option<Quota>,
    /// Requests and limits for containers that state none.
    pub defaults: Option<ResourceDefaults>,
    /// The kind of work that detection expects.
    pub profile: Profile,
    /// Mode for scans.
    pub scan: Mode,
    /// Mode for mining.
    pub mining: Mode,
    /// Mode for tunnels.
    pub tunnel: Mode,
    /// The strongest action.
    pub max_action: ResponseAction,
    /// The pods that are contained after a finding about one pod.
    pub scope: ResponseScope,
}

/// A quota that is in force. `hard` is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Amounts by resource.
    pub hard: BTreeMap<String, String>,
    /// Count only pods of this PriorityClass.
    pub priority_class: Option<String>,
}

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluation {
    /// The settings in force.
    pub effective: Effective,
    /// The settings that are refused. Empty if the run is accepted as written.
    pub problems: Vec<Problem>,
}

/// Evaluates `run` against `policy`, the object that `run.policy` names, if it exists. The policy `default` need not exist:
/// the built-in defaults are used instead. If any other policy is missing, the run gets only DNS, because its ceilings are
/// unknown.
#[must_use]
pub(crate) fn evaluate(
    run: &AgentRunSpec,
    policy: Option<&GuardrailPolicySpec>,
    facts: &ClusterFacts,
) -> Evaluation {
    let built_in = built_in_policy();
    let name = run.policy.as_str();
    if policy.is_none() && name != DEFAULT_POLICY {
        return without_policy(run, &built_in);
    }
    let policy = policy.unwrap_or(&built_in);
    let mut problems = target_problems(run);
    problems.extend(template_problems(run, name, policy));
    let effective = Effective {
        network: network_rules(run, name, &policy.network, facts, &mut problems),
        quota: quota(run, name, &policy.resources, &mut problems),
        defaults: defaults(run, &policy.resources, &mut problems),
        profile: profile(run, policy, &mut problems),
        scan: mode(run, policy, "scan", |modes| modes.scan, &mut problems),
        mining: mode(run, policy, "mining", |modes| modes.mining, &mut problems),
        tunnel: mode(run, policy, "tunnel", |modes| modes.tunnel, &mut problems),
        max_action: max_action(run, &policy.response, &mut problems),
        scope: scope(run, &policy.response, &mut problems),
    };
    Evaluation {
        effective,
        problems,
    }
}

/// The policy `default` if no object of that name exists.
fn built_in_policy() -> GuardrailPolicySpec {
    GuardrailPolicySpec::default()
}

fn without_policy(run: &AgentRunSpec, built_in: &GuardrailPolicySpec) -> Evaluation {
    let message = format!(
        "GuardrailPolicy {} does not exist; until it does, the run reaches cluster DNS alone and every signature is enforced",
        run.policy
    );
    let mut problems = vec![Problem {
        reason: Reason::PolicyNotFound,
        message,
    }];
    problems.extend(target_problems(run));
    problems.extend(template_problems(run, &run.policy, built_in));
    let effective = Effective {
        network: NetworkRules::default(),
        quota: quota(run, &run.policy, &built_in.resources, &mut problems),
        defaults: defaults(run, &built_in.resources, &mut problems),
        profile: Profile::Standard,
        scan: Mode::Enforce,
        mining: Mode::Enforce,
        tunnel: Mode::Enforce,
        max_action: max_action(run, &built_in.response, &mut problems),
        scope: run.response.scope.unwrap_or_default(),
    };
    Evaluation {
        effective,
        problems,
    }
}

/// Problems that the schema does not refuse, with which no object can be built.
fn target_problems(run: &AgentRunSpec) -> Vec<Problem> {
    let invalid = |message: String| Problem {
        reason: Reason::Invalid,
        message,
    };
    let mut problems = Vec::new();
    if let Some(defect) = run.target.selector.as_ref().and_then(selector::defect) {
        problems.push(invalid(format!("target.selector is unusable: {defect}")));
    }
    let host_network = run.target.template.as_ref().is_some_and(|template| {
        let set = template.pod.spec.get("hostNetwork");
        set.is_some_and(|value| value != &serde_json::Value::Bool(false))
    });
    if host_network {
        problems.push(invalid(
            "target.template.pod.spec.hostNetwork is outside every network policy; remove it"
                .to_owned(),
        ));
    }
    problems
}

/// Fields of the template that its policy does not allow.
fn template_problems(
    run: &AgentRunSpec,
    policy_name: &str,
    policy: &GuardrailPolicySpec,
) -> Vec<Problem> {
    let Some(template) = &run.target.template else {
        return Vec::new();
    };
    let allowed = &policy.template.allowed_privileges;
    let annotations = template.pod.annotations.iter();
    let fields = privileged_fields(annotations, &template.pod.spec, allowed);
    let problem = |field: PrivilegedField| {
        exceeds(format!(
            "target.template.pod.{}: GuardrailPolicy {policy_name} does not allow it, so the Job is not started; remove it, or list {} in the policy's template.allowedPrivileges",
            field.path,
            field.privilege.name()
        ))
    };
    fields.into_iter().map(problem).collect()
}

fn network_rules(
    run: &AgentRunSpec,
    policy_name: &str,
    policy: &PolicyNetwork,
    facts: &ClusterFacts,
    problems: &mut Vec<Problem>,
) -> NetworkRules {
    let limits = RuleLimits::new(policy_name, policy, facts);
    let mut rules = NetworkRules {
        within_run: within_run(run, policy_name, policy, problems),
        ..NetworkRules::default()
    };
    for (author, index, rule) in in_order(&policy.default_egress, &run.network.egress) {
        match limits.check_egress(author, index, rule) {
            Ok(allow) => rules.egress.push(allow),
            Err(problem) => problems.push(problem),
        }
    }
    for (author, index, rule) in in_order(&policy.default_ingress, &run.network.ingress) {
        match limits.check_ingress(author, index, rule) {
            Ok(allow) => rules.ingress.push(allow),
            Err(problem) => problems.push(problem),
        }
    }
    rules
}

/// The policy's own rules, then the run's, each with its position in its list.
fn in_order<'r, Rule>(
    of_policy: &'r [Rule],
    of_run: &'r [Rule],
) -> impl Iterator<Item = (Author, usize, &'r Rule)> {
    let of = |author| move |(index, rule)| (author, index, rule);
    let of_policy = of_policy.iter().enumerate().map(of(Author::Policy));
    of_policy.chain(of_run.iter().enumerate().map(of(Author::Run)))
}

fn within_run(
    run: &AgentRunSpec,
    policy_name: &str,
    policy: &PolicyNetwork,
    problems: &mut Vec<Problem>,
) -> bool {
    let most = policy.allow_within_run.unwrap_or(true);
    if run.network.allow_within_run == Some(true) && !most {
        problems.push(exceeds(format!(
            "network.allowWithinRun: true is more than GuardrailPolicy {policy_name} allows; the pods of the run do not reach each other"
        )));
    }
    run.network.allow_within_run.unwrap_or(most) && most
}

fn quota(
    run: &AgentRunSpec,
    policy_name: &str,
    policy: &PolicyResources,
    problems: &mut Vec<Problem>,
) -> Option<Quota> {
    let stated = run.resources.quota.as_ref();
    let mut hard = stated.map_or_else(|| policy.default_quota.clone(), |quota| quota.hard.clone());
    hard.retain(|resource, amount| {
        let is_amount = Amount::parse(amount).is_some();
        if !is_amount {
            problems.push(Problem {
                reason: Reason::Invalid,
                message: format!("resources.quota.hard[{resource}]: {amount} is not a quantity"),
            });
        }
        is_amount
    });
    for (resource, ceiling) in &policy.max_quota {
        let Some(most) = Amount::parse(ceiling) else {
            continue;
        };
        let requested = hard.get(resource).and_then(|amount| Amount::parse(amount));
        if requested.is_some_and(|amount| amount <= most) {
            continue;
        }
        if stated.is_some() {
            let requested = hard.get(resource).map_or("no limit", String::as_str);
            problems.push(Problem {
                reason: Reason::ExceedsPolicy,
                message: format!(
                    "resources.quota.hard[{resource}]: {requested} is above the {ceiling} of GuardrailPolicy {policy_name}, which is in force instead"
                ),
            });
        }
        hard.insert(resource.clone(), ceiling.clone());
    }
    (!hard.is_empty()).then(|| Quota {
        hard,
        priority_class: stated.and_then(|quota| quota.priority_class_name.clone()),
    })
}

/// The run's defaults, or else the policy's. The API server refuses a LimitRange with a request above its limit, so such a
/// pair is reported here.
fn defaults(
    run: &AgentRunSpec,
    policy: &PolicyResources,
    problems: &mut Vec<Problem>,
) -> Option<ResourceDefaults> {
    let mut chosen = run
        .resources
        .defaults
        .clone()
        .or_else(|| policy.defaults.clone())?;
    for amounts in [&mut chosen.requests, &mut chosen.limits] {
        amounts.retain(|_, amount| Amount::parse(amount).is_some());
    }
    let limits = chosen.limits.clone();
    chosen.requests.retain(|resource, request| {
        let limit = limits.get(resource);
        let fits = limit.is_none_or(|limit| Amount::parse(request) <= Amount::parse(limit));
        if !fits {
            problems.push(Problem {
                reason: Reason::Invalid,
                message: format!(
                    "resources.defaults.requests[{resource}]: {request} is above the default limit {}; the limit is in force for both",
                    limit.map_or("", String::as_str)
                ),
            });
        }
        fits
    });
    let is_empty = chosen.requests.is_empty() && chosen.limits.is_empty();
    (!is_empty).then_some(chosen)
}

fn profile(
    run: &AgentRunSpec,
    policy: &GuardrailPolicySpec,
    problems: &mut Vec<Problem>,
) -> Profile {
    let requested = run.detection.profile;
    let allowed = policy.detection.allowed_profiles.as_ref();
    if requested == Profile::Standard || allowed.is_none_or(|all| all.contains(&requested)) {
        return requested;
    }
    problems.push(exceeds(format!(
        "detection.profile: {requested:?} is not allowed by GuardrailPolicy {}; Standard is in force instead",
        run.policy
    )));
    Profile::Standard
}

fn mode(
    run: &AgentRunSpec,
    policy: &GuardrailPolicySpec,
    signature: &str,
    of: impl Fn(&SignatureModes) -> Option<Mode>,
    problems: &mut Vec<Problem>,
) -> Mode {
    let minimum = policy.detection.minimum;
    let Some(requested) = of(&run.detection.modes) else {
        // The policy's own mode may not be below its own minimum either.
        let default = of(&policy.detection.modes).unwrap_or(Mode::Enforce);
        return default.max(minimum);
    };
    if requested < minimum {
        problems.push(exceeds(format!(
            "detection.modes.{signature}: {requested:?} is laxer than the minimum {minimum:?} of GuardrailPolicy {}, which is in force instead",
            run.policy
        )));
    }
    requested.max(minimum)
}

fn max_action(
    run: &AgentRunSpec,
    policy: &PolicyResponse,
    problems: &mut Vec<Problem>,
) -> ResponseAction {
    let most = policy.max_action.unwrap_or(ResponseAction::Suspend);
    let least = policy.min_action.unwrap_or(ResponseAction::Alert);
    let Some(requested) = run.response.max_action else {
        return most;
    };
    // Not `clamp`, which panics if the minimum of the policy is above its maximum.
    let effective = requested.max(least).min(most);
    if effective != requested {
        problems.push(exceeds(format!(
            "response.maxAction: {requested:?} is not between the {least:?} and the {most:?} of GuardrailPolicy {}; {effective:?} is in force instead",
            run.policy
        )));
    }
    effective
}

/// `Run` includes more pods than `Pod`, so a run may widen the scope of its policy and not narrow it.
fn scope(
    run: &AgentRunSpec,
    policy: &PolicyResponse,
    problems: &mut Vec<Problem>,
) -> ResponseScope {
    let default = policy.scope.unwrap_or_default();
    let requested = run.response.scope.unwrap_or(default);
    if default == ResponseScope::Run && requested == ResponseScope::Pod {
        problems.push(exceeds(format!(
            "response.scope: Pod is laxer than the Run of GuardrailPolicy {}, which is in force instead",
            run.policy
        )));
        return default;
    }
    requested
}

fn exceeds(message: String) -> Problem {
    Problem {
        reason: Reason::ExceedsPolicy,
        message,
    }
}
