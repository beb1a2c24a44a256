//! What a scenario measured, and the table of all that ran.
//!
//! `tests/scenarios` appends a row each to a file, `bin/containment_table.rs` prints them. No
//! measuring here.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The modes that have figures, the names of these, and the longest time from a finding to the last new connection, in
/// seconds (p95).
const MODES: [(&str, &str, f64); 4] = [
    ("connection", "contain.connection", 1.0),
    ("packet", "contain.packet", 1.0),
    ("cilium", "cilium", 2.0),
    ("kube-router", "kube-router", 1.0),
];
/// Longest time from a finding to the end of a connection that was open, in seconds.
const OPEN_LIMIT_S: f64 = 10.0;

/// One scenario's times. All but the first are counted from the finding, in seconds; below zero is
/// before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What happened.
    pub scenario: String,
    /// The stand-in's mode, or the name of the real engine.
    pub mode: String,
    /// From the first hostile packet outside to the finding.
    pub finding_s: f64,
    /// To the moment when the API server had accepted the isolation.
    pub accepted_s: f64,
    /// To the last packet that opened a connection or was none of one, as seen outside.
    pub last_new_s: Option<f64>,
    /// To the last packet of whatever kind.
    pub last_s: Option<f64>,
    /// To the last packet of the connection that was open before.
    pub open_dead_s: Option<f64>,
    /// Packets that arrived outside after the finding.
    pub after_count: usize,
    /// Packets of honest pods that left them and did not arrive.
    pub honest_lost: Option<u64>,
}

/// Where the rows of a run of the tests are.
#[must_use]
pub fn rows_file() -> PathBuf {
    let engine = std::env::var(crate::node::ENGINE_VARIABLE).unwrap_or_default();
    let suffix = if engine.is_empty() {
        engine
    } else {
        format!("-{engine}")
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-logs");
    folder.join(format!("containment{suffix}.jsonl"))
}

/// Adds a row.
pub fn append(row: &Row) -> anyhow::Result<()> {
    let file = rows_file();
    let folder = file.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(folder).context("failed to make the folder for rows")?;
    let mut out = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&file)
        .context("failed to open the file of rows")?;
    let line = serde_json::to_string(row).context("failed to write a row")?;
    writeln!(out, "{line}").context("failed to add a row")
}

/// The rows of a file, oldest first.
pub fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    let text = std::fs::read_to_string(file).context("failed to read the rows")?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a row: {line}")))
        .collect()
}

/// The table, the figures, each with whether its bar is met, and what must not be. A time never is:
/// it depends on what else the machine does.
#[must_use]
pub fn report(rows: &[Row]) -> (String, Vec<String>) {
    let mut text = String::from(
        "| scenario | mode | first packet to finding | isolation accepted | last new connection | \
         last packet | open connection dead | packets after finding |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let shown = |value: Option<f64>| value.map_or("none".to_owned(), |s| format!("{s:.2}"));
    for row in rows {
        let dead = row.open_dead_s.map_or(String::new(), |s| format!("{s:.2}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {} | {} | {dead} | {} |",
            row.scenario,
            row.mode,
            row.finding_s,
            row.accepted_s,
            shown(row.last_new_s),
            shown(row.last_s),
            row.after_count,
        );
    }
    let mut judge = |name: String, value: f64, limit: f64| {
        let word = if value <= limit { "met" } else { "missed" };
        let _ = writeln!(
            text,
            "figure {name} {value:.2} s\nbar {name} <= {limit} s: {word}"
        );
    };
    for (mode, name, new_limit_s) in MODES {
        let of_mode = || rows.iter().filter(|row| row.mode == mode);
        let new: Vec<f64> = of_mode()
            .map(|row| row.last_new_s.unwrap_or_default().max(0.0))
            .collect();
        if let Some(value) = percentile_95(new) {
            judge(format!("{name}.new_p95"), value, new_limit_s);
        }
        // The default grace period makes no difference to this bar.
        let graceful = format!("{mode}, graceful");
        let with_grace = rows.iter().filter(|row| row.mode == graceful);
        let dead = of_mode()
            .chain(with_grace)
            .filter_map(|row| row.open_dead_s);
        if let Some(value) = dead.max_by(f64::total_cmp) {
            judge(format!("{name}.tunnel_dead"), value.max(0.0), OPEN_LIMIT_S);
        }
    }
    let mut failed = Vec::new();
    let real = MODES
        .iter()
        .find(|(mode, name, _)| mode == name && rows.iter().any(|row| row.mode == *mode));
    let name = real.map_or("contain", |(_, name, _)| name);
    let lost: Vec<u64> = rows.iter().filter_map(|row| row.honest_lost).collect();
    if !lost.is_empty() {
        let total: u64 = lost.iter().sum();
        let word = if total == 0 { "met" } else { "missed" };
        let _ = writeln!(
            text,
            "figure {name}.honest_lost {total} packets\nbar {name}.honest_lost 0 packets: {word}"
        );
        if total > 0 {
            failed.push(format!("{total} packets of honest pods were lost"));
        }
    }
    (text, failed)
}

/// The nearest rank; of fewer than twenty it is the largest.
fn percentile_95(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 95).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(mode: &str, last_new_s: f64) -> Row {
        Row {
            mode: mode.to_owned(),
            last_new_s: Some(last_new_s),
            ..Row::default()
        }
    }

    #[test]
    fn a_late_connection_and_a_long_tunnel_are_named_and_a_lost_packet_fails() {
        let mut rows = vec![
            row("packet", 0.2),
            row("connection", 1.5),
            row("packet, graceful", 0.2),
        ];
        rows[2].open_dead_s = Some(11.0);
        let (text, failed) = report(&rows);
        for line in [
            "figure contain.packet.new_p95 0.20 s",
            "bar contain.packet.new_p95 <= 1 s: met",
            "bar contain.connection.new_p95 <= 1 s: missed",
            "bar contain.packet.tunnel_dead <= 10 s: missed",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(failed.is_empty(), "a time fails nothing: {failed:?}");
        rows[1].honest_lost = Some(1);
        let (text, failed) = report(&rows);
        assert!(
            text.contains("contain.honest_lost 0 packets: missed"),
            "{text}"
        );
        assert_eq!(failed.len(), 1, "{failed:?}");
    }

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        assert_eq!(percentile_95(Vec::new()), None);
        assert_eq!(percentile_95(vec![3.0, 1.0]), Some(3.0));
        let hundred = (1..=100_u8).map(f64::from).collect();
        assert_eq!(percentile_95(hundred), Some(95.0));
    }
}
