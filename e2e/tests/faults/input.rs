//! Bad input, end to end: what is no log line, what has no end, files that go, come back and
//! rotate, and a restart in between. The scan among it is found, and no line is lost or repeated.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use yellowjack_e2e::{LINES_OF_NEIGHBOUR, ScanLines, other_line};

use crate::fixture::{FaultFixture, SCAN, in_cluster};

const MISSING: &str = "A log does not exist. It will be read once it appears.";
const MIB: usize = 1024 * 1024;
/// Fewer than the 35 contacts that a quarantine takes: both halves must count.
const HALF: u32 = 25;

#[test]
fn a_scan_between_lines_that_are_none_is_found() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(scan.take(HALF))?;
        fixture.append("neither JSON nor anything else\n{\"src_ip\": \n\n")?;
        fixture.append(b"\xff\xfe\x00 no UTF-8 \xc3\x28\n")?;
        fixture.append(format!("{}\n", "a".repeat(10 * MIB)))?;
        fixture.append(scan.take(HALF))?;
        fixture.stop_after_quarantine().await?;
        let malformed = totals(&fixture, "malformed")?;
        ensure!(malformed >= 3, "{malformed} malformed lines were counted");
        ensure!(totals(&fixture, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        fixture.delete().await
    })
}

#[test]
fn a_line_without_end_takes_no_memory_and_hides_nothing() -> anyhow::Result<()> {
    const ENDLESS_MIB: usize = 200;
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let pid = fixture.operator_pid().context("no operator")?;
        let chunk = vec![b'a'; MIB];
        for _ in 0..ENDLESS_MIB {
            fixture.append(&chunk)?;
        }
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(format!("\n{}", scan.take(SCAN)))?;
        fixture
            .until_quarantined()
            .await
            .with_context(|| fixture.operator_output())?;
        let peak_mib = peak_resident_bytes(pid)? / MIB as u64;
        println!("figure faults.endless_line.rss_peak {peak_mib} MiB");
        ensure!(peak_mib < 100, "{peak_mib} MiB resident");
        fixture.stop_operator().await?;
        fixture.delete().await
    })
}

#[test]
fn a_log_that_vanishes_and_returns_is_read_on() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(scan.take(HALF))?;
        fixture.until_read(fixture.log_size()?).await?;
        fs::remove_file(&fixture.log)?;
        fixture.until_output(MISSING, 1).await?;
        fixture.append(scan.take(HALF))?;
        fixture.stop_after_quarantine().await?;
        let said = fixture.operator_output().matches(MISSING).count();
        ensure!(said == 1, "it was said {said} times");
        fixture.delete().await
    })
}

#[test]
fn a_rotation_by_rename_in_the_middle_of_a_scan_loses_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(scan.take(HALF))?;
        fs::rename(&fixture.log, rotated(&fixture))?;
        fixture.append(scan.take(HALF))?;
        fixture.stop_after_quarantine().await?;
        ensure!(totals(&fixture, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        fixture.delete().await
    })
}

#[test]
fn a_rotation_by_copy_and_truncation_in_the_middle_of_a_scan_loses_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(scan.take(HALF))?;
        fs::copy(&fixture.log, rotated(&fixture))?;
        fs::File::options()
            .write(true)
            .open(&fixture.log)?
            .set_len(0)?;
        fixture.append(scan.take(HALF))?;
        fixture.stop_after_quarantine().await?;
        ensure!(totals(&fixture, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        fixture.delete().await
    })
}

#[test]
fn a_restart_in_the_middle_of_a_log_neither_loses_nor_repeats_a_line() -> anyhow::Result<()> {
    const LINES: usize = 500;
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let lines = || other_line(&fixture.address).repeat(LINES);
        // The stop comes while these are being read.
        fixture.append(lines())?;
        let more = lines();
        fixture.stop_operator().await?;
        fixture.append(&more)?;
        fixture.start_operator().await?;
        fixture.until_output("state=Reading", 2).await?;
        fixture.append(&more)?;
        fixture.until_read(fixture.log_size()?).await?;
        fixture.stop_operator().await?;
        let signals = totals(&fixture, "signals")?;
        ensure!(signals == 3 * LINES as u64, "{signals} of {}", 3 * LINES);
        fixture.delete().await
    })
}

fn rotated(fixture: &FaultFixture) -> PathBuf {
    fixture.log.with_extension("jsonl.1")
}

/// A figure of the lines that operators print when they stop, over all that stopped.
fn totals(fixture: &FaultFixture, name: &str) -> anyhow::Result<u64> {
    let printed = fixture.operator_output();
    let mut sum = 0;
    for line in printed.lines().filter(|line| line.contains("Stopped.")) {
        let found = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        sum += found.context("a figure is missing")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// The most memory that a process ever held.
fn peak_resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no peak")?.parse::<u64>()? * 1024)
}
