//! The connection to the API server, from a kubeconfig or from inside a pod.

use std::time::Duration;

use kube::{Client, Config};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account was usable.
    #[error("unable to find a cluster: set KUBECONFIG, or run inside a pod with a service account")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// The configuration was found and is no use.
    #[error("unable to build a client from the cluster's configuration")]
    Build(#[source] kube::Error),
    /// Another part of the process chose a TLS provider before.
    #[error("unable to choose the TLS provider")]
    Tls,
}

/// Connects with the configuration that `KUBECONFIG` or the pod's service account gives.
///
/// The client's own retries are off: they can hide one slow call for minutes, and every caller here
/// has a time limit and a backoff of its own.
pub async fn connect() -> Result<Client, ClientError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| ClientError::Tls)?;
    }
    let mut config = Config::infer().await.map_err(ClientError::NoConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(ClientError::Build)
}
