//! Proof of containment: the log that showed the crime must show its end.
//!
//! Silence alone proves nothing. The pod counts as stopped only when the same log went on speaking
//! of others for a while and said nothing more of this pod that passed. Even then only new traffic has
//! stopped, unless the log is one that tells of connections that live on: many tell at their end only.

use std::time::Duration;

use crate::model::EventTime;

/// How long the log must speak without the pod. Longer than Hubble's aggregation interval of 5 s,
/// in which one line stands for an open connection.
pub const QUIET: Duration = Duration::from_secs(10);

/// Packets this soon after the label are no survivors: the network plug-in needs a moment.
pub const GRACE: Duration = Duration::from_secs(2);

/// What the log showed since the isolation, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// From when on the pod must be silent: the isolation, or where the log's clock is ahead, the
    /// newest line at that moment.
    pub since: EventTime,
    /// The newest line of the log about anybody.
    pub log_time: EventTime,
    /// The last time that the pod's traffic was seen to pass after `since`.
    pub last_passed: Option<EventTime>,
    /// Whether the source spoke lately by the clock on the wall.
    pub source_speaks: bool,
    /// Whether the source would tell of a connection that was open before and lives on.
    pub shows_survivors: bool,
}

/// What that proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The traffic stopped.
    Stopped,
    /// Traffic was seen to pass after the isolation.
    Survives(EventTime),
    /// Nothing new passes any more, and the log would not tell of a connection that lives on.
    OpenUnseen,
    /// The log has not spoken for long enough yet.
    Awaited,
    /// The log is silent altogether.
    Silent,
}

/// Judges what was witnessed.
#[must_use]
pub fn prove(witnessed: &Witnessed) -> Proof {
    let after_grace = witnessed.since.plus_micros(micros(GRACE));
    let survivor = witnessed.last_passed.filter(|time| *time > after_grace);
    let quiet_from = survivor.unwrap_or(witnessed.since);
    if witnessed.log_time >= quiet_from.plus_micros(micros(QUIET)) {
        return if witnessed.shows_survivors {
            Proof::Stopped
        } else {
            Proof::OpenUnseen
        };
    }
    match survivor {
        Some(time) => Proof::Survives(time),
        None if witnessed.source_speaks => Proof::Awaited,
        None => Proof::Silent,
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

    fn witnessed(log_s: i64, passed_s: Option<i64>) -> Witnessed {
        Witnessed {
            since: at(100),
            log_time: at(log_s),
            last_passed: passed_s.map(at),
            source_speaks: true,
            shows_survivors: true,
        }
    }

    #[test]
    fn a_log_that_speaks_on_without_the_pod_proves_the_stop() {
        assert_eq!(prove(&witnessed(110, None)), Proof::Stopped);
        assert_eq!(prove(&witnessed(109, None)), Proof::Awaited);
    }

    #[test]
    fn a_log_that_has_connections_at_their_end_only_never_proves_the_stop() {
        let blind = |log_s, passed_s| Witnessed {
            shows_survivors: false,
            ..witnessed(log_s, passed_s)
        };
        assert_eq!(prove(&blind(110, None)), Proof::OpenUnseen);
        assert_eq!(prove(&blind(1_000, Some(105))), Proof::OpenUnseen);
        assert_eq!(prove(&blind(112, Some(105))), Proof::Survives(at(105)));
        assert_eq!(prove(&blind(109, None)), Proof::Awaited);
    }

    #[test]
    fn a_silent_log_proves_nothing() {
        let silent = Witnessed {
            source_speaks: false,
            ..witnessed(101, None)
        };
        assert_eq!(prove(&silent), Proof::Silent);
    }

    #[test]
    fn traffic_after_the_isolation_survives_until_it_is_quiet_again() {
        assert_eq!(prove(&witnessed(112, Some(105))), Proof::Survives(at(105)));
        assert_eq!(prove(&witnessed(115, Some(105))), Proof::Stopped);
    }

    #[test]
    fn the_last_packets_before_the_plug_in_acts_are_no_survivors() {
        assert_eq!(prove(&witnessed(105, Some(101))), Proof::Awaited);
    }
}
