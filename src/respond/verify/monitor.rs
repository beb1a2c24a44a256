//! What the log shows of a pod after it was isolated.
//!
//! Written by the signal pipeline; read by the responder and by the observer of a node agent. Keeps no
//! history, only when traffic last passed and how far each log has progressed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::proof::TrafficObservation;
use crate::api::Observation;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, PodKey, Volume};
use crate::signals::health::SignalHealth;

/// A source without records for this long is stale.
pub(super) const SOURCE_STALE_AFTER: Duration = Duration::from_mins(1);

/// How long one record about an established connection proves that the node still logs established
/// connections, in the log's time. The rule that logs them changes rarely.
const ALIVE_KEPT: Duration = Duration::from_mins(5);

/// How far a source has progressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceProgress {
    /// The time of its newest record.
    pub log_time: EventTime,
    /// The time of its newest record about an established connection; `None` if it had none.
    pub alive_time: Option<EventTime>,
    /// When the records arrived, on the monotonic clock.
    pub at: Instant,
}

impl SourceProgress {
    fn shows_survivors(&self) -> bool {
        let kept = i64::try_from(ALIVE_KEPT.as_micros()).unwrap_or(i64::MAX);
        self.alive_time
            .is_some_and(|time| self.log_time.micros_since(time) <= kept)
    }
}

#[derive(Clone, Copy, Debug)]
struct MonitoredPod {
    since: EventTime,
    last_passed: Option<EventTime>,
}

#[derive(Debug, Default)]
struct State {
    sources: HashMap<usize, SourceProgress>,
    pods: HashMap<PodKey, MonitoredPod>,
}

/// Observes the traffic of contained pods in the logs. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrafficMonitor {
    state: Arc<Mutex<State>>,
    /// Which nodes a source does not receive records from.
    health: SignalHealth,
    /// How many pods are monitored. Read for each flow without the lock, and almost always 0.
    pod_count: Arc<AtomicUsize>,
}

impl TrafficMonitor {
    /// A monitor of sources with this record of their health.
    #[must_use]
    pub(crate) fn with_health(health: SignalHealth) -> Self {
        Self {
            health,
            ..Self::default()
        }
    }

    /// Takes in the progress of a source. `wall` is the current wall clock time.
    pub(crate) fn record_progress(&self, source: usize, progress: SourceProgress, wall: EventTime) {
        // One wrong time stamp must not pass for proof.
        let is_wrong = |time: EventTime| time.micros_since(wall) > limits::LOG_AHEAD_MAX_MICROS;
        let mut state = self.state.lock();
        let known = state.sources.entry(source).or_insert(SourceProgress {
            log_time: EventTime::MIN,
            alive_time: None,
            ..progress
        });
        known.at = progress.at;
        if !is_wrong(progress.log_time) {
            known.log_time = known.log_time.max(progress.log_time);
        }
        let alive_time = progress.alive_time.filter(|time| !is_wrong(*time));
        known.alive_time = known.alive_time.max(alive_time);
    }

    /// Takes in a flow of this pod. Cheap while no pod is monitored.
    pub(crate) fn record_flow(&self, pod: &PodKey, flow: &Flow<'_>) {
        if self.pod_count.load(Ordering::Relaxed) == 0 || !shows_passed_traffic(flow) {
            return;
        }
        let mut state = self.state.lock();
        if let Some(monitored) = state.pods.get_mut(pod)
            && flow.time > monitored.since
        {
            monitored.last_passed = monitored.last_passed.max(Some(flow.time));
        }
    }

    /// Monitors a pod from its isolation on, and returns the observation so far. The first call sets
    /// `since`: the isolation, or the newest record so far if the log's clock is ahead of the API
    /// server's. `None` when too many pods are monitored. A source that receives no records from the
    /// pod's node does not count, however many it has from other nodes (INV-8).
    #[must_use]
    pub(crate) fn observe(
        &self,
        pod: &PodKey,
        node: Option<&str>,
        isolated: EventTime,
        now: Instant,
    ) -> Option<TrafficObservation> {
        let mut state = self.state.lock();
        let covers =
            |source: usize| !node.is_some_and(|node| self.health.is_unreachable(source, node));
        let fresh = state
            .sources
            .iter()
            .filter(|(source, known)| now - known.at < SOURCE_STALE_AFTER && covers(**source))
            .map(|(_, known)| known);
        let log_time = fresh.clone().map(|known| known.log_time).min();
        let shows_survivors = fresh.clone().any(SourceProgress::shows_survivors);
        let newest = state.sources.values().map(|known| known.log_time).max();
        if !state.pods.contains_key(pod) && state.pods.len() >= limits::MONITORED_PODS_MAX {
            return None;
        }
        let monitored = *state
            .pods
            .entry(pod.clone())
            .or_insert_with(|| MonitoredPod {
                since: newest.map_or(isolated, |time| time.max(isolated)),
                last_passed: None,
            });
        self.pod_count.store(state.pods.len(), Ordering::Relaxed);
        Some(TrafficObservation {
            since: monitored.since,
            log_time: log_time.or(newest).unwrap_or(EventTime::MIN),
            last_passed: monitored.last_passed,
            source_is_fresh: log_time.is_some(),
            shows_survivors,
        })
    }

