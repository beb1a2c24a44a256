//! Clients for the API server, from a kubeconfig or from inside a pod, and for kubelets, exporters and
//! receivers of notifications.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// The time limit for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account was usable.
    #[error("unable to find a cluster: set KUBECONFIG, or run inside a pod with a service account")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// The given kubeconfig cannot be used.
    #[error("unable to use the kubeconfig")]
    BadKubeconfig(#[source] KubeconfigError),
    /// The cluster's configuration cannot be used.
    #[error("unable to build a client from the cluster's configuration")]
    Build(#[source] kube::Error),
    /// The URL of node metrics has no host.
    #[error("unable to read node metrics from {url}: wanted http://HOST[:PORT][/PATH] or https://")]
    BadUrl {
        /// The URL.
        url: http::Uri,
    },
    /// The URL of a receiver has no host. The URL is not shown, because its path may be a credential.
    #[error("unable to send to a receiver: its URL must be http://HOST[:PORT][/PATH] or https://")]
    BadReceiver,
}

/// Which certificates of a kubelet are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KubeletTrust {
    /// Those signed by the cluster's certificate authority.
    #[default]
    Cluster,
    /// Those signed by the certificate authority in this file.
    Authority(PathBuf),
    /// All of them. Any server at the address receives the service account's token.
    Anything,
}

/// Connects with the configuration from `KUBECONFIG` or the pod's service account.
///
/// The client's own retries are off: they can hide one slow request for minutes, and every caller has
/// its own time limit and backoff.
pub(crate) async fn connect() -> Result<Client, ClientError> {
    install_tls();
    let mut config = Config::infer().await.map_err(ClientError::NoConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(ClientError::Build)
}

/// The cluster for a command, if it is not the default of `kubectl`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterSelection {
    /// Use only this kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Use this context.
    pub context: Option<String>,
}

/// Connects as `kubectl` does, or inside a pod with its service account.
pub(crate) async fn connect_selected(chosen: &ClusterSelection) -> Result<Client, ClientError> {
    install_tls();
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

/// Connects to a kubelet with the credentials for the API server. They are sent only over TLS, not to
/// a plain `http` URL such as the read-only port.
pub(crate) async fn connect_kubelet(
    url: &http::Uri,
    trust: &KubeletTrust,
) -> Result<Client, ClientError> {
    if url.scheme_str() != Some("https") {
        return connect_plain(url);
    }
    install_tls();
    let inferred = Config::infer().await.map_err(ClientError::NoConfig)?;
    let mut config = metrics_config(url)?;
    config.auth_info = inferred.auth_info;
    // Without this, the system's certificate authorities would be trusted.
    config.root_cert = Some(Vec::new());
    match trust {
        KubeletTrust::Cluster => {
            config.root_cert = inferred.root_cert;
            config.root_cert_file = inferred.root_cert_file;
        }
        KubeletTrust::Authority(file) => config.root_cert_file = Some(file.clone()),
        KubeletTrust::Anything => config.accept_invalid_certs = true,
    }
    Client::try_from(config).map_err(ClientError::Build)
}

/// Connects to an exporter, without credentials.
pub fn connect_plain(url: &http::Uri) -> Result<Client, ClientError> {
    install_tls();
    Client::try_from(metrics_config(url)?).map_err(ClientError::Build)
}

/// Connects to a receiver of notifications, without credentials. Its certificate must be signed by an
/// authority in `ca_file`, or without that file by one that the system trusts.
pub(crate) fn connect_receiver(
    url: &http::Uri,
    ca_file: Option<&Path>,
) -> Result<Client, ClientError> {
    install_tls();
    let mut config = metrics_config(url).map_err(|_| ClientError::BadReceiver)?;
    if url.scheme_str() == Some("https") {
        config.root_cert_file = ca_file.map(Path::to_path_buf);
    }
    Client::try_from(config).map_err(ClientError::Build)
}

/// The configuration for the host of this URL. The path belongs to the requests.
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
        // Without this, the client would load the system's certificate authorities and fail in an image
        // that has none.
        config.root_cert = Some(Vec::new());
    }
    Ok(config)
}

fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where another thread has just installed one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_urls_with_a_host_are_accepted() {
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
