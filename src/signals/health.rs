//! Whether the sources speak: silence of a log is not safety.
//!
//! The pipeline notes what each source does; the controller turns it into SignalsFresh.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a loss of events is remembered.
const LOSS_REMEMBERED: Duration = Duration::from_mins(5);

#[derive(Clone, Debug)]
struct SourceNote {
    name: String,
    is_log: bool,
    last_line: Option<Instant>,
    last_loss: Option<Instant>,
    /// Nodes that it does not hear.
    unseen: BTreeSet<String>,
}

/// What can be said about all sources together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalsVerdict {
    /// Every source spoke lately and lost nothing.
    Fresh,
    /// No log is configured.
    NoSource,
    /// These logs are silent.
    Stale(Vec<String>),
    /// The logs speak, but for those of these nodes, which a relay does not hear.
    NodesUnseen {
        /// The nodes, sorted.
        nodes: Vec<String>,
        /// What there is to say of the others.
        others: Box<SignalsVerdict>,
    },
    /// The logs speak; these sources of node metrics are silent.
    MetricsStale(Vec<String>),
    /// These sources said that they lost events.
    Lossy(Vec<String>),
}

impl SignalsVerdict {
    /// The verdict for who has pods on these nodes only. With none it stays.
    #[must_use]
    pub fn on_nodes(self, wanted: &BTreeSet<&str>) -> Self {
        match self {
            Self::NodesUnseen { mut nodes, others } if !wanted.is_empty() => {
                nodes.retain(|node| wanted.contains(node.as_str()));
                if nodes.is_empty() {
                    *others
                } else {
                    Self::NodesUnseen { nodes, others }
                }
            }
            other => other,
        }
    }
}

/// Notes about the sources. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct SignalHealth {
    notes: Arc<RwLock<Vec<SourceNote>>>,
    since: Instant,
}

impl Default for SignalHealth {
    fn default() -> Self {
        Self::new([])
    }
}

impl SignalHealth {
    /// Notes for these logs, by index.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self::with_metrics(names, [])
    }

    /// Notes for these logs and, with the indexes after them, these sources of node metrics.
    #[must_use]
    pub fn with_metrics(
        logs: impl IntoIterator<Item = String>,
        metrics: impl IntoIterator<Item = String>,
    ) -> Self {
        let note = |is_log| {
            move |name| SourceNote {
                name,
                is_log,
                last_line: None,
                last_loss: None,
                unseen: BTreeSet::new(),
            }
        };
        let logs = logs.into_iter().map(note(true));
        let notes = logs.chain(metrics.into_iter().map(note(false)));
        Self {
            notes: Arc::new(RwLock::new(notes.collect())),
            since: Instant::now(),
        }
    }

    /// The source of this index delivered lines.
    pub fn spoke(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_line = Some(now));
    }

    /// The source of this index said that it lost events.
    pub fn lost(&self, source: usize, now: Instant) {
        self.note(source, |note| note.last_loss = Some(now));
    }

    /// The source of this index does not hear these nodes, and hears all others.
    pub fn unseen(&self, source: usize, nodes: Vec<String>) {
        self.note(source, |note| note.unseen = nodes.into_iter().collect());
    }

    /// Whether the source of this index does not hear this node.
    #[must_use]
    pub fn is_unseen(&self, source: usize, node: &str) -> bool {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        notes
            .get(source)
            .is_some_and(|note| note.unseen.contains(node))
    }

    /// The verdict; a source is silent that said nothing for `stale_after`.
    #[must_use]
    pub fn verdict(&self, now: Instant, stale_after: Duration) -> SignalsVerdict {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        let unseen: BTreeSet<&String> = notes.iter().flat_map(|note| &note.unseen).collect();
        let verdict = verdict_of(&notes, now, stale_after);
        if unseen.is_empty() || matches!(verdict, SignalsVerdict::Stale(_)) {
            return verdict;
        }
        SignalsVerdict::NodesUnseen {
            nodes: unseen.into_iter().cloned().collect(),
            others: Box::new(verdict),
        }
    }

    /// Whether it is too early for a verdict: a log said nothing yet, and had less time than `stale_after` for it.
    #[must_use]
    pub fn is_too_early(&self, now: Instant, stale_after: Duration) -> bool {
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner);
        let waits = notes
            .iter()
            .any(|note| note.is_log && note.last_line.is_none());
        waits && now.saturating_duration_since(self.since) < stale_after
    }

    fn note(&self, source: usize, change: impl FnOnce(&mut SourceNote)) {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get_mut(source) {
            change(note);
        }
    }
}

