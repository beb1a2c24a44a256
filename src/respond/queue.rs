//! The reconcile queue of Incidents, and the loop that calls the responder for each of them.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::deletions::{Deletions, controller_of};
use super::snapshot::RunSettings;
use super::{RespondError, Responder};
use crate::api::{AgentRun, GuardrailPolicy, Incident, ResponseScope, labels};
use crate::cluster::{
    IndexKey, Pod, ReconcileQueue, RetryBackoff, RunId, RunMembership, Store, Stores, WatchEvent,
};
use crate::limits;
use crate::observability::chain;

/// Delay before an Incident is reconciled again after its response was interrupted by the loss of
/// leadership. The process may be the leader again by then.
const NOT_LEADER_RECHECK: Duration = Duration::from_secs(1);

/// How often the closed Incidents are scanned for expired ones. The reconciliation that closes an Incident
/// also schedules its expiry, but that timer is lost when the process restarts.
const EXPIRY_EVERY: Duration = Duration::from_mins(1);

/// How often quarantined pods without an Incident are looked for.
const LOST_EVERY: Duration = Duration::from_secs(10);

/// Incidents that wait for reconciliation. Cheap to clone; all clones share one queue.
#[derive(Clone)]
pub(crate) struct IncidentQueue {
    incidents: Store<Incident>,
    pods: Store<Pod>,
    runs: Store<AgentRun>,
    membership: RunMembership,
    run_settings: RunSettings,
    deletions: Deletions,
    queue: ReconcileQueue<Incident>,
}

struct Loop {
    responder: Responder,
    backoff: RetryBackoff<ObjectRef<Incident>>,
}

impl IncidentQueue {
    /// A queue over the Incidents of these stores.
    #[must_use]
    pub(crate) fn new(
        stores: &Stores,
        membership: RunMembership,
        run_settings: RunSettings,
    ) -> Self {
        Self {
            incidents: stores.incidents.clone(),
            pods: stores.pods.clone(),
            runs: stores.runs.clone(),
            membership,
            run_settings,
            deletions: Deletions::default(),
            queue: ReconcileQueue::default(),
        }
    }

    /// When pods in quarantine were deleted, for the responder.
    #[must_use]
    pub(crate) fn deletions(&self) -> Deletions {
        self.deletions.clone()
    }

    /// Queues an Incident that the watch reported.
    pub(crate) fn on_incident_event(&self, event: &WatchEvent<Incident>) {
        match event {
            WatchEvent::Changed { new, .. } => self.queue.add(ObjectRef::from_obj(&**new)),
            WatchEvent::Listed => self.enqueue_all(),
            WatchEvent::Gone(_) | WatchEvent::Malformed { .. } => {}
        }
    }

    /// Queues the Incidents of an AgentRun with changed settings.
    pub(crate) fn on_run_event(&self, event: &WatchEvent<AgentRun>) {
        let run = match event {
            WatchEvent::Changed {
                old: Some(old),
                new,
            } if old.spec == new.spec => return,
            WatchEvent::Changed { new: run, .. } | WatchEvent::Gone(run) => run,
            WatchEvent::Listed => return self.enqueue_all(),
            WatchEvent::Malformed { .. } => return,
        };
        if let Some(uid) = &run.metadata.uid {
            self.enqueue_key(&IndexKey::Run(uid.clone()));
        }
    }

    /// Queues all open Incidents after a change of a GuardrailPolicy, which decides how far a response goes.
    pub(crate) fn on_policy_event(&self, event: &WatchEvent<GuardrailPolicy>) {
        if !matches!(event, WatchEvent::Malformed { .. }) {
            self.enqueue_all();
        }
    }

