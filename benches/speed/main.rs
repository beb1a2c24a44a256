//! How fast lines become judgements, and how much memory a watched pod takes. `make bench`.
//!
//! Prints `figure NAME VALUE UNIT` lines, and per format the time of each stage. One thread. Another
//! program on the machine can only make a round slower: so the log is cut into parts of some
//! milliseconds, each part counts with the fastest of many rounds, and rounds of all stages take
//! turns.

mod lines;
mod plain;
mod state;

use std::hint::black_box;
use std::time::Instant;

use yellowjack::testing::detect::{Engine, EngineConfig, Workload};
use yellowjack::testing::model::{EventTime, PodKey, RunKey};
use yellowjack::testing::signals::decode::{Decoded, Format, decode};
use yellowjack::testing::signals::{Index, Membership, PodFacts, PodLocator};

/// Counts what is allocated, for the memory figures. Costs the rest some nanoseconds per
/// allocation, of which the hot path makes few.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Lines of one round. At 1.4 KiB they are 55 MB: far more than the caches, as in real life.
const LINE_COUNT: usize = 40_000;

/// Lines that the engine has seen before a round, so that it is neither empty nor full.
const WARM_UP_COUNT: usize = 20_000;

/// Lines of one part: about a millisecond.
const PART_LINE_COUNT: usize = 1_000;

/// Rounds of each measurement.
const ROUND_COUNT: usize = 25;

fn main() {
    // Cargo passes `--bench`; a name of a format measures that one alone.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    for format in [Format::Hubble, Format::Zeek, Format::Ulogd] {
        if is_chosen(format.name()) {
            measure(format);
        }
    }
    if is_chosen("state") {
        state::measure();
    }
}

/// One stage: its name, and the seconds of the fastest round of each part.
struct Stage {
    name: &'static str,
    best: Vec<f64>,
}

impl Stage {
    fn seconds(&self) -> f64 {
        self.best.iter().sum()
    }
}

/// A log, cut where the measurement begins, and then into parts.
struct Log {
    bytes: Vec<u8>,
    warm_up_end: usize,
    part_ends: Vec<usize>,
}

impl Log {
    fn new(format: Format) -> Self {
        let bytes = lines::log(format, WARM_UP_COUNT + LINE_COUNT);
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &bytes)
            .map(|at| at + 1)
            .collect();
        let warm_up_end = ends.get(WARM_UP_COUNT - 1).copied().unwrap_or(0);
        let part_ends = ends
            .iter()
            .skip(WARM_UP_COUNT)
            .skip(PART_LINE_COUNT - 1)
            .step_by(PART_LINE_COUNT);
        let part_ends = part_ends.copied().collect();
        Self {
            bytes,
            warm_up_end,
            part_ends,
        }
    }

    fn warm_up(&self) -> &[u8] {
        self.bytes.get(..self.warm_up_end).unwrap_or_default()
    }

    fn measured(&self) -> &[u8] {
        self.bytes.get(self.warm_up_end..).unwrap_or_default()
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&self.warm_up_end).chain(&self.part_ends);
        let spans = starts.zip(&self.part_ends);
        spans.map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }
}

fn measure(format: Format) {
    let log = Log::new(format);
    let index = index();
    let signal_count = each_line(log.measured(), |line| {
        matches!(decode(format, line), Decoded::Signal(_))
    });
    let attributed = each_line(log.measured(), |line| attribute(&index, format, line));
    println!(
        "{}: {LINE_COUNT} lines of {} bytes on average, {signal_count} are signals, {attributed} of a known pod",
        format.name(),
        log.measured().len() / LINE_COUNT,
    );
    let mut stages = ["split", "utf8", "serde", "decode", "attribute", "whole"].map(|name| Stage {
        name,
        best: vec![f64::INFINITY; log.part_ends.len()],
    });
    for _ in 0..ROUND_COUNT {
        for stage in &mut stages {
            round(stage, format, &log, &index);
        }
    }
    report(format, &log, &stages);
}

