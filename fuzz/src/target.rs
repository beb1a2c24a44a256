//! What is fuzzed, and what must hold for every input. Called by `fuzz`.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{Cursor, Read};
use std::mem::discriminant;

use yellowjack::testing::detect::{Attributed, Engine, EngineConfig, Origin, PoolList, Workload};
use yellowjack::testing::limits;
use yellowjack::testing::model::{EventTime, Finding, Neighbour, PodKey, Signal, Subject};
use yellowjack::testing::signals::decode::{
    Decoded, Decoder, Format, MetricsFormat, MetricsRead, MetricsReader, decode, decode_sample,
    looks_like, sniff,
};
use yellowjack::testing::signals::source::compressed::{self, Compression};

/// What one input led to, as a hash: the kind of result and which parts of it are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Behaviour(u64);

impl Behaviour {
    fn of(parts: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The decoder of a format, on one line.
    Line(Format),
    /// A decoder with its memory, and the engine behind it, on several lines.
    Log(Format),
    /// The guess of a format, and of what a log looks like that is none.
    Sniff,
    /// Compressed logs.
    Compressed,
    /// Pool lists.
    Pools,
    /// Samples of processors and accelerators.
    Samples,
    /// Answers of a source of node metrics, one after the other, with form feeds between them.
    Metrics(MetricsFormat),
}

/// Ends one answer in an input of [`Target::Metrics`].
pub const ANSWER_END: u8 = 0x0c;

impl Target {
    /// Every target.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let lines = Format::ALL.into_iter().map(Self::Line);
        let logs = Format::ALL.into_iter().map(Self::Log);
        lines
            .chain(logs)
            .chain([Self::Sniff, Self::Compressed, Self::Pools, Self::Samples])
            .chain(MetricsFormat::ALL.into_iter().map(Self::Metrics))
            .collect()
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Line(format) => format.name().to_owned(),
            Self::Log(format) => format!("{}-log", format.name()),
            Self::Sniff => "sniff".to_owned(),
            Self::Compressed => "compressed".to_owned(),
            Self::Pools => "pools".to_owned(),
            Self::Samples => "samples".to_owned(),
            Self::Metrics(format) => format!("{}-metrics", format.name()),
        }
    }

    /// Runs the code on an input. `Err` names a property that does not hold.
    pub fn run(self, input: &[u8]) -> Result<Behaviour, String> {
        match self {
            Self::Line(format) => check_line(format, input),
            Self::Log(format) => check_log(format, input),
            Self::Sniff => {
                let found = sniff(input);
                ensure(sniff(input) == found, "the same line, two formats")?;
                let looks = looks_like(input);
                ensure(
                    found.is_none() || looks.is_some() || input.contains(&b'\n'),
                    "a log of a known format looks like something",
                )?;
                Ok(Behaviour::of((found, looks.map(|looks| looks.name))))
            }
            Self::Compressed => check_compressed(input),
            Self::Pools => check_pools(input),
            Self::Metrics(format) => check_metrics(format, input),
            Self::Samples => {
                let decoded = decode_sample(input);
                ensure(
                    decode_sample(input) == decoded,
                    "the same line, two samples",
                )?;
                check_decoded(&decoded, input.len())?;
                Ok(Behaviour::of(shape(&decoded)))
            }
        }
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("does not hold: {what}"))
    }
}

fn check_line(format: Format, line: &[u8]) -> Result<Behaviour, String> {
    let decoded = decode(format, line);
    ensure(
        decode(format, line) == decoded,
        "the same line, the same result",
    )?;
    ensure(
        Decoder::new(format).decode(line) == decoded,
        "a new decoder reads as the function does",
    )?;
    if line.len() < limits::LINE_BYTES_MAX {
        let mut ended = line.to_vec();
        ended.push(b'\n');
        ensure(
            decode(format, &ended) == decoded,
            "the line end says nothing",
        )?;
    } else if line.len() > limits::LINE_BYTES_MAX {
        ensure(
            matches!(decoded, Decoded::Malformed(_)),
            "a line beyond the bound is malformed",
        )?;
    }
    check_decoded(&decoded, line.len())?;
    Ok(Behaviour::of(shape(&decoded)))
}