    /// Queues the Incidents that a change of a pod concerns: those about it, the one that holds it in quarantine, and with
    /// scope `Run` those of its run. Nothing for a change that no plan reads, which most changes are.
    pub(crate) fn on_pod_event(&self, event: &WatchEvent<Pod>) {
        match event {
            WatchEvent::Changed { old, new } => {
                if let Some(old) = old {
                    if is_unchanged_for_plans(old, new) {
                        return;
                    }
                    self.enqueue_holder(old);
                } else if let Some(controller) = controller_of(new) {
                    self.enqueue_key(&IndexKey::ReplacedBy(controller.uid.clone()));
                }
                if new.metadata.deletion_timestamp.is_some() {
                    self.record_deletion(new);
                }
                self.enqueue_of_pod(new);
            }
            WatchEvent::Gone(pod) => {
                self.record_deletion(pod);
                self.enqueue_of_pod(pod);
            }
            WatchEvent::Listed => self.enqueue_all(),
            WatchEvent::Malformed { .. } => {}
        }
    }

    fn record_deletion(&self, pod: &Pod) {
        if let Some(incident) = holder_of(pod) {
            let now = Timestamp::now();
            self.deletions.record(incident, pod, &self.pods, now);
        }
    }

    fn enqueue_of_pod(&self, pod: &Pod) {
        self.enqueue_holder(pod);
        let Some(uid) = pod.metadata.uid.as_ref() else {
            return;
        };
        self.enqueue_key(&IndexKey::Subject(uid.clone()));
        if let Some(run) = self.membership.run_of(uid) {
            self.enqueue_run_scope(&run);
        }
    }

    /// Queues the open Incidents of a run that contain all of its pods.
    fn enqueue_run_scope(&self, run: &RunId) {
        let key = ObjectRef::new(&run.name).within(&run.namespace);
        let has_run_scope = self
            .runs
            .get(&key)
            .is_none_or(|run| (self.run_settings)(&run).scope == ResponseScope::Run);
        if has_run_scope {
            self.enqueue_key(&IndexKey::Run(run.uid.clone()));
        }
    }

    /// Queues the Incident that holds this pod in quarantine.
    fn enqueue_holder(&self, pod: &Pod) {
        if let Some(incident) = holder_of(pod) {
            self.queue.add(incident);
        }
    }

    /// Queues the Incidents that changed fields of a Job, which may have been changed again.
    pub(crate) fn on_job_event(&self, event: &WatchEvent<Job>) {
        if let WatchEvent::Changed { new: job, .. } | WatchEvent::Gone(job) = event {
            let uid = job.uid().unwrap_or_default();
            self.enqueue_key(&IndexKey::ChangedFieldsOf(uid));
        }
    }

    /// Queues the Incidents that hold pods in quarantine in the namespace of a policy with changed rules.
    pub(crate) fn on_network_policy_event(&self, event: &WatchEvent<NetworkPolicy>) {
        let policy = match event {
            WatchEvent::Changed {
                old: Some(old),
                new,
            } if old.spec == new.spec => return,
            WatchEvent::Changed { new: policy, .. } | WatchEvent::Gone(policy) => policy,
            WatchEvent::Listed => return self.enqueue_all(),
            WatchEvent::Malformed { .. } => return,
        };
        let namespace = policy.namespace().unwrap_or_default();
        for pod in self.pods.with_key(&IndexKey::QuarantinedIn(namespace)) {
            self.enqueue_holder(&pod);
        }
    }

    fn enqueue_key(&self, key: &IndexKey) {
        let mut incidents = self.incidents.with_key(key);
        incidents.retain(|incident| incident.is_open());
        self.enqueue(&incidents);
    }

    /// Queues all open Incidents, after a change that they depend on.
    pub(crate) fn enqueue_all(&self) {
        self.enqueue(&self.incidents.state_filter(Incident::is_open));
    }

    fn enqueue(&self, incidents: &[Arc<Incident>]) {
        for incident in incidents {
            self.queue.add(ObjectRef::from_obj(&**incident));
        }
    }

