//! Plays a recorded egress log as if it happened now: times are moved, nothing else is changed.
//!
//! Stands in for the node: what a real node would not let out any more (new connections of a pod
//! whose isolation it has seen) it does not log either. The recording is of a node without the NFLOG
//! rule for living connections; what that would have logged is added to connections at their end.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::lines::alive;

/// One recorded line and when it was written, in microseconds since the epoch.
#[derive(Clone, Debug)]
struct Line {
    time_us: i64,
    source: String,
    fields: Map<String, Value>,
}

/// A recorded log of ulogd2.
#[derive(Clone, Debug)]
pub struct Recording {
    lines: Vec<Line>,
}

/// Addresses whose new connections the node no longer lets out.
#[derive(Clone, Debug, Default)]
pub struct Isolated(Arc<Mutex<HashSet<String>>>);

impl Isolated {
    /// From now on, new connections of this address do not get out.
    pub fn insert(&self, address: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address.to_owned());
    }

    fn holds(&self, address: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(address)
    }
}

/// The recording of this repository.
#[must_use]
pub fn recording_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recording/egress.jsonl")
}

impl Recording {
    /// Reads a recording.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let lines: Vec<Line> = text.lines().map(line).collect::<anyhow::Result<_>>()?;
        ensure!(!lines.is_empty(), "{} is empty", path.display());
        Ok(Self { lines })
    }

    /// When `address` first does something to this port, in microseconds.
    #[must_use]
    pub fn first_contact_us(&self, address: &str, port: u64) -> Option<i64> {
        let found = self.lines.iter().find(|line| {
            let ports = ["dest_port", "orig.l4.dport"].map(|key| line.fields.get(key));
            line.source == address
                && ports
                    .iter()
                    .flatten()
                    .any(|value| value.as_u64() == Some(port))
        });
        found.map(|line| line.time_us)
    }

    /// Writes the lines from `from_us` on into `log`, at the pace of the recording, for `span`.
    /// Returns how many lines were written.
    pub async fn play(
        &self,
        log: &Path,
        from_us: i64,
        span: Duration,
        isolated: &Isolated,
    ) -> anyhow::Result<usize> {
        let mut file = open(log)?;
        let shift_us = Timestamp::now().as_microsecond() - from_us;
        let until_us = from_us + i64::try_from(span.as_micros())?;
        let mut written = 0;
        for line in self
            .lines
            .iter()
            .filter(|l| (from_us..until_us).contains(&l.time_us))
        {
            let due_us = line.time_us + shift_us - Timestamp::now().as_microsecond();
            if let Ok(wait_us) = u64::try_from(due_us) {
                tokio::time::sleep(Duration::from_micros(wait_us)).await;
            }
            // The end of a connection that began before is still logged.
            let is_end = line.fields.get("ct.event").and_then(Value::as_u64) == Some(4);
            if !is_end && isolated.holds(&line.source) {
                continue;
            }
            let fields = moved(&line.fields, shift_us);
            let lived = is_end.then(|| living(&line.source, &fields)).flatten();
            let mut text = serde_json::to_vec(&fields)?;
            text.push(b'\n');
            if let Some(lived) = lived {
                text.extend(serde_json::to_vec(&lived)?);
                text.push(b'\n');
            }
            file.write_all(&text)
                .context("failed to write a log line")?;
            written += 1;
        }
        Ok(written)
    }
}

/// What the rule for living connections would have logged of a connection that has ended, if it was
/// answered: its second packet.
fn living(source: &str, fields: &Map<String, Value>) -> Option<Value> {
    let number = |key: &str| fields.get(key).and_then(Value::as_i64);
    // A reset alone is no connection.
    number("reply.raw.pktcount").filter(|count| *count > 2)?;
    let second = number("flow.start.sec")?;
    let micros = second * 1_000_000 + number("flow.start.usec").unwrap_or(0);
    let time = Timestamp::from_microsecond(micros).ok()?;
    let port = number("orig.l4.dport").and_then(|port| u64::try_from(port).ok())?;
    let target = fields.get("dest_ip")?.as_str()?;
    Some(alive(source, target, port, time))
}

fn open(log: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("failed to open {}", log.display()))
}

fn line(text: &str) -> anyhow::Result<Line> {
    let fields: Map<String, Value> =
        serde_json::from_str(text).context("failed to parse a recorded line")?;
    let source = fields
        .get("src_ip")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    // Begin lines of connections have their start, all others the time of writing.
    let written = fields
        .get("timestamp")
        .and_then(Value::as_str)
        .context("no timestamp")?;
    let written: Timestamp = format!("{written}Z")
        .parse()
        .context("a timestamp is not a time")?;
    Ok(Line {
        time_us: written.as_microsecond(),
        source,
        fields,
    })
}

/// A line of a log with all its times moved by `shift_us`, as of a node whose clock is off.
pub fn moved_line(text: &str, shift_us: i64) -> anyhow::Result<String> {
    let fields: Map<String, Value> =
        serde_json::from_str(text).context("failed to parse a line of the log")?;
    serde_json::to_string(&moved(&fields, shift_us)).context("failed to write a line of the log")
}

/// The line with all its times moved by `shift_us`.
fn moved(fields: &Map<String, Value>, shift_us: i64) -> Map<String, Value> {
    let mut fields = fields.clone();
    for (seconds, micros) in [
        ("oob.time.sec", "oob.time.usec"),
        ("flow.start.sec", "flow.start.usec"),
        ("flow.end.sec", "flow.end.usec"),
    ] {
        let Some(whole) = fields.get(seconds).and_then(Value::as_i64) else {
            continue;
        };
        let part = fields
            .get(micros)
            .and_then(Value::as_i64)
            .unwrap_or_default();
        let time_us = whole * 1_000_000 + part + shift_us;
        fields.insert(seconds.to_owned(), json!(time_us.div_euclid(1_000_000)));
        fields.insert(micros.to_owned(), json!(time_us.rem_euclid(1_000_000)));
    }
    let written = fields
        .get("timestamp")
        .and_then(Value::as_str)
        .map(|text| format!("{text}Z"));
    if let Some(time) = written.and_then(|text| text.parse::<Timestamp>().ok())
        && let Ok(time) = Timestamp::from_microsecond(time.as_microsecond() + shift_us)
    {
        let text = time.to_string();
        fields.insert("timestamp".to_owned(), json!(text.trim_end_matches('Z')));
    }
    fields
}
