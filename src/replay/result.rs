//! The result of one capture: filled by `run`, read by `score` and `report`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::captures::LeftOut;
use super::files::FileResult;
use super::open_targets::OpenTargets;
use super::policies::HeldBack;
use super::timeline::Timeline;
use crate::model::{EventTime, Finding, Flow, Severity, Signal, Signature};
use crate::signals::decode::Format;

/// Number of contacts without a known outcome from which a subject is not called clean: 24 consecutive
/// failures are an alert.
const UNJUDGED_MIN: usize = 24;

/// The result of one capture.
#[derive(Clone, Debug, Default)]
pub struct CaptureResult {
    /// Its name.
    pub capture: String,
    /// Records of connections.
    pub flow_count: u64,
    /// Lines that are malformed or too long.
    pub malformed_count: u64,
    /// Well-formed lines that are unknown to their format.
    pub unknown_count: u64,
    /// Records that the log's producer reports as lost.
    pub lost_count: u64,
    /// Signals that were not judged because there were too many subjects.
    pub refused_count: u64,
    /// Impossible values in samples.
    pub impossible_count: u64,
    /// Samples of accelerators that do not name their device.
    pub unnamed_device_count: u64,
    /// Its files, and the results of their lines.
    pub files: Vec<FileResult>,
    /// Files in the same folder that were not read.
    pub left_out: Vec<LeftOut>,
    /// The formats of its lines.
    pub formats: BTreeSet<Format>,
    /// Whether it has any DNS answer or TLS name.
    pub has_names: bool,
    /// What the log did not show although it was needed to judge contacts, as text.
    pub lacking: BTreeSet<String>,
    /// The first and the last event time.
    pub span: Option<(EventTime, EventTime)>,
    /// All subjects that started a connection, and all that the labels list.
    pub subjects: BTreeMap<IpAddr, SubjectResult>,
}

/// The result of one subject.
#[derive(Clone, Debug, Default)]
pub struct SubjectResult {
    /// At most one entry per signature.
    pub findings: Vec<Recorded>,
    /// The highest score of its walks at the end.
    pub highest_walk_nats: f64,
    /// Its contacts that could not be judged, because the log does not show their outcome.
    pub unjudged_count: usize,
    /// The run to which the user assigned it.
    pub run: Option<String>,
    /// Its connections over time.
    pub timeline: Timeline,
    /// Its connections by outcome.
    pub outcomes: OutcomeCounts,
    /// Targets for which the log shows no outcome.
    pub open_target_count: usize,
    /// Whether there would be a scan if those targets had not answered, or nothing is known of its
    /// connections.
    pub is_unknown: bool,
    open: OpenTargets,
}

/// A subject's connections by outcome, record by record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// The target answered.
    pub answered: u64,
    /// Unanswered, refused or denied.
    pub failed: u64,
    /// The log does not show the outcome, or not yet.
    pub unknown: u64,
    /// Names that were looked up or sent.
    pub names: u64,
}

/// The findings of one signature about one subject.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The time of the first finding, and the number of contacts until then.
    pub alerted: (EventTime, u64),
    /// The first time that its severity was Quarantine.
    pub quarantined: Option<(EventTime, u64)>,
    /// The last finding, which is the strongest.
    pub latest: Finding,
    /// What prevented the action of its severity.
    pub held_back: Option<HeldBack>,
    /// Whether the first finding came after the last line, from contacts that still waited for an answer.
    pub is_at_end: bool,
}

impl Recorded {
    /// The action that would have been taken.
    #[must_use]
    pub fn action(&self) -> Severity {
        if self.held_back.is_some() {
            Severity::Alert
        } else {
            self.latest.severity
        }
    }

    /// When it would have led to a quarantine.
    #[must_use]
    pub fn acted(&self) -> Option<(EventTime, u64)> {
        self.quarantined.filter(|_| self.held_back.is_none())
    }
}

