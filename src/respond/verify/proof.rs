//! What the log proves about a contained pod: the log that showed the finding must show that the traffic
//! stopped.
//!
//! The absence of records alone proves nothing. The traffic of a pod counts as stopped only when the
//! same log continued with records about other pods for a while, and had none about passed traffic of
//! this pod. That proves that no new connection passes. Connections that were open before the
//! isolation are covered only by logs that record established connections, because many logs record a
//! connection only at its end.

use std::time::Duration;

use crate::model::EventTime;

/// How long the log must continue without the pod. Longer than Hubble's aggregation interval of 5 s,
/// in which an open connection has one record.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// Packets within this time after the isolation do not count: the network plug-in needs a moment to
/// apply the policy.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// What the log showed since the isolation, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrafficObservation {
    /// Traffic after this time counts: the isolation, or the newest record at that moment if the log's
    /// clock is ahead.
    pub since: EventTime,
    /// The newest record in the log, about any pod.
    pub log_time: EventTime,
    /// When traffic of the pod last passed after `since`.
    pub last_passed: Option<EventTime>,
    /// Whether the source sent a record recently, by the wall clock.
    pub source_is_fresh: bool,
    /// Whether the source would record a connection that was open before the isolation and continues.
    pub shows_survivors: bool,
}

impl TrafficObservation {
    /// The observation about two pods together: the worse value of each field.
    #[must_use]
    pub(crate) fn merge_pods(self, other: Self) -> Self {
        Self {
            since: self.since.max(other.since),
            log_time: self.log_time.min(other.log_time),
            last_passed: self.last_passed.max(other.last_passed),
            source_is_fresh: self.source_is_fresh && other.source_is_fresh,
            shows_survivors: self.shows_survivors && other.shows_survivors,
        }
    }

    /// The observation of the same pods in two logs together: the worse value of each field, but one
    /// log that shows survivors is enough.
    #[must_use]
    pub(crate) fn merge_sources(self, other: Self) -> Self {
        Self {
            shows_survivors: self.shows_survivors || other.shows_survivors,
            ..self.merge_pods(other)
        }
    }
}

/// What an observation proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The traffic stopped.
    Stopped,
    /// Traffic passed after the isolation, last at this time.
    Survives(EventTime),
    /// No new connection passes, but the log would not show one that was open before.
    SurvivorsUnknown,
    /// The log has not continued for long enough.
    Pending,
    /// No source sends records.
    SourceStale,
}

impl Proof {
    /// Whether more records of the same log cannot change the proof, unless traffic passes.
    #[must_use]
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::SurvivorsUnknown)
    }
}

/// Evaluates an observation.
#[must_use]
pub(crate) fn prove(observation: &TrafficObservation) -> Proof {
    let after_grace = observation.since.plus_micros(micros(GRACE));
    let survivor = observation.last_passed.filter(|time| *time > after_grace);
    let quiet_from = survivor.unwrap_or(observation.since);
    if observation.log_time >= quiet_from.plus_micros(micros(QUIET)) {
        return if observation.shows_survivors {
            Proof::Stopped
        } else {
            Proof::SurvivorsUnknown
        };
    }
    match survivor {
        Some(time) => Proof::Survives(time),
        None if observation.source_is_fresh => Proof::Pending,
        None => Proof::SourceStale,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn observed(log_s: i64, passed_s: Option<i64>) -> TrafficObservation {
        TrafficObservation {
            since: at(100),
            log_time: at(log_s),
            last_passed: passed_s.map(at),
            source_is_fresh: true,
            shows_survivors: true,
        }
    }

    #[test]
    fn a_log_that_continues_without_the_pod_proves_the_stop() {
        assert_eq!(prove(&observed(110, None)), Proof::Stopped);
        assert_eq!(prove(&observed(109, None)), Proof::Pending);
    }

    #[test]
    fn a_log_that_records_connections_only_at_their_end_never_proves_the_stop() {
        let blind = |log_s, passed_s| TrafficObservation {
            shows_survivors: false,
            ..observed(log_s, passed_s)
        };
        assert_eq!(prove(&blind(110, None)), Proof::SurvivorsUnknown);
        assert_eq!(prove(&blind(1_000, Some(105))), Proof::SurvivorsUnknown);
        assert_eq!(prove(&blind(112, Some(105))), Proof::Survives(at(105)));
        assert_eq!(prove(&blind(109, None)), Proof::Pending);
    }

    #[test]
    fn a_stale_source_proves_nothing() {
        let stale = TrafficObservation {
            source_is_fresh: false,
            ..observed(101, None)
        };
        assert_eq!(prove(&stale), Proof::SourceStale);
    }

    #[test]
    fn traffic_after_the_isolation_survives_until_it_is_quiet_again() {
        assert_eq!(prove(&observed(112, Some(105))), Proof::Survives(at(105)));
        assert_eq!(prove(&observed(115, Some(105))), Proof::Stopped);
    }

    #[test]
    fn the_last_packets_before_the_plug_in_applies_the_policy_are_no_survivors() {
        assert_eq!(prove(&observed(105, Some(101))), Proof::Pending);
    }

    #[test]
    fn two_logs_of_the_same_pods_need_one_that_shows_survivors_and_two_pods_need_both() {
        let shows = observed(112, None);
        let blind = TrafficObservation {
            shows_survivors: false,
            ..shows
        };
        assert!(shows.merge_sources(blind).shows_survivors);
        assert!(!shows.merge_pods(blind).shows_survivors);
    }
}
