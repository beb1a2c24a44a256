//! The witness: what the log shows of a pod after it was isolated.
//!
//! Written by the signal pipeline, read when a plan is made. Holds no history, only the last time
//! that traffic passed and how far the log has come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::proof::Witnessed;
use crate::api::Observation;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, PodKey, Volume};
use crate::signals::health::SignalHealth;

/// A source that said nothing for this long counts as silent.
pub const STALE: Duration = Duration::from_mins(1);

/// A line this far ahead of the wall clock says nothing about how far the log has come: one absurd
/// time stamp must not pass for proof.
const AHEAD_MAX: Duration = Duration::from_mins(10);

/// For how long, in the log's time, one line about a living connection of anybody stands for the
/// rule that logs them. Rules come and go with people, not with minutes.
const ALIVE_KEPT: Duration = Duration::from_mins(5);

/// How far a source has come.
#[derive(Clone, Copy, Debug)]
pub struct Spoken {
    /// Its newest line.
    pub log_time: EventTime,
    /// Its newest line that only a log has which tells of connections that live on; `None` where it
    /// had none.
    pub alive_time: Option<EventTime>,
    /// When it spoke, by the clock that only moves forward.
    pub at: Instant,
}

impl Spoken {
    fn shows_survivors(&self) -> bool {
        let kept = i64::try_from(ALIVE_KEPT.as_micros()).unwrap_or(i64::MAX);
        self.alive_time
            .is_some_and(|time| self.log_time.micros_since(time) <= kept)
    }
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    since: EventTime,
    last_passed: Option<EventTime>,
}

#[derive(Debug, Default)]
struct Seen {
    sources: HashMap<usize, Spoken>,
    pods: HashMap<PodKey, Watched>,
}

/// What the log shows. Cheap to clone; all clones are one witness.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    /// Which nodes a source does not hear.
    health: SignalHealth,
    /// Pods under watch, readable without the lock: nearly always 0 on the way of a flow.
    watched: Arc<AtomicUsize>,
}

impl Witness {
    /// A witness for sources that are noted here.
    #[must_use]
    pub fn of(health: SignalHealth) -> Self {
        Self {
            health,
            ..Self::default()
        }
    }

    /// A source spoke: what it said since it last did, and the clock on the wall.
    pub fn source_spoke(&self, source: usize, spoken: Spoken, wall: EventTime) {
        let ahead = i64::try_from(AHEAD_MAX.as_micros()).unwrap_or(i64::MAX);
        let is_absurd = |time: EventTime| time.micros_since(wall) > ahead;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.sources.entry(source).or_insert(Spoken {
            log_time: EventTime::MIN,
            alive_time: None,
            ..spoken
        });
        known.at = spoken.at;
        if !is_absurd(spoken.log_time) {
            known.log_time = known.log_time.max(spoken.log_time);
        }
        let alive_time = spoken.alive_time.filter(|time| !is_absurd(*time));
        known.alive_time = known.alive_time.max(alive_time);
    }

    /// A flow of this pod was seen. Cheap while no pod is under watch.
    pub fn flow_seen(&self, pod: &PodKey, flow: &Flow<'_>) {
        if self.watched.load(Ordering::Relaxed) == 0 || !passed(flow) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = seen.pods.get_mut(pod)
            && flow.time > watched.since
        {
            watched.last_passed = watched.last_passed.max(Some(flow.time));
        }
    }

