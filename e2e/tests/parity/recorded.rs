//! What a case's files hold: their lines in the order in which they happened, and the pods that wrote them.
//!
//! The order is that of `replay`: names go before the connections that they explain, as Zeek writes them in life.
//! Compressed files are played as they were before they were compressed.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use yellowjack::testing::model::{EventTime, Signal};
use yellowjack::testing::signals::decode::{Decoded, Decoder, decode_sample, sniff};

use crate::case::Case;
use crate::expected::COMPANIONS;

/// A TLS name is known some time after its connection began and counts from there on, as in `replay`.
const TLS_HEAD_START_US: i64 = 10_000_000;

/// Most pods of one case.
const PODS_MAX: usize = 100;

/// One line, or the samples of one moment.
#[derive(Clone, Debug)]
pub enum Item {
    /// A line of the log with this number.
    Line(usize, Vec<u8>),
    /// A sample.
    Sample(RecordedSample),
}

/// A sample of the case.
#[derive(Clone, Debug)]
pub struct RecordedSample {
    pub time: EventTime,
    /// The pod, by address or as the log names it.
    pub pod: String,
    pub cores: Option<f64>,
    /// The accelerator, as the file has it.
    pub gpu: Option<Value>,
}

/// A pod of the case.
#[derive(Clone, Debug, Default)]
pub struct RecordedPod {
    /// Namespace and name, where the log says them.
    pub named: Option<(String, String)>,
    /// The node, where the log says it.
    pub node: Option<String>,
}

/// A case's files.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// What the operator's sources are: a file or a folder below the folder of the play.
    pub sources: Vec<PathBuf>,
    /// The files, below the folder of the play.
    pub files: Vec<PathBuf>,
    /// What happens, in order.
    pub items: Vec<Item>,
    /// The pods, by address.
    pub pods: BTreeMap<IpAddr, RecordedPod>,
    /// The first and the last time.
    pub span: Option<(EventTime, EventTime)>,
}

/// When an item is due, and names before connections at the same time.
type Due = (EventTime, u8);

impl Recorded {
    /// Reads the files of a case.
    pub fn read(case: &Case) -> anyhow::Result<Self> {
        let mut recorded = Self::default();
        let mut queues = Vec::new();
        for (place, path) in case.paths.iter().enumerate() {
            let folder = PathBuf::from(format!("log-{place}"));
            let files = if path.is_dir() {
                logs_in(path)?
            } else {
                vec![path.clone()]
            };
            ensure!(!files.is_empty(), "{} has no log", path.display());
            let is_one = files.len() == 1;
            for file in files {
                let name = file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let name = name.trim_end_matches(".gz").to_owned();
                let number = recorded.files.len();
                recorded.files.push(folder.join(&name));
                if is_one {
                    recorded.sources.push(folder.join(&name));
                }
                queues.push(recorded.lines_of(number, &content(&file)?));
            }
            if !is_one {
                recorded.sources.push(folder);
            }
        }
        if let Some(samples) = case.option("--samples") {
            queues.push(recorded.samples_of(&content(samples)?)?);
        }
        recorded.items = merged(queues);
        recorded.add_runs(case)?;
        recorded
            .pods
            .retain(|address, _| is_of_the_cluster(*address));
        ensure!(
            recorded.pods.len() <= PODS_MAX,
            "{} has {} pods",
            case.name,
            recorded.pods.len()
        );
        Ok(recorded)
    }

    /// The address of a pod that a sample names by it, or as the log does.
    pub fn address_of(&self, named: &str) -> Option<IpAddr> {
        let is_named = |pod: &RecordedPod| {
            pod.named
                .as_ref()
                .is_some_and(|(namespace, name)| format!("{namespace}/{name}") == named)
        };
        let address = named.parse().ok();
        address.or_else(|| {
            self.pods
                .iter()
                .find(|(_, pod)| is_named(pod))
                .map(|(address, _)| *address)
        })
    }

