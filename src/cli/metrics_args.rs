//! Arguments of `controller` and `node` about node metrics.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use http::Uri;

use super::values::duration;
use crate::cluster::KubeletTrust;
use crate::limits;
use crate::operator::{MetricsEndpoint, MetricsSource};
use crate::signals::decode::MetricsFormat;
use crate::signals::source::scrape::METRICS_API_PATH;

/// The port of a kubelet, and the path of its resource metrics.
const KUBELET_PORT: u16 = 10250;
const KUBELET_PATH: &str = "/metrics/resource";

/// A kubelet updates its metrics about every 10 s, DCGM every 30 s.
const INTERVAL: Duration = Duration::from_secs(15);
/// The metrics API updates its metrics every 15 to 60 s.
const METRICS_API_INTERVAL: Duration = Duration::from_secs(30);
/// A shorter interval is a mistake.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Arguments about node metrics.
#[derive(clap::Args, Debug)]
pub(super) struct MetricsArgs {
    /// A source of the CPU usage of pods: `kubelet` is that of this node, `kubelet=URL` any other;
    /// `metrics-api` is metrics.k8s.io, for a controller. May be given several times.
    #[arg(long = "metrics", value_name = "SOURCE", value_parser = metrics)]
    metrics: Vec<MetricsArg>,

    /// A DCGM exporter of accelerator metrics, for example http://10.0.0.1:9400/metrics. May be given
    /// several times.
    #[arg(long = "dcgm", value_name = "URL", value_parser = url)]
    dcgm: Vec<Uri>,

    /// Time between two scrapes of a source. Default: 15s, and 30s for metrics-api.
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    metrics_interval: Option<Duration>,

    /// The certificate authority of the kubelets, if it is not that of the cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "kubelet_insecure")]
    kubelet_ca: Option<PathBuf>,

    /// Do not verify the certificates of kubelets. Any server at such an address then receives this
    /// program's token.
    #[arg(long)]
    kubelet_insecure: bool,
}

/// A value of `--metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MetricsArg {
    Kubelet(Option<Uri>),
    MetricsApi,
}

impl MetricsArgs {
    /// The sources of node metrics. `node` is the node of a node agent, `namespace` the only namespace that
    /// is watched.
    pub(super) fn sources(
        self,
        node: Option<&str>,
        namespace: Option<&str>,
    ) -> anyhow::Result<Vec<MetricsSource>> {
        let trust = match self.kubelet_ca {
            Some(file) => KubeletTrust::Authority(file),
            None if self.kubelet_insecure => KubeletTrust::Anything,
            None => KubeletTrust::Cluster,
        };
        let interval = self.metrics_interval;
        let mut sources = Vec::new();
        for source in self.metrics {
            sources.push(match source {
                MetricsArg::Kubelet(url) => {
                    let url = url.map_or_else(|| own_kubelet(node), Ok)?;
                    let path = path_of(&url, KUBELET_PATH);
                    MetricsSource {
                        name: format!("kubelet {}", host_of(&url)),
                        format: MetricsFormat::Kubelet,
                        endpoint: MetricsEndpoint::Kubelet(url, trust.clone()),
                        path,
                        interval: interval.unwrap_or(INTERVAL),
                    }
                }
                MetricsArg::MetricsApi => {
                    anyhow::ensure!(
                        node.is_none(),
                        "--metrics metrics-api is for the controller; use --metrics kubelet for a node agent"
                    );
                    MetricsSource {
                        name: "metrics.k8s.io".to_owned(),
                        format: MetricsFormat::PodMetrics,
                        endpoint: MetricsEndpoint::ApiServer,
                        path: api_path(namespace),
                        interval: interval.unwrap_or(METRICS_API_INTERVAL),
                    }
                }
            });
        }
        sources.extend(self.dcgm.into_iter().map(|url| MetricsSource {
            name: format!("dcgm {}", host_of(&url)),
            format: MetricsFormat::Dcgm,
            path: path_of(&url, "/metrics"),
            endpoint: MetricsEndpoint::Exporter(url),
            interval: interval.unwrap_or(INTERVAL),
        }));
        let count_max = limits::METRICS_SOURCES_MAX;
        anyhow::ensure!(
            sources.len() <= count_max,
            "more than {count_max} sources of node metrics: run an agent on each node"
        );
        Ok(sources)
    }
}

