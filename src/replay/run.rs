//! Run: one capture through decoders and engine. Called by `cli::replay` and by tests.
//!
//! Every capture gets an engine of its own, so captures never influence each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ReplayError;
use super::captures::Capture;
use super::labels::Labels;
use super::lines::{Line, LogFile, for_each_line};
use crate::detect::{Engine, EngineConfig, Workload};
use crate::limits;
use crate::model::{EventTime, Finding, PodKey, Severity, Signal, Signature, Subject};
use crate::signals::decode::{Decoded, Format, decode_sample};

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
        self.findings
            .iter()
            .map(|recorded| recorded.latest.severity)
            .max()
    }

    /// Whether it was taken for this at this severity or a higher one.
    #[must_use]
    pub fn is_found(&self, verdict: Verdict, least: Severity) -> bool {
        self.findings.iter().any(|recorded| {
            Verdict::of(recorded.latest.signature) == verdict && recorded.latest.severity >= least
        })
    }

    fn record(&mut self, finding: Finding) {
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
                recorded.latest = finding;
            }
            None => self.findings.push(Recorded {
                alerted: at,
                quarantined: is_quarantine.then_some(at),
                latest: finding,
            }),
        }
    }
}

/// Replays one capture. `format` is the one that the user named; without it each file's first
/// line of a known shape tells.
pub fn replay_capture(
    capture: &Capture,
    format: Option<Format>,
    config: &EngineConfig,
    labels: &Labels,
) -> Result<CaptureResult, ReplayError> {
    let files = LogFile::open_all(capture, format)?;
    let mut replay = Replay::new(capture, config);
    for_each_line(files, |line| replay.take(line))?;
    Ok(replay.finish(labels))
}

struct Replay {
    engine: Engine,
    keys: BTreeMap<IpAddr, Subject>,
    /// Addresses by `namespace/name`, where the log names pods and samples may.
    names: BTreeMap<String, IpAddr>,
    has_samples: bool,
    last: EventTime,
    result: CaptureResult,
}

impl Replay {
    fn new(capture: &Capture, config: &EngineConfig) -> Self {
        Self {
            engine: Engine::new(config.clone()),
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
            self.last = self.last.max(signal.time());
        }
        if let Signal::Lost(lost) = signal {
            self.result.lost_count = self.result.lost_count.saturating_add(lost.count);
            self.engine.node_lost(REPLAY_NODE, lost.time, lost.count);
        }
        if matches!(signal, Signal::Flow(_)) {
            self.result.flow_count += 1;
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
            run: None,
        });
        let findings = self.engine.step(subject, Workload::Standard, signal);
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
            if let Ok(source) = finding.subject.pod.as_str().parse() {
                self.result
                    .subjects
                    .entry(source)
                    .or_default()
                    .record(finding);
            }
        }
    }

    /// What waits for an answer at the end of the log waits in vain only if the log goes on long
    /// enough after it, so nothing is judged beyond the last record.
    fn finish(mut self, labels: &Labels) -> CaptureResult {
        let findings = self.engine.settle(self.last);
        self.record(findings);
        for (source, subject) in &self.keys {
            let nats = self.engine.highest_walk_nats(&subject.pod);
            self.result
                .subjects
                .entry(*source)
                .or_default()
                .highest_walk_nats = nats;
        }
        for listed in labels.listed(&self.result.capture) {
            self.result.subjects.entry(listed).or_default();
        }
        self.result
    }
}
