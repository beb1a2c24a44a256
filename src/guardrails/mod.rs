//! Guardrails: builds Kubernetes objects from an AgentRun, its GuardrailPolicy and facts about the cluster, and returns
//! problems as data. Pure: no client, no clock.
//!
//! The controller calls [`ceiling::evaluate`] first, and then the builders with its result. `respond` uses [`audit`] and
//! the deny policies of the quarantine. In reading order:
//!
//! - [`quantity`], [`selector`]: parse amounts, match selectors.
//! - [`ceiling`], [`allow_list`], [`pod_security`]: evaluate the settings of a run against its policy.
//! - [`network`], [`quota`], [`job`]: build the objects.
//! - [`membership`]: which run covers a pod.
//! - [`audit`]: which other policies allow a pod more.
//! - [`cilium`]: the policies of the quarantine on Cilium, and the cells of a run.
//! - [`cilium_policies`]: which of Cilium's policies allow a pod more.
//! - [`drift`]: whether a stored object is still the wanted one, and which run owns it.

pub(crate) mod quantity;
pub(crate) mod selector;

pub(crate) mod allow_list;
pub(crate) mod ceiling;
pub(crate) mod pod_security;

pub(crate) mod job;
pub(crate) mod network;
pub(crate) mod quota;

pub(crate) mod membership;

pub(crate) mod audit;
pub(crate) mod cilium;
pub(crate) mod cilium_policies;
pub(crate) mod drift;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{AgentRun, GROUP, Reason, VERSION, labels};

/// A setting of a run that is refused and not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The reason, as it appears in the condition.
    pub reason: Reason,
    /// One sentence with the setting and how to fix it.
    pub message: String,
}

/// The AgentRun as the owner of its guardrails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunOwner {
    /// Namespace of the run.
    pub namespace: String,
    /// Name of the run.
    pub name: String,
    /// UID of the run.
    pub uid: String,
}

/// Name of the guardrail objects, and of the Job, of the run with this name.
fn object_name(run: &str) -> String {
    format!("yellowjack-run-{run}")
}

impl RunOwner {
    /// This run as an owner. `None` if it was not read from an API server.
    #[must_use]
    pub(crate) fn of(run: &AgentRun) -> Option<Self> {
        Some(Self {
            namespace: run.metadata.namespace.clone()?,
            name: run.metadata.name.clone()?,
            uid: run.metadata.uid.clone()?,
        })
    }

    /// Name of every guardrail object of this run. The AgentRun's name has at most 48 characters,
    /// so this has at most 63, the limit of label values and Job names.
    #[must_use]
    pub(crate) fn object_name(&self) -> String {
        object_name(&self.name)
    }

    /// Labels of every guardrail object of this run.
    #[must_use]
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        [
            (labels::RUN, self.name.as_str()),
            (labels::RUN_UID, self.uid.as_str()),
            (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The owner reference with which the garbage collector deletes the object after the run.
    #[must_use]
    pub(crate) fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "AgentRun".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.object_name()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.reference()]),
            ..ObjectMeta::default()
        }
    }
}

/// The cluster's DNS servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsTarget {
    /// Pods of one namespace.
    Pods {
        /// The namespace.
        namespace: String,
        /// Labels of the pods.
        labels: BTreeMap<String, String>,
    },
    /// An address, for a DNS cache on the node or a service address.
    Address(IpNet),
}

/// Facts about the cluster that the guardrails of a run depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterFacts {
    /// DNS servers. If empty, the runs get no DNS.
    pub dns: Vec<DnsTarget>,
    /// Ranges of pod addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of service addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses or ranges of nodes.
    pub node_cidrs: Vec<IpNet>,
    /// Kinds of network policy that the cluster serves and that are not read, although they can widen a guard.
    pub unread_policy_kinds: Vec<&'static str>,
    /// Cilium's policies that allow something, if the cluster has them.
    pub cilium_policies: Vec<cilium_policies::CiliumPolicy>,
}

impl ClusterFacts {
    /// The DNS servers of most clusters: the pods `k8s-app=kube-dns` in `kube-system`, and the usual address of a DNS cache on
    /// the node.
    #[must_use]
    pub(crate) fn usual_dns() -> Vec<DnsTarget> {
        let pods = DnsTarget::Pods {
            namespace: "kube-system".to_owned(),
            labels: [("k8s-app".to_owned(), "kube-dns".to_owned())].into(),
        };
        let cache = "169.254.20.10/32".parse().ok().map(DnsTarget::Address);
        std::iter::once(pods).chain(cache).collect()
    }
}