    /// Reconciles Incidents until `shutdown`. Reconciliations in progress then run to their end.
    pub(crate) async fn run(self, responder: Responder, shutdown: CancellationToken) {
        if !responder.stores().wait_until_ready().await {
            return;
        }
        self.enqueue_all();
        let queue = Box::pin(self.queue.stream().take_until(shutdown.cancelled_owned()));
        let expired = self.enqueue_expired(responder.incident_ttl());
        let context = Arc::new(Loop {
            responder,
            backoff: RetryBackoff::default(),
        });
        let lost = restore_lost_incidents(Arc::clone(&context));
        let joined = self.clone().enqueue_joined();
        let work = applier(
            |incident: Arc<Incident>, context: Arc<Loop>| {
                async move { context.reconcile(&incident).await }.boxed()
            },
            |incident, error, context: Arc<Loop>| context.error_policy(&incident, error),
            context,
            (*self.incidents).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        .for_each(|result| {
            self.queue.on_result(result);
            std::future::ready(())
        });
        tokio::select! {
            () = work => {}
            () = expired => {}
            () = lost => {}
            () = joined => {}
        }
    }

    /// Queues the Incidents of runs that pods joined: with scope `Run` they contain those as well. Never returns.
    async fn enqueue_joined(self) {
        loop {
            for run in self.membership.joined().await {
                self.enqueue_run_scope(&run);
            }
        }
    }

    /// Queues closed Incidents after their time to live. Never returns.
    async fn enqueue_expired(&self, ttl: Duration) {
        loop {
            tokio::time::sleep(EXPIRY_EVERY).await;
            let now = Timestamp::now();
            let is_expired = |incident: &Incident| {
                let status = incident.status.as_ref();
                let closed_at = status.and_then(|status| status.closed_at.as_ref());
                closed_at.is_some_and(|closed| now.duration_since(closed.0).unsigned_abs() >= ttl)
            };
            for incident in self.incidents.state_filter(is_expired) {
                self.queue.add(ObjectRef::from_obj(&*incident));
            }
        }
    }
}

/// Creates deleted Incidents of quarantined pods again. Never returns.
async fn restore_lost_incidents(context: Arc<Loop>) {
    loop {
        tokio::time::sleep(LOST_EVERY).await;
        context.responder.restore_lost_incidents().await;
    }
}

/// The Incident that holds this pod in quarantine.
fn holder_of(pod: &Pod) -> Option<ObjectRef<Incident>> {
    let name = pod.labels().get(labels::QUARANTINE)?;
    let namespace = pod.namespace().unwrap_or_default();
    Some(ObjectRef::new(name).within(&namespace))
}

/// Whether a pod changed only in ways that no plan reads. Labels and owners of a pod are read from its isolation on, so that
/// whoever changes those of other pods all the time causes no work.
fn is_unchanged_for_plans(old: &Pod, new: &Pod) -> bool {
    let node_of = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.node_name.clone());
    let is_free = |pod: &Pod| !pod.labels().contains_key(labels::QUARANTINE);
    let (before, after) = (&old.metadata, &new.metadata);
    before.uid == after.uid
        && before.deletion_timestamp == after.deletion_timestamp
        && before.deletion_grace_period_seconds == after.deletion_grace_period_seconds
        && node_of(old) == node_of(new)
        && (is_free(old) && is_free(new)
            || before.labels == after.labels && before.owner_references == after.owner_references)
}

impl Loop {
    async fn reconcile(&self, incident: &Incident) -> Result<Action, RespondError> {
        if !self.responder.may_act() {
            // A new leader queues all of them.
            return Ok(Action::await_change());
        }
        let action = self.responder.reconcile(incident).await?;
        self.backoff.clear(&ObjectRef::from_obj(incident));
        Ok(action)
    }