fn own_kubelet(node: Option<&str>) -> anyhow::Result<Uri> {
    let node = node.context("--metrics kubelet wants a URL where there is no --node-name")?;
    format!("https://{node}:{KUBELET_PORT}{KUBELET_PATH}")
        .parse()
        .with_context(|| format!("failed to make the URL of the kubelet of node {node}"))
}

fn host_of(url: &Uri) -> String {
    url.authority()
        .map_or_else(String::new, |authority| authority.as_str().to_owned())
}

/// Path and query of a URL; `usual` where it has none.
fn path_of(url: &Uri, usual: &str) -> String {
    match url.path_and_query().map(http::uri::PathAndQuery::as_str) {
        None | Some("/") => usual.to_owned(),
        Some(path) => path.to_owned(),
    }
}

fn api_path(namespace: Option<&str>) -> String {
    match namespace {
        None => METRICS_API_PATH.to_owned(),
        Some(namespace) => {
            let group = METRICS_API_PATH.trim_end_matches("/pods");
            format!("{group}/namespaces/{namespace}/pods")
        }
    }
}

fn metrics(text: &str) -> Result<MetricsArg, String> {
    match text.split_once('=') {
        None if text == "kubelet" => Ok(MetricsArg::Kubelet(None)),
        None if text == "metrics-api" => Ok(MetricsArg::MetricsApi),
        Some(("kubelet", address)) => Ok(MetricsArg::Kubelet(Some(url(address)?))),
        _ => Err(format!(
            "wants kubelet, kubelet=URL or metrics-api, got {text:?}"
        )),
    }
}

fn url(text: &str) -> Result<Uri, String> {
    let wanted = || format!("wants a URL such as http://10.0.0.1:9400/metrics, got {text:?}");
    let url: Uri = text.parse().map_err(|_| wanted())?;
    let has_host = url.authority().is_some_and(|a| !a.as_str().contains('@'));
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    if has_host && is_http {
        Ok(url)
    } else {
        Err(wanted())
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < INTERVAL_MIN {
        return Err(format!("wants 10ms at least, got {text:?}"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        metrics: MetricsArgs,
    }

    fn sources(arguments: &[&str], node: Option<&str>) -> anyhow::Result<Vec<MetricsSource>> {
        let line = Line::try_parse_from([&["yellowjack"], arguments].concat())?;
        line.metrics.sources(node, None)
    }

    #[test]
    fn an_agent_scrapes_the_kubelet_of_its_node() {
        let found = sources(&["--metrics", "kubelet"], Some("n1")).unwrap();
        let url = "https://n1:10250/metrics/resource".parse().unwrap();
        assert_eq!(
            found[0].endpoint,
            MetricsEndpoint::Kubelet(url, KubeletTrust::Cluster)
        );
        assert_eq!(
            (found[0].name.as_str(), found[0].path.as_str()),
            ("kubelet n1:10250", KUBELET_PATH)
        );
        assert!(sources(&["--metrics", "kubelet"], None).is_err());
    }

    #[test]
    fn a_url_may_leave_out_the_usual_path() {
        let found = sources(
            &[
                "--metrics",
                "kubelet=https://10.0.0.1:10250",
                "--dcgm",
                "http://10.0.0.1:9400",
            ],
            None,
        )
        .unwrap();
        assert_eq!(found[0].path, "/metrics/resource");
        assert_eq!(found[1].path, "/metrics");
        let found = sources(&["--dcgm", "http://a/federate?match=x"], None).unwrap();
        assert_eq!(found[0].path, "/federate?match=x");
    }

    #[test]
    fn a_controller_reads_from_the_metrics_api_what_it_watches() {
        let found = sources(&["--metrics", "metrics-api"], None).unwrap();
        assert_eq!(found[0].path, METRICS_API_PATH);
        assert_eq!(found[0].interval, METRICS_API_INTERVAL);
        assert_eq!(
            api_path(Some("a")),
            "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods"
        );
        assert!(sources(&["--metrics", "metrics-api"], Some("n1")).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            ["--metrics", "cadvisor"],
            ["--metrics", "kubelet="],
            ["--metrics", "kubelet=10.0.0.1:10250"],
            ["--dcgm", "ftp://a"],
            ["--dcgm", "http://user:secret@a"],
            ["--metrics-interval", "0s"],
        ] {
            assert!(sources(&arguments, None).is_err(), "{arguments:?}");
        }
        let both = ["--kubelet-ca", "a", "--kubelet-insecure"];
        assert!(sources(&both, None).is_err());
    }
}
