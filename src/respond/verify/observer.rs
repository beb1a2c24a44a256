//! The observer: says in an Incident what this node's log shows of contained pods, so that the
//! controller can prove that their traffic stopped, or that it did not.
//!
//! One task in each node agent. It writes under a field manager of its own, only about pods that
//! the agent knows, and only what is news: a survivor at once, the log's progress every so often
//! until the traffic is proven to have stopped, and nothing after that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::monitor::{Witness, worst};
use super::proof::{Proof, Witnessed, prove};
use crate::api::{Incident, IncidentCondition, Observation, condition_is, labels};
use crate::cluster::{ApiError, Conflicts, FieldManager, Pod, Stores, Writer};
use crate::limits;
use crate::model::{EventTime, PodKey};
use crate::observability::chain;
use crate::respond::plan::isolated_at;
use crate::respond::responder::monotonic_now;

/// How often the Incidents are gone through.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the log's progress is written while a proof is awaited: every proof takes 10 s of log,
/// so this delays it by a fifth at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// See the module.
pub struct Observer {
    /// What the cluster looks like.
    pub stores: Stores,
    /// The way to the API server.
    pub writer: Writer,
    /// What the log shows.
    pub witness: Witness,
    /// The node's name.
    pub node: String,
}

/// What was written last about one Incident.
#[derive(Clone, Copy, Debug)]
struct Told {
    witnessed: Witnessed,
    at: Instant,
}

impl Observer {
    /// Works for ever.
    pub async fn run(self) {
        let mut told: HashMap<String, Told> = HashMap::new();
        loop {
            let contained = self.stores.incidents.state_filter(is_contained);
            told.retain(|uid, _| contained.iter().any(|i| i.uid().as_deref() == Some(uid)));
            for incident in contained.iter().take(limits::WITNESSED_PODS_MAX) {
                self.look(incident, &mut told).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, incident: &Incident, told: &mut HashMap<String, Told>) {
        let (Some(uid), Some(witnessed)) = (incident.uid(), self.witnessed(incident)) else {
            return;
        };
        let last = told.get(&uid).copied();
        if !is_news(last, &witnessed) {
            return;
        }
        let at = Instant::now();
        match self.tell(incident, &witnessed).await {
            Ok(()) | Err(ApiError::NotFound(_)) => {
                told.insert(uid, Told { witnessed, at });
            }
            Err(error) => {
                let error = chain(&error);
                let name = incident.name_any();
                tracing::warn!(
                    incident = name,
                    error,
                    "What the log shows is not told yet."
                );
            }
        }
    }

    /// What this node's log shows of the Incident's pods; `None` where none of them is known here.
    fn witnessed(&self, incident: &Incident) -> Option<Witnessed> {
        let isolated = EventTime::from(isolated_at(incident)?);
        let (name, namespace) = (incident.name_any(), incident.namespace());
        let is_held = |pod: &Pod| pod.labels().get(labels::QUARANTINE) == Some(&name);
        let pods = &self.stores.pods;
        let pods = pods.within_where(&namespace.unwrap_or_default(), is_held);
        let watch = |pod: &Arc<Pod>| {
            let key = PodKey::from(pod.uid()?.as_str());
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            self.witness.watch(&key, node, isolated, monotonic_now())
        };
        pods.iter()
            .filter_map(watch)
            .reduce(worst)
            // A log that never spoke shows nothing.
            .filter(|witnessed| witnessed.log_time > EventTime::MIN)
    }

    async fn tell(&self, incident: &Incident, witnessed: &Witnessed) -> Result<(), ApiError> {
        let namespace = incident.namespace().unwrap_or_default();
        let observation = Observation {
            node: self.node.clone(),
            since: micro_time(witnessed.since),
            log_time: micro_time(witnessed.log_time),
            last_passed: witnessed.last_passed.map(micro_time),
            observed_at: MicroTime(Timestamp::now()),
            shows_survivors: witnessed.shows_survivors,
        };
        let fields = serde_json::json!({
            "apiVersion": Incident::api_version(&()),
            "kind": Incident::kind(&()),
            // So that an Incident of the same name that came meanwhile is not meant.
            "metadata": { "uid": incident.uid() },
            "spec": { "observations": [observation] },
        });
        let manager = FieldManager::observation(&self.node);
        self.writer
            .apply_fields::<Incident>(
                &manager,
                &namespace,
                &incident.name_any(),
                &fields,
                Conflicts::TakeOver,
            )
            .await
            .map(drop)
    }
}

/// Whether it is worth a write.
fn is_news(last: Option<Told>, now: &Witnessed) -> bool {
    let Some(Told { witnessed, at }) = last else {
        return true;
    };
    let survives = now.last_passed != witnessed.last_passed;
    // Both are all that this log can say; more lines about others change nothing.
    let is_final = |proof: Proof| matches!(proof, Proof::Stopped | Proof::OpenUnseen);
    let (before, after) = (prove(&witnessed), prove(now));
    let proves = is_final(after) && after != before;
    let goes_on =
        !is_final(before) && now.log_time > witnessed.log_time && at.elapsed() >= PROGRESS_EVERY;
    // A survivor that goes on and on is one every so often.
    proves
        || goes_on
        || (survives && (witnessed.last_passed.is_none() || at.elapsed() >= PROGRESS_EVERY))
}

fn is_contained(incident: &Incident) -> bool {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    condition_is(conditions, IncidentCondition::Contained.name())
        && !condition_is(conditions, IncidentCondition::Closed.name())
}

fn micro_time(time: EventTime) -> MicroTime {
    MicroTime(time.to_timestamp().unwrap_or(Timestamp::MIN))
}