    /// Stops monitoring a pod that was released or is gone.
    pub(crate) fn forget(&self, pod: &PodKey) {
        let mut state = self.state.lock();
        state.pods.remove(pod);
        self.pod_count.store(state.pods.len(), Ordering::Relaxed);
    }
}

/// The observation that a node agent wrote into an Incident; `now` is the wall clock time.
pub(in crate::respond) fn from_agent(
    observation: &Observation,
    now: Timestamp,
) -> TrafficObservation {
    let age = now.duration_since(observation.observed_at.0);
    TrafficObservation {
        since: observation.since.0.into(),
        log_time: observation.log_time.0.into(),
        last_passed: observation.last_passed.as_ref().map(|time| time.0.into()),
        source_is_fresh: age.unsigned_abs() < SOURCE_STALE_AFTER,
        shows_survivors: observation.shows_survivors,
    }
}

/// Whether a record shows traffic that passed the policy. A packet that was logged before the policy
/// was applied (`Unseen`) does not, and a denied one shows the opposite. A later packet of a
/// connection (`NotAnAttempt` or `Established` without volume in a log of packets) shows that it is open;
/// so does a later window of a connection that has not ended. A SYN-ACK that is recognised as an
/// answer only by its flags may be forged. Callers leave out records without a usable time
/// (`Format::dates`).
fn shows_passed_traffic(flow: &Flow<'_>) -> bool {
    let is_open =
        |volume: Volume| !volume.is_final && (volume.packets_out > 0 || volume.packets_in > 0);
    flow.forwarded
        && !flow.is_inferred
        && match flow.outcome {
            Outcome::Pending | Outcome::Answered | Outcome::Refused | Outcome::Unanswered => true,
            Outcome::NotAnAttempt | Outcome::Established => flow.volume.is_none_or(is_open),
            Outcome::Unseen | Outcome::Denied => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;
    use crate::respond::verify::proof::{Proof, prove};

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn flow(second: i64, outcome: Outcome, forwarded: bool) -> Flow<'static> {
        Flow {
            time: at(second),
            source: [10, 0, 0, 1].into(),
            source_port: 40_000,
            destination: [203, 0, 113, 1].into(),
            destination_port: 22,
            transport: Transport::Tcp,
            outcome,
            forwarded,
            volume: None,
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        }
    }

    /// The progress of a log that recorded an established connection at this time.
    fn progress(second: i64, at_instant: Instant) -> SourceProgress {
        SourceProgress {
            log_time: at(second),
            alive_time: Some(at(second)),
            at: at_instant,
        }
    }

    fn proof_after(flows: &[Flow<'_>], log_s: i64) -> Proof {
        let (monitor, pod, now) = (TrafficMonitor::default(), PodKey::from("p"), Instant::now());
        monitor.record_progress(0, progress(100, now), at(100));
        assert!(monitor.observe(&pod, None, at(100), now).is_some());
        for flow in flows {
            monitor.record_flow(&pod, flow);
        }
        monitor.record_progress(0, progress(log_s, now), at(log_s));
        prove(&monitor.observe(&pod, None, at(100), now).unwrap())
    }

    #[test]
    fn denied_and_merely_logged_packets_are_no_survivors() {
        let flows = [
            flow(105, Outcome::Denied, false),
            flow(106, Outcome::Unseen, true),
        ];
        assert_eq!(proof_after(&flows, 112), Proof::Stopped);
        assert_eq!(
            proof_after(&[flow(105, Outcome::Answered, true)], 112),
            Proof::Survives(at(105))
        );
    }

    #[test]
    fn a_later_window_of_an_open_connection_is_a_survivor_and_a_claimed_answer_is_not() {
        let window = |is_final, packets_out| Flow {
            volume: Some(Volume {
                packets_out,
                is_final,
                ..Volume::default()
            }),
            ..flow(105, Outcome::NotAnAttempt, true)
        };
        assert_eq!(
            proof_after(&[window(false, 9)], 112),
            Proof::Survives(at(105))
        );
        assert_eq!(proof_after(&[window(true, 9)], 112), Proof::Stopped);
        assert_eq!(proof_after(&[window(false, 0)], 112), Proof::Stopped);
        let claimed = Flow {
            is_inferred: true,
            ..flow(105, Outcome::Answered, true)
        };
        assert_eq!(proof_after(&[claimed], 112), Proof::Stopped);
    }

    #[test]
    fn a_late_record_from_before_the_isolation_is_no_survivor() {
        assert_eq!(
            proof_after(&[flow(90, Outcome::Answered, true)], 111),
            Proof::Stopped
        );
    }

    #[test]
    fn one_wrong_time_stamp_is_no_proof() {
        let (monitor, pod, now) = (TrafficMonitor::default(), PodKey::from("p"), Instant::now());
        monitor.record_progress(0, progress(100, now), at(100));
        monitor.record_progress(0, progress(1_000_000, now), at(101));
        assert_eq!(
            prove(&monitor.observe(&pod, None, at(100), now).unwrap()),
            Proof::Pending
        );
    }

    #[test]
    fn a_log_with_a_clock_that_is_ahead_does_not_turn_old_traffic_into_survivors() {
        let (monitor, pod, now) = (TrafficMonitor::default(), PodKey::from("p"), Instant::now());
        // The node's clock is 100 s ahead; its newest record is from the moment of the isolation.
        monitor.record_progress(0, progress(200, now), at(100));
        assert!(monitor.observe(&pod, None, at(100), now).is_some());
        monitor.record_flow(&pod, &flow(199, Outcome::Answered, true));
        assert_eq!(
            prove(&monitor.observe(&pod, None, at(100), now).unwrap()),
            Proof::Pending
        );
    }

    #[test]
    fn a_source_without_records_from_a_node_proves_nothing_about_its_pods() {
        let health = SignalHealth::new(["relay".to_owned()]);
        let (monitor, pod) = (
            TrafficMonitor::with_health(health.clone()),
            PodKey::from("p"),
        );
        let now = Instant::now();
        let is_fresh = |node| {
            let observed = monitor.observe(&pod, node, at(100), now);
            observed.unwrap().source_is_fresh
        };
        monitor.record_progress(0, progress(200, now), at(200));
        health.set_unreachable_nodes(0, vec!["dark".to_owned()]);
        assert!(!is_fresh(Some("dark")));
        assert!(is_fresh(Some("seen")) && is_fresh(None));
        health.set_unreachable_nodes(0, Vec::new());
        assert!(is_fresh(Some("dark")));
    }

    /// The proof from a log with the newest record about an established connection at this second.
    fn proof_with_alive(alive_s: Option<i64>, log_s: i64) -> Proof {
        let (monitor, pod, now) = (TrafficMonitor::default(), PodKey::from("p"), Instant::now());
        let progress_at = |second, alive_s: Option<i64>| SourceProgress {
            alive_time: alive_s.map(at),
            ..progress(second, now)
        };
        monitor.record_progress(0, progress_at(100, alive_s), at(100));
        assert!(monitor.observe(&pod, None, at(100), now).is_some());
        monitor.record_progress(0, progress_at(log_s, None), at(log_s));
        prove(&monitor.observe(&pod, None, at(100), now).unwrap())
    }

    #[test]
    fn a_log_without_established_connections_proves_no_stop() {
        assert_eq!(proof_with_alive(None, 112), Proof::SurvivorsUnknown);
        assert_eq!(proof_with_alive(Some(95), 112), Proof::Stopped);
        // The logging rule was removed: the newest record is too old.
        assert_eq!(proof_with_alive(Some(95), 400), Proof::SurvivorsUnknown);
    }

    #[test]
    fn one_source_that_records_established_connections_is_enough() {
        let (monitor, pod, now) = (TrafficMonitor::default(), PodKey::from("p"), Instant::now());
        let zeek = SourceProgress {
            alive_time: None,
            ..progress(112, now)
        };
        monitor.record_progress(0, zeek, at(112));
        let proof = |isolated_s| prove(&monitor.observe(&pod, None, at(isolated_s), now).unwrap());
        assert_eq!(proof(100), Proof::Pending);
        monitor.record_progress(
            0,
            SourceProgress {
                log_time: at(125),
                ..zeek
            },
            at(125),
        );
        assert_eq!(proof(100), Proof::SurvivorsUnknown);
        monitor.record_progress(1, progress(125, now), at(125));
        assert_eq!(proof(100), Proof::Stopped);
    }
}
