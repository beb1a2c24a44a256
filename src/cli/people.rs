//! What the commands for people share: which cluster, in which form the answer comes, exit codes,
//! errors with a hint, bounded lists. Called by the commands; knows nothing of what they ask.
//!
//! Whatever comes from the cluster was written by somebody else (INV-6): it reaches the terminal through
//! `model::escape` alone.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{ClientError, ClusterSelection, connect_selected};
use crate::limits;
use crate::model::duration;
use crate::model::escape::{for_json, for_terminal};
use crate::observability::chain;

/// Which cluster, and where in it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// The kubeconfig, where it is not the one that kubectl takes.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The namespace, where it is not the context's.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// In which form the answer comes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people; in colour on a terminal, unless NO_COLOR is set.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML. What could steer a terminal is spelled out in it.
    Yaml,
}

/// Bad use, as clap has it.
pub const BAD_USE: u8 = 2;
/// At least one pod is in quarantine.
pub const QUARANTINED: u8 = 10;
/// At least one run is not guarded as its spec says.
pub const NOT_GUARDED: u8 = 11;
/// An Incident is open, and nothing is contained.
pub const SUSPICIOUS: u8 = 12;
/// At least one run is not watched: its signals are stale, lossy or missing.
pub const NOT_WATCHED: u8 = 13;
/// The word is stored, and was not carried out within the time to wait.
pub const PENDING: u8 = 14;

/// A connection as a person.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
}

impl ClusterArgs {
    /// Connects. Nothing is asked yet.
    pub async fn connect(&self) -> Result<Cluster, PeopleError> {
        let chosen = ClusterSelection {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        };
        let client = connect_selected(&chosen).await;
        let client = client.map_err(PeopleError::NoCluster)?;
        let own = client.default_namespace().to_owned();
        let namespace = self.namespace.clone().unwrap_or(own);
        Ok(Cluster { client, namespace })
    }
}

/// Why a command for people failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// No cluster was found.
    #[error("unable to connect")]
    NoCluster(#[source] ClientError),
    /// The API server could not be asked, or refused.
    #[error("failed to read {what}")]
    Ask {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// No answer within the time limit.
    #[error("failed to read {what} within {limit:?}")]
    TimedOut {
        /// What was asked for.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The command was understood and makes no sense as it stands.
    #[error("{what}")]
    Refused {
        /// What was wanted and what was found.
        what: String,
        /// What to do.
        hint: String,
        /// The exit code.
        code: u8,
    },
}

impl PeopleError {
    /// What was wanted and found, and what to do.
    pub fn refused(what: impl Into<String>, hint: impl Into<String>, code: u8) -> Self {
        Self::Refused {
            what: what.into(),
            hint: hint.into(),
            code,
        }
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoCluster(_) => {
                "set KUBECONFIG, or name the file with --kubeconfig and the context with --context"
            }
            Self::TimedOut { .. } => "is the API server reachable? try: kubectl get --raw /readyz",
            Self::Refused { hint, .. } => return Some(hint.clone()),
            Self::Ask { what, source } => return hint_of(what, source),
        };
        Some(text.to_owned())
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::NoCluster(_) | Self::Ask { .. } | Self::TimedOut { .. } => 1,
        }
    }

    /// Whether the API server said that the caller may not.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// Whether the API server said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    const fn status(&self) -> Option<u16> {
        match self {
            Self::Ask {
                source: kube::Error::Api(status),
                ..
            } => Some(status.code),
            _ => None,
        }
    }

    /// Says it, with the hint, on standard error.
    pub fn say(&self) {
        let text = shown(&chain(self));
        anstream::eprintln!("{}: {text}", painted(BAD, "error"));
        if let Some(hint) = self.hint() {
            anstream::eprintln!("{}: {}", painted(DIM, "hint"), shown(&hint));
        }
    }
}

