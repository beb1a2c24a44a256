//! Run: one capture through decoders and engine. Called by `cli::replay` and by tests.
//!
//! Every capture gets an engine of its own, so captures never influence each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ReplayError;
use super::captures::Capture;
use super::labels::Labels;
use super::lines::{Line, LogFile, for_each_line};
use super::setup::Setup;
use super::terms::{HeldBack, Terms};
use super::timeline::Timeline;
use crate::detect::Engine;
use crate::limits;
use crate::model::{
    EventTime, Finding, Flow, Neighbour, Outcome, PodKey, RunKey, Severity, Signal, Signature,
    Subject,
};
use crate::signals::decode::{Decoded, Format, decode_sample};

/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 1 << 16;

/// The node that losses in a recorded log are booked on: a log does not always say which.
const REPLAY_NODE: &str = "replay";

/// What a replay of one capture showed.
#[derive(Clone, Debug, Default)]
pub struct CaptureResult {
    /// Its name.
    pub capture: String,
    /// Records of connections.
    pub flow_count: u64,
    /// Lines that are broken or too long.
    pub malformed_count: u64,
    /// Well-formed lines of no known shape.
    pub unknown_count: u64,
    /// Records that the log's producer says it lost.
    pub lost_count: u64,
    /// Signals that were not judged because there were too many subjects.
    pub refused_count: u64,
    /// The formats of its lines.
    pub formats: BTreeSet<Format>,
    /// Whether any DNS answer or TLS name was in it.
    pub has_names: bool,
    /// The first and the last event time.
    pub span: Option<(EventTime, EventTime)>,
    /// Everybody who started something, and everybody whom the labels list.
    pub subjects: BTreeMap<IpAddr, SubjectResult>,
}

/// What was found about one subject.
#[derive(Clone, Debug, Default)]
pub struct SubjectResult {
    /// At most one entry per signature.
    pub findings: Vec<Recorded>,
    /// Where its highest walk stood at the end.
    pub highest_walk_nats: f64,
    /// The run that the user put it into.
    pub run: Option<String>,
    /// When it began connections.
    pub timeline: Timeline,
    /// What became of them.
    pub tally: Tally,
}

/// What the log says about a subject's connections, record by record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The target answered.
    pub answered: u64,
    /// Unanswered, refused or denied.
    pub failed: u64,
    /// The log does not say, or not yet.
    pub unknown: u64,
    /// Names that were looked up or sent.
    pub names: u64,
}

/// The findings of one signature about one subject.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The first time that it was seen, and after how many contacts.
    pub alerted: (EventTime, u64),
    /// The first time that it would have led to a quarantine.
    pub quarantined: Option<(EventTime, u64)>,
    /// The last and strongest word.
    pub latest: Finding,
    /// What kept it from the action that its severity calls for.
    pub held_back: Option<HeldBack>,
}

impl Recorded {
    /// What would have been done about it.
    #[must_use]
    pub fn action(&self) -> Severity {
        if self.held_back.is_some() {
            Severity::Alert
        } else {
            self.latest.severity
        }
    }

    /// The first time that it led to a quarantine.
    #[must_use]
    pub fn acted(&self) -> Option<(EventTime, u64)> {
        self.quarantined.filter(|_| self.held_back.is_none())
    }
}

/// What a subject was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// A scan, horizontal or vertical.
    Scan,
    /// Mining.
    Mining,
    /// A tunnel of any kind.
    Tunnel,
}

impl Verdict {
    /// The name in JSON and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "Clean",
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
    /// What it was taken for: by the most severe finding.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|recorded| std::cmp::Reverse(recorded.latest.severity));
        findings.first().map_or(Verdict::Clean, |recorded| {
            Verdict::of(recorded.latest.signature)
        })
    }

    /// What would have been done.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Recorded::action).max()
    }

    /// Whether it was taken for this, and this or more would have been done about it.
    #[must_use]
    pub fn is_found(&self, verdict: Verdict, least: Severity) -> bool {
        self.findings.iter().any(|recorded| {
            Verdict::of(recorded.latest.signature) == verdict && recorded.action() >= least
        })
    }

    fn observe(&mut self, signal: &Signal<'_>) {
        match signal {
            Signal::Flow(flow) => self.observe_flow(flow),
            Signal::Dns(_) | Signal::Tls(_) => self.tally.names += 1,
            Signal::Sample(_) | Signal::Lost(_) => {}
        }
    }

    fn observe_flow(&mut self, flow: &Flow<'_>) {
        if flow.outcome == Outcome::NotAnAttempt {
            return;
        }
        self.timeline.count(flow.time);
        let counter = match flow.outcome.success() {
            Some(true) => &mut self.tally.answered,
            Some(false) => &mut self.tally.failed,
            None => &mut self.tally.unknown,
        };
        *counter += 1;
    }

    fn record(&mut self, finding: Finding, held_back: Option<HeldBack>) {
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
            }),
        }
    }
}

