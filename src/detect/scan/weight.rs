//! Weight of a contact in a walk. Chosen by `placement`, applied by `walk`.

/// Factors by which a contact changes the two sums of a walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    /// Factor of a failure in the quarantine sum.
    pub(super) quarantine: f64,
    /// Factor of a failure in the alert sum.
    pub(super) alert: f64,
    /// Factor of an answer in the quarantine sum.
    pub(super) answer: f64,
    /// Factor of an answer in the alert sum.
    pub(super) alert_answer: f64,
    /// Whether the sums decrease over time: for failures that honest pods have all day.
    pub(super) fades: bool,
}

impl Weight {
    /// An ordinary failure.
    pub(super) const FULL: Self = Self::of(1.0);

    /// A failure with a likely honest cause: 140 in a row are needed instead of 35, if they come faster than they fade.
    /// Answers have the same low weight; otherwise one in twelve would hide a scan.
    pub(super) const WEAK: Self = Self {
        answer: 0.25,
        alert_answer: 0.25,
        fades: true,
        ..Self::of(0.25)
    };

    /// As [`Weight::WEAK`] for an alert, after 118 failures in a row, and nothing for a quarantine.
    pub(super) const WEAK_FOR_ALERTS_ONLY: Self = Self {
        quarantine: 0.0,
        ..Self::WEAK
    };

    /// As [`Weight::WEAK`] for a quarantine, with full weight for an alert: a false alert costs no training run, and a
    /// scan of web ports in a log without names must at least be reported.
    pub(super) const WEAK_EXCEPT_FOR_ALERTS: Self = Self {
        alert: 1.0,
        alert_answer: 1.0,
        ..Self::WEAK
    };

    /// Failures with the same factor in both sums, and answers with full weight.
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