fn hint_of(what: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else {
        return Some("is the API server reachable? try: kubectl get --raw /readyz".to_owned());
    };
    Some(match status.code {
        401 => "the API server does not know you: look at the user of your context".to_owned(),
        403 => format!("you may not read {what}: ask whoever manages RBAC for get and list"),
        404 => format!(
            "the API server knows no {what}: are Yellowjack's CRDs installed? try: yellowjack doctor"
        ),
        _ => return None,
    })
}

/// Runs a command for people.
pub fn block_on<T>(work: impl Future<Output = Result<T, PeopleError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work)?)
}

/// Asks the API server, with a time limit.
pub async fn ask<T>(
    what: &str,
    read: impl Future<Output = kube::Result<T>>,
) -> Result<T, PeopleError> {
    let limit = Duration::from_secs(limits::PEOPLE_TIMEOUT_S);
    let answer = tokio::time::timeout(limit, read).await;
    answer
        .map_err(|_| PeopleError::TimedOut {
            what: what.to_owned(),
            limit,
        })?
        .map_err(|source| PeopleError::Ask {
            what: what.to_owned(),
            source,
        })
}

/// A list, or its beginning.
#[derive(Debug)]
pub struct Listed<K> {
    /// What was read.
    pub items: Vec<K>,
    /// Whether there is more than a command reads.
    pub is_cut: bool,
}

/// Reads a list in pages, up to [`limits::PEOPLE_OBJECTS_MAX`].
pub async fn list<K>(what: &str, api: &Api<K>, params: ListParams) -> Result<Listed<K>, PeopleError>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut params = params.limit(limits::PEOPLE_PAGE);
    let mut items = Vec::new();
    loop {
        let page = ask(what, api.list(&params)).await?;
        items.extend(page.items);
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        let is_full = items.len() >= limits::PEOPLE_OBJECTS_MAX;
        match next {
            Some(next) if !is_full => params = params.continue_token(&next),
            rest => {
                let is_cut = rest.is_some();
                return Ok(Listed { items, is_cut });
            }
        }
    }
}

/// Writes the answer: the report itself for programs, `text` of it for people.
pub fn answer<T: Serialize>(
    format: OutputFormat,
    report: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let shown = match format {
        OutputFormat::Text => text(report),
        OutputFormat::Json => for_json(&serde_json::to_string_pretty(report)?) + "\n",
        OutputFormat::Yaml => {
            let mut value = serde_json::to_value(report)?;
            spell_out(&mut value);
            serde_saphyr::to_string(&value)?
        }
    };
    let mut stdout = anstream::stdout();
    stdout.write_all(shown.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Makes harmless what stands in the texts of a document.
fn spell_out(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = shown(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(spell_out),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(spell_out),
        _ => {}
    }
}

/// Text of others, fit for a terminal.
#[must_use]
pub fn shown(text: &str) -> String {
    for_terminal(text)
}

/// As it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Worth a look.
pub const WORTH_A_LOOK: Style = AnsiColor::Yellow.on_default();
/// Somebody must act.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Beside the point.
pub const DIM: Style = Style::new().dimmed();

/// Text in a colour, which `anstream` takes away where there is no terminal.
#[must_use]
pub fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// How long ago, as kubectl says it: two places at most.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> String {
    duration::compact(now.duration_since(since).as_secs())
}

/// An exit code from a number.
#[must_use]
pub fn exit(code: u8) -> ExitCode {
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_crd_and_a_missing_right_lead_to_different_hints() {
        let error = |code: u16| {
            let status = kube::core::Status {
                code,
                ..kube::core::Status::default()
            };
            PeopleError::Ask {
                what: "agentruns".to_owned(),
                source: kube::Error::Api(Box::new(status)),
            }
        };
        assert!(error(404).hint().unwrap().contains("CRDs"));
        assert!(error(403).hint().unwrap().contains("RBAC"));
        assert!(error(403).is_forbidden());
        assert_eq!(error(500).hint(), None);
    }
}