/// The verdict on the sources as such.
fn verdict_of(notes: &[SourceNote], now: Instant, stale_after: Duration) -> SignalsVerdict {
    let names = |chosen: &dyn Fn(&SourceNote) -> bool| -> Vec<String> {
        notes
            .iter()
            .filter(|note| chosen(note))
            .map(|note| note.name.clone())
            .collect()
    };
    let within = |time: Option<Instant>, span| time.is_some_and(|time| now - time < span);
    let is_stale = |note: &SourceNote| !within(note.last_line, stale_after);
    let stale = names(&|note| note.is_log && is_stale(note));
    if !stale.is_empty() {
        return SignalsVerdict::Stale(stale);
    }
    let stale = names(&|note| !note.is_log && is_stale(note));
    if !stale.is_empty() {
        return SignalsVerdict::MetricsStale(stale);
    }
    // Metrics alone show no flow.
    if !notes.iter().any(|note| note.is_log) {
        return SignalsVerdict::NoSource;
    }
    let lossy = names(&|note| within(note.last_loss, LOSS_REMEMBERED));
    if lossy.is_empty() {
        SignalsVerdict::Fresh
    } else {
        SignalsVerdict::Lossy(lossy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_mins(1);

    #[test]
    fn a_source_that_never_spoke_or_fell_silent_is_named() {
        let (health, start) = (SignalHealth::new(["a".into(), "b".into()]), Instant::now());
        health.spoke(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Stale(vec!["b".into()])
        );
        health.spoke(1, start + STALE);
        let later = start + STALE;
        assert_eq!(
            health.verdict(later, STALE),
            SignalsVerdict::Stale(vec!["a".into()])
        );
    }

    #[test]
    fn it_is_too_early_to_judge_until_a_log_spoke_or_had_its_time() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        assert!(health.is_too_early(start, STALE));
        assert!(!health.is_too_early(start + STALE * 2, STALE));
        health.spoke(0, start);
        assert!(!health.is_too_early(start, STALE));
        assert!(!SignalHealth::default().is_too_early(start, STALE));
    }

    #[test]
    fn metrics_that_fell_silent_are_named_unless_a_log_did() {
        let health = SignalHealth::with_metrics(["log".into()], ["kubelet".into()]);
        let start = Instant::now();
        let verdict = |now| health.verdict(now, STALE);
        health.spoke(1, start);
        assert_eq!(verdict(start), SignalsVerdict::Stale(vec!["log".into()]));
        health.spoke(0, start + STALE);
        let silent = SignalsVerdict::MetricsStale(vec!["kubelet".into()]);
        assert_eq!(verdict(start + STALE), silent);
        health.spoke(1, start + STALE);
        assert_eq!(verdict(start + STALE), SignalsVerdict::Fresh);
    }

    #[test]
    fn metrics_without_a_log_show_no_flow() {
        let (health, now) = (
            SignalHealth::with_metrics([], ["kubelet".into()]),
            Instant::now(),
        );
        health.spoke(0, now);
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::NoSource);
    }

    #[test]
    fn a_loss_is_remembered_for_five_minutes() {
        let (health, start) = (SignalHealth::new(["a".into()]), Instant::now());
        health.lost(0, start);
        health.spoke(0, start);
        assert_eq!(
            health.verdict(start, STALE),
            SignalsVerdict::Lossy(vec!["a".into()])
        );
        let later = start + LOSS_REMEMBERED;
        health.spoke(0, later);
        assert_eq!(health.verdict(later, STALE), SignalsVerdict::Fresh);
        assert_eq!(
            SignalHealth::default().verdict(later, STALE),
            SignalsVerdict::NoSource
        );
    }

    #[test]
    fn a_node_that_a_relay_does_not_hear_concerns_who_has_pods_there() {
        let (health, now) = (SignalHealth::new(["relay".into()]), Instant::now());
        health.spoke(0, now);
        health.unseen(0, vec!["b".into(), "a".into()]);
        let verdict = health.verdict(now, STALE);
        let on = |nodes: &[&str]| verdict.clone().on_nodes(&nodes.iter().copied().collect());
        let unseen = |nodes: &[&str]| SignalsVerdict::NodesUnseen {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            others: Box::new(SignalsVerdict::Fresh),
        };
        assert_eq!(on(&[]), unseen(&["a", "b"]));
        assert_eq!(on(&["b", "c"]), unseen(&["b"]));
        assert_eq!(on(&["c"]), SignalsVerdict::Fresh);
        assert!(health.is_unseen(0, "a") && !health.is_unseen(0, "c"));
        health.unseen(0, Vec::new());
        assert_eq!(health.verdict(now, STALE), SignalsVerdict::Fresh);
        // A relay that says nothing at all is the greater trouble.
        health.unseen(0, vec!["a".into()]);
        let stale = SignalsVerdict::Stale(vec!["relay".into()]);
        assert_eq!(health.verdict(now + STALE, STALE), stale);
    }
}
