//! How much a contact weighs in a walk. Chosen by `scan`, applied by `walk`; knows nothing of either.

/// How much a contact weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    /// A failure in the sum for a quarantine.
    pub(super) quarantine: f64,
    /// A failure in the sum for an alert.
    pub(super) alert: f64,
    /// An answer in the sum for a quarantine.
    pub(super) answer: f64,
    /// An answer in the sum for an alert.
    pub(super) alert_answer: f64,
    /// Whether the sums fade meanwhile: for failures that honest pods have all day.
    pub(super) fades: bool,
}

impl Weight {
    /// An ordinary failure.
    pub(super) const FULL: Self = Self::of(1.0);

    /// A failure that has a likely honest cause: 140 straight ones instead of 35, if they come
    /// faster than they fade. Answers weigh as little, else one in twelve would hide a scan.
    pub(super) const WEAK: Self = Self {
        answer: 0.25,
        alert_answer: 0.25,
        fades: true,
        ..Self::of(0.25)
    };

    /// The same for a quarantine only: a look costs nobody a training run, and a scan of web ports
    /// in a log without names must at least be said.
    pub(super) const WEAK_EXCEPT_FOR_ALERTS: Self = Self {
        alert: 1.0,
        alert_answer: 1.0,
        ..Self::WEAK
    };

    /// Failures the same in both sums, and answers in full.
    pub(super) const fn of(share: f64) -> Self {
        Self {
            quarantine: share,
            alert: share,
            answer: 1.0,
            alert_answer: 1.0,
            fades: false,
        }
    }
}