    fn error_policy(&self, incident: &Incident, error: &RespondError) -> Action {
        if error.is_stale() {
            // The store has not received this process's last write yet.
            return Action::requeue(limits::STALE_RETRY);
        }
        if error.is_not_leader() {
            return Action::requeue(NOT_LEADER_RECHECK);
        }
        let wait = self.backoff.record_failure(&ObjectRef::from_obj(incident));
        let (name, error) = (incident.name_any(), chain(error));
        tracing::warn!(
            incident = name,
            error,
            ?wait,
            "Failed to reconcile an Incident; retrying."
        );
        Action::requeue(wait)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    use super::*;
    use crate::cluster::StoreWriters;
    use crate::guardrails::ClusterFacts;
    use crate::guardrails::ceiling::evaluate;

    /// A queue with its stores; the settings of a run are those of its spec.
    struct World {
        queue: IncidentQueue,
        membership: RunMembership,
        writers: StoreWriters,
    }

    impl World {
        fn new() -> Self {
            let (stores, mut writers) = Stores::new();
            writers.fill_all_empty();
            let membership = RunMembership::default();
            let settings: RunSettings =
                Arc::new(|run| evaluate(&run.spec, None, &ClusterFacts::default()).effective);
            Self {
                queue: IncidentQueue::new(&stores, membership.clone(), settings),
                membership,
                writers,
            }
        }

        fn add_run(&mut self, name: &str, scope: &str, pods: &[&str]) {
            let run: AgentRun = serde_json::from_value(json!({
                "apiVersion": "yellowjack.dev/v1alpha1", "kind": "AgentRun",
                "metadata": { "namespace": "ns", "name": name, "uid": format!("uid-{name}") },
                "spec": {
                    "target": { "selector": { "matchLabels": { "app": name } } },
                    "response": { "scope": scope },
                },
            }))
            .unwrap();
            let id = RunId::of(&run).unwrap();
            let pods = pods.iter().map(|pod| format!("uid-{pod}"));
            self.membership.set(&id, pods);
            self.writers.runs.apply(run);
        }

        fn add_incident(&mut self, name: &str, pod: &str, run: &str) {
            let incident = serde_json::from_value(json!({
                "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
                "metadata": { "namespace": "ns", "name": name, "uid": format!("uid-{name}") },
                "spec": {
                    "run": { "name": run, "uid": format!("uid-{run}") },
                    "subject": { "name": pod, "uid": format!("uid-{pod}") },
                },
            }));
            self.writers.incidents.apply(incident.unwrap());
        }

        /// The Incidents that wait, by name.
        fn drain(&self) -> Vec<String> {
            let mut stream = Box::pin(self.queue.queue.stream());
            let mut names = Vec::new();
            while let Some(Some(Ok(reference))) = stream.next().now_or_never() {
                self.queue.queue.done(&reference);
                names.push(reference.name);
            }
            names.sort();
            names
        }

        fn change(&mut self, pod: Pod) -> Vec<String> {
            let (old, new) = self.writers.pods.apply(pod);
            self.queue.on_pod_event(&WatchEvent::Changed { old, new });
            self.drain()
        }
    }

    fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(format!("uid-{name}"));
        for (key, value) in labels {
            pod.labels_mut()
                .insert((*key).to_owned(), (*value).to_owned());
        }
        pod
    }

    #[test]
    fn a_change_of_a_pod_wakes_its_own_incidents_and_no_others_of_the_namespace() {
        let mut world = World::new();
        world.add_run("run", "Pod", &["a", "b"]);
        for (incident, pod) in [("ia", "a"), ("ib", "b"), ("ic", "c")] {
            world.add_incident(incident, pod, "run");
        }
        assert_eq!(world.change(pod("a", &[])), ["ia"]);
        let mut on_node = pod("a", &[]);
        on_node.spec.get_or_insert_default().node_name = Some("n".to_owned());
        assert_eq!(world.change(on_node), ["ia"]);
        assert_eq!(world.change(pod("unknown", &[])), Vec::<String>::new());
    }

