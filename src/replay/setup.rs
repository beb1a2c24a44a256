//! Setup: everything that a replay needs besides the logs, read from the files that the user gives.
//!
//! Called by `cli::replay` and by the tests over `tests/cases`, so that both run the same code.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::error::ReplayError;
use super::labels::Labels;
use super::manifests::Manifests;
use super::policies::Policies;
use super::setup_file::read_text;
use crate::detect::{EngineConfig, PoolList};
use crate::limits;
use crate::signals::decode::Format;

/// The files that the user gave.
#[derive(Clone, Debug, Default)]
pub struct SetupFiles {
    /// Labels of the subjects.
    pub labels: Option<PathBuf>,
    /// Mining pools.
    pub pool_lists: Vec<PathBuf>,
    /// Tunnel services.
    pub tunnel_lists: Vec<PathBuf>,
    /// Mining pools of a starter list, which lead to alerts only.
    pub starter_pool_lists: Vec<PathBuf>,
    /// Tunnel services of a starter list.
    pub starter_tunnel_lists: Vec<PathBuf>,
    /// GuardrailPolicies and AgentRuns.
    pub policy: Option<PathBuf>,
    /// Which address belongs to which run.
    pub runs: Option<PathBuf>,
}

/// The settings of a replay.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The format that the user gave. `None`: it is detected for each file.
    pub format: Option<Format>,
    /// Settings of the engine.
    pub config: EngineConfig,
    /// Labels of the subjects.
    pub labels: Labels,
    /// The effective policies.
    pub policies: Policies,
}

impl Setup {
    /// Reads the files. The second value has notes about them for the user.
    pub fn read(files: &SetupFiles) -> Result<(Self, Vec<String>), ReplayError> {
        let labels = files.labels.as_deref().map(Labels::read).transpose()?;
        let (pools, mut notes) = read_hosts("pool list", &files.pool_lists)?;
        let (tunnels, tunnel_notes) = read_hosts("tunnel list", &files.tunnel_lists)?;
        notes.extend(tunnel_notes);
        let starter = "starter list";
        let (starter_pools, starter_notes) = read_hosts(starter, &files.starter_pool_lists)?;
        notes.extend(starter_notes);
        let (starter_tunnels, starter_notes) = read_hosts(starter, &files.starter_tunnel_lists)?;
        notes.extend(starter_notes);
        let manifests = files.policy.as_deref().map(Manifests::read).transpose()?;
        let runs = files.runs.as_deref().map(read_runs).transpose()?;
        let (policies, problems) = Policies::new(manifests.as_ref(), runs.unwrap_or_default())?;
        notes.extend(problems);
        let setup = Self {
            format: None,
            config: EngineConfig {
                pools,
                tunnels,
                starter_pools,
                starter_tunnels,
                ..EngineConfig::default()
            },
            labels: labels.unwrap_or_default(),
            policies,
        };
        Ok((setup, notes))
    }
}

fn read_hosts(
    what: &'static str,
    paths: &[PathBuf],
) -> Result<(PoolList, Vec<String>), ReplayError> {
    let mut pools = PoolList::default();
    let mut notes = Vec::new();
    for path in paths {
        let (list, problems) = PoolList::parse(&read_text(what, path)?);
        let lines = problems
            .iter()
            .map(|problem| format!("{}: {problem}", path.display()));
        notes.extend(lines);
        if problems.len() >= limits::POOL_PROBLEMS_MAX {
            notes.push(format!(
                "{}: more lines may be invalid, they are not listed",
                path.display()
            ));
        }
        pools.merge(list);
    }
    Ok((pools, notes))
}

/// Reads `{"run": ["10.0.0.1", ...]}` into a map from address to run.
fn read_runs(path: &Path) -> Result<BTreeMap<IpAddr, String>, ReplayError> {
    let text = read_text("runs", path)?;
    let listed: BTreeMap<String, Vec<IpAddr>> =
        serde_json::from_str(&text).map_err(|source| ReplayError::Runs {
            path: path.to_owned(),
            source,
        })?;
    let mut runs = BTreeMap::new();
    for (run, subjects) in listed {
        for subject in subjects {
            if let Some(other) = runs.insert(subject, run.clone())
                && other != run
            {
                return Err(ReplayError::BadUse(format!(
                    "wanted one run per address in {}, found {subject} in {other} and in {run}",
                    path.display()
                )));
            }
        }
    }
    Ok(runs)
}