    /// Watches a pod since its isolation, and says what was seen. The first call fixes `since`: the
    /// isolation, or the newest line so far where the log's clock is ahead of the API server's.
    /// `None` when too many pods are under watch. A source that does not hear the pod's node says
    /// nothing about the pod, however much it says of others (INV-8).
    #[must_use]
    pub fn watch(
        &self,
        pod: &PodKey,
        node: Option<&str>,
        isolated: EventTime,
        now: Instant,
    ) -> Option<Witnessed> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let hears = |source: usize| !node.is_some_and(|node| self.health.is_unseen(source, node));
        let speaking = seen
            .sources
            .iter()
            .filter(|(source, spoken)| now - spoken.at < STALE && hears(**source))
            .map(|(_, spoken)| spoken);
        let log_time = speaking.clone().map(|spoken| spoken.log_time).min();
        let shows_survivors = speaking.clone().any(Spoken::shows_survivors);
        let newest = seen.sources.values().map(|spoken| spoken.log_time).max();
        if !seen.pods.contains_key(pod) && seen.pods.len() >= limits::WITNESSED_PODS_MAX {
            return None;
        }
        let watched = *seen.pods.entry(pod.clone()).or_insert_with(|| Watched {
            since: newest.map_or(isolated, |time| time.max(isolated)),
            last_passed: None,
        });
        self.watched.store(seen.pods.len(), Ordering::Relaxed);
        Some(Witnessed {
            since: watched.since,
            log_time: log_time.or(newest).unwrap_or(EventTime::MIN),
            last_passed: watched.last_passed,
            source_speaks: log_time.is_some(),
            shows_survivors,
        })
    }

    /// The pod is released or gone.
    pub fn forget(&self, pod: &PodKey) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.pods.remove(pod);
        self.watched.store(seen.pods.len(), Ordering::Relaxed);
    }
}

/// What the logs of two pods show together: the worse of each.
pub(in crate::respond) fn worst(one: Witnessed, other: Witnessed) -> Witnessed {
    Witnessed {
        since: one.since.max(other.since),
        log_time: one.log_time.min(other.log_time),
        last_passed: one.last_passed.max(other.last_passed),
        source_speaks: one.source_speaks && other.source_speaks,
        shows_survivors: one.shows_survivors && other.shows_survivors,
    }
}

/// What two logs show of the same pods: the worse of each, but one that would show a connection that
/// lives on is enough.
pub(in crate::respond) fn together(one: Witnessed, other: Witnessed) -> Witnessed {
    Witnessed {
        shows_survivors: one.shows_survivors || other.shows_survivors,
        ..worst(one, other)
    }
}

/// What a node's agent told; `now` is the clock on the wall.
pub(in crate::respond) fn told(observation: &Observation, now: Timestamp) -> Witnessed {
    let age = now.duration_since(observation.observed_at.0);
    Witnessed {
        since: observation.since.0.into(),
        log_time: observation.log_time.0.into(),
        last_passed: observation.last_passed.as_ref().map(|time| time.0.into()),
        source_speaks: age.unsigned_abs() < STALE,
        shows_survivors: observation.shows_survivors,
    }
}

