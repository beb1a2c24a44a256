//! Writes into an Incident what this node's logs show of its contained pods, so that the controller can
//! prove that their traffic stopped, or that it did not.
//!
//! One task in each node agent. It writes under its own field manager, only about pods that the agent
//! knows, and only on change: a survivor at once, the log's progress every so often until the proof
//! is final, and nothing after that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{self, Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::monitor::TrafficMonitor;
use super::proof::{TrafficObservation, prove};
use crate::api::{Incident, Observation, labels};
use crate::cluster::{ApiError, Conflicts, FieldManager, Pod, Stores, Writer};
use crate::limits;
use crate::model::{EventTime, PodKey};
use crate::observability::chain;
use crate::respond::plan::isolated_at;

/// How often to check the contained pods.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// How often to write the log's progress while a proof is pending. A proof takes 10 s of the log, so
/// this delays it by a fifth at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Writes observations of contained pods into Incidents.
pub(crate) struct TrafficObserver {
    /// The stores.
    pub stores: Stores,
    /// Writes to the API server.
    pub writer: Writer,
    /// What the logs show.
    pub traffic: TrafficMonitor,
    /// The name of this node.
    pub node: String,
}

/// The last observation that was written into one Incident.
#[derive(Clone, Copy, Debug)]
struct Written {
    observation: TrafficObservation,
    at: Instant,
}

impl TrafficObserver {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut written: HashMap<String, Written> = HashMap::new();
        loop {
            let contained = self.stores.incidents.state_filter(Incident::is_contained);
            written.retain(|uid, _| contained.iter().any(|i| i.uid().as_deref() == Some(uid)));
            for incident in contained.iter().take(limits::MONITORED_PODS_MAX) {
                self.check(incident, &mut written).await;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    async fn check(&self, incident: &Incident, written: &mut HashMap<String, Written>) {
        let (Some(uid), Some(observation)) = (incident.uid(), self.observe(incident)) else {
            return;
        };
        let last = written.get(&uid).copied();
        if !is_due(last, &observation) {
            return;
        }
        let at = Instant::now();
        match self.write(incident, &observation).await {
            Ok(()) | Err(ApiError::NotFound(_)) => {
                written.insert(uid, Written { observation, at });
            }
            Err(error) => {
                let error = chain(&error);
                let name = incident.name_any();
                tracing::warn!(
                    incident = name,
                    error,
                    "Failed to write the observation to the Incident; will retry."
                );
            }
        }
    }

    /// What this node's logs show of the Incident's pods; `None` if this agent knows none of them.
    fn observe(&self, incident: &Incident) -> Option<TrafficObservation> {
        let isolated = EventTime::from(isolated_at(incident)?);
        let (name, namespace) = (incident.name_any(), incident.namespace());
        let is_labelled = |pod: &Pod| pod.labels().get(labels::QUARANTINE) == Some(&name);
        let pods = &self.stores.pods;
        let pods = pods.within_where(&namespace.unwrap_or_default(), is_labelled);
        let observe = |pod: &Arc<Pod>| {
            let key = PodKey::from(pod.uid()?.as_str());
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let now = time::Instant::now();
            self.traffic.observe(&key, node, isolated, now)
        };
        pods.iter()
            .filter_map(observe)
            .reduce(TrafficObservation::merge_pods)
            // A log without any record shows nothing.
            .filter(|observation| observation.log_time > EventTime::MIN)
    }

    async fn write(
        &self,
        incident: &Incident,
        observation: &TrafficObservation,
    ) -> Result<(), ApiError> {
        let namespace = incident.namespace().unwrap_or_default();
        let observation = Observation {
            node: self.node.clone(),
            since: micro_time(observation.since),
            log_time: micro_time(observation.log_time),
            last_passed: observation.last_passed.map(micro_time),
            observed_at: MicroTime(Timestamp::now()),
            shows_survivors: observation.shows_survivors,
        };
        let fields = serde_json::json!({
            "apiVersion": Incident::api_version(&()),
            "kind": Incident::kind(&()),
            // The API server refuses the write for a later Incident of the same name.
            "metadata": { "uid": incident.uid() },
            "spec": { "observations": [observation] },
        });
        let manager = FieldManager::observation(&self.node);
        let name = incident.name_any();
        self.writer
            .apply_fields::<Incident>(&manager, &namespace, &name, &fields, Conflicts::TakeOver)
            .await
            .map(drop)
    }
}

/// Whether the observation has to be written now.
fn is_due(last: Option<Written>, now: &TrafficObservation) -> bool {
    let Some(Written { observation, at }) = last else {
        return true;
    };
    let is_time = at.elapsed() >= PROGRESS_EVERY;
    let (before, after) = (prove(&observation), prove(now));
    let is_proven = after.is_final() && after != before;
    let has_progressed = !before.is_final() && now.log_time > observation.log_time;
    // The first survivor at once; later traffic of it every so often.
    let survives = now.last_passed != observation.last_passed;
    is_proven
        || (has_progressed && is_time)
        || (survives && (observation.last_passed.is_none() || is_time))
}

fn micro_time(time: EventTime) -> MicroTime {
    MicroTime(time.to_timestamp().unwrap_or(Timestamp::MIN))
}
