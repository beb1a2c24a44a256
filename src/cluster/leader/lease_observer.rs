//! Decides what to do with the Lease, from what this process observed of it. Pure: time is a parameter.
//!
//! Called by `elector`, which reads and writes the Lease. The decision does not compare wall clocks of
//! different machines: a holder counts as gone when its record did not change for a whole lease
//! duration on the observer's monotonic clock, and the holder counts its own lease duration from
//! before it sent the renewal. So clock skew cannot make two leaders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::limits;

/// The durations of the leader election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseTimings {
    /// Others acquire the Lease when it was not renewed for this long.
    pub duration: Duration,
    /// The leader begins no write later than this after its last renewal. Shorter than `duration`, so
    /// that a write of the old leader has ended before a new leader begins one.
    pub renew_deadline: Duration,
    /// How often the leader renews. Other replicas check twice as often.
    pub retry: Duration,
}

/// Why these durations cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLeaseTimings {
    /// A Lease stores its duration in whole seconds.
    #[error("--lease-duration wants whole seconds, from 2s to 10m")]
    Duration,
    /// The old leader could write at the same time as a new one.
    #[error("--lease-renew-deadline wants less than --lease-duration")]
    Deadline,
    /// A single lost response would lose the Lease.
    #[error("--lease-retry-period wants from 100ms to half of --lease-renew-deadline")]
    Retry,
}

impl LeaseTimings {
    /// Checks the durations.
    pub(crate) fn new(
        duration: Duration,
        renew_deadline: Duration,
        retry: Duration,
    ) -> Result<Self, InvalidLeaseTimings> {
        let range = limits::LEASE_DURATION_MIN..=limits::LEASE_DURATION_MAX;
        if duration.subsec_nanos() != 0 || !range.contains(&duration) {
            return Err(InvalidLeaseTimings::Duration);
        }
        if renew_deadline >= duration {
            return Err(InvalidLeaseTimings::Deadline);
        }
        if retry < limits::LEASE_RETRY_MIN || retry.saturating_mul(2) > renew_deadline {
            return Err(InvalidLeaseTimings::Retry);
        }
        Ok(Self {
            duration,
            renew_deadline,
            retry,
        })
    }

    /// The time limit of one attempt to acquire or renew: two attempts fit before the deadline.
    pub(super) fn attempt_limit(&self) -> Duration {
        let most = Duration::from_secs(limits::API_TIMEOUT_S);
        most.min(self.renew_deadline / 2)
    }
}

/// What to do with the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseAction {
    /// It does not exist: create it with this process as the holder.
    Create,
    /// It has no holder, or its holder is gone: acquire it.
    Acquire,
    /// This process holds it: renew it.
    Renew,
    /// Another process holds it.
    Wait,
}

/// What this process observed of the Lease.
#[derive(Debug, Default)]
pub(super) struct LeaseObserver {
    /// The last record that was read, and when it was first read.
    last: Option<(LeaseSpec, Instant)>,
    exists: bool,
}

impl LeaseObserver {
    /// Takes in the Lease as it was read or written. A deleted Lease keeps its last known holder.
    pub(super) fn observe(&mut self, lease: Option<&Lease>, now: Instant) {
        self.exists = lease.is_some();
        let Some(lease) = lease else { return };
        let spec = lease.spec.clone().unwrap_or_default();
        let is_same = self.last.as_ref().is_some_and(|(known, _)| *known == spec);
        if !is_same {
            self.last = Some((spec, now));
        }
    }

    /// What the process named `me` does now.
    pub(super) fn next_action(
        &self,
        me: &str,
        timings: &LeaseTimings,
        now: Instant,
    ) -> LeaseAction {
        let acquire = if self.exists {
            LeaseAction::Acquire
        } else {
            LeaseAction::Create
        };
        let Some((spec, since)) = &self.last else {
            return acquire;
        };
        match spec.holder_identity.as_deref() {
            None | Some("") => acquire,
            Some(holder) if holder == me && self.exists => LeaseAction::Renew,
            Some(holder) if holder == me => LeaseAction::Create,
            Some(_) if now.saturating_duration_since(*since) >= expires_after(spec, timings) => {
                acquire
            }
            Some(_) => LeaseAction::Wait,
        }
    }

