//! `make fuzz`: every target for so many seconds. Ends with 1 if a property does not hold, and
//! keeps the input. A crash of the whole process (a full stack) is repeated with the same seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use yellowjack_fuzz::{Corpus, Failure, Target, check, fuzz};

/// Arguments of the fuzzer.
#[derive(Parser, Debug)]
struct Args {
    /// How long each target runs.
    #[arg(long, env = "FUZZ_SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers start; the same seed gives the same inputs. By default the time.
    #[arg(long, env = "FUZZ_SEED")]
    seed: Option<u64>,
    /// Only this target. May be given several times.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Where failing inputs are kept.
    #[arg(long, value_name = "FOLDER", default_value = "fuzz/failures")]
    keep: PathBuf,
    /// Run the targets on these inputs once, and do nothing else.
    #[arg(value_name = "FILE")]
    inputs: Vec<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let targets: Vec<Target> = Target::all()
        .into_iter()
        .filter(|target| args.target.is_empty() || args.target.contains(&target.name()))
        .collect();
    anyhow::ensure!(!targets.is_empty(), "unable to find a target of this name");
    let has_failed = if args.inputs.is_empty() {
        run(&args, &targets)?
    } else {
        repeat(&args.inputs, &targets)?
    };
    Ok(ExitCode::from(u8::from(has_failed)))
}

fn run(args: &Args, targets: &[Target]) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(time_seed);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("failed to find the root of the repository")?;
    let corpus = Corpus::read(root);
    println!("fuzz: seed {seed}, {} s a target", args.seconds);
    let mut has_failed = false;
    for target in targets {
        let name = target.name();
        let report = fuzz(*target, &corpus, seed, Duration::from_secs(args.seconds));
        println!(
            "fuzz: {name:<14} {:>10} inputs {:>9.0}/s {:>5} behaviours",
            report.input_count,
            report.inputs_per_second(),
            report.behaviour_count
        );
        if let Some(failure) = report.failure {
            has_failed = true;
            let file = keep(&args.keep, &name, &failure)?;
            println!("fuzz: {name}: {}", failure.what);
            println!("fuzz: {name}: kept {} (seed {seed})", file.display());
        }
    }
    Ok(has_failed)
}

fn repeat(inputs: &[PathBuf], targets: &[Target]) -> anyhow::Result<bool> {
    let mut has_failed = false;
    for file in inputs {
        let input =
            std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        for target in targets {
            if let Err(what) = check(*target, &input) {
                has_failed = true;
                println!("fuzz: {}: {}: {what}", target.name(), file.display());
            }
        }
    }
    Ok(has_failed)
}

fn keep(folder: &Path, target: &str, failure: &Failure) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to make the folder {}", folder.display()))?;
    let mut hasher = DefaultHasher::new();
    failure.input.hash(&mut hasher);
    let file = folder.join(format!("{target}-{:016x}", hasher.finish()));
    std::fs::write(&file, &failure.input)
        .with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file)
}

#[allow(clippy::cast_possible_truncation)] // the low bits are those that differ
fn time_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64)
}