/// Whether a record shows that traffic got out. A packet that was only logged on its way to the
/// policy (`Unseen`) shows nothing, and a denied one shows the opposite. A later packet of a
/// connection, which a log of packets has as `NotAnAttempt` without volume, shows that it lives; so
/// does a later window of one that has not ended. A SYN-ACK that only its flags call an answer may
/// come from anybody. Whoever calls has left out records that do not say how old they are
/// (`Format::dates`).
fn passed(flow: &Flow<'_>) -> bool {
    let lives =
        |volume: Volume| !volume.is_final && (volume.packets_out > 0 || volume.packets_in > 0);
    flow.forwarded
        && !flow.is_inferred
        && match flow.outcome {
            Outcome::Pending | Outcome::Answered | Outcome::Refused | Outcome::Unanswered => true,
            Outcome::NotAnAttempt => flow.volume.is_none_or(lives),
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

    /// A log with the rule for living connections, which spoke of one at this time.
    fn spoken(second: i64, at_instant: Instant) -> Spoken {
        Spoken {
            log_time: at(second),
            alive_time: Some(at(second)),
            at: at_instant,
        }
    }

    fn proof_after(flows: &[Flow<'_>], log_s: i64) -> Proof {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        witness.source_spoke(0, spoken(100, now), at(100));
        assert!(witness.watch(&pod, None, at(100), now).is_some());
        for flow in flows {
            witness.flow_seen(&pod, flow);
        }
        witness.source_spoke(0, spoken(log_s, now), at(log_s));
        prove(&witness.watch(&pod, None, at(100), now).unwrap())
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
    fn a_later_window_of_an_open_connection_is_a_survivor_and_a_claimed_answer_is_none() {
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
    fn a_record_of_before_the_isolation_that_comes_late_is_no_survivor() {
        assert_eq!(
            proof_after(&[flow(90, Outcome::Answered, true)], 111),
            Proof::Stopped
        );
    }

    #[test]
    fn one_absurd_time_stamp_is_no_proof() {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        witness.source_spoke(0, spoken(100, now), at(100));
        witness.source_spoke(0, spoken(1_000_000, now), at(101));
        assert_eq!(
            prove(&witness.watch(&pod, None, at(100), now).unwrap()),
            Proof::Awaited
        );
    }

    #[test]
    fn a_log_whose_clock_is_ahead_does_not_turn_old_traffic_into_survivors() {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        // The node's clock is 300 s ahead; its newest line is of the very moment of isolation.
        witness.source_spoke(0, spoken(400, now), at(100));
        assert!(witness.watch(&pod, None, at(100), now).is_some());
        witness.flow_seen(&pod, &flow(399, Outcome::Answered, true));
        assert_eq!(
            prove(&witness.watch(&pod, None, at(100), now).unwrap()),
            Proof::Awaited
        );
    }

    #[test]
    fn a_source_that_does_not_hear_a_node_proves_nothing_about_its_pods() {
        let health = SignalHealth::new(["relay".to_owned()]);
        let (witness, pod) = (Witness::of(health.clone()), PodKey::from("p"));
        let now = Instant::now();
        let speaks = |node| {
            let witnessed = witness.watch(&pod, node, at(100), now);
            witnessed.unwrap().source_speaks
        };
        witness.source_spoke(0, spoken(200, now), at(200));
        health.unseen(0, vec!["dark".to_owned()]);
        assert!(!speaks(Some("dark")));
        assert!(speaks(Some("seen")) && speaks(None));
        health.unseen(0, Vec::new());
        assert!(speaks(Some("dark")));
    }

    /// What is proven 12 s after the isolation by a log whose newest line about a living connection
    /// of anybody is of this second.
    fn proof_with_alive(alive_s: Option<i64>, log_s: i64) -> Proof {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        let spoken = |second, alive_s: Option<i64>| Spoken {
            alive_time: alive_s.map(at),
            ..spoken(second, now)
        };
        witness.source_spoke(0, spoken(100, alive_s), at(100));
        assert!(witness.watch(&pod, None, at(100), now).is_some());
        witness.source_spoke(0, spoken(log_s, None), at(log_s));
        prove(&witness.watch(&pod, None, at(100), now).unwrap())
    }

    #[test]
    fn a_log_that_tells_of_no_living_connection_proves_no_stop() {
        assert_eq!(proof_with_alive(None, 112), Proof::OpenUnseen);
        assert_eq!(proof_with_alive(Some(95), 112), Proof::Stopped);
        // The rule is gone: nothing living was told of for longer than that.
        assert_eq!(proof_with_alive(Some(95), 400), Proof::OpenUnseen);
    }

    #[test]
    fn one_source_that_tells_of_living_connections_is_enough() {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        let zeek = Spoken {
            alive_time: None,
            ..spoken(112, now)
        };
        witness.source_spoke(0, zeek, at(112));
        let proof = |isolated_s| prove(&witness.watch(&pod, None, at(isolated_s), now).unwrap());
        assert_eq!(proof(100), Proof::Awaited);
        witness.source_spoke(
            0,
            Spoken {
                log_time: at(125),
                ..zeek
            },
            at(125),
        );
        assert_eq!(proof(100), Proof::OpenUnseen);
        witness.source_spoke(1, spoken(125, now), at(125));
        assert_eq!(proof(100), Proof::Stopped);
    }

    #[test]
    fn two_logs_of_the_same_pods_need_one_that_tells_and_logs_of_two_pods_need_both() {
        let (witness, pod, now) = (Witness::default(), PodKey::from("p"), Instant::now());
        witness.source_spoke(0, spoken(112, now), at(112));
        let tells = witness.watch(&pod, None, at(100), now).unwrap();
        let blind = Witnessed {
            shows_survivors: false,
            ..tells
        };
        assert!(together(tells, blind).shows_survivors);
        assert!(!worst(tells, blind).shows_survivors);
    }
}
