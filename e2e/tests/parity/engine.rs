//! The first way: decoders, attribution and engine called in this process, line by line, without the shell of
//! `replay` or of the operator around them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use yellowjack::testing::detect::Engine;
use yellowjack::testing::model::{EventTime, Finding, PodKey, RunKey, Severity, Signal};
use yellowjack::testing::replay::{Policies, Setup, SetupFiles};
use yellowjack::testing::signals::decode::{
    Decoded, Decoder, MetricsFormat, MetricsReader, Unconfirmed, sniff,
};
use yellowjack::testing::signals::{Index, Membership, PodFacts, PodLocator};

use crate::case::Case;
use crate::compare::{Action, Outcome};
use crate::expected;
use crate::live::pods_of;
use crate::recorded::{Item, Recorded, RecordedSample};
use crate::samples::{Figures, PodName};

/// How long after the last line nothing that came before can still be answered.
const AFTER_THE_END_US: i64 = 60_000_000;

/// The number of the source that samples come from.
const SAMPLES: u16 = u16::MAX;

/// What was found first and worst of one signature.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    action: Action,
    alerted: u64,
    quarantined: Option<u64>,
    /// How many other signatures were found before.
    nth: usize,
}

struct Played<'a> {
    policies: &'a Policies,
    index: Index,
    engine: Engine,
    addresses: BTreeMap<PodKey, IpAddr>,
    /// Namespace and name of the pod with an address.
    names: BTreeMap<IpAddr, PodName>,
    figures: Figures,
    readers: BTreeMap<&'static str, MetricsReader>,
    found: BTreeMap<IpAddr, BTreeMap<&'static str, Found>>,
    last: EventTime,
}

/// Plays a case to an engine.
pub fn by_engine(case: &Case) -> anyhow::Result<Outcome> {
    let file = |option: &str| case.option(option).map(Path::to_owned);
    let (setup, _) = Setup::read(&SetupFiles {
        pool_lists: file("--pool-list").into_iter().collect(),
        tunnel_lists: file("--tunnel-list").into_iter().collect(),
        policy: file("--policy"),
        runs: file("--runs"),
        ..SetupFiles::default()
    })?;
    let recorded = Recorded::read(case)?;
    let mut played = Played {
        policies: &setup.policies,
        index: Index::new(),
        engine: Engine::new(setup.config.clone()),
        addresses: BTreeMap::new(),
        names: BTreeMap::new(),
        figures: Figures::default(),
        readers: BTreeMap::new(),
        found: BTreeMap::new(),
        last: EventTime::MIN,
    };
    played.enroll(case, &recorded)?;
    let mut decoders: BTreeMap<usize, Decoder> = BTreeMap::new();
    let mut unconfirmed: BTreeMap<usize, Unconfirmed> = BTreeMap::new();
    let mut items = recorded.items.iter().peekable();
    while let Some(item) = items.next() {
        match item {
            Item::Line(file, line) => {
                let known = decoders
                    .get(file)
                    .copied()
                    .or_else(|| sniff(line).map(Decoder::new));
                let Some(mut decoder) = known else { continue };
                let (line_content, tracking) = decoder.decode_with_conntrack(line);
                if let Decoded::Signal(signal) = line_content {
                    let source = u16::try_from(*file)?;
                    played.step(source, &signal);
                    if let (Some(tracking), Signal::Flow(flow)) = (tracking, &signal) {
                        let known = unconfirmed.entry(*file).or_default();
                        for denied in known.take(flow, tracking) {
                            played.step(source, &Signal::Flow(denied));
                        }
                    }
                }
                decoder.learn(line);
                decoders.insert(*file, decoder);
            }
            Item::Sample(sample) => {
                played.samples(&recorded, &Recorded::moment(sample, &mut items));
            }
        }
    }
    for (file, known) in unconfirmed {
        for denied in known.finish() {
            played.step(u16::try_from(file)?, &Signal::Flow(denied));
        }
    }
    played.settle();
    Ok(played.outcome())
}

