//! A log whose clock is five minutes off: it is said, and nobody is blamed for what another did.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;
use yellowjack::testing::api::{Incident, labels};
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::node::TestNode;
use yellowjack_e2e::recording::moved_line;
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::wait_for;

use crate::disturbed::{scanning, successor};
use crate::fixture::{NodeFixture, REFUSING_NETWORK, Setup, with_setup};

const OFF_S: i64 = 300;
const COPY_EVERY: Duration = Duration::from_millis(20);

/// A copy of the node's log, a moment later, with another clock.
pub struct Skewed {
    pub file: PathBuf,
    task: JoinHandle<()>,
}

impl Skewed {
    pub fn start(node: &TestNode, folder: &Path, skew_s: i64) -> anyhow::Result<Self> {
        let file = folder.join("skewed.jsonl");
        let mut from = File::open(node.egress_log()).context("failed to open the log")?;
        from.seek(SeekFrom::End(0))
            .context("failed to find the log's end")?;
        let mut to = File::create(&file).context("failed to make the copy of the log")?;
        let task = tokio::spawn(async move {
            let mut rest = String::new();
            let mut next = tokio::time::interval(COPY_EVERY);
            loop {
                if let Err(error) = copy(&mut from, &mut to, &mut rest, skew_s * 1_000_000) {
                    eprintln!("the copy of the log ends: {error:#}");
                    return;
                }
                next.tick().await;
            }
        });
        Ok(Self { file, task })
    }
}

impl Drop for Skewed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Copies the whole lines that have come; `rest` is the begin of the next one.
fn copy(from: &mut File, to: &mut File, rest: &mut String, shift_us: i64) -> anyhow::Result<()> {
    from.read_to_string(rest)
        .context("failed to read the log")?;
    let Some(end) = rest.rfind('\n') else {
        return Ok(());
    };
    let next = rest.split_off(end + 1);
    let mut text = String::new();
    for line in std::mem::replace(rest, next).lines() {
        text.push_str(&moved_line(line, shift_us)?);
        text.push('\n');
    }
    to.write_all(text.as_bytes())
        .context("failed to write the copy of the log")
}

/// Nobody has an Incident or the label.
async fn nobody_is_blamed(fixture: &NodeFixture) -> anyhow::Result<()> {
    let incidents: Api<Incident> = fixture.api();
    let all = incidents.list(&ListParams::default()).await?.items;
    ensure!(all.is_empty(), "there are Incidents: {all:?}");
    let pods: Api<Pod> = fixture.api();
    for pod in pods.list(&ListParams::default()).await? {
        ensure!(
            !pod.labels().contains_key(labels::QUARANTINE),
            "{} is in quarantine",
            pod.name_any()
        );
    }
    Ok(())
}

/// A pod that scans and ends, and an honest one that is given its address at once. By a clock that is
/// ahead the second would be blamed for what the first did; by one that is behind, whoever had the
/// address before.
async fn off(skew_s: i64, words: &str) -> anyhow::Result<()> {
    let setup = Setup {
        skew_s,
        ..Setup::new(StandinMode::Packet, &[])
    };
    with_setup(setup, async |fixture| {
        // Nothing ends it: as fast as it can it would fill the log faster than the copy follows.
        let scan =
            format!("while true; do nmap -n -Pn -sT --max-rate 300 -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.start_rogue_pod(&scan).await?;
        scanning(fixture, &rogue, 200).await?;
        wait_for(
            "the agent to say that the clock is off",
            LIMIT,
            async || {
                let agent = fixture.agent.lock().await;
                let log = agent.as_ref().map(yellowjack_e2e::Operator::log);
                let text = log.transpose().map_err(|error| format!("{error:#}"))?;
                let text = text.unwrap_or_default();
                if text.contains(words) {
                    Ok(())
                } else {
                    Err(text)
                }
            },
        )
        .await?;
        let second = successor(fixture, &rogue).await?;
        let before = fixture.arrivals_of(&second)?.len();
        scanning(fixture, &second, before + 1000).await?;
        nobody_is_blamed(fixture).await?;
        let lost = fixture.honest_packets_lost().await?;
        ensure!(lost == 0, "the honest run lost {lost} packets");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_log_whose_clock_is_five_minutes_ahead_blames_nobody_and_is_named() -> anyhow::Result<()>
{
    off(OFF_S, "The clock of a log is ahead").await
}

#[tokio::test]
async fn a_log_whose_clock_is_five_minutes_behind_blames_nobody_and_is_named() -> anyhow::Result<()>
{
    off(-OFF_S, "The newest line of a log is old").await
}
