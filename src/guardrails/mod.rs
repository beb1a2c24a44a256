//! Guardrails: AgentRun, GuardrailPolicy and facts about the cluster to Kubernetes objects and
//! problems. Pure: no client, no clock; problems are data.
//!
//! The controller calls [`ceiling::judge`] first, then the builders with what it returned; `respond`
//! uses [`audit`] and the standing denies. In reading order:
//!
//! - [`quantity`], [`selector`]: what amounts and selectors mean.
//! - [`ceiling`], [`allow_list`]: what of a run's wishes its policy lets stand.
//! - [`network`], [`quota`], [`job`]: the objects.
//! - [`membership`]: which run covers a pod.
//! - [`audit`]: which other policies widen a pod.
//! - [`drift`]: whether an observed object is still the one that is wanted, and whose it is.

pub mod quantity;
pub mod selector;

pub mod allow_list;
pub mod ceiling;

pub mod job;
pub mod network;
pub mod quota;

pub mod membership;

pub mod audit;
pub mod drift;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{AgentRun, GROUP, Reason, VERSION, labels};

/// Something about a run that cannot stand. The part that it names is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason, as it appears in the condition.
    pub reason: Reason,
    /// One sentence that names the part and says what to do.
    pub message: String,
}

/// The AgentRun as the owner of its guardrails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOwner {
    /// Namespace of the run.
    pub namespace: String,
    /// Name of the run.
    pub name: String,
    /// UID of the run.
    pub uid: String,
}

impl RunOwner {
    /// The owner that this run is; `None` for one that was not read from an API server.
    #[must_use]
    pub fn of(run: &AgentRun) -> Option<Self> {
        Some(Self {
            namespace: run.metadata.namespace.clone()?,
            name: run.metadata.name.clone()?,
            uid: run.metadata.uid.clone()?,
        })
    }

    /// Name of every guardrail object of this run. The AgentRun's name has at most 48 characters,
    /// so this has at most 63, which a label value and a Job name can hold.
    #[must_use]
    pub fn object_name(&self) -> String {
        format!("yellowjack-run-{}", self.name)
    }

    /// Labels of every guardrail object of this run.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            (labels::RUN, self.name.as_str()),
            (labels::RUN_UID, self.uid.as_str()),
            (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The reference by which the garbage collector takes the object away with the run.
    #[must_use]
    pub fn reference(&self) -> OwnerReference {
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

/// Where the cluster's DNS answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsTarget {
    /// Pods of one namespace.
    Pods {
        /// The namespace.
        namespace: String,
        /// Their labels.
        labels: BTreeMap<String, String>,
    },
    /// An address, for a DNS cache on the node or a service address.
    Address(IpNet),
}

/// What must be known about the cluster to build a run's guardrails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Where DNS answers. Empty: the runs get no DNS.
    pub dns: Vec<DnsTarget>,
    /// Ranges of pod addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of service addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses or ranges of nodes.
    pub node_cidrs: Vec<IpNet>,
}

impl ClusterFacts {
    /// DNS as most clusters have it: the pods `k8s-app=kube-dns` in `kube-system`, and the usual
    /// address of a DNS cache on the node.
    #[must_use]
    pub fn usual_dns() -> Vec<DnsTarget> {
        let pods = DnsTarget::Pods {
            namespace: "kube-system".to_owned(),
            labels: [("k8s-app".to_owned(), "kube-dns".to_owned())].into(),
        };
        let cache = "169.254.20.10/32".parse().ok().map(DnsTarget::Address);
        std::iter::once(pods).chain(cache).collect()
    }
}
