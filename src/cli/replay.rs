//! `yellowjack replay`: runs the engine over recorded logs and says what it would have done.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::detect::{EngineConfig, PoolList};
use crate::limits;
use crate::replay::{self, Labels};
use crate::signals::decode::Format;

/// Arguments of `yellowjack replay`.
#[derive(clap::Args, Debug)]
pub struct ReplayArgs {
    /// Format of the logs; `auto` looks at each file's lines.
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,
    /// Who did what, as JSON: adds a score.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Mining pools: one name, address, CIDR or host:port per line. May be given several times.
    #[arg(long, value_name = "FILE")]
    pool_list: Vec<PathBuf>,
    /// Tunnel services, in the same form. May be given several times.
    #[arg(long, value_name = "FILE")]
    tunnel_list: Vec<PathBuf>,
    /// Samples of processor and accelerator use: JSON lines of time, pod, cpu and gpu, where pod
    /// is the subject's address.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    output: OutputArg,
    /// Logs: a file, `-` for standard input, or a folder of logs or of such folders.
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
}

/// Runs the subcommand.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let labels = args.labels.as_deref().map(Labels::read).transpose()?;
    let config = EngineConfig {
        pools: read_hosts(&args.pool_list)?,
        tunnels: read_hosts(&args.tunnel_list)?,
        ..EngineConfig::default()
    };
    let has_labels = labels.is_some();
    let labels = labels.unwrap_or_default();
    let mut results = Vec::new();
    for capture in replay::find_captures(&args.paths, args.samples.as_deref())? {
        results.push(replay::replay_capture(
            &capture,
            args.format.format(),
            &config,
            &labels,
        )?);
    }
    let score = has_labels.then(|| replay::score(&results, &labels));
    let report = match args.output {
        OutputArg::Json => format!("{:#}\n", replay::json(&results, &labels, score.as_ref())),
        OutputArg::Text => replay::text(&results, &labels, score.as_ref(), &config),
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(report.as_bytes())
        .context("failed to write to standard output")
}

fn read_hosts(paths: &[PathBuf]) -> anyhow::Result<PoolList> {
    let mut pools = PoolList::default();
    for path in paths {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the list {}", path.display()))?;
        let (list, problems) = PoolList::parse(&text);
        for problem in &problems {
            eprintln!("note: {}: {problem}", path.display());
        }
        if problems.len() >= limits::POOL_PROBLEMS_MAX {
            eprintln!(
                "note: {}: more lines may be unusable, they are not listed",
                path.display()
            );
        }
        pools.merge(list);
    }
    Ok(pools)
}