/// The verdict on a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// Nothing was found, but the log does not show the outcome of many of its contacts, or of any.
    Unknown,
    /// A scan, horizontal or vertical.
    Scan,
    /// Mining.
    Mining,
    /// A tunnel of any kind.
    Tunnel,
}

impl Verdict {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "Clean",
            Self::Unknown => "Unknown",
            Self::Scan => "Scan",
            Self::Mining => "Mining",
            Self::Tunnel => "Tunnel",
        }
    }

    fn of(signature: Signature) -> Self {
        match signature {
            Signature::HorizontalScan | Signature::VerticalScan => Self::Scan,
            Signature::Mining => Self::Mining,
            Signature::ReverseTunnel | Signature::DnsTunnel | Signature::TunnelService => {
                Self::Tunnel
            }
        }
    }
}

impl SubjectResult {
    /// The verdict, by the most severe finding.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|recorded| std::cmp::Reverse(recorded.latest.severity));
        match findings.first() {
            Some(recorded) => Verdict::of(recorded.latest.signature),
            None if self.is_unknown => Verdict::Unknown,
            None => Verdict::Clean,
        }
    }

    /// The action that would have been taken. `None` without findings.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Recorded::action).max()
    }

    /// Whether it has findings of this verdict with an action of at least `least`.
    #[must_use]
    pub fn is_found(&self, verdict: Verdict, least: Severity) -> bool {
        self.findings.iter().any(|recorded| {
            Verdict::of(recorded.latest.signature) == verdict && recorded.action() >= least
        })
    }

    pub(super) fn observe(&mut self, signal: &Signal<'_>) {
        match signal {
            Signal::Flow(flow) => self.observe_flow(flow),
            Signal::Dns(_) | Signal::Tls(_) => self.outcomes.names += 1,
            Signal::Sample(_) | Signal::Lost(_) => {}
        }
    }

    fn observe_flow(&mut self, flow: &Flow<'_>) {
        if !flow.outcome.is_attempt() {
            return;
        }
        self.timeline.count(flow.time);
        self.open.observe(flow);
        let counter = match flow.outcome.success() {
            Some(true) => &mut self.outcomes.answered,
            Some(false) => &mut self.outcomes.failed,
            None => &mut self.outcomes.unknown,
        };
        *counter += 1;
    }

    /// Evaluates, after the last line, whether too little is known to call it clean.
    pub(super) fn judge_outcomes(&mut self, threshold_nats: f64) {
        let OutcomeCounts {
            answered,
            failed,
            unknown,
            ..
        } = self.outcomes;
        self.open_target_count = self.open.count();
        // As many contacts as an alert takes, or all that there are.
        let is_unjudged =
            self.unjudged_count >= UNJUDGED_MIN || (self.unjudged_count > 0 && answered == 0);
        self.is_unknown = is_unjudged
            || (unknown > 0 && answered + failed == 0)
            || self
                .open
                .could_cross(self.highest_walk_nats, threshold_nats);
    }

    pub(super) fn record(
        &mut self,
        finding: Finding,
        held_back: Option<HeldBack>,
        is_at_end: bool,
    ) {
        let at = (finding.evidence.last, finding.evidence.contact_count);
        let is_quarantine = finding.severity == Severity::Quarantine;
        let known = self
            .findings
            .iter_mut()
            .find(|r| r.latest.signature == finding.signature);
        match known {
            Some(recorded) => {
                if is_quarantine && recorded.quarantined.is_none() {
                    recorded.quarantined = Some(at);
                }
                recorded.held_back = held_back;
                recorded.latest = finding;
            }
            None => self.findings.push(Recorded {
                alerted: at,
                quarantined: is_quarantine.then_some(at),
                latest: finding,
                held_back,
                is_at_end,
            }),
        }
    }
}

impl CaptureResult {
    /// What is wrong with its files, and what to do.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let is_alone = self.files.iter().all(|file| file.signal_count == 0);
        let faults = self.files.iter().filter_map(|file| file.fault(is_alone));
        faults.collect()
    }
}
