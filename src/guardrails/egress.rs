//! The allow list of a run against its policy and the cluster: which rules stand, and what stays
//! blocked inside them.
//!
//! Called by `ceiling` only. A rule that cannot stand as it is written is dropped and named, never
//! bent into another rule: a run that believes in an address it does not have is worse than one
//! that is told.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::{EgressPort, EgressRule, PolicyNetwork, Reason};
use crate::limits;

use super::{ClusterFacts, Problem, selector};

/// Addresses of metadata services and of the link: a pod that reaches them can ask for the node's
/// credentials. Besides the link-local ranges: the metadata addresses of EC2 over IPv6, Google
/// Cloud over IPv6, Alibaba Cloud and Azure, and the link-local range behind NAT64.
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

/// A rule of the allow list that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct EgressAllow {
    /// Where to.
    pub destination: Destination,
    /// Ports; empty means every port.
    pub ports: Vec<EgressPort>,
}

/// Where a rule leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// A range without what stays blocked inside it.
    Range {
        /// The range.
        cidr: IpNet,
        /// Strictly inside it, of its family, at most [`limits::EXCEPT_MAX`].
        except: Vec<IpNet>,
    },
    /// Pods.
    Pods {
        /// Their labels.
        pods: Option<LabelSelector>,
        /// Labels of their namespaces; without, the run's own namespace.
        namespaces: Option<LabelSelector>,
    },
}

/// Who wrote a rule. The policy's own rules are not held against the policy's ceilings, and may
/// list infrastructure; what the policy blocks stays blocked for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The AgentRun.
    Run,
    /// The GuardrailPolicy.
    Policy,
}

/// What the rules are held against.
pub struct Yardstick<'a> {
    /// Name of the policy, for messages.
    policy_name: &'a str,
    policy: &'a PolicyNetwork,
    infrastructure: Vec<IpNet>,
    blocked: Vec<IpNet>,
}

impl<'a> Yardstick<'a> {
    /// Gathers what stays blocked.
    #[must_use]
    pub fn new(policy_name: &'a str, policy: &'a PolicyNetwork, facts: &ClusterFacts) -> Self {
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

    /// The rule as it is in force, or why it is not.
    pub fn judge(
        &self,
        author: Author,
        index: usize,
        rule: &EgressRule,
    ) -> Result<EgressAllow, Problem> {
        let at = Place {
            author,
            index,
            policy: self.policy_name,
        };
        let destination = if let Some(cidr) = &rule.cidr {
            self.range(at, cidr)?
        } else if let Some(fqdn) = &rule.fqdn {
            return Err(self.name(at, fqdn));
        } else {
            self.pods(at, rule)?
        };
        Ok(EgressAllow {
            destination,
            ports: rule.ports.clone(),
        })
    }

    fn range(&self, at: Place<'_>, text: &str) -> Result<Destination, Problem> {
        let cidr = text
            .parse::<IpNet>()
            .ok()
            .filter(|range| !is_mapped(range))
            .ok_or_else(|| at.problem(Reason::Invalid, text, "is not an IPv4 or IPv6 range"))?
            .trunc();
        let policy = self.policy_name;
        if at.author == Author::Run
            && let Some(allowed) = &self.policy.allowed_cidrs
        {
            let inside = allowed
                .iter()
                .filter_map(|text| text.0.parse::<IpNet>().ok())
                .any(|range| range.contains(&cidr));
            if !inside {
                let why = format!("lies outside the allowedCidrs of GuardrailPolicy {policy}");
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
            let why = "is blocked as a whole by the ranges inside it";
            return Err(at.problem(Reason::ExceedsPolicy, text, why));
        }
        Ok(Destination::Range { cidr, except })
    }

    /// Plain NetworkPolicy knows no names, so a name is always refused; one that the policy would
    /// not allow either is told so first.
    fn name(&self, at: Place<'_>, fqdn: &str) -> Problem {
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

    fn pods(&self, at: Place<'_>, rule: &EgressRule) -> Result<Destination, Problem> {
        let (pods, namespaces) = (&rule.pod_selector, &rule.namespace_selector);
        if pods.is_none() && namespaces.is_none() {
            // The schema refuses it. As a NetworkPolicy peer it would mean anywhere.
            return Err(at.problem(Reason::Invalid, "rule", "names no destination"));
        }
        for chosen in pods.iter().chain(namespaces) {
            if let Some(defect) = selector::defect(chosen) {
                return Err(at.problem(
                    Reason::Invalid,
                    "selector",
                    &format!("is unusable: {defect}"),
                ));
            }
        }
        let is_whole_cluster = namespaces
            .as_ref()
            .is_some_and(|chosen| !selector::names_something(chosen))
            && !pods.as_ref().is_some_and(selector::names_something);
        if is_whole_cluster && !self.may_list_infrastructure(at.author) {
            let why = format!(
                "selects the pods of the whole cluster, and GuardrailPolicy {} does not set \
                 allowInfrastructure; name a namespace or a pod label",
                self.policy_name
            );
            return Err(at.problem(Reason::ExceedsPolicy, "selector", &why));
        }
        Ok(Destination::Pods {
            pods: pods.clone(),
            namespaces: namespaces.clone(),
        })
    }

    fn may_list_infrastructure(&self, author: Author) -> bool {
        author == Author::Policy || self.policy.allow_infrastructure
    }
}

/// Where a rule stands, for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    author: Author,
    index: usize,
    policy: &'a str,
}

impl Place<'_> {
    fn problem(self, reason: Reason, what: &str, why: &str) -> Problem {
        let index = self.index;
        let path = match self.author {
            Author::Run => format!("network.egress[{index}]"),
            Author::Policy => format!(
                "network.defaultEgress[{index}] of GuardrailPolicy {}",
                self.policy
            ),
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

/// An IPv4 range written as IPv6: backends disagree about what it means.
fn is_mapped(range: &IpNet) -> bool {
    matches!(range, IpNet::V6(range) if range.addr().to_ipv4_mapped().is_some())
}

/// What stays blocked strictly inside `cidr`, merged, at most [`limits::EXCEPT_MAX`] ranges.
///
/// Where there are more (a large cluster's node addresses), neighbours are joined into wider
/// ranges until they fit: that blocks more, never less. It returns `cidr` itself where the ranges
/// add up to all of it.
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

/// The range of at most this prefix that holds `range`.
fn widen(range: &IpNet, prefix: u8) -> IpNet {
    let prefix = prefix.min(range.prefix_len());
    match range {
        IpNet::V4(r) => Ipv4Net::new(r.addr(), prefix).map_or(*range, IpNet::V4),
        IpNet::V6(r) => Ipv6Net::new(r.addr(), prefix).map_or(*range, IpNet::V6),
    }
    .trunc()
}
