//! Checks the allow lists of a run, egress and ingress, against its policy and the cluster: which rules are in force, and
//! which addresses inside them stay blocked.
//!
//! Called by `ceiling` only. A rule that cannot be applied as written is dropped and reported, never changed into another
//! rule: a run that silently gets other addresses than it requested is worse than one with an error message.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::{CidrText, EgressPort, EgressRule, IngressRule, PolicyNetwork, Reason};
use crate::limits;

use super::{ClusterFacts, Problem, selector};

/// Link-local addresses and metadata services, from which a pod can get the node's credentials. Besides the link-local
/// ranges: the metadata addresses of EC2 over IPv6, Google Cloud over IPv6, Alibaba Cloud and Azure, and the link-local
/// range behind NAT64.
const LINK_AND_METADATA: &[&str] = &[
    "169.254.0.0/16",
    "169.254.169.254/32",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "64:ff9b::a9fe:0/112",
];

/// The rules of a run's NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NetworkRules {
    /// Whether the pods of the run may reach each other.
    pub within_run: bool,
    /// Destinations that they may reach, the policy's own rules first.
    pub egress: Vec<AllowRule>,
    /// Sources that may open connections to them, the policy's own rules first.
    pub ingress: Vec<AllowRule>,
}

/// A rule of an allow list that is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AllowRule {
    /// The other side.
    pub peer: Peer,
    /// Ports; empty means every port.
    pub ports: Vec<EgressPort>,
}

/// The other side of a rule: the destination of egress, or the source of ingress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Peer {
    /// A range, except the addresses inside it that stay blocked.
    Range {
        /// The range.
        cidr: IpNet,
        /// Strictly inside it, of its family, at most [`limits::EXCEPT_MAX`].
        except: Vec<IpNet>,
    },
    /// Pods, by labels.
    Pods {
        /// Labels of the pods.
        pods: Option<LabelSelector>,
        /// Labels of their namespaces. `None` is the run's own namespace.
        namespaces: Option<LabelSelector>,
    },
}

/// The direction of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Egress,
    Ingress,
}

/// The object that contains a rule. The policy's own rules are not checked against its ceilings, and may list
/// infrastructure. What the policy blocks is blocked for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// The AgentRun.
    Run,
    /// The GuardrailPolicy.
    Policy,
}

/// The limits that rules are checked against.
pub(crate) struct RuleLimits<'a> {
    /// Name of the policy, for messages.
    policy_name: &'a str,
    policy: &'a PolicyNetwork,
    infrastructure: Vec<IpNet>,
    blocked: Vec<IpNet>,
}

impl<'a> RuleLimits<'a> {
    /// The limits of a policy in this cluster.
    #[must_use]
    pub(crate) fn new(
        policy_name: &'a str,
        policy: &'a PolicyNetwork,
        facts: &ClusterFacts,
    ) -> Self {
        let fixed = LINK_AND_METADATA
            .iter()
            .filter_map(|text| text.parse().ok());
        let infrastructure = fixed
            .chain(facts.pod_cidrs.iter().copied())
            .chain(facts.service_cidrs.iter().copied())
            .chain(facts.node_cidrs.iter().copied())
            .map(|range| range.trunc())
            .collect();
        let blocked = policy
            .blocked_cidrs
            .iter()
            .filter_map(|text| text.0.parse::<IpNet>().ok())
            .map(|range| range.trunc())
            .collect();
        Self {
            policy_name,
            policy,
            infrastructure,
            blocked,
        }
    }

    /// The egress rule as it is applied, or the problem with it.
    pub(crate) fn check_egress(
        &self,
        author: Author,
        index: usize,
        rule: &EgressRule,
    ) -> Result<AllowRule, Problem> {
        let at = self.rule_path(Direction::Egress, author, index);
        let peer = if let Some(cidr) = &rule.cidr {
            self.range(at, cidr)?
        } else if let Some(fqdn) = &rule.fqdn {
            return Err(self.name(at, fqdn));
        } else {
            self.pods(
                at,
                rule.pod_selector.as_ref(),
                rule.namespace_selector.as_ref(),
            )?
        };
        Ok(AllowRule {
            peer,
            ports: rule.ports.clone(),
        })
    }

