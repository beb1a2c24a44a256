//! The manifests that the README and the demo show are accepted as they stand, and the README's
//! first taste prints what the README says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use yellowjack_e2e::with_namespace;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of the README with this language, in order.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = readme.split(&fence).skip(1);
    after
        .filter_map(|rest| rest.split("```").next())
        .map(ToOwned::to_owned)
        .collect()
}

#[tokio::test]
async fn every_manifest_of_the_readme_and_the_demo_is_accepted() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let readme = std::fs::read_to_string(root().join("README.md"))?;
        let folder = tempfile::tempdir()?;
        let manifests = blocks(&readme, "yaml");
        ensure!(
            manifests.len() >= 2,
            "the README shows {} manifests",
            manifests.len()
        );
        for (number, manifest) in manifests.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{number}.yaml")), manifest)?;
        }
        for path in [folder.path().to_owned(), root().join("e2e/demo")] {
            let path = path.display().to_string();
            env.kubectl(&["apply", "--dry-run=server", "-f", &path])
                .await
                .with_context(|| format!("in {path}"))?;
        }
        Ok(())
    })
    .await
}

#[test]
fn the_first_taste_prints_what_the_readme_says() -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let shown = blocks(&readme, "");
    let command = "$ cargo run -- replay ";
    let block = shown
        .iter()
        .find(|block| block.starts_with(command))
        .context("no taste")?;
    let binary = yellowjack_e2e::binary()?;
    let output = Command::new(binary)
        .args(["replay", "e2e/recording/egress.jsonl"])
        .current_dir(root())
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    for line in block.lines().skip(1) {
        let line = line.trim_end_matches("...").trim_end();
        ensure!(
            printed.contains(line),
            "the README shows {line:?}, and it prints:\n{printed}"
        );
    }
    Ok(())
}