/// Replays one capture. `progress` is told now and then how many lines were read.
pub fn replay_capture(
    capture: &Capture,
    setup: &Setup,
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureResult, ReplayError> {
    let files = LogFile::open_all(capture, setup.format)?;
    let mut replay = Replay::new(capture, setup);
    let mut line_count = 0_u64;
    for_each_line(files, |line| {
        replay.take(line);
        line_count += 1;
        if line_count.is_multiple_of(PROGRESS_LINES) {
            progress(line_count);
        }
    })?;
    Ok(replay.finish(&setup.labels))
}

struct Replay<'a> {
    engine: Engine,
    terms: &'a Terms,
    keys: BTreeMap<IpAddr, Subject>,
    /// Addresses by `namespace/name`, where the log names pods and samples may.
    names: BTreeMap<String, IpAddr>,
    has_samples: bool,
    last: EventTime,
    result: CaptureResult,
}

impl<'a> Replay<'a> {
    fn new(capture: &Capture, setup: &'a Setup) -> Self {
        Self {
            engine: Engine::new(setup.config.clone()),
            terms: &setup.terms,
            keys: BTreeMap::new(),
            names: BTreeMap::new(),
            has_samples: capture.samples.is_some(),
            last: EventTime::MIN,
            result: CaptureResult {
                capture: capture.name.clone(),
                ..CaptureResult::default()
            },
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        let decoded = match line {
            Line::Text(decoder, text) => decoder.decode(text),
            Line::Sample(text) => decode_sample(text),
            Line::Unusable => {
                self.result.malformed_count += 1;
                return;
            }
        };
        if let Line::Text(decoder, _) = line
            && matches!(decoded, Decoded::Signal(_))
        {
            self.result.formats.insert(decoder.format());
        }
        match decoded {
            Decoded::Signal(signal) => self.step(&signal),
            Decoded::Skipped(_) => {}
            Decoded::Unknown => self.result.unknown_count += 1,
            Decoded::Malformed(_) => self.result.malformed_count += 1,
        }
    }

    fn step(&mut self, signal: &Signal<'_>) {
        // A file of samples says nothing about how far the log goes.
        if !matches!(signal, Signal::Sample(_)) {
            let time = signal.time();
            self.last = self.last.max(time);
            let span = self.result.span.get_or_insert((time, time));
            *span = (span.0.min(time), span.1.max(time));
        }
        if let Signal::Lost(lost) = signal {
            self.result.lost_count = self.result.lost_count.saturating_add(lost.count);
            self.engine.node_lost(REPLAY_NODE, lost.time, lost.count);
        }
        match signal {
            Signal::Flow(_) => self.result.flow_count += 1,
            Signal::Dns(_) | Signal::Tls(_) => self.result.has_names = true,
            Signal::Sample(_) | Signal::Lost(_) => {}
        }
        let source = match signal {
            Signal::Sample(sample) => self.address_of(&sample.pod),
            _ => signal.source(),
        };
        let Some(source) = source else {
            return;
        };
        self.remember_name(signal, source);
        if self.keys.len() >= limits::PODS_MAX && !self.keys.contains_key(&source) {
            self.result.refused_count += 1;
            return;
        }
        let subject = self.keys.entry(source).or_insert_with(|| Subject {
            pod: PodKey::from(source.to_string().as_str()),
            run: self.terms.run_of(source).map(RunKey::from),
        });
        self.result
            .subjects
            .entry(source)
            .or_default()
            .observe(signal);
        let workload = self.terms.of(source).workload;
        let neighbour = match signal {
            Signal::Flow(flow) if subject.run.is_some() && flow.outcome.may_fail() => {
                let run = self.terms.run_of(flow.destination.to_canonical());
                let is_sibling = run.map(RunKey::from) == subject.run;
                if is_sibling {
                    Neighbour::Sibling
                } else {
                    Neighbour::Stranger
                }
            }
            _ => Neighbour::Stranger,
        };
        let findings = self
            .engine
            .step_beside(subject, workload, signal, neighbour);
        self.record(findings);
    }

    /// A sample names its pod by address, or as the log's own records did before.
    fn address_of(&self, pod: &str) -> Option<IpAddr> {
        let address = pod.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        address.or_else(|| self.names.get(pod).copied())
    }

    fn remember_name(&mut self, signal: &Signal<'_>, source: IpAddr) {
        if !self.has_samples || self.names.len() >= limits::PODS_MAX {
            return;
        }
        let Signal::Flow(flow) = signal else { return };
        if let Some(hint) = &flow.pod {
            let name = format!("{}/{}", hint.namespace, hint.name);
            self.names.insert(name, source);
        }
    }

    fn record(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let Ok(source) = finding.subject.pod.as_str().parse() else {
                continue; // every key was made from an address
            };
            let in_force = self.terms.of(source);
            if in_force.is_reported(finding.signature) {
                let held_back = in_force.held_back(finding.signature, finding.severity);
                let subject = self.result.subjects.entry(source).or_default();
                subject.record(finding, held_back);
            }
        }
    }

    /// What waits for an answer at the end of the log waits in vain only if the log goes on long
    /// enough after it, so nothing is judged beyond the last record.
    fn finish(mut self, labels: &Labels) -> CaptureResult {
        let findings = self.engine.settle(self.last);
        self.record(findings);
        for (source, subject) in &self.keys {
            let result = self.result.subjects.entry(*source).or_default();
            result.highest_walk_nats = self.engine.highest_walk_nats(&subject.pod);
            result.run = self.terms.run_of(*source).map(ToOwned::to_owned);
        }
        for listed in labels.listed(&self.result.capture) {
            self.result.subjects.entry(listed).or_default();
        }
        self.result
    }
}

#[cfg(test)]
mod restart;
