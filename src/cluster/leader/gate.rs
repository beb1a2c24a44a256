//! The gate before every write that acts: open only while this process leads.
//!
//! [`Writer`](super::Writer) asks it anew for each write, so no part of the program can act past it.
//! It shuts by itself when the time of the last renewal is over, even if the task that renews hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};

/// For how long a process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// There is no election.
    ForEver,
    /// As long as the Lease was renewed.
    Until {
        /// No write is begun from here on.
        last_begin: Instant,
        /// From here on others may write; a write that was begun has ended by then.
        end: Instant,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Counts how often this process came to lead.
    term: u64,
    hold: Option<Hold>,
    /// The last term that was entered: what it rests on is known.
    entered: u64,
}

/// See the module. Cheap to clone; all clones are one gate.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
    /// Read by every write under way.
    under_way: Arc<RwLock<()>>,
}

/// Leave for one write. Held until it has ended.
pub(in crate::cluster) struct Pass {
    /// How long the write may take.
    pub limit: Duration,
    _under_way: OwnedRwLockReadGuard<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::shut()
    }
}

impl Gate {
    /// A gate that opens when a Lease is held; never, where nobody asks for one.
    #[must_use]
    pub fn shut() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
            under_way: Arc::default(),
        }
    }

    /// A gate without an election: this process is the only one. Its term still must be entered.
    #[must_use]
    pub fn alone() -> Self {
        let gate = Self::shut();
        gate.hold(Hold::ForEver);
        gate
    }

    /// A gate that is open: for a person's command, which no other process does at the same time.
    #[must_use]
    pub fn open() -> Self {
        let gate = Self::alone();
        gate.enter(gate.terms());
        gate
    }

    /// Whether a write that acts would be let through now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.left(Instant::now()).is_some()
    }

    /// Whether the Lease is held, entered or not.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.borrow().hold.is_some()
    }

    /// How often this process came to lead.
    #[must_use]
    pub fn terms(&self) -> u64 {
        self.state.borrow().term
    }

    /// Waits until this process holds the Lease in a term that was not entered yet; returns the term.
    pub async fn next_term(&self) -> u64 {
        self.wait_until(|state| state.hold.is_some() && state.entered != state.term)
            .await
            .term
    }

    /// Waits until a term is over.
    pub async fn term_is_over(&self, term: u64) {
        self.wait_until(|state| state.hold.is_none() || state.term != term)
            .await;
    }

    /// Waits until writes that act would be let through.
    pub async fn opened(&self) {
        self.wait_until(|state| state.hold.is_some() && state.entered == state.term)
            .await;
    }

    /// What a term rests on is known: writes may begin, unless the term is over by now.
    pub fn enter(&self, term: u64) {
        self.state.send_modify(|state| state.entered = term);
    }

    /// The Lease is held.
    pub(super) fn hold(&self, hold: Hold) {
        self.state.send_modify(|state| {
            if state.hold.is_none() {
                state.term += 1;
            }
            state.hold = Some(hold);
        });
    }

    /// The Lease is not held any more. No write begins from here on.
    pub(in crate::cluster) fn shut_now(&self) {
        self.state.send_modify(|state| state.hold = None);
    }

    /// Whether the time of the last renewal is over.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.state.borrow().hold, Some(Hold::Until { last_begin, .. }) if now >= last_begin)
    }

    /// Waits until no write is under way any more, or for `limit`.
    pub(super) async fn writes_ended(&self, limit: Duration) {
        // Over time the Lease is not worth more than the writes that hang.
        let _ended = tokio::time::timeout(limit, self.under_way.write()).await;
    }

    /// Leave for one write that is to begin now.
    pub(in crate::cluster) async fn pass(&self) -> Option<Pass> {
        let under_way = Arc::clone(&self.under_way).read_owned().await;
        let limit = self.left(Instant::now())?;
        Some(Pass {
            limit,
            _under_way: under_way,
        })
    }

    /// How long a write that begins now may take.
    fn left(&self, now: Instant) -> Option<Duration> {
        let state = *self.state.borrow();
        if state.entered != state.term {
            return None;
        }
        match state.hold? {
            Hold::ForEver => Some(Duration::MAX),
            Hold::Until { last_begin, end } => {
                (now < last_begin).then(|| end.saturating_duration_since(now))
            }
        }
    }

    async fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> State {
        let mut states = self.state.subscribe();
        let found = states.wait_for(|state| is_so(state)).await;
        let found = found.map(|state| *state).ok();
        match found {
            Some(state) => state,
            // Never: the sender lives as long as this gate.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn until(now: Instant, begin: Duration, end: Duration) -> Hold {
        Hold::Until {
            last_begin: now + begin,
            end: now + end,
        }
    }

    #[test]
    fn it_is_shut_without_a_lease_and_before_the_term_is_entered() {
        let gate = Gate::shut();
        assert!(!gate.is_open());
        gate.enter(0);
        assert!(!gate.is_open());
        gate.hold(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        assert!(!gate.is_open(), "not entered");
        gate.enter(1);
        assert!(gate.is_open());
        gate.shut_now();
        assert!(!gate.is_open());
    }

    #[test]
    fn a_term_that_was_lost_meanwhile_opens_nothing() {
        let gate = Gate::shut();
        gate.hold(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        gate.shut_now();
        gate.hold(until(Instant::now(), 10 * SECOND, 15 * SECOND));
        gate.enter(1);
        assert!(!gate.is_open(), "the second term was not entered");
        gate.enter(2);
        assert!(gate.is_open());
    }

    #[test]
    fn it_shuts_by_itself_and_no_write_outlasts_the_lease() {
        let (gate, now) = (Gate::shut(), Instant::now());
        gate.hold(until(now, 10 * SECOND, 15 * SECOND));
        gate.enter(1);
        assert_eq!(gate.left(now), Some(15 * SECOND));
        assert_eq!(gate.left(now + 9 * SECOND), Some(6 * SECOND));
        assert_eq!(gate.left(now + 10 * SECOND), None);
        assert!(gate.is_overdue(now + 10 * SECOND));
        gate.hold(until(now + 2 * SECOND, 10 * SECOND, 15 * SECOND));
        assert!(gate.left(now + 11 * SECOND).is_some(), "renewed");
    }

    #[tokio::test]
    async fn giving_up_waits_for_writes_under_way_and_lets_none_begin() {
        let gate = Gate::alone();
        gate.enter(gate.next_term().await);
        let pass = gate.pass().await.unwrap();
        gate.shut_now();
        assert!(gate.pass().await.is_none());
        let ended = gate.writes_ended(60 * SECOND);
        tokio::pin!(ended);
        let is_over = futures::poll!(&mut ended).is_ready();
        assert!(!is_over, "a write is under way");
        drop(pass);
        ended.await;
    }
}
