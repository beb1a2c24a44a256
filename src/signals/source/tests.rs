//! Tests with real files and real renames: which lines arrive, in which order, after everything that can happen to
//! a log.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::*;

mod folder;
mod property;
mod restart;
mod rotation;
mod trouble;

/// A running source, and the lines that were received from it.
struct Tail {
    handle: Option<SourceHandle>,
    receiver: mpsc::Receiver<Batch>,
    shutdown: CancellationToken,
    lines: Vec<String>,
    /// Batches that are not acknowledged yet.
    unacked: Vec<Position>,
    is_acking: bool,
}

/// A generous time limit, for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn fast() -> Pacing {
    let ms = Duration::from_millis;
    Pacing {
        poll_active: ms(1),
        poll_idle: ms(2),
        rotation_check: ms(2),
        rotate_wait: ms(60),
        unlinked_wait: ms(200),
        folder_scan: ms(10),
        checkpoint: ms(10),
    }
}

fn config(path: &Path) -> SourceConfig {
    let mut config = SourceConfig::new(SourceId(0), "test", SourceKind::Path(path.to_path_buf()));
    config.start_at = StartAt::Beginning;
    config.checkpoint_dir = Some(path.parent().unwrap().join("checkpoints"));
    config.pacing = fast();
    config
}

impl Tail {
    fn start(config: SourceConfig) -> Self {
        let (sender, receiver) = channel();
        let shutdown = CancellationToken::new();
        let handle = spawn(config, sender, shutdown.clone()).unwrap();
        Self {
            handle: Some(handle),
            receiver,
            shutdown,
            lines: Vec::new(),
            unacked: Vec::new(),
            is_acking: true,
        }
    }

    /// From the start of `path`, with checkpoints beside it.
    fn of(path: &Path) -> Self {
        Self::start(config(path))
    }

    fn health(&self) -> SourceHealth {
        self.handle.as_ref().unwrap().health()
    }

    fn take(&mut self) -> bool {
        let Ok(batch) = self.receiver.try_recv() else {
            return false;
        };
        let text = batch
            .lines()
            .map(|line| String::from_utf8_lossy(line).into_owned());
        self.lines.extend(text);
        if self.is_acking {
            batch.position.acknowledge();
        } else {
            self.unacked.push(batch.position);
        }
        true
    }

    /// Reads lines until `is_done`, and fails with what was missing if that never happens.
    #[track_caller]
    fn until(&mut self, what: &str, mut is_done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_done(self) {
            if !self.take() {
                assert!(
                    start.elapsed() < PATIENCE,
                    "no {what}; {} lines, the last: {:?}; health: {:?}",
                    self.lines.len(),
                    self.lines.last(),
                    self.health()
                );
                std::thread::yield_now();
            }
        }
    }

    /// Receives lines until there are as many as expected. They must be exactly these, and no more may follow
    /// while the source polls a few more times.
    #[track_caller]
    fn expect<S: AsRef<str>>(&mut self, expected: &[S]) {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        self.until(&format!("{} lines", expected.len()), |tail| {
            tail.lines.len() >= expected.len()
        });
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(20) {
            self.take();
            std::thread::yield_now();
        }
        assert_eq!(self.lines, expected, "health: {:?}", self.health());
    }

    #[track_caller]
    fn until_state(&mut self, state: &SourceState) {
        self.until(&format!("state {state:?}"), |tail| {
            tail.health().state == *state
        });
    }

    /// Stops like a clean shutdown, and returns the lines.
    fn stop(mut self) -> Vec<String> {
        self.shutdown.cancel();
        self.until("end", |tail| tail.health().state == SourceState::Ended);
        while self.take() {}
        self.handle.take().unwrap().close().unwrap();
        std::mem::take(&mut self.lines)
    }

