//! The watches, and who hears of what they saw.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::{Duty, Operator};
use crate::api::{Incident, IncidentCondition, condition_is, labels};
use crate::cluster::{
    Pod, Seen, StoreWriter, StoreWriters, WatchHealth, follow, prune_job, prune_metadata,
    prune_pod, prune_quota,
};
use crate::controller::feed::{facts_of, has_ended};
use crate::model::{EventTime, PodKey};

/// The kinds that are watched.
const KINDS: [&str; 10] = [
    "AgentRun",
    "GuardrailPolicy",
    "Incident",
    "Pod",
    "Job",
    "ContactReport",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "Lease",
];

/// Of these, what a node agent needs: the first ones.
const NODE_KIND_COUNT: usize = 6;

/// The kinds that a process with this duty watches.
pub(super) fn kinds(duty: &Duty) -> &'static [&'static str] {
    match duty {
        Duty::Controller(_) => &KINDS,
        Duty::Node { .. } => KINDS.split_at(NODE_KIND_COUNT).0,
    }
}

impl Operator {
    fn health_of(&self, kind: &str) -> WatchHealth {
        let known = self.watches.iter().find(|(name, _)| *name == kind);
        known.map(|(_, health)| health.clone()).unwrap_or_default()
    }

    #[allow(clippy::too_many_lines)] // a table of watches
    pub(super) fn spawn_watches(
        self: &Arc<Self>,
        client: &Client,
        mut writers: StoreWriters,
        tasks: &mut JoinSet<()>,
    ) {
        let all = watcher::Config::default;
        let ours = || {
            let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_VALUE);
            watcher::Config::default().labels(&selector)
        };
        let is_node = matches!(self.config.duty, Duty::Node { .. });
        if is_node {
            writers.leave_empty_for_node();
        }
        let pods = watcher::Config::default().fields(&pod_fields(&self.config.duty));
        macro_rules! watch {
            ($kind:literal, $writer:expr, $config:expr, $prune:expr, $seen:ident) => {
                watch!($kind, $writer, $config, $prune, $seen, self.watched(client))
            };
            ($kind:literal, $writer:expr, $config:expr, $prune:expr, $seen:ident, $api:expr) => {{
                let operator = Arc::clone(self);
                let on_seen = move |seen| {
                    operator.$seen(&seen);
                    std::future::ready(())
                };
                let health = self.health_of($kind);
                spawn_watch(tasks, $api, $config, $prune, $writer, health, on_seen);
            }};
        }
        watch!("AgentRun", writers.runs, all(), prune_metadata, run_seen);
        let policies = Api::all(client.clone());
        watch!(
            "GuardrailPolicy",
            writers.policies,
            all(),
            prune_metadata,
            policy_seen,
            policies
        );
        watch!(
            "Incident",
            writers.incidents,
            all(),
            prune_metadata,
            incident_seen
        );
        watch!("Pod", writers.pods, pods, prune_pod, pod_seen);
        // A pod of a `template` names its Job, and only that Job names the run.
        let jobs = if is_node { ours() } else { all() };
        watch!("Job", writers.jobs, jobs, prune_job, job_seen);
        watch!(
            "ContactReport",
            writers.contact_reports,
            all(),
            prune_metadata,
            report_seen
        );
        if is_node {
            return;
        }
        watch!(
            "NetworkPolicy",
            writers.network_policies,
            all(),
            prune_metadata,
            network_policy_seen
        );
        watch!(
            "ResourceQuota",
            writers.quotas,
            ours(),
            prune_quota,
            quota_seen
        );
        watch!(
            "LimitRange",
            writers.limit_ranges,
            ours(),
            prune_metadata,
            limit_range_seen
        );
        self.spawn_lease_watch(client, writers.leases, tasks);
    }

    /// Nobody follows it: Leases matter when they are not renewed, and the controller looks at all of
    /// them every so often.
    fn spawn_lease_watch(
        &self,
        client: &Client,
        writer: StoreWriter<Lease>,
        tasks: &mut JoinSet<()>,
    ) {
        let agents = format!("{}={}", labels::COMPONENT, labels::NODE_AGENT);
        let config = watcher::Config::default().labels(&agents);
        let api: Api<DeserializeGuard<Lease>> =
            Api::namespaced(client.clone(), &self.config.agent_namespace);
        let health = self.health_of("Lease");
        let follower = |_| std::future::ready(());
        spawn_watch(tasks, api, config, prune_metadata, writer, health, follower);
    }

    /// Objects of a kind, as far as this operator watches them.
    fn watched<K>(&self, client: &Client) -> Api<DeserializeGuard<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.config.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }

    fn run_seen(&self, seen: &Seen<crate::api::AgentRun>) {
        self.controller.run_seen(seen);
        self.wakeup.wake();
    }

    fn policy_seen(&self, seen: &Seen<crate::api::GuardrailPolicy>) {
        self.controller.policy_seen(seen);
    }

    fn incident_seen(&self, seen: &Seen<Incident>) {
        if let Seen::Changed {
            old: Some(old),
            new,
        } = seen
            && is_closed(new)
            && !is_closed(old)
        {
            // Whoever closed it did so itself; this is for the others who watch its pod.
            let pod = PodKey::from(new.spec.subject.uid.as_str());
            self.witness.forget(&pod);
            self.forgotten.push(pod);
        }
        self.incidents.incident_seen(seen);
        self.controller.incident_seen(seen);
        self.wakeup.wake();
    }

    fn pod_seen(&self, seen: &Seen<Pod>) {
        let now = EventTime::from(Timestamp::now());
        match seen {
            Seen::Changed { new, .. } => {
                if let Some(facts) = facts_of(new) {
                    let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                    index.apply(facts, now);
                }
                self.incidents.pod_seen(new);
            }
            Seen::Gone(pod) => {
                let key = PodKey::from(pod.uid().unwrap_or_default().as_str());
                self.index
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .delete(&key, now);
                self.incidents.pod_seen(pod);
            }
            Seen::Listed => {
                self.settle_index();
                self.incidents.wake_all();
            }
            Seen::Malformed { .. } => {}
        }
        self.controller.pod_seen(seen);
    }

    fn report_seen(&self, seen: &Seen<crate::api::ContactReport>) {
        self.reports.report_seen(seen);
    }

    fn network_policy_seen(&self, seen: &Seen<k8s_openapi::api::networking::v1::NetworkPolicy>) {
        match seen {
            Seen::Changed { new: policy, .. } | Seen::Gone(policy) => {
                self.incidents
                    .wake_namespace(&policy.namespace().unwrap_or_default());
            }
            Seen::Listed => self.incidents.wake_all(),
            Seen::Malformed { .. } => {}
        }
        self.controller.network_policy_seen(seen);
    }

    fn job_seen(&self, seen: &Seen<k8s_openapi::api::batch::v1::Job>) {
        if let Seen::Changed { new: job, .. } | Seen::Gone(job) = seen {
            self.incidents
                .wake_namespace(&job.namespace().unwrap_or_default());
        }
        self.controller.job_seen(seen);
    }

    fn quota_seen(&self, seen: &Seen<k8s_openapi::api::core::v1::ResourceQuota>) {
        self.controller.quota_seen(seen);
    }

    fn limit_range_seen(&self, seen: &Seen<k8s_openapi::api::core::v1::LimitRange>) {
        self.controller.limit_range_seen(seen);
    }

    /// Puts all pods of the store into the index; those that are no longer there have ended.
    pub(super) fn settle_index(&self) {
        let pods = self.stores.pods.state();
        let living = pods
            .iter()
            .filter(|pod| !has_ended(pod))
            .filter_map(|pod| facts_of(pod));
        let now = EventTime::from(Timestamp::now());
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .reset(living, now);
    }
}

fn is_closed(incident: &Incident) -> bool {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    condition_is(conditions, IncidentCondition::Closed.name())
}

/// A pod that has ended leaves the watch, which reads as its deletion.
fn pod_fields(duty: &Duty) -> String {
    let living = "status.phase!=Succeeded,status.phase!=Failed";
    match duty {
        Duty::Node {
            name,
            all_pods: false,
        } => format!("{living},spec.nodeName={name}"),
        _ => living.to_owned(),
    }
}

fn spawn_watch<K, F, Followed>(
    tasks: &mut JoinSet<()>,
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    prune: fn(&mut K),
    writer: StoreWriter<K>,
    health: WatchHealth,
    follower: F,
) where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    F: FnMut(Seen<K>) -> Followed + Send + 'static,
    Followed: Future<Output = ()> + Send + 'static,
{
    tasks.spawn(follow(api, config, prune, writer, health, follower));
}
