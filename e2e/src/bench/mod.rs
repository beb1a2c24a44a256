//! What the benchmarks of `e2e/src/bin/bench_*` share: figures, the processor time of a process, pods that cross the
//! threshold, and Incidents made through the API. It measures and asserts no time.

mod crossings;
mod incidents;

use std::time::Duration;

use anyhow::Context;

use crate::lines::EgressLog;

pub use crossings::{AgentPod, at_once, one_after_another};
pub use incidents::{OpenIncident, create_incidents, create_namespace};

/// An address that no pod has: its lines keep the log alive.
pub const UNUSED_ADDRESS: &str = "192.0.2.1";

/// Objects that are created at the same time.
pub const CONCURRENCY: usize = 16;

/// For a bench that does not measure the limits of a response. The maximum per namespace is three quarters of
/// `--max-quarantines`.
pub const NO_LIMITS: [&str; 6] = [
    "--breaker-pods",
    "100000",
    "--max-quarantines",
    "100000",
    "--actions-per-second",
    "1000",
];

/// Ticks of processor time in a second, as `/proc` counts them on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Prints a figure.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.1} {unit}");
}

/// A bench lets time pass where there is no state to wait for.
pub async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Prints what the machine is and how busy.
pub fn print_machine(phase: &str) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    println!("{phase}: {cores} cores, load average {}", load.join(" "));
}

/// Processor time of a process since its start.
pub fn process_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.context("the process does not run any more")?;
    // The name in brackets may contain anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("an odd stat")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = times.filter_map(|text| text.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// One line a second that is about no pod: a log that is alive, as on every real node. Never returns.
pub async fn heartbeat(log: &EgressLog) {
    loop {
        if let Err(error) = log.scan_hosts(UNUSED_ADDRESS, 0, 1) {
            eprintln!("heartbeat: {error:#}");
        }
        pause(Duration::from_secs(1)).await;
    }
}

/// Prints the median and the 99th percentile, by the nearest rank: `p50` and `p99` after this prefix.
pub fn print_quantiles(prefix: &str, mut times_ms: Vec<f64>) {
    times_ms.sort_by(f64::total_cmp);
    figure(&format!("{prefix}p50"), quantile(&times_ms, 0.50), "ms");
    figure(&format!("{prefix}p99"), quantile(&times_ms, 0.99), "ms");
}

/// A count as a figure.
#[must_use]
#[expect(clippy::cast_precision_loss)] // a figure for people
pub const fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        let found = [0.5, 0.99, 1.0].map(|share| quantile(&values, share));
        assert_eq!(
            found.map(f64::to_bits),
            [100.0, 198.0, 200.0].map(f64::to_bits)
        );
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_processor_time_of_this_process_is_read_and_of_none_is_an_error() {
        let first = process_cpu_seconds(std::process::id()).unwrap();
        assert!((0.0..1e6).contains(&first), "{first}");
        process_cpu_seconds(u32::MAX).unwrap_err();
    }
}
