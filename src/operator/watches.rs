//! Starts the watches, and passes their events to the parts that need them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::config::Component;
use super::parts::Operator;
use crate::api::{GuardrailPolicy, Incident, labels};
use crate::cluster::{
    Pod, StoreWriter, StoreWriters, WatchEvent, follow, prune_job, prune_metadata, prune_pod,
    prune_quota,
};
use crate::controller::{ENDED_PODS_CONFIG_MAP, read_ended_pods};
use crate::model::{EventTime, PodKey};
use crate::pipeline::pod_facts::pod_facts;

/// Starts the watches of this component; they end with `tasks`.
pub(super) fn start(
    operator: &Arc<Operator>,
    client: &Client,
    mut writers: StoreWriters,
    tasks: &mut JoinSet<()>,
) {
    let component = &operator.config.component;
    let is_controller = component.is_controller();
    if !is_controller {
        writers.leave_empty_for_node();
    }
    let all = Config::default;
    let managed = || labelled(labels::MANAGED_BY, labels::MANAGED_BY_VALUE);
    let namespace = operator.config.namespace.as_deref();
    let mut watches = Watches {
        operator,
        client,
        namespace,
        tasks,
    };
    watches.start(all(), prune_metadata, writers.runs, |operator, event| {
        operator.controller.on_run_event(event);
        operator.incidents.on_run_event(event);
        operator.wakeup.wake();
    });
    watches.start_on(
        Api::all(client.clone()),
        all(),
        prune_metadata,
        writers.policies,
        on_policy,
    );
    watches.start(all(), prune_metadata, writers.incidents, on_incident);
    watches.start(living_pods(component), prune_pod, writers.pods, on_pod);
    // A pod that was created from a `template` names its Job, and only the Job names the run.
    let jobs = if is_controller { all() } else { managed() };
    watches.start(jobs, prune_job, writers.jobs, |operator, event| {
        operator.incidents.on_job_event(event);
        operator.controller.on_job_event(event);
    });
    watches.start(
        all(),
        prune_metadata,
        writers.contact_reports,
        |operator, event| operator.reports.on_report_event(event),
    );
    if !is_controller {
        watches.start_on_ended_pods(writers.ended_pods);
        return;
    }
    watches.start(
        all(),
        prune_metadata,
        writers.network_policies,
        |operator, event| {
            operator.incidents.on_network_policy_event(event);
            operator.controller.on_network_policy_event(event);
        },
    );
    watches.start(managed(), prune_quota, writers.quotas, |operator, event| {
        operator.controller.on_quota_event(event);
    });
    watches.start(
        managed(),
        prune_metadata,
        writers.limit_ranges,
        |operator, event| operator.controller.on_limit_range_event(event),
    );
    // No events: what matters is a Lease that is not renewed, and the controller checks all of them
    // periodically.
    watches.start_on(
        Api::namespaced(client.clone(), &operator.config.agent_namespace),
        labelled(labels::COMPONENT, labels::NODE_AGENT),
        prune_metadata,
        writers.leases,
        |_, _| {},
    );
}

/// What is needed to start a watch.
struct Watches<'a> {
    operator: &'a Arc<Operator>,
    client: &'a Client,
    /// The only namespace that is watched. `None`: all namespaces.
    namespace: Option<&'a str>,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    /// Starts a watch of the objects of a kind in the watched namespaces.
    fn start<K>(
        &mut self,
        config: Config,
        prune: fn(&mut K),
        writer: StoreWriter<K>,
        on_event: fn(&Operator, &WatchEvent<K>),
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let client = self.client.clone();
        let api = match self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        self.start_on(api, config, prune, writer, on_event);
    }

    /// Starts the watch of the list of pods that ended on other nodes.
    fn start_on_ended_pods(&mut self, writer: StoreWriter<ConfigMap>) {
        let namespace = &self.operator.config.agent_namespace;
        let name = format!("metadata.name={ENDED_PODS_CONFIG_MAP}");
        self.start_on(
            Api::namespaced(self.client.clone(), namespace),
            Config::default().fields(&name),
            prune_metadata,
            writer,
            |operator, event| read_ended_pods(event, &mut operator.index.write()),
        );
    }

    fn start_on<K>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        config: Config,
        prune: fn(&mut K),
        writer: StoreWriter<K>,
        on_event: fn(&Operator, &WatchEvent<K>),
    ) where
        K: Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let kind = K::kind(&());
        let mut watches = self.operator.watches.iter();
        let health = watches.find(|(watched, _)| *watched == kind);
        let health = health.map(|(_, health)| health.clone()).unwrap_or_default();
        let operator = Arc::clone(self.operator);
        let on_event = move |event| {
            on_event(&operator, &event);
            std::future::ready(())
        };
        self.tasks
            .spawn(follow(api, config, prune, writer, health, on_event));
    }
}

fn labelled(key: &str, value: &str) -> Config {
    Config::default().labels(&format!("{key}={value}"))
}

/// Pods that have not ended. A pod that ends leaves the watch, which looks like its deletion.
fn living_pods(component: &Component) -> Config {
    let living = "status.phase!=Succeeded,status.phase!=Failed";
    match component {
        Component::NodeAgent {
            name,
            all_pods: false,
        } => Config::default().fields(&format!("{living},spec.nodeName={name}")),
        _ => Config::default().fields(living),
    }
}

fn on_incident(operator: &Operator, event: &WatchEvent<Incident>) {
    if let WatchEvent::Changed {
        old: Some(old),
        new,
    } = event
        && !new.is_open()
        && old.is_open()
    {
        // The replica that closed it has done this already; this is for the other processes.
        let pod = PodKey::from(new.spec.subject.uid.as_str());
        operator.traffic.forget(&pod);
        operator.resets.push(pod);
    }
    operator.incidents.on_incident_event(event);
    operator.controller.on_incident_event(event);
    operator.wakeup.wake();
}

fn on_policy(operator: &Operator, event: &WatchEvent<GuardrailPolicy>) {
    operator.controller.on_policy_event(event);
    operator.incidents.on_policy_event(event);
}

fn on_pod(operator: &Operator, event: &WatchEvent<Pod>) {
    let now = EventTime::from(Timestamp::now());
    let index = || operator.index.write();
    match event {
        WatchEvent::Changed { new, .. } => {
            if let Some(facts) = pod_facts(new) {
                index().apply(facts, now);
            }
        }
        WatchEvent::Gone(pod) => {
            let key = PodKey::from(pod.uid().unwrap_or_default().as_str());
            index().delete(&key, now);
        }
        WatchEvent::Listed => {
            operator.reset_index();
        }
        WatchEvent::Malformed { .. } => {}
    }
    operator.incidents.on_pod_event(event);
    operator.controller.on_pod_event(event);
}