impl Played<'_> {
    fn enroll(&mut self, case: &Case, recorded: &Recorded) -> anyhow::Result<()> {
        for pod in pods_of(case, recorded)? {
            let key = PodKey::from(pod.address.to_string().as_str());
            let named = recorded
                .pods
                .get(&pod.address)
                .and_then(|pod| pod.named.clone());
            // Where the log names none, any will do.
            let namespace = named.map_or_else(|| "case".to_owned(), |(namespace, _)| namespace);
            self.names
                .insert(pod.address, (namespace.clone(), pod.name.clone()));
            let since = EventTime::from(pod.since);
            let facts = PodFacts {
                key: key.clone(),
                namespace: namespace.clone(),
                name: pod.name,
                ips: vec![pod.address],
                host_network: false,
                node: pod.node,
                since,
                ended_at: None,
                terminating_since: None,
                workload: None,
            };
            self.index.apply(facts, since);
            let membership = Membership {
                run: Some(RunKey::from(pod.run.as_str())),
                workload: self.policies.of(pod.address).workload,
            };
            self.index.enroll(&key, Some(membership));
            self.addresses.insert(key, pod.address);
        }
        Ok(())
    }

    fn step(&mut self, source: u16, signal: &Signal<'_>) {
        self.last = self.last.max(signal.time());
        if let Signal::Lost(lost) = signal {
            let origin = self.index.origin_of_loss(source, lost);
            self.engine.record_loss(origin, lost.time, lost.count);
            return;
        }
        // Records of hosts that are no pods are nobody's.
        if let Ok(attributed) = self
            .index
            .attribute(source, signal, PodLocator::SignalSource)
        {
            let findings = self.engine.step(&attributed);
            self.record(findings);
        }
    }

    /// The samples of one moment, through the readers of node metrics.
    fn samples(&mut self, recorded: &Recorded, samples: &[&RecordedSample]) {
        let Some(time) = samples.first().map(|sample| sample.time) else {
            return;
        };
        let pod_of = |sample: &RecordedSample| {
            let address = recorded.address_of(&sample.pod)?;
            self.names.get(&address).cloned()
        };
        let cores: Vec<_> = samples
            .iter()
            .filter_map(|s| Some((pod_of(s)?, s.cores?)))
            .collect();
        let accelerators: Vec<_> = samples
            .iter()
            .filter_map(|s| Some((pod_of(s)?, s.gpu.clone()?)))
            .collect();
        let begun: Vec<_> = cores
            .iter()
            .map(|(pod, _)| self.figures.begin(pod, time))
            .collect();
        if begun.contains(&true) {
            self.read(MetricsFormat::Kubelet);
        }
        for (pod, cores) in &cores {
            self.figures.use_cores(pod, time, *cores);
        }
        if !cores.is_empty() {
            self.read(MetricsFormat::Kubelet);
        }
        if !accelerators.is_empty() {
            self.figures.use_accelerators(time, &accelerators);
            self.read(MetricsFormat::Dcgm);
        }
    }

    fn read(&mut self, format: MetricsFormat) {
        let text = match format {
            MetricsFormat::Dcgm => self.figures.exporter(),
            _ => self.figures.kubelet(),
        };
        let reader = self
            .readers
            .entry(format.name())
            .or_insert_with(|| MetricsReader::new(format));
        let read = reader.read(text.as_bytes(), EventTime::from(Timestamp::now()));
        for sample in read.withdrawn.into_iter().chain(read.samples) {
            let signal = Signal::Sample(sample.sample.clone());
            let named = PodLocator::Name {
                namespace: &sample.namespace,
                name: &sample.name,
                uid: None,
                span: (sample.from, sample.sample.time),
            };
            if let Ok(attributed) = self.index.attribute(SAMPLES, &signal, named) {
                let findings = self.engine.step(&attributed);
                self.record(findings);
            }
        }
    }

    fn settle(&mut self) {
        let end = self.last.plus_micros(AFTER_THE_END_US);
        let findings = self.engine.expire_pending(|_| Some(end));
        self.record(findings);
    }

    fn record(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let Some(address) = self.addresses.get(&finding.subject.pod).copied() else {
                continue;
            };
            let in_force = self.policies.of(address);
            if !in_force.is_reported(finding.signature) {
                continue;
            }
            let is_held_back = in_force
                .held_back(finding.signature, finding.severity)
                .is_some();
            let is_quarantine = finding.severity == Severity::Quarantine;
            let contacts = finding.evidence.contact_count;
            let of_pod = self.found.entry(address).or_default();
            let nth = of_pod.len();
            let found = of_pod.entry(finding.signature.name()).or_insert(Found {
                alerted: contacts,
                nth,
                ..Found::default()
            });
            if is_quarantine {
                found.quarantined = found.quarantined.or(Some(contacts));
            }
            found.action = if is_quarantine && !is_held_back {
                Action::Quarantine
            } else {
                Action::Alert
            };
        }
    }

    fn outcome(self) -> Outcome {
        let subjects: Vec<Value> = self
            .found
            .iter()
            .map(|(address, of_pod)| {
                let worst = of_pod.values().map(|found| found.action).max().unwrap_or_default();
                let findings: Vec<_> = of_pod
                    .iter()
                    .map(|(signature, found)| {
                        json!({
                            "signature": signature,
                            "action": format!("{:?}", found.action),
                            "alerted": { "contacts": found.alerted },
                            "quarantined": found.quarantined.map(|contacts| json!({ "contacts": contacts })),
                        })
                    })
                    .collect();
                let of_worst = of_pod.iter().filter(|(_, found)| found.action == worst);
                let verdict = of_worst.min_by_key(|(_, found)| found.nth).map(|(name, _)| *name);
                json!({
                    "subject": address.to_string(),
                    "verdict": verdict.map(expected::verdict_of),
                    "action": format!("{worst:?}"),
                    "findings": findings,
                })
            })
            .collect();
        let findings = self.found.into_iter().map(|(address, of_pod)| {
            (
                address,
                of_pod
                    .into_iter()
                    .map(|(name, found)| (name.to_owned(), found.action))
                    .collect(),
            )
        });
        let mut summary = expected::summary(&json!({ "subjects": subjects }));
        // The shells count records; this way has none.
        if let Some(fields) = summary.as_object_mut() {
            fields.retain(|name, _| name == "subjects");
        }
        Outcome {
            findings: findings.collect(),
            summary,
            ..Outcome::default()
        }
    }
}