fn check_log(format: Format, log: &[u8]) -> Result<Behaviour, String> {
    let mut decoder = Decoder::new(format);
    let mut engine = Engine::new(EngineConfig::default());
    let mut last = EventTime::MIN;
    let mut shapes = Vec::new();
    for line in log.split(|byte| *byte == b'\n') {
        let before = decoder;
        let result = decoder.decode(line);
        check_decoded(&result, line.len())?;
        decoder.learn(line);
        ensure(
            before.decode(line) == result,
            "a line read again with its decoder is the same",
        )?;
        shapes.push(shape(&result));
        let Decoded::Signal(signal) = &result else {
            continue;
        };
        last = last.max(signal.time());
        if let Signal::Lost(lost) = signal {
            let origin = Origin {
                source: 0,
                node: lost.node.as_deref(),
            };
            engine.record_loss(origin, lost.time, lost.count);
        }
        if let Some(source) = signal.source() {
            let subject = Subject {
                pod: PodKey::from(source.to_string().as_str()),
                run: None,
            };
            let node = match signal {
                Signal::Flow(flow) => flow.node.as_deref(),
                _ => None,
            };
            let attributed = Attributed {
                signal,
                subject: &subject,
                origin: Origin { source: 0, node },
                neighbour: Neighbour::Stranger,
                workload: Workload::Standard,
            };
            check_findings(&engine.step(&attributed))?;
        }
    }
    check_findings(&engine.expire_pending(|_| Some(last)))?;
    shapes.dedup();
    shapes.truncate(3);
    Ok(Behaviour::of(shapes))
}

fn check_decoded(decoded: &Decoded<'_>, line_bytes: usize) -> Result<(), String> {
    let Decoded::Signal(signal) = decoded else {
        return Ok(());
    };
    let latest = EventTime::from_seconds(limits::EVENT_SECONDS_MAX, 0);
    ensure(
        signal.time().as_micros() >= 0 && signal.time() <= latest,
        "a time that a log can mean",
    )?;
    let fits = |text: &str| !text.is_empty() && text.len() <= line_bytes;
    match signal {
        Signal::Flow(flow) => {
            ensure(
                flow.source.to_canonical() == flow.source
                    && flow.destination.to_canonical() == flow.destination,
                "addresses in one spelling",
            )?;
            let name = flow.destination_name.as_deref();
            ensure(name.is_none_or(fits), "a name no longer than its line")?;
            let pod = flow.pod.as_ref();
            ensure(
                pod.is_none_or(|pod| fits(&pod.namespace) && fits(&pod.name)),
                "a pod no longer than its line",
            )
        }
        Signal::Dns(query) => {
            ensure(
                query.answers.len() <= limits::DNS_ANSWERS_MAX,
                "no more answers than are kept",
            )?;
            ensure(fits(&query.query), "a name no longer than its line")
        }
        Signal::Tls(name) => ensure(fits(&name.server_name), "a name no longer than its line"),
        Signal::Sample(sample) => ensure(
            fits(&sample.pod) && sample.cpu.is_none_or(f64::is_finite),
            "a pod no longer than its line, and use that is a number",
        ),
        Signal::Lost(_) => Ok(()),
    }
}

fn check_findings(findings: &[Finding]) -> Result<(), String> {
    for finding in findings {
        let evidence = &finding.evidence;
        ensure(
            evidence.examples.len() <= limits::EXAMPLES_MAX
                && evidence.against.len() <= limits::AGAINST_MAX,
            "evidence within its bounds",
        )?;
        ensure(evidence.score.is_finite(), "a score that is a number")?;
        ensure(evidence.first <= evidence.last, "evidence in order of time")?;
    }
    Ok(())
}

