//! Run: one capture through decoders and engine. Called by `cli::replay` and by tests.
//!
//! Every capture gets an engine of its own, so captures never influence each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::captures::{Capture, LeftOut};
use super::files::{Fate, FileResult};
use super::labels::Labels;
use super::lines::{Files, Line, TOO_LONG, fate_of};
use super::outcomes::OpenTargets;
use super::setup::Setup;
use super::terms::{HeldBack, Terms};
use super::timeline::Timeline;
use crate::detect::{ANSWER_WAIT_US, Engine};
use crate::limits;
use crate::model::{EventTime, Finding, Flow, PodKey, RunKey, Severity, Signal, Signature};
use crate::signals::attribute::{Index, Membership, Named, PodFacts};
use crate::signals::decode::{Decoded, DeviceOwners, Format, Unconfirmed, read_sample};

/// Contacts without a shown outcome from which on nobody is called clean: 24 straight failures are an
/// alert.
const UNJUDGED_MIN: usize = 24;

/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 1 << 16;

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
    /// Figures of samples that no machine can have.
    pub impossible_count: u64,
    /// Samples of accelerators that do not say which device they are about.
    pub unnamed_device_count: u64,
    /// Its files, and what became of their lines.
    pub files: Vec<FileResult>,
    /// Files beside them that were not read.
    pub left_out: Vec<LeftOut>,
    /// The formats of its lines.
    pub formats: BTreeSet<Format>,
    /// Whether any DNS answer or TLS name was in it.
    pub has_names: bool,
    /// What the log has not shown although it was needed to judge contacts, in words.
    pub lacking: BTreeSet<String>,
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
    /// Its contacts that could not be judged, because the log has not shown what became of them.
    pub unjudged_count: usize,
    /// The run that the user put it into.
    pub run: Option<String>,
    /// When it began connections.
    pub timeline: Timeline,
    /// What became of them.
    pub tally: Tally,
    /// Targets whose outcome the log does not show.
    pub open_target_count: usize,
    /// Whether a scan would have been found, had those targets not answered, or nothing at all is
    /// known of its connections.
    pub is_unknown: bool,
    open: OpenTargets,
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
    /// Whether the first word came after the last line, from contacts that still waited for an answer.
    pub is_at_end: bool,
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
    /// Nothing was found, and the log does not show what became of many of its contacts, or of any.
    Unknown,
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
    /// What it was taken for: by the most severe finding.
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
        if !flow.outcome.is_attempt() {
            return;
        }
        self.timeline.count(flow.time);
        self.open.observe(flow);
        let counter = match flow.outcome.success() {
            Some(true) => &mut self.tally.answered,
            Some(false) => &mut self.tally.failed,
            None => &mut self.tally.unknown,
        };
        *counter += 1;
    }

    /// After the last line: whether too little is known of it to call it clean.
    fn judge_outcomes(&mut self, line_nats: f64) {
        let Tally {
            answered,
            failed,
            unknown,
            ..
        } = self.tally;
        self.open_target_count = self.open.count();
        // As many contacts as an alert takes, or all that there are.
        let is_unjudged =
            self.unjudged_count >= UNJUDGED_MIN || (self.unjudged_count > 0 && answered == 0);
        self.is_unknown = is_unjudged
            || (unknown > 0 && answered + failed == 0)
            || self.open.could_cross(self.highest_walk_nats, line_nats);
    }

    fn record(&mut self, finding: Finding, held_back: Option<HeldBack>, is_at_end: bool) {
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

/// Replays one capture. `progress` is told now and then how many lines were read. A file that cannot
/// be read is a fault of the result, and hides nothing of the others.
pub fn replay_capture(
    capture: &Capture,
    setup: &Setup,
    progress: &mut dyn FnMut(u64),
) -> CaptureResult {
    let mut files = Files::of(capture, setup.format);
    let mut replay = Replay::new(capture, setup);
    let mut line_count = 0_u64;
    let results = files.for_each_line(|source, line| {
        line_count += 1;
        if line_count.is_multiple_of(PROGRESS_LINES) {
            progress(line_count);
        }
        replay.take(source, line)
    });
    let mut result = replay.finish(&setup.labels);
    result.files = results;
    result.left_out.clone_from(&capture.left_out);
    let copies = files.copies.into_iter().map(|(path, holder)| LeftOut {
        path,
        why: format!("its lines stand in {}", holder.display()),
    });
    result.left_out.extend(copies);
    result
}

impl CaptureResult {
    /// What is wrong with its files, and what to do about it.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let is_alone = self.files.iter().all(|file| file.signal_count == 0);
        let faults = self.files.iter().filter_map(|file| file.fault(is_alone));
        faults.collect()
    }
}