fn report(format: Format, log: &Log, stages: &[Stage]) {
    let name = format.name();
    let best = |wanted: &str| {
        let found = stages.iter().find(|stage| stage.name == wanted);
        found.map_or(f64::NAN, Stage::seconds)
    };
    let lines = as_f64(LINE_COUNT);
    for stage in stages {
        println!(
            "  {:<10} {:>7.0} ns/line",
            stage.name,
            stage.seconds() / lines * 1e9
        );
    }
    let gigabytes = as_f64(log.measured().len()) / 1e9;
    let figure = |what: &str, value: f64, unit: &str| {
        println!("figure {name}.{what} {value:.3} {unit}");
    };
    println!(
        "figure {name}.lines_per_s {:.0} lines/s",
        lines / best("whole")
    );
    figure("gb_per_s", gigabytes / best("whole"), "GB/s");
    println!(
        "figure {name}.decode_lines_per_s {:.0} lines/s",
        lines / best("decode")
    );
    figure("decode_gb_per_s", gigabytes / best("decode"), "GB/s");
    figure("over_serde", best("serde") / best("decode"), "x");
}

#[allow(clippy::cast_precision_loss)] // counts here are far below 2^53
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Takes the time of one stage, and of all before it, for each part of the log.
fn round(stage: &mut Stage, format: Format, log: &Log, index: &Index) {
    let mut engine = Engine::new(EngineConfig::default());
    if stage.name == "whole" {
        black_box(whole(format, log.warm_up(), index, &mut engine));
    }
    for (part, best) in log.parts().zip(&mut stage.best) {
        let start = Instant::now();
        let count = match stage.name {
            "split" => each_line(part, |line| black_box(line).len() > 1),
            "utf8" => each_line(part, |line| std::str::from_utf8(line).is_ok()),
            "serde" => plain(format, part),
            "decode" => each_line(part, |line| {
                matches!(black_box(decode(format, line)), Decoded::Signal(_))
            }),
            "attribute" => each_line(part, |line| attribute(index, format, line)),
            _ => whole(format, part, index, &mut engine),
        };
        black_box(count);
        *best = best.min(start.elapsed().as_secs_f64());
    }
}

/// Calls `visit` with each line, and counts how often it says yes.
fn each_line(log: &[u8], mut visit: impl FnMut(&[u8]) -> bool) -> usize {
    let mut count = 0;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', log) {
        count += usize::from(log.get(start..end).is_some_and(&mut visit));
        start = end + 1;
    }
    count
}

fn plain(format: Format, log: &[u8]) -> usize {
    #[allow(clippy::match_wildcard_for_single_variants)] // not every format is measured
    let count = match format {
        Format::Hubble => each_line(log, |line| plain::read::<plain::Hubble<'_>>(line)),
        Format::Zeek => each_line(log, |line| plain::read::<plain::Zeek<'_>>(line)),
        _ => each_line(log, |line| plain::read::<plain::Ulogd<'_>>(line)),
    };
    assert_eq!(count, PART_LINE_COUNT, "the comparison reads every line");
    count
}

fn attribute(index: &Index, format: Format, line: &[u8]) -> bool {
    let Decoded::Signal(signal) = decode(format, line) else {
        return false;
    };
    black_box(index.attribute(0, &signal, PodLocator::SignalSource)).is_ok()
}

/// The whole way, from the bytes of a batch to the engine. Returns the number of findings.
fn whole(format: Format, log: &[u8], index: &Index, engine: &mut Engine) -> usize {
    let mut finding_count = 0;
    each_line(log, |line| {
        let Decoded::Signal(signal) = decode(format, line) else {
            return false;
        };
        let Ok(attributed) = index.attribute(0, &signal, PodLocator::SignalSource) else {
            return false;
        };
        finding_count += engine.step(&attributed).len();
        true
    });
    finding_count
}

/// The pods that talk, as a watch would have filled the index.
fn index() -> Index {
    let mut index = Index::new();
    let since = EventTime::from_seconds(1_780_000_000, 0);
    for pod in 0..lines::POD_COUNT {
        let facts = PodFacts {
            key: PodKey::from(format!("6f1c4d9e-0000-4000-8000-{pod:012}").as_str()),
            namespace: format!("agents-{}", pod % 20),
            name: lines::pod_name(pod),
            ips: vec![lines::pod_address(pod).into()],
            host_network: false,
            node: Some("10.10.21.166".to_owned()),
            since,
            ended_at: None,
            terminating_since: None,
            workload: None,
        };
        let membership = Membership {
            run: Some(RunKey::from(format!("agents-{}/{pod}", pod % 20).as_str())),
            workload: Workload::Standard,
        };
        index.enroll(&facts.key, Some(membership));
        index.apply(facts, since);
    }
    index
}
