//! Setup: everything that a replay needs besides the logs, read from the files that the user names.
//!
//! Called by `cli::replay` and by the tests over `tests/cases`, so that both run the same code.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ReplayError;
use super::labels::Labels;
use super::manifests::Manifests;
use super::terms::Terms;
use crate::detect::{EngineConfig, PoolList};
use crate::limits;
use crate::signals::decode::Format;

/// The files that the user named.
#[derive(Clone, Debug, Default)]
pub struct SetupFiles {
    /// Who did what.
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

/// What a replay needs to know.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The format that the user named; without it each file's first line of a known shape tells.
    pub format: Option<Format>,
    /// For the engine.
    pub config: EngineConfig,
    /// Who did what.
    pub labels: Labels,
    /// What was in force.
    pub terms: Terms,
}

impl Setup {
    /// Reads the files. The second is what the user should know about them.
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
        let (terms, problems) = Terms::new(manifests.as_ref(), runs.unwrap_or_default())?;
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
            terms,
        };
        Ok((setup, notes))
    }
}

/// Reads a file whole, up to [`limits::SETUP_BYTES_MAX`].
pub(super) fn read_text(what: &'static str, path: &Path) -> Result<String, ReplayError> {
    let failed = |source| ReplayError::ReadSetup {
        what,
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > limits::SETUP_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!(
            "it has {length} bytes, more than {}",
            limits::SETUP_BYTES_MAX
        ))));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn read_hosts(
    what: &'static str,
    paths: &[PathBuf],
) -> Result<(PoolList, Vec<String>), ReplayError> {
    let mut pools = PoolList::default();
    let mut notes = Vec::new();
    for path in paths {
        let (list, problems) = PoolList::parse(&read_text(what, path)?);
        let said = problems
            .iter()
            .map(|problem| format!("{}: {problem}", path.display()));
        notes.extend(said);
        if problems.len() >= limits::POOL_PROBLEMS_MAX {
            notes.push(format!(
                "{}: more lines may be unusable, they are not listed",
                path.display()
            ));
        }
        pools.merge(list);
    }
    Ok((pools, notes))
}

/// `{"run": ["10.0.0.1", ...]}`, turned round.
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