    /// The ingress rule as it is applied, or the problem with it.
    pub(crate) fn check_ingress(
        &self,
        author: Author,
        index: usize,
        rule: &IngressRule,
    ) -> Result<AllowRule, Problem> {
        let at = self.rule_path(Direction::Ingress, author, index);
        let peer = match &rule.cidr {
            Some(cidr) => self.range(at, cidr)?,
            None => self.pods(
                at,
                rule.pod_selector.as_ref(),
                rule.namespace_selector.as_ref(),
            )?,
        };
        Ok(AllowRule {
            peer,
            ports: rule.ports.clone(),
        })
    }

    const fn rule_path(&self, direction: Direction, author: Author, index: usize) -> RulePath<'a> {
        RulePath {
            direction,
            author,
            index,
            policy: self.policy_name,
        }
    }

    /// The ranges of the policy that contain every rule of a run. `None` means any range.
    fn allowed(&self, at: RulePath<'_>) -> Option<(&'static str, &'a [CidrText])> {
        match (at.author, at.direction) {
            (Author::Policy, _) => None,
            (Author::Run, Direction::Egress) => {
                let allowed = self.policy.allowed_cidrs.as_deref()?;
                Some(("allowedCidrs", allowed))
            }
            (Author::Run, Direction::Ingress) => {
                Some(("allowedIngressCidrs", &self.policy.allowed_ingress_cidrs))
            }
        }
    }

    fn range(&self, at: RulePath<'_>, text: &str) -> Result<Peer, Problem> {
        let cidr = text
            .parse::<IpNet>()
            .ok()
            .filter(|range| !is_mapped(range))
            .ok_or_else(|| at.problem(Reason::Invalid, text, "is not an IPv4 or IPv6 range"))?
            .trunc();
        let policy = self.policy_name;
        if let Some((field, allowed)) = self.allowed(at) {
            let inside = allowed
                .iter()
                .filter_map(|text| text.0.parse::<IpNet>().ok())
                .any(|range| range.contains(&cidr));
            if !inside {
                let why = format!("lies outside the {field} of GuardrailPolicy {policy}");
                return Err(at.problem(Reason::ExceedsPolicy, text, &why));
            }
        }
        if let Some(blocked) = self.blocked.iter().find(|range| range.contains(&cidr)) {
            let why = format!("lies within {blocked}, which GuardrailPolicy {policy} blocks");
            return Err(at.problem(Reason::ExceedsPolicy, text, &why));
        }
        let infrastructure = self.infrastructure.iter().find(|r| r.contains(&cidr));
        if let Some(range) = infrastructure
            && !self.may_list_infrastructure(at.author)
        {
            let why = format!(
                "lies within {range}, a range of the metadata service, the nodes or the cluster, \
                 and GuardrailPolicy {policy} does not set allowInfrastructure"
            );
            return Err(at.problem(Reason::ExceedsPolicy, text, &why));
        }
        let inside = self.infrastructure.iter().chain(&self.blocked);
        let except = excepts(&cidr, inside);
        if except.contains(&cidr) {
            let why = "is blocked entirely by the ranges inside it";
            return Err(at.problem(Reason::ExceedsPolicy, text, why));
        }
        Ok(Peer::Range { cidr, except })
    }

    /// NetworkPolicy has no names, so a name is always refused. A name that the policy does not allow is reported as that
    /// first.
    fn name(&self, at: RulePath<'_>, fqdn: &str) -> Problem {
        if at.author == Author::Run
            && let Some(allowed) = &self.policy.allowed_fqdns
            && !allowed.iter().any(|pattern| covers_name(&pattern.0, fqdn))
        {
            let why = format!(
                "is not among the allowedFqdns of GuardrailPolicy {}",
                self.policy_name
            );
            return at.problem(Reason::ExceedsPolicy, fqdn, &why);
        }
        at.problem(
            Reason::FqdnNotEnforceable,
            fqdn,
            "is a name, and a NetworkPolicy can enforce addresses only; list its ranges as cidr \
             rules, or send the traffic through a proxy and list the proxy",
        )
    }

    fn pods(
        &self,
        at: RulePath<'_>,
        pods: Option<&LabelSelector>,
        namespaces: Option<&LabelSelector>,
    ) -> Result<Peer, Problem> {
        if pods.is_none() && namespaces.is_none() {
            // The schema refuses it. As a NetworkPolicy peer it would mean every address.
            return Err(at.problem(Reason::Invalid, "rule", "names no peer"));
        }
        for chosen in pods.into_iter().chain(namespaces) {
            if let Some(defect) = selector::defect(chosen) {
                return Err(at.problem(
                    Reason::Invalid,
                    "selector",
                    &format!("is unusable: {defect}"),
                ));
            }
        }
        let is_whole_cluster = namespaces.is_some_and(|chosen| !selector::picks_by_label(chosen))
            && !pods.is_some_and(selector::picks_by_label);
        if is_whole_cluster && !self.may_list_infrastructure(at.author) {
            let why = format!(
                "selects the pods of the whole cluster, and GuardrailPolicy {} does not set \
                 allowInfrastructure; name a namespace or a pod label",
                self.policy_name
            );
            return Err(at.problem(Reason::ExceedsPolicy, "selector", &why));
        }
        Ok(Peer::Pods {
            pods: pods.cloned(),
            namespaces: namespaces.cloned(),
        })
    }

    fn may_list_infrastructure(&self, author: Author) -> bool {
        author == Author::Policy || self.policy.allow_infrastructure
    }
}

