//! From the events of the watches to the runs and pods that must be reconciled. Called by the watches; it only reads
//! the stores and adds to the queues, and never waits.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::{Controller, Role};
use crate::api::{AgentRun, GuardrailPolicy, Incident, labels};
use crate::cluster::{Pod, WatchEvent};
use crate::guardrails::membership::{Claim, covers};

impl Controller {
    /// Handles an event of an AgentRun.
    pub(crate) fn on_run_event(&self, event: &WatchEvent<AgentRun>) {
        match event {
            WatchEvent::Changed { old, new } => {
                self.malformed
                    .clear_run(&new.namespace().unwrap_or_default(), &new.name_any());
                self.enqueue_run(new);
                // A target is immutable, so only a new run can claim pods of another.
                if old.is_none() {
                    self.enqueue_pods_of(new);
                }
            }
            WatchEvent::Gone(run) => {
                self.backoff.clear(&ObjectRef::from_obj(&**run));
                self.malformed
                    .clear_run(&run.namespace().unwrap_or_default(), &run.name_any());
                self.enqueue_pods_of(run);
                self.remove_membership(run);
            }
            WatchEvent::Listed => self.listed(),
            WatchEvent::Malformed {
                namespace,
                name,
                version,
                error,
            } => self.malformed.record_run(namespace, name, version, error),
        }
    }

    /// Handles an event of a GuardrailPolicy.
    pub(crate) fn on_policy_event(&self, event: &WatchEvent<GuardrailPolicy>) {
        self.each("GuardrailPolicy", event, |policy| {
            let name = policy.name_any();
            for run in self.stores.runs.state_filter(|run| run.spec.policy == name) {
                self.enqueue_run(&run);
            }
        });
    }

    /// Handles an event of an Incident.
    pub(crate) fn on_incident_event(&self, event: &WatchEvent<Incident>) {
        self.each("Incident", event, |incident| {
            let namespace = incident.namespace().unwrap_or_default();
            if let Some(run) = &incident.spec.run {
                self.run_queue
                    .add(ObjectRef::new(&run.name).within(&namespace));
            }
        });
    }

    /// Handles an event of a pod.
    pub(crate) fn on_pod_event(&self, event: &WatchEvent<Pod>) {
        if self.role == Role::Operator {
            self.update_ended_pods(event);
        }
        match event {
            WatchEvent::Changed {
                old: Some(old),
                new,
            } if is_unchanged_for_steps(old, new) && !self.needs_address(old, new) => {}
            WatchEvent::Changed { new, .. } => self.pod_queue.add(ObjectRef::from_obj(&**new)),
            WatchEvent::Gone(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.owners.forget(&uid);
                if let Some(run) = self.membership.run_of(&uid) {
                    self.run_queue
                        .add(ObjectRef::new(&run.name).within(&run.namespace));
                }
            }
            WatchEvent::Listed => self.listed(),
            WatchEvent::Malformed { .. } => self.each("Pod", event, |_| {}),
        }
    }

    /// Whether the addresses of a pod have changed and are needed: by a node agent, to determine whether all pods of a
    /// run have an address, or by the controller, which publishes them if there are agents.
    fn needs_address(&self, old: &Pod, new: &Pod) -> bool {
        let addresses = |pod: &Pod| {
            pod.status
                .as_ref()
                .map(|s| (s.pod_ip.clone(), s.pod_ips.clone()))
        };
        let is_read = self.role == Role::Observer || !self.agents().is_empty();
        is_read && addresses(old) != addresses(new)
    }

    /// Handles an event of a NetworkPolicy. A policy of another owner may affect any run of its namespace.
    pub(crate) fn on_network_policy_event(&self, event: &WatchEvent<NetworkPolicy>) {
        self.each("NetworkPolicy", event, |policy| {
            let namespace = policy.namespace().unwrap_or_default();
            match run_label(policy) {
                Some(run) => self.run_queue.add(ObjectRef::new(run).within(&namespace)),
                None => self.enqueue_namespace(&namespace),
            }
        });
    }