fn check_metrics(format: MetricsFormat, input: &[u8]) -> Result<Behaviour, String> {
    let now = EventTime::from_seconds(1_790_000_000, 0);
    let mut reader = MetricsReader::new(format);
    let mut again = MetricsReader::new(format);
    let mut shapes = Vec::new();
    for (answer, second) in input.split(|byte| *byte == ANSWER_END).zip(0..) {
        let now = now.plus_micros(second * 15_000_000);
        let read = reader.read(answer, now);
        ensure(
            again.read(answer, now) == read,
            "the same answers, the same samples",
        )?;
        ensure(
            reader.counter_count() <= limits::COUNTERS_MAX,
            "no more counters than are kept",
        )?;
        check_samples(&read, now)?;
        let kinds = [read.malformed, read.shared_gpus, read.ahead].map(|count| count.min(1));
        shapes.push((read.samples.len().min(2), read.has_new_data, kinds));
    }
    shapes.truncate(3);
    Ok(Behaviour::of(shapes))
}

fn check_samples(read: &MetricsRead, now: EventTime) -> Result<(), String> {
    let latest = now.plus_micros(limits::LOG_AHEAD_MAX_MICROS);
    let named = |name: &str| !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX;
    for sample in &read.samples {
        ensure(
            named(&sample.namespace) && named(&sample.name),
            "names within their bound",
        )?;
        let time = sample.sample.time;
        ensure(
            sample.from <= time && time <= latest,
            "a span in order, and not yet to come",
        )?;
        let cpu = sample.sample.cpu;
        ensure(
            cpu.is_none_or(|cpu| cpu.is_finite() && cpu >= 0.0),
            "use that is a number",
        )?;
    }
    Ok(())
}

/// Bytes that are read from one compressed input: far more than a seed unfolds into.
const UNFOLDED_BYTES_MAX: u64 = 1024 * 1024;

fn check_compressed(input: &[u8]) -> Result<Behaviour, String> {
    let unfold = || {
        let mut text = Vec::new();
        let reader = compressed::open(Cursor::new(input.to_vec()));
        let read = reader.and_then(|reader| {
            let mut bounded = reader.take(UNFOLDED_BYTES_MAX);
            bounded.read_to_end(&mut text)
        });
        (read.is_ok(), text)
    };
    let (is_good, text) = unfold();
    ensure(
        unfold() == (is_good, text.clone()),
        "the same bytes, the same text",
    )?;
    let kind = Compression::of(input);
    ensure(
        kind.is_some() || text == input,
        "what is not compressed comes out as it is",
    )?;
    Ok(Behaviour::of((kind.is_some(), is_good, text.len().min(64))))
}

fn check_pools(input: &[u8]) -> Result<Behaviour, String> {
    let text = String::from_utf8_lossy(input);
    let (list, problems) = PoolList::parse(&text);
    ensure(
        problems.len() <= limits::POOL_PROBLEMS_MAX,
        "no more problems than are kept",
    )?;
    let name = text.lines().next().unwrap_or_default();
    let listed = list.listed_name(name).is_some();
    Ok(Behaviour::of((problems.len().min(8), listed)))
}

/// What makes one result another kind than the next.
fn shape(decoded: &Decoded<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    discriminant(decoded).hash(&mut hasher);
    match decoded {
        Decoded::Signal(signal) => {
            discriminant(signal).hash(&mut hasher);
            match signal {
                Signal::Flow(flow) => {
                    discriminant(&flow.transport).hash(&mut hasher);
                    flow.outcome.hash(&mut hasher);
                    flow.source.is_ipv4().hash(&mut hasher);
                    let volume = flow.volume.map(|volume| {
                        (volume.is_final, volume.duration_us > 0, volume.bytes_in > 0)
                    });
                    (
                        flow.forwarded,
                        volume,
                        flow.destination_name.is_some(),
                        flow.pod.is_some(),
                        flow.source_port == 0,
                        flow.destination_port == 0,
                    )
                        .hash(&mut hasher);
                }
                Signal::Dns(query) => {
                    (query.answers.len().min(3), query.nonexistent).hash(&mut hasher);
                }
                Signal::Tls(name) => name.source.is_ipv4().hash(&mut hasher),
                Signal::Sample(sample) => {
                    (sample.cpu.is_some(), sample.gpu.is_some()).hash(&mut hasher);
                }
                Signal::Lost(lost) => (lost.count > 1).hash(&mut hasher),
            }
        }
        Decoded::Skipped(reason) => reason.hash(&mut hasher),
        Decoded::Unknown => {}
        Decoded::Malformed(reason) => reason.hash(&mut hasher),
    }
    hasher.finish()
}