    /// Stops like a crash: progress that is not in a checkpoint is lost, and lines in flight are dropped.
    fn crash(mut self) -> Vec<String> {
        self.shutdown.cancel();
        self.until("end", |tail| tail.health().state == SourceState::Ended);
        std::mem::take(&mut self.lines)
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A folder for one test, with the path of its log.
fn log() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    (folder, path)
}

/// Lines `first..last`, long enough to be distinguished by their first bytes, like real ones.
fn numbered(lines: std::ops::Range<usize>) -> Vec<String> {
    lines
        .map(|i| {
            format!(
                "{{\"time\":{i:06},\"pod\":\"10.0.0.1\",\"to\":\"198.51.100.1:22\",\"bytes\":{i}}}"
            )
        })
        .collect()
}

fn text(lines: std::ops::Range<usize>) -> String {
    numbered(lines)
        .into_iter()
        .map(|line| line + "\n")
        .collect()
}

#[test]
fn lines_arrive_as_they_are_written() {
    let (_folder, path) = log();
    write(&path, "one\n");
    let mut tail = Tail::of(&path);
    tail.expect(&["one"]);
    append(&path, "two\nthree\n");
    tail.expect(&["one", "two", "three"]);
    append(&path, "fo");
    tail.expect(&["one", "two", "three"]);
    append(&path, "ur\r\n\n\r\nfive\n");
    tail.expect(&["one", "two", "three", "four", "five"]);
    assert!(tail.health().last_line_at.is_some());
    assert_eq!(tail.health().lag_bytes, 0);
}

#[test]
fn a_first_start_begins_at_the_end_and_not_inside_a_line() {
    let (_folder, path) = log();
    write(&path, "old\nhalf a ");
    let mut first = config(&path);
    first.start_at = StartAt::End;
    let mut tail = Tail::start(first);
    tail.until_state(&SourceState::Reading);
    append(&path, "line\nnew\n");
    tail.expect(&["new"]);
}

#[test]
fn a_log_that_appears_after_the_start_is_read_from_its_start() {
    let (_folder, path) = log();
    let mut first = config(&path);
    first.start_at = StartAt::End;
    let mut tail = Tail::start(first);
    tail.until_state(&SourceState::Missing);
    write(&path, "one\n");
    tail.expect(&["one"]);
}

/// With the pacing of the operator. The delay of a line is printed, not asserted.
#[test]
fn each_line_is_sent_without_waiting_for_the_next() {
    let (_folder, path) = log();
    write(&path, "");
    let mut real = config(&path);
    real.pacing = Pacing::default();
    let mut tail = Tail::start(real);
    tail.until_state(&SourceState::Reading);
    let mut waits: Vec<Duration> = (0..101)
        .map(|i| {
            let start = Instant::now();
            append(&path, &text(i..i + 1));
            tail.until("the line", |tail| tail.lines.len() == i + 1);
            start.elapsed()
        })
        .collect();
    waits.sort();
    println!(
        "figure source.wait.p50 {:.1} ms",
        waits[50].as_secs_f64() * 1e3
    );
}

#[test]
fn standard_input_is_read_to_its_end_and_its_last_line_needs_no_newline() {
    let (sender, mut receiver) = channel();
    let output = BatchSender {
        source: SourceId(3),
        sender,
        health: Arc::new(Health::new("stdin")),
        shutdown: CancellationToken::new(),
    };
    stream::run(&mut "one\r\n\ntwo".as_bytes(), &output);
    let mut found = Vec::new();
    while let Ok(batch) = receiver.try_recv() {
        assert_eq!(batch.source, SourceId(3));
        found.extend(
            batch
                .lines()
                .map(|line| String::from_utf8_lossy(line).into_owned()),
        );
    }
    assert_eq!(found, ["one", "two"]);
    assert_eq!(output.health.snapshot().state, SourceState::Ended);
}

#[test]
fn a_slow_consumer_stops_the_reader_and_memory_does_not_grow() {
    let (_folder, path) = log();
    let line = "x".repeat(1023) + "\n";
    let mut file = File::create(&path).unwrap();
    for _ in 0..16 * 1024 {
        file.write_all(line.as_bytes()).unwrap();
    }
    let mut tail = Tail::of(&path);
    // No batch is received until the queue is full and the reader waits.
    let start = Instant::now();
    while tail.health().batches < limits::BATCH_QUEUE_MAX as u64 {
        assert!(start.elapsed() < PATIENCE, "{:?}", tail.health());
        std::thread::yield_now();
    }
    assert_eq!(tail.receiver.len(), limits::BATCH_QUEUE_MAX);
    assert!(
        tail.health().bytes <= (limits::BATCH_QUEUE_MAX * (limits::READ_BYTES_MAX + 1024)) as u64
    );
    tail.until("all lines", |tail| tail.lines.len() >= 16 * 1024);
    assert_eq!(tail.lines.len(), 16 * 1024);
    // A full queue does not delay a shutdown either.
    append(&path, &line.repeat(4 * 1024));
    tail.shutdown.cancel();
    let start = Instant::now();
    while tail.health().state != SourceState::Ended {
        assert!(start.elapsed() < PATIENCE, "{:?}", tail.health());
        std::thread::yield_now();
    }
}
