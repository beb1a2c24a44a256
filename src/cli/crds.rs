//! `yellowjack crds`: prints the CRDs, or writes one file per CRD into a folder.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::api;

/// Arguments of `yellowjack crds`.
#[derive(clap::Args, Debug)]
pub(super) struct CrdsArgs {
    /// Write one file per CRD into this folder instead of printing them. It is created if necessary.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
}

/// Runs the subcommand.
pub(super) fn run(args: &CrdsArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.output_dir {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("failed to make the folder {}", folder.display()))?;
    }
    let mut stdout = std::io::stdout().lock();
    for crd in api::crds() {
        let yaml = api::crds_to_yaml(&crd).context("failed to write a CRD as YAML")?;
        let Some(folder) = &args.output_dir else {
            write!(stdout, "---\n{yaml}").context("failed to write to standard output")?;
            continue;
        };
        let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
        std::fs::write(&path, yaml)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