struct Replay<'a> {
    engine: Engine,
    terms: &'a Terms,
    /// Every address is a pod, and stays one.
    index: Index,
    /// The addresses that started something, and whether their node is known.
    seen: BTreeMap<IpAddr, bool>,
    /// Addresses by `namespace/name`, where the log names pods and samples may.
    names: BTreeMap<String, IpAddr>,
    has_samples: bool,
    device_owners: DeviceOwners,
    last: EventTime,
    /// By file, what NFLOG showed and NFCT has not confirmed.
    unconfirmed: BTreeMap<u16, Unconfirmed>,
    is_at_end: bool,
    /// The line of a walk.
    line_nats: f64,
    result: CaptureResult,
}

impl<'a> Replay<'a> {
    fn new(capture: &Capture, setup: &'a Setup) -> Self {
        let mut index = Index::new();
        // A pod of a run is a sibling before it starts anything itself.
        for address in setup.terms.members() {
            index.apply(pod_of(address, None), EventTime::MIN);
            index.enroll(&key_of(address), Some(membership_of(&setup.terms, address)));
        }
        Self {
            engine: Engine::new(setup.config.clone()),
            terms: &setup.terms,
            index,
            seen: BTreeMap::new(),
            names: BTreeMap::new(),
            has_samples: capture.samples.is_some(),
            device_owners: DeviceOwners::default(),
            last: EventTime::MIN,
            unconfirmed: BTreeMap::new(),
            is_at_end: false,
            line_nats: setup.config.threshold_nats,
            result: CaptureResult {
                capture: capture.name.clone(),
                ..CaptureResult::default()
            },
        }
    }

    fn take(&mut self, source: u16, line: &Line<'_>) -> Fate {
        let (decoded, tracking) = match line {
            Line::Text(decoder, text) => decoder.decode_tracked(text),
            Line::Sample(text) => (self.sample(source, text), None),
            Line::TooLong => {
                self.result.malformed_count += 1;
                return TOO_LONG;
            }
            Line::Unrecognised => {
                self.result.unknown_count += 1;
                return Fate::Unknown;
            }
        };
        let fate = fate_of(&decoded);
        if let Line::Text(decoder, _) = line
            && matches!(decoded, Decoded::Signal(_))
        {
            self.result.formats.insert(decoder.format());
        }
        match decoded {
            Decoded::Signal(signal) => {
                self.step(source, &signal);
                if let (Some(tracking), Signal::Flow(flow)) = (tracking, &signal) {
                    let known = self.unconfirmed.entry(source).or_default();
                    let denied = known.take(flow, tracking);
                    self.denied(source, denied);
                }
            }
            Decoded::Skipped(_) => {}
            Decoded::Unknown => self.result.unknown_count += 1,
            Decoded::Malformed(_) => self.result.malformed_count += 1,
        }
        fate
    }

    /// Contacts that a policy dropped. Their packets were counted as flows before.
    fn denied(&mut self, source: u16, denied: Vec<Flow<'static>>) {
        for flow in denied {
            self.step(source, &Signal::Flow(flow));
            self.result.flow_count = self.result.flow_count.saturating_sub(1);
        }
    }

