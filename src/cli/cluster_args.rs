//! Arguments that choose a cluster and a namespace, shared by the commands that a person runs.

use std::path::PathBuf;

use kube::Client;

use super::error::CommandError;
use crate::cluster::{ClusterSelection, connect_selected};

/// The cluster, and the namespace in it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ClusterArgs {
    /// The kubeconfig file; by default the one that kubectl uses.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context in the kubeconfig; by default the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The namespace; by default the one of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// A connection with the user's own credentials.
#[derive(Clone)]
pub(super) struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that the command is about.
    pub namespace: String,
}

impl ClusterArgs {
    /// Makes a client. No request is sent yet.
    pub(super) async fn connect(&self) -> Result<Cluster, CommandError> {
        let selection = ClusterSelection {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        };
        let client = connect_selected(&selection).await;
        let client = client.map_err(CommandError::Connect)?;
        let default = client.default_namespace().to_owned();
        let namespace = self.namespace.clone().unwrap_or(default);
        Ok(Cluster { client, namespace })
    }
}
