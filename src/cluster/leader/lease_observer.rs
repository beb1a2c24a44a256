//! Who may hold the Lease, decided from what was seen of it. Pure: time is a parameter.
//!
//! Called by `lease`, which reads and writes. Nobody's wall clock is believed: a holder counts as
//! gone when its record stood still for its whole duration, on the clock of whoever looks, and the
//! holder itself reckons from before it asked. So clocks that differ cannot make two holders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::limits;

/// How long a Lease lasts, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Others take the Lease when it was not renewed for this long.
    pub duration: Duration,
    /// The holder begins no write later than this after its last renewal. Below `duration`, so that
    /// a write that was begun has ended before another may begin one.
    pub renew_deadline: Duration,
    /// How often the holder renews. Others look twice as often.
    pub retry: Duration,
}

/// Why these terms are no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// A Lease counts in whole seconds.
    #[error("--lease-duration wants whole seconds, from 2s to 10m")]
    Duration,
    /// The holder would write when others may.
    #[error("--lease-renew-deadline wants less than --lease-duration")]
    Deadline,
    /// One lost answer would lose the Lease.
    #[error("--lease-retry-period wants from 100ms to half of --lease-renew-deadline")]
    Retry,
}

impl Terms {
    /// Checks them.
    pub fn new(
        duration: Duration,
        renew_deadline: Duration,
        retry: Duration,
    ) -> Result<Self, BadTerms> {
        let range = limits::LEASE_DURATION_MIN..=limits::LEASE_DURATION_MAX;
        if duration.subsec_nanos() != 0 || !range.contains(&duration) {
            return Err(BadTerms::Duration);
        }
        if renew_deadline >= duration {
            return Err(BadTerms::Deadline);
        }
        if retry < limits::LEASE_RETRY_MIN || retry.saturating_mul(2) > renew_deadline {
            return Err(BadTerms::Retry);
        }
        Ok(Self {
            duration,
            renew_deadline,
            retry,
        })
    }

    /// The longest that one look at the Lease may take: two fit before the deadline.
    pub(super) fn look_limit(&self) -> Duration {
        let most = Duration::from_secs(limits::API_TIMEOUT_S);
        most.min(self.renew_deadline / 2)
    }
}

/// What is to be done about the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// It is not there: make it, with oneself as holder.
    Create,
    /// It is free, or its holder is gone.
    Take,
    /// It is one's own.
    Renew,
    /// Another holds it.
    Wait,
}

/// What one candidate saw of the Lease.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// The last record that was seen, and since when it stands so.
    last: Option<(LeaseSpec, Instant)>,
    exists: bool,
}

impl Sightings {
    /// The Lease was read, or written by oneself. That it is gone is no news of its holder.
    pub fn see(&mut self, lease: Option<&Lease>, now: Instant) {
        self.exists = lease.is_some();
        let Some(lease) = lease else { return };
        let spec = lease.spec.clone().unwrap_or_default();
        let is_same = self.last.as_ref().is_some_and(|(known, _)| *known == spec);
        if !is_same {
            self.last = Some((spec, now));
        }
    }

    /// What `me` does now.
    pub fn evaluate(&self, me: &str, terms: &Terms, now: Instant) -> Move {
        let take = if self.exists {
            Move::Take
        } else {
            Move::Create
        };
        let Some((spec, since)) = &self.last else {
            return take;
        };
        match spec.holder_identity.as_deref() {
            None | Some("") => take,
            Some(holder) if holder == me && self.exists => Move::Renew,
            Some(holder) if holder == me => Move::Create,
            Some(_) if now.saturating_duration_since(*since) >= promised(spec, terms) => take,
            Some(_) => Move::Wait,
        }
    }

    /// Who holds it, as far as was seen.
    pub fn holder(&self) -> Option<&str> {
        let (spec, _) = self.last.as_ref()?;
        spec.holder_identity
            .as_deref()
            .filter(|name| !name.is_empty())
    }
}

/// How long the record stays good without a change: as long as its holder said, and no shorter than
/// our own terms, in case it runs with others. No longer than any terms may be.
fn promised(spec: &LeaseSpec, terms: &Terms) -> Duration {
    let said = spec.lease_duration_seconds.unwrap_or(0);
    let said = Duration::from_secs(u64::try_from(said).unwrap_or(0));
    said.max(terms.duration).min(limits::LEASE_DURATION_MAX)
}

/// The record in which `me` holds the Lease; `before` is what it follows.
pub(super) fn held(
    before: Option<&LeaseSpec>,
    me: &str,
    terms: &Terms,
    wall: Timestamp,
) -> LeaseSpec {
    let is_mine = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(me));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let acquired = before
        .filter(|_| is_mine)
        .and_then(|spec| spec.acquire_time.clone());
    // A clock that was set back or stands still must not make a renewal look like none.
    let last = before.and_then(|spec| spec.renew_time.as_ref());
    let after_last = last.and_then(|last| last.0.checked_add(Duration::from_micros(1)).ok());
    let renewed = after_last.map_or(wall, |after| after.max(wall));
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(terms.duration.as_secs()).ok(),
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

