//! Counters of lines and signals by reason. Part of the pipeline; read for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::signals::attribute::Why;
use crate::signals::decode::SkipReason;

/// Lines that are no signal on purpose, by reason.
#[derive(Debug, Default)]
pub struct BySkipReason([AtomicU64; SkipReason::ALL.len()]);

impl BySkipReason {
    pub(super) fn count(&self, reason: SkipReason) {
        let position = SkipReason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = position.and_then(|position| self.0.get(position)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each reason's name, and how many lines it has.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = SkipReason::ALL.iter().map(|reason| reason.name());
        names.zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().map(|(_, count)| count).sum()
    }
}

/// Signals that no pod could be named for, by reason.
#[derive(Debug, Default)]
pub struct Unattributed {
    by_why: [AtomicU64; Why::ALL.len()],
    /// The log's clock is ahead.
    pub ahead: AtomicU64,
    /// Too many lines waited for their pods.
    pub overflowed: AtomicU64,
}

impl Unattributed {
    pub(super) fn count(&self, why: Why) {
        let position = Why::ALL.iter().position(|known| *known == why);
        if let Some(counter) = position.and_then(|position| self.by_why.get(position)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each reason's name, and how many signals it has.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let names = Why::ALL.iter().map(|why| why.name());
        let others = [
            ("ahead", read(&self.ahead)),
            ("overflowed", read(&self.overflowed)),
        ];
        names.zip(self.by_why.iter().map(read)).chain(others)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::Metric;

    #[test]
    fn every_reason_is_a_label_of_its_metric_and_no_other_is() {
        let labels = |metric: Metric| metric.labels()[0].values.to_vec();
        let (skipped, unattributed) = (BySkipReason::default(), Unattributed::default());
        let names = |reasons: Vec<(&'static str, u64)>| -> Vec<&str> {
            reasons.into_iter().map(|(name, _)| name).collect()
        };
        let skip_names = names(skipped.by_reason().collect());
        assert_eq!(skip_names, labels(Metric::LinesSkipped));
        let why_names = names(unattributed.by_reason().collect());
        assert_eq!(why_names, labels(Metric::SignalsUnattributed));
    }

    #[test]
    fn what_is_counted_shows_under_its_reason() {
        let unattributed = Unattributed::default();
        unattributed.count(Why::Ambiguous);
        unattributed.ahead.fetch_add(2, Ordering::Relaxed);
        let counted: Vec<_> = unattributed.by_reason().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("ambiguous", 1), ("ahead", 2)]);
        assert_eq!(unattributed.total(), 3);
    }
}
