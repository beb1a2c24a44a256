//! From what the watches saw to what must be looked at. Followers of the watches call it; it only
//! reads stores and wakes, and never waits.

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
use crate::pipeline::pod_facts::has_ended;

impl Controller {
    /// An AgentRun was seen.
    pub fn run_seen(&self, seen: &WatchEvent<AgentRun>) {
        match seen {
            WatchEvent::Changed { old, new } => {
                self.malformed
                    .mended(&new.namespace().unwrap_or_default(), &new.name_any());
                self.wake_run(new);
                // A target is immutable, so only a new run can come to contend for pods.
                if old.is_none() {
                    self.wake_pods_of(new);
                }
            }
            WatchEvent::Gone(run) => {
                self.attempts.clear(&ObjectRef::from_obj(&**run));
                self.malformed
                    .mended(&run.namespace().unwrap_or_default(), &run.name_any());
                self.wake_pods_of(run);
                self.dismiss(run);
            }
            WatchEvent::Listed => self.listed(),
            WatchEvent::Malformed {
                namespace,
                name,
                version,
                error,
            } => self.malformed.report(namespace, name, version, error),
        }
    }

    /// A GuardrailPolicy was seen.
    pub fn policy_seen(&self, seen: &WatchEvent<GuardrailPolicy>) {
        self.each("GuardrailPolicy", seen, |policy| {
            let name = policy.name_any();
            for run in self.stores.runs.state_filter(|run| run.spec.policy == name) {
                self.wake_run(&run);
            }
        });
    }

    /// An Incident was seen.
    pub fn incident_seen(&self, seen: &WatchEvent<Incident>) {
        self.each("Incident", seen, |incident| {
            let namespace = incident.namespace().unwrap_or_default();
            if let Some(run) = &incident.spec.run {
                self.runs.wake(ObjectRef::new(&run.name).within(&namespace));
            }
        });
    }

    /// A pod was seen.
    pub fn pod_seen(&self, seen: &WatchEvent<Pod>) {
        match seen {
            WatchEvent::Changed {
                old: Some(old),
                new,
            } if same_for_us(old, new) && !self.needs_address(old, new) => {}
            WatchEvent::Changed { new, .. } => self.pods.wake(ObjectRef::from_obj(&**new)),
            WatchEvent::Gone(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.owners.forget(&uid);
                if let Some(run) = self.membership.run_of(&uid) {
                    self.runs
                        .wake(ObjectRef::new(&run.name).within(&run.namespace));
                }
            }
            WatchEvent::Listed => self.listed(),
            WatchEvent::Malformed { .. } => self.each("Pod", seen, |_| {}),
        }
    }

    /// Whether the address of a pod has changed, and somebody needs it: a node agent, to know whether all of a run's
    /// pods have theirs, or the controller, which puts them into the status where there are agents.
    fn needs_address(&self, old: &Pod, new: &Pod) -> bool {
        let addresses = |pod: &Pod| {
            pod.status
                .as_ref()
                .map(|s| (s.pod_ip.clone(), s.pod_ips.clone()))
        };
        let is_read = self.role == Role::Observer || !self.agents().is_empty();
        is_read && addresses(old) != addresses(new)
    }

    /// A NetworkPolicy was seen. One of others may widen any run of its namespace.
    pub fn network_policy_seen(&self, seen: &WatchEvent<NetworkPolicy>) {
        self.each("NetworkPolicy", seen, |policy| {
            let namespace = policy.namespace().unwrap_or_default();
            match run_label(policy) {
                Some(run) => self.runs.wake(ObjectRef::new(run).within(&namespace)),
                None => self.wake_namespace(&namespace),
            }
        });
    }

    /// A Job was seen.
    pub fn job_seen(&self, seen: &WatchEvent<Job>) {
        if let WatchEvent::Changed { old: None, new } = seen {
            // Its pods may have been looked at before it was known who owns it.
            let namespace = new.namespace().unwrap_or_default();
            for pod in self.stores.pods.within(&namespace) {
                let owners = pod.owner_references();
                if owners
                    .iter()
                    .any(|o| Some(&o.uid) == new.metadata.uid.as_ref())
                {
                    self.pods.wake(ObjectRef::from_obj(&*pod));
                }
            }
        }
        self.each("Job", seen, |job| {
            let namespace = job.namespace().unwrap_or_default();
            if let Some(run) = run_label(job) {
                self.runs.wake(ObjectRef::new(run).within(&namespace));
            }
            let name = job.name_any();
            let names_it = |run: &AgentRun| {
                let target = run.spec.target.reference.as_ref();
                target.is_some_and(|target| target.kind == "Job" && target.name == name)
            };
            for run in self.stores.runs.within_where(&namespace, names_it) {
                self.wake_run(&run);
            }
        });
    }

    /// A ResourceQuota of ours was seen.
    pub fn quota_seen(&self, seen: &WatchEvent<ResourceQuota>) {
        self.guardrail_seen("ResourceQuota", seen);
    }

    /// A LimitRange of ours was seen.
    pub fn limit_range_seen(&self, seen: &WatchEvent<LimitRange>) {
        self.guardrail_seen("LimitRange", seen);
    }

    /// Something changed that every run rests on.
    pub fn wake_all(&self) {
        for run in self.stores.runs.state() {
            self.wake_run(&run);
        }
    }

    /// Everything was listed for the first time.
    fn listed(&self) {
        self.wake_all();
        for pod in self.stores.pods.state() {
            self.pods.wake(ObjectRef::from_obj(&*pod));
        }
    }

    fn guardrail_seen<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        seen: &WatchEvent<K>,
    ) {
        self.each(kind, seen, |object| {
            let namespace = object.namespace().unwrap_or_default();
            if let Some(run) = run_label(object) {
                self.runs.wake(ObjectRef::new(run).within(&namespace));
            }
        });
    }

    /// Calls `on` for the object as it was and as it is.
    fn each<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        seen: &WatchEvent<K>,
        on: impl Fn(&K),
    ) {
        match seen {
            WatchEvent::Changed { old, new } => {
                if let Some(old) = old {
                    on(old);
                }
                on(new);
            }
            WatchEvent::Gone(object) => on(object),
            WatchEvent::Listed => self.wake_all(),
            WatchEvent::Malformed {
                namespace,
                name,
                version,
                error,
            } => self.malformed.note(kind, namespace, name, version, error),
        }
    }

    fn wake_run(&self, run: &AgentRun) {
        self.runs.wake(ObjectRef::from_obj(run));
    }

    fn wake_namespace(&self, namespace: &str) {
        for run in self.stores.runs.within(namespace) {
            self.wake_run(&run);
        }
    }

    /// The pods that this run claims; each then wakes every run that claims it.
    fn wake_pods_of(&self, run: &AgentRun) {
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
                self.pods.wake(ObjectRef::from_obj(&*pod));
            }
        }
    }
}

/// Whether nothing changed that any step looks at; a pod's status changes many times.
fn same_for_us(old: &Arc<Pod>, new: &Arc<Pod>) -> bool {
    old.metadata.uid == new.metadata.uid
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
        && old.spec == new.spec
        && has_ended(old) == has_ended(new)
}

fn run_label<K: Resource<DynamicType = ()>>(object: &K) -> Option<&str> {
    let found = object.meta().labels.as_ref()?;
    found.get(labels::RUN).map(String::as_str)
}