/// The position of a rule, for messages.
#[derive(Clone, Copy)]
struct RulePath<'a> {
    direction: Direction,
    author: Author,
    index: usize,
    policy: &'a str,
}

impl RulePath<'_> {
    fn problem(self, reason: Reason, what: &str, why: &str) -> Problem {
        let (index, policy) = (self.index, self.policy);
        let path = match (self.author, self.direction) {
            (Author::Run, Direction::Egress) => format!("network.egress[{index}]"),
            (Author::Run, Direction::Ingress) => format!("network.ingress[{index}]"),
            (Author::Policy, Direction::Egress) => {
                format!("network.defaultEgress[{index}] of GuardrailPolicy {policy}")
            }
            (Author::Policy, Direction::Ingress) => {
                format!("network.defaultIngress[{index}] of GuardrailPolicy {policy}")
            }
        };
        Problem {
            reason,
            message: format!("{path}: {what} {why}; the rule is not in force"),
        }
    }
}

/// Whether a pattern of the policy covers a name or pattern of the run. `*.a.b` covers `x.a.b`
/// and `*.x.a.b` and itself, not `a.b`.
fn covers_name(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let Some(parent) = pattern.strip_prefix('*') else {
        return false;
    };
    let name = name.strip_prefix("*.").unwrap_or(name).to_ascii_lowercase();
    name.ends_with(&parent.to_ascii_lowercase())
}

/// An IPv4 range written as IPv6, which network plug-ins interpret differently.
fn is_mapped(range: &IpNet) -> bool {
    matches!(range, IpNet::V6(range) if range.addr().to_ipv4_mapped().is_some())
}

/// The blocked ranges strictly inside `cidr`, merged, at most [`limits::EXCEPT_MAX`].
///
/// If there are more (the node addresses of a large cluster), adjacent ranges are joined into wider ones until they fit,
/// which blocks more and never less. Returns `cidr` itself if the ranges cover all of it.
fn excepts<'r>(cidr: &IpNet, blocked: impl Iterator<Item = &'r IpNet>) -> Vec<IpNet> {
    let inside: Vec<IpNet> = blocked
        .filter(|range| *range != cidr && cidr.contains(*range))
        .copied()
        .collect();
    let mut merged = IpNet::aggregate(&inside);
    let mut prefix = cidr.max_prefix_len();
    // Terminates: below `cidr` there are at most 2^k ranges of the prefix `cidr` + k.
    while merged.len() > limits::EXCEPT_MAX && prefix > cidr.prefix_len() + 1 {
        prefix -= 1;
        let wider: Vec<IpNet> = merged.iter().map(|range| widen(range, prefix)).collect();
        merged = IpNet::aggregate(&wider);
    }
    merged.sort();
    merged
}

/// The range of at most this prefix that contains `range`.
fn widen(range: &IpNet, prefix: u8) -> IpNet {
    let prefix = prefix.min(range.prefix_len());
    match range {
        IpNet::V4(r) => Ipv4Net::new(r.addr(), prefix).map_or(*range, IpNet::V4),
        IpNet::V6(r) => Ipv6Net::new(r.addr(), prefix).map_or(*range, IpNet::V6),
    }
    .trunc()
}
