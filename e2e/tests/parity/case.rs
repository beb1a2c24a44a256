//! The cases: folders of `tests/cases`, and the shared inputs with what `shared.json` expects of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::expected;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name in reports.
    pub name: String,
    /// Logs and folders of logs, as `replay` takes them.
    pub paths: Vec<PathBuf>,
    /// Options of `replay` with their files, pool lists and the like.
    pub options: BTreeMap<String, PathBuf>,
    /// The form of `expected.json`.
    pub expected: Value,
    /// The exit code of `replay`.
    pub exit: i32,
    /// Words that `replay` must say, in whichever stream.
    pub says: Vec<String>,
    /// The status of the condition `SignalsFresh` where the case expects one of its runs.
    pub signals: Option<String>,
}

/// An input of `shared.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    /// Paths below the shared folder `cases`.
    paths: Vec<String>,
    /// The same, of the file of samples.
    samples: Option<String>,
    /// Findings by subject.
    subjects: Value,
    /// Records of connections, where the case is about how a file is read.
    flows: Option<u64>,
    #[serde(default)]
    exit: i32,
    #[serde(default)]
    says: Vec<String>,
    signals: Option<String>,
    /// What the case is about.
    #[allow(dead_code)] // for readers of the file
    why: String,
}

impl Case {
    /// The option's file.
    pub fn option(&self, name: &str) -> Option<&Path> {
        self.options.get(name).map(PathBuf::as_path)
    }
}

/// The folders of `tests/cases`.
pub fn folders() -> anyhow::Result<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases");
    let cases: Vec<_> = expected::cases(&root)
        .iter()
        .map(|folder| of_folder(folder))
        .collect::<anyhow::Result<_>>()?;
    ensure!(!cases.is_empty(), "tests/cases is empty");
    Ok(cases)
}

/// Every case there is.
pub fn all() -> anyhow::Result<Vec<Case>> {
    let mut cases = folders()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared =
        std::env::var_os("YELLOWJACK_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let shared = shared.join("cases");
    if shared.is_dir() {
        let text = include_str!("shared.json");
        let listed: BTreeMap<String, Shared> =
            serde_json::from_str(text).context("failed to read shared.json")?;
        cases.extend(
            listed
                .into_iter()
                .map(|(name, input)| of_shared(&name, input, &shared)),
        );
    } else {
        println!(
            "skipped: the shared inputs are not in {} (set YELLOWJACK_SHARED)",
            shared.display()
        );
    }
    if let Some(only) = std::env::var_os("PARITY_CASES") {
        let only = only.to_string_lossy().into_owned();
        cases.retain(|case| only.split(',').any(|part| case.name.contains(part)));
    }
    Ok(cases)
}

fn of_folder(folder: &Path) -> anyhow::Result<Case> {
    let text = std::fs::read_to_string(folder.join("expected.json"))
        .with_context(|| format!("failed to read what {} expects", folder.display()))?;
    let there = expected::COMPANIONS
        .iter()
        .filter(|(_, file)| folder.join(file).is_file());
    Ok(Case {
        name: expected::name(folder),
        paths: vec![folder.to_owned()],
        options: there
            .map(|(option, file)| ((*option).to_owned(), folder.join(file)))
            .collect(),
        expected: serde_json::from_str(&text).with_context(|| folder.display().to_string())?,
        exit: 0,
        says: Vec::new(),
        signals: None,
    })
}

fn of_shared(name: &str, input: Shared, root: &Path) -> Case {
    let mut expected = json!({ "subjects": input.subjects });
    if let Some(flows) = input.flows {
        expected["flows"] = json!(flows);
    }
    let samples = input
        .samples
        .map(|path| ("--samples".to_owned(), root.join(path)));
    Case {
        name: format!("shared/{name}"),
        paths: input.paths.iter().map(|path| root.join(path)).collect(),
        options: samples.into_iter().collect(),
        expected,
        exit: input.exit,
        says: input.says,
        signals: input.signals,
    }
}