    /// The last known holder.
    pub(super) fn holder(&self) -> Option<&str> {
        let (spec, _) = self.last.as_ref()?;
        spec.holder_identity
            .as_deref()
            .filter(|name| !name.is_empty())
    }
}

/// How long an unchanged record keeps its holder: the duration in the record, and not less than our
/// own, in case the holder is configured differently. Never more than the longest allowed duration.
fn expires_after(spec: &LeaseSpec, timings: &LeaseTimings) -> Duration {
    let stored = spec.lease_duration_seconds.unwrap_or(0);
    let stored = Duration::from_secs(u64::try_from(stored).unwrap_or(0));
    stored.max(timings.duration).min(limits::LEASE_DURATION_MAX)
}

/// The record with `me` as the holder, after the record `before`.
pub(super) fn acquired_spec(
    before: Option<&LeaseSpec>,
    me: &str,
    timings: &LeaseTimings,
    wall: Timestamp,
) -> LeaseSpec {
    let is_mine = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(me));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let acquired = before
        .filter(|_| is_mine)
        .and_then(|spec| spec.acquire_time.clone());
    // Others recognise a renewal by a changed record, so the renew time must grow even if the clock
    // was set back.
    let last = before.and_then(|spec| spec.renew_time.as_ref());
    let after_last = last.and_then(|last| last.0.checked_add(Duration::from_micros(1)).ok());
    let renewed = after_last.map_or(wall, |after| after.max(wall));
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(timings.duration.as_secs()).ok(),
        acquire_time: acquired.or(Some(MicroTime(wall))),
        renew_time: Some(MicroTime(renewed)),
        lease_transitions: Some(if is_mine || before.is_none() {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..before.cloned().unwrap_or_default()
    }
}

