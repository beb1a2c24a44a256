//! Bad input, end to end: what is no log line, what has no end, files that go, come back and
//! rotate, and a restart in between. The scan among it is found, and no line is lost or repeated.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use kube::Client;
use yellowjack_e2e::{LINES_OF_NEIGHBOUR, ScanLines, other_line};

use crate::world::{SCAN, World, in_cluster};

const MISSING: &str = "A log is not there; it is picked up when it comes.";
const MIB: usize = 1024 * 1024;
/// Fewer than the 35 contacts that a quarantine takes: both halves must count.
const HALF: u32 = 25;

#[test]
fn a_scan_between_lines_that_are_none_is_found() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let mut scan = ScanLines::new(&world.address);
        world.write(scan.take(HALF))?;
        world.write("neither JSON nor anything else\n{\"src_ip\": \n\n")?;
        world.write(b"\xff\xfe\x00 no UTF-8 \xc3\x28\n")?;
        world.write(format!("{}\n", "a".repeat(10 * MIB)))?;
        world.write(scan.take(HALF))?;
        quarantined(&mut world).await?;
        let malformed = totals(&world, "malformed")?;
        ensure!(malformed >= 3, "{malformed} malformed lines were counted");
        ensure!(totals(&world, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        world.end().await
    })
}

#[test]
fn a_line_without_end_takes_no_memory_and_hides_nothing() -> anyhow::Result<()> {
    const ENDLESS_MIB: usize = 200;
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let pid = world.pid().context("no operator")?;
        let chunk = vec![b'a'; MIB];
        for _ in 0..ENDLESS_MIB {
            world.write(&chunk)?;
        }
        let mut scan = ScanLines::new(&world.address);
        world.write(format!("\n{}", scan.take(SCAN)))?;
        world
            .wait_for_quarantine()
            .await
            .with_context(|| world.printed())?;
        let peak_mib = peak_resident_bytes(pid)? / MIB as u64;
        println!("figure faults.endless_line.rss_peak {peak_mib} MiB");
        ensure!(peak_mib < 100, "{peak_mib} MiB resident");
        world.stop().await?;
        world.end().await
    })
}

#[test]
fn a_log_that_vanishes_and_returns_is_read_on() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let mut scan = ScanLines::new(&world.address);
        world.write(scan.take(HALF))?;
        world.wait_until_read(world.size()?).await?;
        fs::remove_file(&world.log)?;
        world.wait_until_printed(MISSING, 1).await?;
        world.write(scan.take(HALF))?;
        quarantined(&mut world).await?;
        let said = world.printed().matches(MISSING).count();
        ensure!(said == 1, "it was said {said} times");
        world.end().await
    })
}

#[test]
fn a_rotation_by_rename_in_the_middle_of_a_scan_loses_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let mut scan = ScanLines::new(&world.address);
        world.write(scan.take(HALF))?;
        fs::rename(&world.log, rotated(&world))?;
        world.write(scan.take(HALF))?;
        quarantined(&mut world).await?;
        ensure!(totals(&world, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        world.end().await
    })
}

#[test]
fn a_rotation_by_copy_and_truncation_in_the_middle_of_a_scan_loses_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let mut scan = ScanLines::new(&world.address);
        world.write(scan.take(HALF))?;
        fs::copy(&world.log, rotated(&world))?;
        fs::File::options()
            .write(true)
            .open(&world.log)?
            .set_len(0)?;
        world.write(scan.take(HALF))?;
        quarantined(&mut world).await?;
        ensure!(totals(&world, "signals")? == u64::from(2 * HALF + LINES_OF_NEIGHBOUR));
        world.end().await
    })
}

#[test]
fn a_restart_in_the_middle_of_a_log_neither_loses_nor_repeats_a_line() -> anyhow::Result<()> {
    const LINES: usize = 500;
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let lines = || other_line(&world.address).repeat(LINES);
        // The stop comes while these are being read.
        world.write(lines())?;
        let more = lines();
        world.stop().await?;
        world.write(&more)?;
        world.start().await?;
        world.wait_until_printed("state=Reading", 2).await?;
        world.write(&more)?;
        world.wait_until_read(world.size()?).await?;
        world.stop().await?;
        let signals = totals(&world, "signals")?;
        ensure!(signals == 3 * LINES as u64, "{signals} of {}", 3 * LINES);
        world.end().await
    })
}

/// A world whose operator reads the log and knows the rogue pod.
async fn ready(client: &Client) -> anyhow::Result<World> {
    let mut world = World::new(client).await?;
    world.start().await?;
    world.wait_until_ready("rogue").await?;
    world.wait_until_printed("state=Reading", 1).await?;
    Ok(world)
}

async fn quarantined(world: &mut World) -> anyhow::Result<()> {
    let outcome = world.wait_for_quarantine().await;
    outcome.with_context(|| world.printed())?;
    world.wait_until_read(world.size()?).await?;
    world.stop().await
}

fn rotated(world: &World) -> PathBuf {
    world.log.with_extension("jsonl.1")
}

/// A figure of the lines that operators print when they stop, over all that stopped.
fn totals(world: &World, name: &str) -> anyhow::Result<u64> {
    let printed = world.printed();
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
