//! The policy stand-in of `e2e/standin` as a child process, and Kubernetes' own NetworkPolicy suite,
//! which judges it or any other engine.
//!
//! Called by scenarios on a node, from inside its network namespace. Nothing here knows of
//! Yellowjack, and no result of it speaks of a vendor's engine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;

use crate::binaries::run_build_script;
use crate::supervise::{Supervised, log_tail};
use crate::wait::wait_for;

/// A start takes about 0.1 s once built; the machine may be busy.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// What becomes of a flow that was established before a deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandinMode {
    /// It survives, as on Calico and kube-router.
    Connection,
    /// It does not, as on Cilium.
    Packet,
}

impl StandinMode {
    /// As the flag and the names of figures have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Packet => "packet",
        }
    }
}

/// The running stand-in. Dropping it kills it, which leaves its rules in force: they end with the
/// network namespace, or with the next stand-in in it.
#[derive(Debug)]
pub struct Standin {
    process: Supervised,
    log: PathBuf,
}

/// Rules that came into force together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// When the kernel had taken them.
    pub time: Timestamp,
    /// How many rules.
    pub rules: u64,
    /// How many pods they judge.
    pub pods: u64,
}

impl Standin {
    /// Starts it in the network namespace of this process, and waits until its first rules are in
    /// force. Builds it if that was not done yet: `build` before anything that is measured.
    pub async fn start(
        mode: StandinMode,
        kubeconfig: &Path,
        pod_networks: &[&str],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(build("standin")?);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--mode", mode.name(), "--pod-cidr"])
            .arg(pod_networks.join(","));
        let process = Supervised::start(&command, log, None)?;
        let mut standin = Self {
            process,
            log: log.to_owned(),
        };
        wait_for("the stand-in's first rules", READY_LIMIT, async || {
            if let Ok(Some(status)) = standin.process.exited() {
                let tail = standin.process.log_tail(5);
                return Ok(Err(format!("the stand-in ended with {status}: {tail}")));
            }
            match standin.generations() {
                Ok(generations) if !generations.is_empty() => Ok(Ok(())),
                other => Err(format!("{other:?}")),
            }
        })
        .await?
        .map_err(anyhow::Error::msg)?;
        Ok(standin)
    }

    /// What it has applied so far.
    pub fn generations(&self) -> anyhow::Result<Vec<Generation>> {
        let text = std::fs::read_to_string(&self.log).context("failed to read the log")?;
        // The last line may be in the middle of being written.
        let whole = text.rfind('\n').and_then(|end| text.get(..end));
        Ok(whole
            .unwrap_or_default()
            .lines()
            .filter_map(parse)
            .collect())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}

/// None for a line about anything else.
fn parse(line: &str) -> Option<Generation> {
    let fields = line.strip_prefix("applied ")?;
    let field = |name: &str| {
        fields
            .split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Generation {
        number: field("generation")?.parse().ok()?,
        time: field("time")?.parse().ok()?,
        rules: field("rules")?.parse().ok()?,
        pods: field("pods")?.parse().ok()?,
    })
}

/// Builds a program of `e2e/standin/build.sh` (standin, netpol or agnhost) if that was not done yet,
/// and tells where it is.
pub fn build(program: &str) -> anyhow::Result<PathBuf> {
    run_build_script("standin/build.sh", &[program])
}

/// The image that the suite's pods run: its whole name, and the program that it must hold as
/// `/agnhost`.
pub fn suite_image() -> anyhow::Result<(String, PathBuf)> {
    let output = Command::new(build("netpol")?)
        .arg("image")
        .output()
        .context("failed to ask for the image's name")?;
    let name = String::from_utf8(output.stdout).context("the image has no name")?;
    Ok((name.trim().to_owned(), build("agnhost")?))
}

/// How many specs of the suite ran and passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuiteResult {
    /// Without those that were skipped.
    pub run: u32,
    /// The rest failed.
    pub passed: u32,
}

/// Runs the suite in so many processes, without the specs that need SCTP sockets. Blocks: 3 to 8
/// minutes on 2 cores in 4 processes. What it says goes to `log`.
pub fn run_suite(kubeconfig: &Path, shards: usize, log: &Path) -> anyhow::Result<SuiteResult> {
    let output = std::fs::File::create(log).context("failed to make the suite's log")?;
    let errors = output.try_clone().context("failed to share the log")?;
    let status = Command::new(build("netpol")?)
        .arg("suite")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--shards={shards}"))
        .args(["--ginkgo.no-color", "--ginkgo.skip=SCTPConnectivity"])
        .arg("--dump-logs-on-failure=false")
        .stdout(output)
        .stderr(errors)
        .status()
        .context("failed to run the suite")?;
    let text = std::fs::read_to_string(log).context("failed to read the suite's log")?;
    let result = suite_result(&text)
        .with_context(|| format!("the suite gave no figures: {}", log_tail(log, 5)))?;
    // A process that crashed has no figures, and nobody would miss its specs.
    ensure!(
        status.success() || result.passed < result.run,
        "the suite ended with {status} although all that ran passed; see {}",
        log.display()
    );
    Ok(result)
}

fn suite_result(text: &str) -> Option<SuiteResult> {
    let figure = |name: &str| {
        text.lines().rev().find_map(|line| {
            let value = line.strip_prefix("figure netpol.")?.strip_prefix(name)?;
            value.trim().strip_suffix(" count")?.parse().ok()
        })
    };
    Some(SuiteResult {
        run: figure("run")?,
        passed: figure("passed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_read_and_other_lines_are_not() {
        let line = "applied generation=3 time=2026-11-24T19:23:16.094Z rules=13 pods=2 \
                    compile_ms=0.4 nft_ms=18.7";
        let expected = Generation {
            number: 3,
            time: "2026-11-24T19:23:16.094Z".parse().unwrap(),
            rules: 13,
            pods: 2,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("standin: failed to apply the rules"), None);
        assert_eq!(parse("applied generation=3"), None);
    }

    #[test]
    fn the_last_figures_of_the_suite_count() {
        let text = "figure netpol.run 10 count\nfigure netpol.passed 9 count\nmore\n\
                    figure netpol.run 48 count\nfigure netpol.passed 47 count\n";
        let expected = SuiteResult {
            run: 48,
            passed: 47,
        };
        assert_eq!(suite_result(text), Some(expected));
        assert_eq!(suite_result("figure netpol.run 48 count\n"), None);
    }
}