/// The record without a holder, so that another replica can acquire the Lease at once.
pub(super) fn released_spec(before: &LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "me";

    fn timings() -> LeaseTimings {
        let second = Duration::from_secs;
        LeaseTimings::new(second(15), second(10), second(2)).unwrap()
    }

    fn lease(spec: LeaseSpec) -> Lease {
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    /// A renewal by `holder` when its clock is at `wall_s`.
    fn renewal(holder: &str, wall_s: i64) -> Lease {
        let wall = Timestamp::from_second(wall_s).unwrap();
        lease(acquired_spec(None, holder, &timings(), wall))
    }

    /// The action of `ME` at `after_s`, after it read the Lease at each of these seconds.
    fn action_after(seen: &[(u64, Option<Lease>)], after_s: u64) -> LeaseAction {
        let start = Instant::now();
        let mut observer = LeaseObserver::default();
        for (second, lease) in seen {
            observer.observe(lease.as_ref(), start + Duration::from_secs(*second));
        }
        observer.next_action(ME, &timings(), start + Duration::from_secs(after_s))
    }

    #[test]
    fn a_missing_lease_is_created_and_a_free_one_is_acquired() {
        assert_eq!(action_after(&[], 0), LeaseAction::Create);
        assert_eq!(action_after(&[(0, None)], 0), LeaseAction::Create);
        assert_eq!(
            action_after(&[(0, Some(lease(LeaseSpec::default())))], 0),
            LeaseAction::Acquire
        );
        let spec = renewal("other", 100).spec.unwrap();
        assert_eq!(
            action_after(&[(0, Some(lease(released_spec(&spec))))], 0),
            LeaseAction::Acquire
        );
    }

    #[test]
    fn a_holder_that_renews_is_never_overtaken_whatever_its_clock_shows() {
        for wall_s in [0_i64, 1_000_000_000, 4_000_000_000] {
            let seen: Vec<_> = (0..20)
                .map(|n| {
                    (
                        2 * n,
                        Some(renewal("other", wall_s + i64::try_from(n).unwrap())),
                    )
                })
                .collect();
            assert_eq!(
                action_after(&seen, 38 + 14),
                LeaseAction::Wait,
                "clock at {wall_s}"
            );
            assert_eq!(
                action_after(&seen, 38 + 15),
                LeaseAction::Acquire,
                "clock at {wall_s}"
            );
        }
    }

    #[test]
    fn a_record_that_is_old_when_first_read_is_kept_for_the_whole_duration() {
        assert_eq!(
            action_after(&[(0, Some(renewal("other", 1)))], 14),
            LeaseAction::Wait
        );
        assert_eq!(
            action_after(&[(0, Some(renewal("other", 1)))], 15),
            LeaseAction::Acquire
        );
    }

    #[test]
    fn a_holder_with_a_longer_duration_keeps_the_lease_that_long_within_the_limit() {
        let mut spec = renewal("other", 1).spec.unwrap();
        spec.lease_duration_seconds = Some(60);
        let longer = lease(spec.clone());
        assert_eq!(
            action_after(&[(0, Some(longer.clone()))], 59),
            LeaseAction::Wait
        );
        assert_eq!(action_after(&[(0, Some(longer))], 60), LeaseAction::Acquire);
        spec.lease_duration_seconds = Some(i32::MAX);
        let most = limits::LEASE_DURATION_MAX.as_secs();
        assert_eq!(
            action_after(&[(0, Some(lease(spec)))], most),
            LeaseAction::Acquire
        );
    }

    #[test]
    fn a_deleted_lease_keeps_its_holder() {
        let seen = [(0, Some(renewal("other", 1))), (1, None)];
        assert_eq!(action_after(&seen, 14), LeaseAction::Wait);
        assert_eq!(action_after(&seen, 15), LeaseAction::Create);
        let mine = [(0, Some(renewal(ME, 1))), (1, None)];
        assert_eq!(action_after(&mine, 2), LeaseAction::Create);
    }

    #[test]
    fn a_renewal_differs_from_the_last_one_even_if_the_clock_was_set_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = acquired_spec(None, ME, &timings(), at(100));
        let second = acquired_spec(Some(&first), ME, &timings(), at(50));
        assert!(second.renew_time.as_ref().map(|t| t.0) > first.renew_time.as_ref().map(|t| t.0));
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.lease_transitions, Some(0));
        let other = acquired_spec(Some(&second), "other", &timings(), at(60));
        assert_eq!(other.lease_transitions, Some(1));
        assert_eq!(other.acquire_time, Some(MicroTime(at(60))));
    }

    #[test]
    fn timings_that_allow_two_leaders_at_once_are_refused() {
        let ms = Duration::from_millis;
        assert!(LeaseTimings::new(ms(2_000), ms(1_000), ms(200)).is_ok());
        assert_eq!(
            LeaseTimings::new(ms(15_000), ms(15_000), ms(2_000)),
            Err(InvalidLeaseTimings::Deadline)
        );
        assert_eq!(
            LeaseTimings::new(ms(15_500), ms(10_000), ms(2_000)),
            Err(InvalidLeaseTimings::Duration)
        );
        assert_eq!(
            LeaseTimings::new(ms(1_000), ms(500), ms(100)),
            Err(InvalidLeaseTimings::Duration)
        );
        assert_eq!(
            LeaseTimings::new(ms(15_000), ms(10_000), ms(6_000)),
            Err(InvalidLeaseTimings::Retry)
        );
        assert_eq!(
            LeaseTimings::new(ms(15_000), ms(10_000), ms(0)),
            Err(InvalidLeaseTimings::Retry)
        );
    }
}
