//! The gate before every write that acts: open only while this process is the leader.
//!
//! [`Writer`](crate::cluster::Writer) checks the gate before each write, so no part of the program can
//! act without it. The gate closes by itself when the renew deadline of the Lease has passed, even if
//! the task that renews the Lease hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};

/// How long this process is the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leadership {
    /// There is no election.
    Unlimited,
    /// Until the Lease expires, unless it is renewed.
    Until {
        /// No write begins after this time.
        last_begin: Instant,
        /// After this time another process may write. Every write that has begun ends by then.
        end: Instant,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// How often this process became the leader.
    term: u64,
    leadership: Option<Leadership>,
    /// The last term for which [`LeaderGate::open`] was called.
    opened_term: u64,
}

impl State {
    const fn is_open(&self) -> bool {
        self.leadership.is_some() && self.opened_term == self.term
    }
}

/// Lets writes through only while this process is the leader. Clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct LeaderGate {
    state: Arc<watch::Sender<State>>,
    /// Each write holds a read lock until it has ended.
    in_flight: Arc<RwLock<()>>,
}

/// Permission for one write. Held until the write has ended.
pub(in crate::cluster) struct WritePermit {
    /// How long the write may take.
    pub limit: Duration,
    _in_flight: OwnedRwLockReadGuard<()>,
}

impl Default for LeaderGate {
    fn default() -> Self {
        Self::closed()
    }
}

impl LeaderGate {
    /// A closed gate. It opens when an elector acquires the Lease; without an elector, never.
    #[must_use]
    pub(crate) fn closed() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
            in_flight: Arc::default(),
        }
    }

    /// A gate without leader election, for the only replica. Its first term still must be opened.
    #[must_use]
    pub(crate) fn without_election() -> Self {
        let gate = Self::closed();
        gate.renewed(Leadership::Unlimited);
        gate
    }

    /// An open gate, for commands that a person runs.
    #[must_use]
    pub(crate) fn always_open() -> Self {
        let gate = Self::without_election();
        gate.open(gate.term());
        gate
    }

    /// Whether a write that acts would be let through now.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.remaining(Instant::now()).is_some()
    }

    /// Whether this process holds the Lease, whether or not the term is open.
    #[must_use]
    pub(crate) fn is_leader(&self) -> bool {
        self.state.borrow().leadership.is_some()
    }

    /// How often this process became the leader.
    #[must_use]
    pub(crate) fn term(&self) -> u64 {
        self.state.borrow().term
    }

    /// Waits until this process is the leader in a term that is not open yet; returns the term.
    pub(crate) async fn next_term(&self) -> u64 {
        self.wait_until(|state| state.leadership.is_some() && state.opened_term != state.term)
            .await
            .term
    }

    /// Waits until this term has ended.
    pub(crate) async fn term_ended(&self, term: u64) {
        self.wait_until(|state| state.leadership.is_none() || state.term != term)
            .await;
    }

    /// Waits until the gate is open.
    pub(crate) async fn wait_until_open(&self) {
        self.wait_until(State::is_open).await;
    }

    /// Lets the writes of this term begin. Has no effect if the term has ended.
    pub(crate) fn open(&self, term: u64) {
        self.state.send_modify(|state| state.opened_term = term);
    }

    /// The Lease was acquired or renewed.
    pub(super) fn renewed(&self, leadership: Leadership) {
        self.state.send_modify(|state| {
            if state.leadership.is_none() {
                state.term += 1;
            }
            state.leadership = Some(leadership);
        });
    }

    /// The Lease was lost or released. No write begins after this call.
    pub(in crate::cluster) fn close(&self) {
        self.state.send_modify(|state| state.leadership = None);
    }

    /// Whether the renew deadline has passed.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.state.borrow().leadership, Some(Leadership::Until { last_begin, .. }) if now >= last_begin)
    }

    /// Waits until no write is in flight, at most for `limit`.
    pub(super) async fn writes_ended(&self, limit: Duration) {
        // A write that hangs must not delay the release of the Lease beyond the limit.
        let _ended = tokio::time::timeout(limit, self.in_flight.write()).await;
    }

    /// Permission for one write that begins now; `None` while the gate is closed.
    pub(in crate::cluster) async fn permit(&self) -> Option<WritePermit> {
        let in_flight = Arc::clone(&self.in_flight).read_owned().await;
        let limit = self.remaining(Instant::now())?;
        Some(WritePermit {
            limit,
            _in_flight: in_flight,
        })
    }

    /// How long a write that begins now may take; `None` while the gate is closed.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let state = *self.state.borrow();
        if !state.is_open() {
            return None;
        }
        match state.leadership? {
            Leadership::Unlimited => Some(Duration::MAX),
            Leadership::Until { last_begin, end } => {
                (now < last_begin).then(|| end.saturating_duration_since(now))
            }
        }
    }

    async fn wait_until(&self, is_reached: impl Fn(&State) -> bool) -> State {
        let mut states = self.state.subscribe();
        let found = states.wait_for(|state| is_reached(state)).await;
        let found = found.map(|state| *state).ok();
        match found {
            Some(state) => state,
            // Unreachable: the sender lives as long as this gate.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn until(now: Instant, begin: Duration, end: Duration) -> Leadership {
        Leadership::Until {
            last_begin: now + begin,
            end: now + end,
        }
    }

    #[test]
    fn it_is_closed_without_a_lease_and_before_the_term_is_opened() {
        let gate = LeaderGate::closed();
        assert!(!gate.is_open());
        gate.open(0);
        assert!(!gate.is_open());
        gate.renewed(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        assert!(!gate.is_open(), "the term is not open");
        gate.open(1);
        assert!(gate.is_open());
        gate.close();
        assert!(!gate.is_open());
    }

    #[test]
    fn opening_a_term_that_has_ended_has_no_effect() {
        let gate = LeaderGate::closed();
        gate.renewed(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        gate.close();
        gate.renewed(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        gate.open(1);
        assert!(!gate.is_open(), "the second term is not open");
        gate.open(2);
        assert!(gate.is_open());
    }

    #[test]
    fn it_closes_by_itself_and_no_write_outlasts_the_lease() {
        let (gate, now) = (LeaderGate::closed(), Instant::now());
        gate.renewed(until(now, 10 * SECOND, 15 * SECOND));
        gate.open(1);
        assert_eq!(gate.remaining(now), Some(15 * SECOND));
        assert_eq!(gate.remaining(now + 9 * SECOND), Some(6 * SECOND));
        assert_eq!(gate.remaining(now + 10 * SECOND), None);
        assert!(gate.is_overdue(now + 10 * SECOND));
        gate.renewed(until(now + 2 * SECOND, 10 * SECOND, 15 * SECOND));
        assert!(gate.remaining(now + 11 * SECOND).is_some(), "renewed");
    }

    #[tokio::test]
    async fn a_release_waits_for_writes_in_flight_and_lets_none_begin() {
        let gate = LeaderGate::without_election();
        gate.open(gate.next_term().await);
        let permit = gate.permit().await.unwrap();
        gate.close();
        assert!(gate.permit().await.is_none());
        let ended = gate.writes_ended(60 * SECOND);
        tokio::pin!(ended);
        let has_ended = futures::poll!(&mut ended).is_ready();
        assert!(!has_ended, "a write is in flight");
        drop(permit);
        ended.await;
    }
}