    /// Handles an event of a Job.
    pub(crate) fn on_job_event(&self, event: &WatchEvent<Job>) {
        if let WatchEvent::Changed { old: None, new } = event {
            // Its pods may have been reconciled before the Job was known.
            let namespace = new.namespace().unwrap_or_default();
            for pod in self.stores.pods.within(&namespace) {
                let owners = pod.owner_references();
                if owners
                    .iter()
                    .any(|o| Some(&o.uid) == new.metadata.uid.as_ref())
                {
                    self.pod_queue.add(ObjectRef::from_obj(&*pod));
                }
            }
        }
        self.each("Job", event, |job| {
            let namespace = job.namespace().unwrap_or_default();
            if let Some(run) = run_label(job) {
                self.run_queue.add(ObjectRef::new(run).within(&namespace));
            }
            let name = job.name_any();
            let names_it = |run: &AgentRun| {
                let target = run.spec.target.reference.as_ref();
                target.is_some_and(|target| target.kind == "Job" && target.name == name)
            };
            for run in self.stores.runs.within_where(&namespace, names_it) {
                self.enqueue_run(&run);
            }
        });
    }

    /// Handles an event of a ResourceQuota that Yellowjack created.
    pub(crate) fn on_quota_event(&self, event: &WatchEvent<ResourceQuota>) {
        self.on_guardrail_event("ResourceQuota", event);
    }

    /// Handles an event of a LimitRange that Yellowjack created.
    pub(crate) fn on_limit_range_event(&self, event: &WatchEvent<LimitRange>) {
        self.on_guardrail_event("LimitRange", event);
    }

    /// Queues all runs, after a change that all of them depend on.
    pub(crate) fn enqueue_all(&self) {
        for run in self.stores.runs.state() {
            self.enqueue_run(&run);
        }
    }

    /// Queues everything after the first list of a watch.
    fn listed(&self) {
        self.enqueue_all();
        for pod in self.stores.pods.state() {
            self.pod_queue.add(ObjectRef::from_obj(&*pod));
        }
    }

    fn on_guardrail_event<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        event: &WatchEvent<K>,
    ) {
        self.each(kind, event, |object| {
            let namespace = object.namespace().unwrap_or_default();
            if let Some(run) = run_label(object) {
                self.run_queue.add(ObjectRef::new(run).within(&namespace));
            }
        });
    }

    /// Calls `on` for the old and the new version of the object.
    fn each<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        event: &WatchEvent<K>,
        on: impl Fn(&K),
    ) {
        match event {
            WatchEvent::Changed { old, new } => {
                if let Some(old) = old {
                    on(old);
                }
                on(new);
            }
            WatchEvent::Gone(object) => on(object),
            WatchEvent::Listed => self.enqueue_all(),
            WatchEvent::Malformed {
                namespace,
                name,
                version,
                error,
            } => self.malformed.record(kind, namespace, name, version, error),
        }
    }

    fn enqueue_run(&self, run: &AgentRun) {
        self.run_queue.add(ObjectRef::from_obj(run));
    }

    fn enqueue_namespace(&self, namespace: &str) {
        for run in self.stores.runs.within(namespace) {
            self.enqueue_run(&run);
        }
    }

    /// Queues the pods that this run claims; reconciling a pod queues every run that claims it.
    fn enqueue_pods_of(&self, run: &AgentRun) {
        let claim = Claim {
            name: run.metadata.name.as_deref().unwrap_or_default(),
            uid: run.metadata.uid.as_deref().unwrap_or_default(),
            target: &run.spec.target,
        };
        let namespace = run.namespace().unwrap_or_default();
        for pod in self.stores.pods.within(&namespace) {
            let chain = self.owners.chain_of(&pod.uid().unwrap_or_default());
            let owners = chain.unwrap_or_default().links;
            if covers(&claim, pod.labels(), &owners) {
                self.pod_queue.add(ObjectRef::from_obj(&*pod));
            }
        }
    }
}

/// Whether a pod changed only in ways that no step reads. Most changes are of its status.
fn is_unchanged_for_steps(old: &Arc<Pod>, new: &Arc<Pod>) -> bool {
    old.metadata.uid == new.metadata.uid
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
        && old.spec == new.spec
        && old.has_ended() == new.has_ended()
}

fn run_label<K: Resource<DynamicType = ()>>(object: &K) -> Option<&str> {
    let found = object.meta().labels.as_ref()?;
    found.get(labels::RUN).map(String::as_str)
}
