//! `yellowjack replay`: runs the engine over recorded logs and reports what it would have done.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::output::colour;
use crate::model::escape::for_terminal;
use crate::replay::{self, CaptureResult, ReplayError, Setup, SetupFiles};
use crate::signals::decode::Format;

/// Arguments of `yellowjack replay`.
#[derive(clap::Args, Debug)]
pub(super) struct ReplayArgs {
    /// Format of the logs; `auto` detects it for each file.
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,
    /// Labels of the subjects, as JSON: adds a score.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Mining pools: one name, address, CIDR or host:port per line. May be given several times.
    #[arg(long, value_name = "FILE")]
    pool_list: Vec<PathBuf>,
    /// GuardrailPolicy and AgentRun as YAML: their modes, profile and maxAction apply.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The addresses of each run, as JSON: `{"run": ["10.0.0.1", ...]}`.
    #[arg(long, value_name = "FILE")]
    runs: Option<PathBuf>,
    /// Tunnel services, in the same format. May be given several times.
    #[arg(long, value_name = "FILE")]
    tunnel_list: Vec<PathBuf>,
    /// A starter list of mining pools, such as that of the chart: a match is an alert, and is not combined
    /// with other evidence. May be given several times.
    #[arg(long, value_name = "FILE")]
    starter_pool_list: Vec<PathBuf>,
    /// A starter list of tunnel services, with the same effect. May be given several times.
    #[arg(long, value_name = "FILE")]
    starter_tunnel_list: Vec<PathBuf>,
    /// Samples of CPU and accelerator usage: JSON lines of time, pod, cpu and gpu, where pod is the
    /// subject's address.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    output: OutputArg,
    /// Logs: a file, `-` for standard input, or a folder of logs or of such folders; compressed ones
    /// (gzip, zstd) too.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum FormatArg {
    Auto,
    Zeek,
    Hubble,
    Ulogd,
    Vpc,
    Calico,
    Suricata,
}

impl FormatArg {
    const fn format(self) -> Option<Format> {
        match self {
            Self::Auto => None,
            Self::Zeek => Some(Format::Zeek),
            Self::Hubble => Some(Format::Hubble),
            Self::Ulogd => Some(Format::Ulogd),
            Self::Vpc => Some(Format::Vpc),
            Self::Calico => Some(Format::Calico),
            Self::Suricata => Some(Format::Suricata),
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum OutputArg {
    Text,
    Json,
    Markdown,
}

/// Runs the subcommand.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    if args
        .paths
        .iter()
        .filter(|path| path.as_os_str() == "-")
        .count()
        > 1
    {
        let message =
            "wanted - at most once, found it again; hint: standard input can be read once";
        return Err(ReplayError::BadUse(message.to_owned()).into());
    }
    let (setup, notes) = Setup::read(&SetupFiles {
        labels: args.labels.clone(),
        pool_lists: args.pool_list.clone(),
        tunnel_lists: args.tunnel_list.clone(),
        starter_pool_lists: args.starter_pool_list.clone(),
        starter_tunnel_lists: args.starter_tunnel_list.clone(),
        policy: args.policy.clone(),
        runs: args.runs.clone(),
    })?;
    for note in notes {
        eprintln!("note: {note}");
    }
    let setup = Setup {
        format: args.format.format(),
        ..setup
    };
    let captures = replay::find_captures(&args.paths, args.samples.as_deref())?;
    let mut results = Vec::new();
    let mut progress = Progress::new(captures.len());
    for (index, capture) in captures.iter().enumerate() {
        let mut print = |line_count| progress.print(index, line_count);
        print(0);
        results.push(replay::replay_capture(capture, &setup, &mut print));
    }
    progress.clear();
    let faults: Vec<_> = results.iter().flat_map(CaptureResult::faults).collect();
    let is_readable =
        |result: &CaptureResult| result.files.iter().any(|file| file.format.is_some());
    if !results.iter().any(is_readable)
        && let Some(fault) = faults.first()
    {
        // No log at all: a report without subjects would look as if nothing had been found.
        print_notes(faults.get(1..).unwrap_or_default());
        return Err(ReplayError::Files(for_terminal(fault)).into());
    }
    let labels = &setup.labels;
    let score = args
        .labels
        .is_some()
        .then(|| replay::score(&results, labels));
    let report = match args.output {
        OutputArg::Json => format!("{:#}\n", replay::json(&results, labels, score.as_ref())),
        OutputArg::Markdown => replay::markdown(&results, labels, score.as_ref(), &setup.config),
        OutputArg::Text => replay::text(&results, labels, score.as_ref(), &setup.config, colour()),
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(report.as_bytes())
        .and_then(|()| stdout.flush())
        .context("failed to write to standard output")?;
    drop(stdout);
    judge(&faults, &results)
}

/// The result of the subcommand, once the report is printed: a failure where files have faults.
fn judge(faults: &[String], results: &[CaptureResult]) -> anyhow::Result<()> {
    match faults {
        [] => Ok(()),
        [fault] => Err(ReplayError::Files(for_terminal(fault)).into()),
        [..] => {
            print_notes(faults);
            let file_count: usize = results.iter().map(|result| result.files.len()).sum();
            let message = format!(
                "{} of {file_count} files gave nothing or end early",
                faults.len()
            );
            Err(ReplayError::Files(message).into())
        }
    }
}

fn print_notes(faults: &[String]) {
    for fault in faults {
        eprintln!("note: {}", for_terminal(fault));
    }
}

/// A progress line on the terminal.
struct Progress {
    is_terminal: bool,
    capture_count: usize,
}

impl Progress {
    fn new(capture_count: usize) -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            capture_count,
        }
    }

    // Without the capture's name, which could control the terminal.
    fn print(&mut self, index: usize, line_count: u64) {
        if self.is_terminal {
            eprint!(
                "\r\u{1b}[Kcapture {} of {}, {line_count} lines",
                index + 1,
                self.capture_count
            );
        }
    }

    fn clear(&mut self) {
        if self.is_terminal {
            eprint!("\r\u{1b}[K");
        }
    }
}