    /// The samples of one moment: the next ones of `items`, after the first.
    pub fn moment<'a>(
        first: &'a RecordedSample,
        items: &mut std::iter::Peekable<std::slice::Iter<'a, Item>>,
    ) -> Vec<&'a RecordedSample> {
        let mut moment = vec![first];
        while let Some(Item::Sample(next)) =
            items.next_if(|next| matches!(next, Item::Sample(next) if next.time == first.time))
        {
            moment.push(next);
        }
        moment
    }

    /// The lines of a file with the time that each is due; one without a time follows the line before it.
    fn lines_of(&mut self, file: usize, text: &[u8]) -> Vec<(Due, Item)> {
        let mut decoder = None;
        let mut due = (EventTime::MIN, 0);
        let mut lines = Vec::new();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            decoder = decoder.or_else(|| sniff(line).map(Decoder::new));
            if let Some(decoder) = &mut decoder {
                if let Decoded::Signal(signal) = decoder.decode(line) {
                    due = due.max(due_of(&signal));
                    self.observe(&signal, line);
                }
                decoder.learn(line);
            }
            lines.push((due, Item::Line(file, line.to_vec())));
        }
        lines
    }

    fn samples_of(&mut self, text: &[u8]) -> anyhow::Result<Vec<(Due, Item)>> {
        let mut samples = Vec::new();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let Decoded::Signal(Signal::Sample(sample)) = decode_sample(line) else {
                bail!(
                    "a line of the samples is none: {}",
                    String::from_utf8_lossy(line)
                );
            };
            self.cover(sample.time);
            let fields: Value = serde_json::from_slice(line)?;
            let sample = RecordedSample {
                time: sample.time,
                pod: sample.pod.into_owned(),
                cores: sample.cpu,
                gpu: fields.get("gpu").filter(|gpu| gpu.is_object()).cloned(),
            };
            samples.push(((sample.time, 2), Item::Sample(sample)));
        }
        Ok(samples)
    }

    fn observe(&mut self, signal: &Signal<'_>, line: &[u8]) {
        self.cover(signal.time());
        let Some(source) = signal.source() else {
            return;
        };
        let pod = self.pods.entry(source.to_canonical()).or_default();
        if pod.node.is_none() {
            pod.node = node_of(line);
        }
        if let Signal::Flow(flow) = signal
            && let Some(hint) = &flow.pod
            && !hint.name.is_empty()
        {
            pod.named
                .get_or_insert_with(|| (hint.namespace.to_string(), hint.name.to_string()));
        }
    }

    fn cover(&mut self, time: EventTime) {
        let span = self.span.get_or_insert((time, time));
        *span = (span.0.min(time), span.1.max(time));
    }

    /// Pods that the list of runs names, though they start nothing.
    fn add_runs(&mut self, case: &Case) -> anyhow::Result<()> {
        for address in runs_of(case)?.into_keys() {
            self.pods.entry(address).or_default();
        }
        Ok(())
    }
}

/// Which address belongs to which run, by the case's list.
pub fn runs_of(case: &Case) -> anyhow::Result<BTreeMap<IpAddr, String>> {
    let Some(path) = case.option("--runs") else {
        return Ok(BTreeMap::new());
    };
    let listed: BTreeMap<String, Vec<IpAddr>> =
        serde_json::from_slice(&content(path)?).context("failed to read a list of runs")?;
    let pairs = listed
        .into_iter()
        .flat_map(|(run, pods)| pods.into_iter().map(move |pod| (pod, run.clone())));
    Ok(pairs.collect())
}

/// Logs of a folder: whatever is no companion.
fn logs_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let companions = COMPANIONS.iter().map(|(_, name)| *name);
    let others: Vec<_> = companions
        .chain(["README.md", "expected.json", "labels.json"])
        .collect();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("failed to read {}", folder.display()))?;
    let paths: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    let is_log = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && !others.contains(&name.as_ref()) && !name.contains("samples")
    };
    let mut logs: Vec<_> = paths.into_iter().filter(is_log).collect();
    logs.sort();
    Ok(logs)
}

/// What is in a file, decompressed.
fn content(path: &Path) -> anyhow::Result<Vec<u8>> {
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
    if !is_compressed {
        return std::fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    }
    let mut gzip = std::process::Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("failed to run gzip")?;
    let mut text = Vec::new();
    gzip.stdout
        .take()
        .context("gzip has no output")?
        .read_to_end(&mut text)?;
    ensure!(gzip.wait()?.success(), "gzip failed on {}", path.display());
    Ok(text)
}

fn due_of(signal: &Signal<'_>) -> Due {
    match signal {
        Signal::Dns(query) => (query.time, 0),
        Signal::Tls(tls) => (tls.time.plus_micros(-TLS_HEAD_START_US), 1),
        signal => (signal.time(), 2),
    }
}

/// Several files as one sequence; each keeps its own order.
fn merged(queues: Vec<Vec<(Due, Item)>>) -> Vec<Item> {
    let mut queues: Vec<_> = queues
        .into_iter()
        .map(|queue| queue.into_iter().peekable())
        .collect();
    let mut items = Vec::new();
    loop {
        let heads = queues
            .iter_mut()
            .enumerate()
            .filter_map(|(place, queue)| Some((queue.peek()?.0, place)));
        let Some((_, place)) = heads.min() else {
            return items;
        };
        items.extend(queues[place].next().map(|(_, item)| item));
    }
}

/// The node that a line of Hubble names, without the cluster's name in front.
fn node_of(line: &[u8]) -> Option<String> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let name = line.get("node_name")?.as_str()?;
    Some(name.rsplit('/').next().unwrap_or(name).to_owned())
}

/// Whether an address can be a pod's. Hosts of the Internet that show in a log are no pods.
fn is_of_the_cluster(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}
