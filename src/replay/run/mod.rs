//! Run: one capture through decoders and engine. Called by `cli::replay` and by tests.
//!
//! Every capture has its own engine, so that captures do not influence each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::captures::{Capture, LeftOut};
use super::files::LineResult;
use super::labels::Labels;
use super::lines::{Files, Line, TOO_LONG, result_of};
use super::policies::Policies;
use super::result::CaptureResult;
use super::setup::Setup;
use crate::detect::{ANSWER_WAIT_US, Engine};
use crate::limits;
use crate::model::{EventTime, Finding, Flow, PodKey, RunKey, Signal};
use crate::signals::attribute::{Index, Membership, PodFacts, PodLocator};
use crate::signals::decode::{Decoded, DeviceOwners, Unconfirmed, read_sample};

/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 1 << 16;

/// Replays one capture. `progress` is called from time to time with the number of lines read. A file that
/// cannot be read is a fault in the result and does not affect the others.
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
        why: format!("its lines are in {}", holder.display()),
    });
    result.left_out.extend(copies);
    result
}

struct Replay<'a> {
    engine: Engine,
    policies: &'a Policies,
    /// Every address is a pod, and stays one.
    index: Index,
    /// The addresses that started something, and whether their node is known.
    seen: BTreeMap<IpAddr, bool>,
    /// Addresses by `namespace/name`, where the log names pods and samples may.
    names: BTreeMap<String, IpAddr>,
    has_samples: bool,
    device_owners: DeviceOwners,
    last: EventTime,
    /// By log, connections that NFLOG showed and NFCT has not confirmed.
    unconfirmed: BTreeMap<u16, Unconfirmed>,
    is_at_end: bool,
    /// The quarantine threshold of a walk.
    threshold_nats: f64,
    result: CaptureResult,
}

impl<'a> Replay<'a> {
    fn new(capture: &Capture, setup: &'a Setup) -> Self {
        let mut index = Index::new();
        // A pod of a run is a sibling before it starts a connection itself.
        for address in setup.policies.members() {
            index.apply(pod_of(address, None), EventTime::MIN);
            index.enroll(
                &key_of(address),
                Some(membership_of(&setup.policies, address)),
            );
        }
        Self {
            engine: Engine::new(setup.config.clone()),
            policies: &setup.policies,
            index,
            seen: BTreeMap::new(),
            names: BTreeMap::new(),
            has_samples: capture.samples.is_some(),
            device_owners: DeviceOwners::default(),
            last: EventTime::MIN,
            unconfirmed: BTreeMap::new(),
            is_at_end: false,
            threshold_nats: setup.config.threshold_nats,
            result: CaptureResult {
                capture: capture.name.clone(),
                ..CaptureResult::default()
            },
        }
    }

    fn take(&mut self, source: u16, line: &Line<'_>) -> LineResult {
        let (decoded, tracking) = match line {
            Line::Text(decoder, text) => decoder.decode_with_conntrack(text),
            Line::Sample(text) => (self.sample(source, text), None),
            Line::TooLong => {
                self.result.malformed_count += 1;
                return TOO_LONG;
            }
            Line::Unrecognised => {
                self.result.unknown_count += 1;
                return LineResult::Unknown;
            }
        };
        let line_result = result_of(&decoded);
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
        line_result
    }

    /// Processes contacts that a policy dropped. Their packets were counted as flows before.
    fn denied(&mut self, source: u16, denied: Vec<Flow<'static>>) {
        for flow in denied {
            self.step(source, &Signal::Flow(flow));
            self.result.flow_count = self.result.flow_count.saturating_sub(1);
        }
    }

    /// Decodes a line of a file of samples, and adds the owner of its accelerator.
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
        // A file of samples does not show how far the log has been read.
        if !matches!(signal, Signal::Sample(_)) {
            let time = signal.time();
            self.last = self.last.max(time);
            let span = self.result.span.get_or_insert((time, time));
            *span = (span.0.min(time), span.1.max(time));
        }
        if let Signal::Lost(lost) = signal {
            self.result.lost_count = self.result.lost_count.saturating_add(lost.count);
            let origin = self.index.origin_of_loss(file, lost);
            self.engine.record_loss(origin, lost.time, lost.count);
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
        let Ok(attributed) = self
            .index
            .attribute(file, signal, PodLocator::Address(source))
        else {
            self.result.refused_count += 1;
            return;
        };
        let findings = self.engine.step(&attributed);
        self.record(findings);
    }

    /// Adds an address that starts a connection as a pod, on the first node that the log names for it.
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
        let membership = membership_of(self.policies, address);
        self.index.enroll(&key_of(address), Some(membership));
        self.seen.insert(address, node.is_some());
    }

    /// The address of a pod in a sample, which is an address or a name in earlier records of the log.
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
            let policy = self.policies.of(source);
            if policy.is_reported(finding.signature) {
                let held_back = policy.held_back(finding.signature, finding.severity);
                let subject = self.result.subjects.entry(source).or_default();
                subject.record(finding, held_back, self.is_at_end);
            }
        }
    }

    /// Contacts that still wait for an answer at the end of the log are judged as the operator judges them when
    /// a log has no more lines: when the time for an answer is over. Those findings are marked, because a
    /// truncated log cannot show the answers.
    fn finish(mut self, labels: &Labels) -> CaptureResult {
        for (source, known) in std::mem::take(&mut self.unconfirmed) {
            self.denied(source, known.finish());
        }
        let last = self.last;
        let findings = self.engine.expire_pending(|_| Some(last));
        self.record(findings);
        self.is_at_end = true;
        if last > EventTime::MIN {
            let over = last.plus_micros(ANSWER_WAIT_US);
            let findings = self.engine.expire_pending(|_| Some(over));
            self.record(findings);
        }
        for source in self.seen.keys() {
            let result = self.result.subjects.entry(*source).or_default();
            result.highest_walk_nats = self.engine.highest_walk_nats(&key_of(*source));
            result.unjudged_count = self.engine.unjudged_count(&key_of(*source));
            result.run = self.policies.run_of(*source).map(ToOwned::to_owned);
            result.judge_outcomes(self.threshold_nats);
        }
        let lacking = self
            .engine
            .visibility_gaps()
            .map(|(.., lack)| lack.to_string());
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

fn membership_of(policies: &Policies, address: IpAddr) -> Membership {
    Membership {
        run: policies.run_of(address).map(RunKey::from),
        workload: policies.of(address).workload,
    }
}

/// The facts about a pod in a replay: its address, and its node if the log names it.
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
        terminating_since: None,
        workload: None,
    }
}

#[cfg(test)]
mod restart;