/// The record in which nobody holds it, so that the next one need not wait.
pub(super) fn released(before: &LeaseSpec) -> LeaseSpec {
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

    fn terms() -> Terms {
        let second = Duration::from_secs;
        Terms::new(second(15), second(10), second(2)).unwrap()
    }

    fn lease(spec: LeaseSpec) -> Lease {
        Lease {
            spec: Some(spec),
            ..Lease::default()
        }
    }

    /// A renewal of `holder`, whose own clock says `wall_s`.
    fn renewal(holder: &str, wall_s: i64) -> Lease {
        let wall = Timestamp::from_second(wall_s).unwrap();
        lease(held(None, holder, &terms(), wall))
    }

    /// What `ME` does `after_s` seconds after it saw each of `seen`, which came at these seconds.
    fn moves(seen: &[(u64, Option<Lease>)], after_s: u64) -> Move {
        let start = Instant::now();
        let mut sightings = Sightings::default();
        for (second, lease) in seen {
            sightings.see(lease.as_ref(), start + Duration::from_secs(*second));
        }
        sightings.evaluate(ME, &terms(), start + Duration::from_secs(after_s))
    }

    #[test]
    fn a_lease_that_is_not_there_is_made_and_a_free_one_is_taken() {
        assert_eq!(moves(&[], 0), Move::Create);
        assert_eq!(moves(&[(0, None)], 0), Move::Create);
        assert_eq!(
            moves(&[(0, Some(lease(LeaseSpec::default())))], 0),
            Move::Take
        );
        let spec = renewal("other", 100).spec.unwrap();
        assert_eq!(moves(&[(0, Some(lease(released(&spec))))], 0), Move::Take);
    }

    #[test]
    fn a_holder_that_renews_is_never_overtaken_whatever_its_clock_says() {
        for wall_s in [0_i64, 1_000_000_000, 4_000_000_000] {
            let seen: Vec<_> = (0..20)
                .map(|n| {
                    (
                        2 * n,
                        Some(renewal("other", wall_s + i64::try_from(n).unwrap())),
                    )
                })
                .collect();
            assert_eq!(moves(&seen, 38 + 14), Move::Wait, "clock at {wall_s}");
            assert_eq!(moves(&seen, 38 + 15), Move::Take, "clock at {wall_s}");
        }
    }

    #[test]
    fn a_record_that_is_old_when_it_is_first_seen_is_waited_out_all_the_same() {
        assert_eq!(moves(&[(0, Some(renewal("other", 1)))], 14), Move::Wait);
        assert_eq!(moves(&[(0, Some(renewal("other", 1)))], 15), Move::Take);
    }

    #[test]
    fn a_holder_with_a_longer_lease_is_given_its_time_but_not_for_ever() {
        let mut spec = renewal("other", 1).spec.unwrap();
        spec.lease_duration_seconds = Some(60);
        let longer = lease(spec.clone());
        assert_eq!(moves(&[(0, Some(longer.clone()))], 59), Move::Wait);
        assert_eq!(moves(&[(0, Some(longer))], 60), Move::Take);
        spec.lease_duration_seconds = Some(i32::MAX);
        let most = limits::LEASE_DURATION_MAX.as_secs();
        assert_eq!(moves(&[(0, Some(lease(spec)))], most), Move::Take);
    }

    #[test]
    fn a_lease_that_somebody_deletes_still_has_its_holder() {
        let seen = [(0, Some(renewal("other", 1))), (1, None)];
        assert_eq!(moves(&seen, 14), Move::Wait);
        assert_eq!(moves(&seen, 15), Move::Create);
        let mine = [(0, Some(renewal(ME, 1))), (1, None)];
        assert_eq!(moves(&mine, 2), Move::Create);
    }

    #[test]
    fn a_renewal_differs_from_the_last_one_even_if_the_clock_was_set_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = held(None, ME, &terms(), at(100));
        let second = held(Some(&first), ME, &terms(), at(50));
        assert!(second.renew_time.as_ref().map(|t| t.0) > first.renew_time.as_ref().map(|t| t.0));
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.lease_transitions, Some(0));
        let other = held(Some(&second), "other", &terms(), at(60));
        assert_eq!(other.lease_transitions, Some(1));
        assert_eq!(other.acquire_time, Some(MicroTime(at(60))));
    }

    #[test]
    fn terms_under_which_two_could_write_at_once_are_refused() {
        let ms = Duration::from_millis;
        assert!(Terms::new(ms(2_000), ms(1_000), ms(200)).is_ok());
        assert_eq!(
            Terms::new(ms(15_000), ms(15_000), ms(2_000)),
            Err(BadTerms::Deadline)
        );
        assert_eq!(
            Terms::new(ms(15_500), ms(10_000), ms(2_000)),
            Err(BadTerms::Duration)
        );
        assert_eq!(
            Terms::new(ms(1_000), ms(500), ms(100)),
            Err(BadTerms::Duration)
        );
        assert_eq!(
            Terms::new(ms(15_000), ms(10_000), ms(6_000)),
            Err(BadTerms::Retry)
        );
        assert_eq!(
            Terms::new(ms(15_000), ms(10_000), ms(0)),
            Err(BadTerms::Retry)
        );
    }
}