    #[test]
    fn a_new_pod_of_the_controller_of_an_isolated_pod_wakes_its_incident() {
        let mut world = World::new();
        world.add_incident("ia", "a", "run");
        world.add_incident("ib", "b", "run");
        let key = ObjectRef::new("ia").within("ns");
        let mut incident = (*world.queue.incidents.get(&key).unwrap()).clone();
        let controller = crate::api::ObjectTarget::pod("agents", "uid-agents");
        incident.status = Some(crate::api::IncidentStatus {
            replacement: Some(crate::api::Replacement {
                controller,
                not_before: None,
            }),
            ..crate::api::IncidentStatus::default()
        });
        world.writers.incidents.apply(incident);
        let mut new = pod("new", &[]);
        new.metadata.owner_references = Some(vec![OwnerReference {
            uid: "uid-agents".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        assert_eq!(world.change(new), ["ia"]);
        assert_eq!(world.change(pod("other", &[])), Vec::<String>::new());
    }

    #[test]
    fn changed_settings_of_a_run_wake_its_incidents_and_a_status_does_not() {
        let mut world = World::new();
        world.add_run("run", "Pod", &["a"]);
        world.add_incident("ia", "a", "run");
        world.add_incident("ib", "b", "other");
        let key = ObjectRef::new("run").within("ns");
        let mut run = (*world.queue.runs.get(&key).unwrap()).clone();
        let mut change = |run: &AgentRun| {
            let (old, new) = world.writers.runs.apply(run.clone());
            let event = WatchEvent::Changed { old, new };
            world.queue.on_run_event(&event);
            world.drain()
        };
        run.metadata.resource_version = Some("2".to_owned());
        assert_eq!(change(&run), Vec::<String>::new());
        run.spec.response.scope = Some(ResponseScope::Run);
        assert_eq!(change(&run), ["ia"]);
    }

    #[test]
    fn a_change_that_no_plan_reads_wakes_nothing() {
        let mut world = World::new();
        world.add_incident("ia", "a", "run");
        world.change(pod("a", &[]));
        let mut changed = pod("a", &[]);
        changed.metadata.resource_version = Some("2".to_owned());
        changed.status = Some(crate::cluster::Pod::default().status.unwrap_or_default());
        assert_eq!(world.change(changed), Vec::<String>::new());
        assert_eq!(world.change(pod("a", &[("x", "y")])), Vec::<String>::new());
        let held = [(labels::QUARANTINE, "ia")];
        assert_eq!(world.change(pod("a", &held)), ["ia"]);
        // Labels decide which policies select a pod in quarantine.
        assert_eq!(world.change(pod("a", &[held[0], ("x", "y")])), ["ia"]);
        let mut owned = pod("a", &[held[0], ("x", "y")]);
        owned.metadata.owner_references = Some(vec![OwnerReference::default()]);
        assert_eq!(world.change(owned), ["ia"]);
    }

    #[test]
    fn a_quarantine_label_that_is_removed_wakes_the_incident_that_set_it() {
        let mut world = World::new();
        world.add_incident("ia", "a", "run");
        // The pod takes the place of another one, which the Incident is about.
        assert_eq!(
            world.change(pod("b", &[(labels::QUARANTINE, "ia")])),
            ["ia"]
        );
        assert_eq!(world.change(pod("b", &[])), ["ia"]);
        assert_eq!(world.change(pod("b", &[("x", "y")])), Vec::<String>::new());
    }

    #[tokio::test]
    async fn with_scope_run_every_pod_of_the_run_wakes_its_incidents_also_one_that_joins() {
        let mut world = World::new();
        world.add_run("whole", "Run", &["a", "b"]);
        world.add_run("single", "Pod", &["c"]);
        world.add_incident("ia", "a", "whole");
        world.add_incident("ic", "c", "single");
        assert_eq!(world.change(pod("b", &[])), ["ia"]);
        let joined = tokio::spawn(world.queue.clone().enqueue_joined());
        tokio::task::yield_now().await;
        world.add_run("whole", "Run", &["a", "b", "new"]);
        world.add_run("single", "Pod", &["c", "other"]);
        tokio::task::yield_now().await;
        joined.abort();
        assert_eq!(world.drain(), ["ia"]);
    }

    #[test]
    fn a_policy_wakes_the_incidents_that_hold_pods_and_only_when_its_rules_change() {
        let mut world = World::new();
        world.add_incident("ia", "a", "run");
        world.add_incident("ib", "b", "run");
        world.change(pod("a", &[(labels::QUARANTINE, "ia")]));
        let mut policy = NetworkPolicy::default();
        policy.metadata.namespace = Some("ns".to_owned());
        policy.metadata.name = Some("policy".to_owned());
        let mut change = |policy: &NetworkPolicy| {
            let (old, new) = world.writers.network_policies.apply(policy.clone());
            let event = WatchEvent::Changed { old, new };
            world.queue.on_network_policy_event(&event);
            world.drain()
        };
        assert_eq!(change(&policy), ["ia"]);
        policy.metadata.resource_version = Some("2".to_owned());
        assert_eq!(change(&policy), Vec::<String>::new());
        policy.spec = Some(k8s_openapi::api::networking::v1::NetworkPolicySpec::default());
        assert_eq!(change(&policy), ["ia"]);
    }
}