    /// A line of a file of samples, with what is known of its accelerator.
    fn sample<'l>(&mut self, source: u16, text: &'l [u8]) -> Decoded<'l> {
        let line = read_sample(text);
        self.result.impossible_count += line.impossible_count;
        let Decoded::Signal(Signal::Sample(mut sample)) = line.decoded else {
            return line.decoded;
        };
        let owner = match self.address_of(&sample.pod) {
            Some(address) => address.to_string(),
            None => sample.pod.to_string(),
        };
        let is_unnamed = sample.gpu.is_some_and(|gpu| gpu.device.is_none());
        self.result.unnamed_device_count += u64::from(is_unnamed);
        if let Some(withdrawn) = self.device_owners.attribute(&mut sample, &owner) {
            self.step(source, &Signal::Sample(withdrawn));
        }
        Decoded::Signal(Signal::Sample(sample))
    }

    fn step(&mut self, file: u16, signal: &Signal<'_>) {
        // A file of samples says nothing about how far the log goes.
        if !matches!(signal, Signal::Sample(_)) {
            let time = signal.time();
            self.last = self.last.max(time);
            let span = self.result.span.get_or_insert((time, time));
            *span = (span.0.min(time), span.1.max(time));
        }
        if let Signal::Lost(lost) = signal {
            self.result.lost_count = self.result.lost_count.saturating_add(lost.count);
            let origin = self.index.origin_of_loss(file, lost);
            self.engine.lost(origin, lost.time, lost.count);
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
        if self.seen.len() >= limits::PODS_MAX && !self.seen.contains_key(&source) {
            self.result.refused_count += 1;
            return;
        }
        self.know(source, signal);
        self.result
            .subjects
            .entry(source)
            .or_default()
            .observe(signal);
        let Ok(attributed) = self.index.attribute(file, signal, Named::By(source)) else {
            self.result.refused_count += 1;
            return;
        };
        let findings = self.engine.step(&attributed);
        self.record(findings);
    }

    /// Makes a pod of an address that starts something, on the node that the log names first.
    fn know(&mut self, address: IpAddr, signal: &Signal<'_>) {
        let node = match signal {
            Signal::Flow(flow) => flow.node.as_deref(),
            _ => None,
        };
        let has_node = self.seen.get(&address).copied();
        if has_node == Some(true) || (has_node == Some(false) && node.is_none()) {
            return;
        }
        self.index.apply(pod_of(address, node), EventTime::MIN);
        let membership = membership_of(self.terms, address);
        self.index.enroll(&key_of(address), Some(membership));
        self.seen.insert(address, node.is_some());
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
                subject.record(finding, held_back, self.is_at_end);
            }
        }
    }

    /// What still waits for an answer at the end of the log is judged as the operator judges it once a
    /// log says nothing more: when the time for an answer is over. Those findings are marked, because
    /// a log that was cut there cannot show the answers.
    fn finish(mut self, labels: &Labels) -> CaptureResult {
        for (source, known) in std::mem::take(&mut self.unconfirmed) {
            self.denied(source, known.finish());
        }
        let last = self.last;
        let findings = self.engine.settle(|_| Some(last));
        self.record(findings);
        self.is_at_end = true;
        if last > EventTime::MIN {
            let over = last.plus_micros(ANSWER_WAIT_US);
            let findings = self.engine.settle(|_| Some(over));
            self.record(findings);
        }
        for source in self.seen.keys() {
            let result = self.result.subjects.entry(*source).or_default();
            result.highest_walk_nats = self.engine.highest_walk_nats(&key_of(*source));
            result.unjudged_count = self.engine.unjudged_count(&key_of(*source));
            result.run = self.terms.run_of(*source).map(ToOwned::to_owned);
            result.judge_outcomes(self.line_nats);
        }
        let lacking = self.engine.lacking().map(|(.., lack)| lack.to_string());
        self.result.lacking = lacking.collect();
        for listed in labels.listed(&self.result.capture) {
            self.result.subjects.entry(listed).or_default();
        }
        self.result
    }
}

fn key_of(address: IpAddr) -> PodKey {
    PodKey::from(address.to_string().as_str())
}

fn membership_of(terms: &Terms, address: IpAddr) -> Membership {
    Membership {
        run: terms.run_of(address).map(RunKey::from),
        workload: terms.of(address).workload,
    }
}

/// What a replay knows of a pod: its address, and the node that the log names.
fn pod_of(address: IpAddr, node: Option<&str>) -> PodFacts {
    PodFacts {
        key: key_of(address),
        namespace: String::new(),
        name: String::new(),
        ips: vec![address],
        host_network: false,
        node: node.map(ToOwned::to_owned),
        since: EventTime::MIN,
        ended_at: None,
        workload: None,
    }
}

#[cfg(test)]
mod restart;
