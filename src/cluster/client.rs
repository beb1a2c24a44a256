//! The connection to the API server, from a kubeconfig or from inside a pod; and those to what gives
//! node metrics, which are read-only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account was usable.
    #[error("unable to find a cluster: set KUBECONFIG, or run inside a pod with a service account")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// The kubeconfig that was asked for is no use.
    #[error("unable to use the kubeconfig")]
    BadKubeconfig(#[source] KubeconfigError),
    /// The configuration was found and is no use.
    #[error("unable to build a client from the cluster's configuration")]
    Build(#[source] kube::Error),
    /// The URL of node metrics names no host.
    #[error(
        "unable to read node metrics from {url}: it wants http://HOST[:PORT][/PATH] or https://"
    )]
    BadUrl {
        /// The URL.
        url: http::Uri,
    },
    /// The URL of a receiver names no host. It is not shown: its path may be a credential.
    #[error("unable to send to a receiver: its URL wants http://HOST[:PORT][/PATH] or https://")]
    BadReceiver,
    /// Another part of the process chose a TLS provider before.
    #[error("unable to choose the TLS provider")]
    Tls,
}

/// How far the certificate of a kubelet is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KubeletTrust {
    /// It must be signed by the cluster's authority.
    #[default]
    Cluster,
    /// It must be signed by the authority in this file.
    Authority(PathBuf),
    /// Any will do. Whoever answers at the address gets the service account's token.
    Anything,
}

/// Connects with the configuration that `KUBECONFIG` or the pod's service account gives.
///
/// The client's own retries are off: they can hide one slow call for minutes, and every caller here
/// has a time limit and a backoff of its own.
pub async fn connect() -> Result<Client, ClientError> {
    choose_tls()?;
    let mut config = Config::infer().await.map_err(ClientError::NoConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(ClientError::Build)
}

/// Which cluster a person means, where it is not the one that `kubectl` would take.
#[derive(Clone, Debug, Default)]
pub struct ClusterSelection {
    /// This kubeconfig alone.
    pub kubeconfig: Option<PathBuf>,
    /// This context of it.
    pub context: Option<String>,
}

/// Connects as a person: as `kubectl` does, and inside a pod with its service account.
pub async fn connect_selected(chosen: &ClusterSelection) -> Result<Client, ClientError> {
    choose_tls()?;
    let options = KubeConfigOptions {
        context: chosen.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match &chosen.kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file).map_err(ClientError::BadKubeconfig)?;
            let config = Config::from_custom_kubeconfig(read, &options).await;
            config.map_err(ClientError::BadKubeconfig)?
        }
        None if chosen.context.is_some() => {
            let config = Config::from_kubeconfig(&options).await;
            config.map_err(ClientError::BadKubeconfig)?
        }
        None => Config::infer().await.map_err(ClientError::NoConfig)?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(ClientError::Build)
}

/// Connects to a kubelet with the credentials for the API server. They are sent over TLS only: a
/// plain `http` URL, such as that of the read-only port, gets none.
pub async fn connect_kubelet(url: &http::Uri, trust: &KubeletTrust) -> Result<Client, ClientError> {
    if url.scheme_str() != Some("https") {
        return connect_plain(url);
    }
    choose_tls()?;
    let ours = Config::infer().await.map_err(ClientError::NoConfig)?;
    let mut config = metrics_config(url)?;
    config.auth_info = ours.auth_info;
    // Else the system's authorities are looked up, which have no say about a kubelet.
    config.root_cert = Some(Vec::new());
    match trust {
        KubeletTrust::Cluster => {
            config.root_cert = ours.root_cert;
            config.root_cert_file = ours.root_cert_file;
        }
        KubeletTrust::Authority(file) => config.root_cert_file = Some(file.clone()),
        KubeletTrust::Anything => config.accept_invalid_certs = true,
    }
    Client::try_from(config).map_err(ClientError::Build)
}

/// Connects to an exporter, without credentials.
pub fn connect_plain(url: &http::Uri) -> Result<Client, ClientError> {
    choose_tls()?;
    Client::try_from(metrics_config(url)?).map_err(ClientError::Build)
}

/// Connects to a receiver of notifications, without credentials. Its certificate is believed if an
/// authority in `ca_file` signed it, or else one that the system trusts.
pub fn connect_receiver(url: &http::Uri, ca_file: Option<&Path>) -> Result<Client, ClientError> {
    choose_tls()?;
    let mut config = metrics_config(url).map_err(|_| ClientError::BadReceiver)?;
    if url.scheme_str() == Some("https") {
        config.root_cert_file = ca_file.map(Path::to_path_buf);
    }
    Client::try_from(config).map_err(ClientError::Build)
}

/// Settings for the host of this URL. Its path is that of the requests.
fn metrics_config(url: &http::Uri) -> Result<Config, ClientError> {
    let bad = || ClientError::BadUrl { url: url.clone() };
    let (scheme, host) = (url.scheme_str(), url.authority());
    let (Some(scheme @ ("http" | "https")), Some(host)) = (scheme, host) else {
        return Err(bad());
    };
    let base = format!("{scheme}://{host}/").parse().map_err(|_| bad())?;
    let mut config = Config::new(base);
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    if scheme == "http" {
        // Else the system's authorities are looked up, and an image without any would not do.
        config.root_cert = Some(Vec::new());
    }
    Ok(config)
}

fn choose_tls() -> Result<(), ClientError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| ClientError::Tls)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_urls_of_a_host_lead_to_a_client() {
        for (url, is_good) in [
            ("http://127.0.0.1:9400/metrics", true),
            ("http://[::1]:9400", true),
            ("ftp://127.0.0.1/metrics", false),
            ("/metrics", false),
            ("localhost:9400", false),
        ] {
            let client = connect_plain(&url.parse().unwrap());
            assert_eq!(client.is_ok(), is_good, "{url}");
        }
    }
}
