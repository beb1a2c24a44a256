//! The harness that tests, demo and benchmarks share: a real API server, namespaces, pods without
//! a kubelet, a node with one, the operator as a child process, and a proxy that injects API failures.
//!
//! Used by `e2e/tests`, the demo and the benchmarks; never linked into the product.

pub mod attacks;
pub mod bench;
mod binaries;
pub mod build;
pub mod cilium;
mod cluster;
pub mod cluster_policies;
mod control_plane;
mod env;
pub mod fixture;
pub mod helm;
mod kubelet_metrics;
pub mod lines;
mod metrics;
pub mod node;
mod operator;
mod pods;
pub mod proxy;
pub mod recording;
mod scan_lines;
pub mod scenario;
pub mod standin;
mod supervise;
mod wait;

pub use build::pod;
pub use cluster::TestCluster;
pub use control_plane::{client_of, process_resident_bytes};
pub use env::{TestEnv, install_crds, with_namespace, with_own_cluster};
pub use fixture::Fixture;
pub use kubelet_metrics::{BusyPod, KubeletMetrics, Story};
pub use metrics::RequestCounts;
pub use operator::{Operator, binary, forget_package, http_get};
pub use pods::{delete_pod, set_pod_ip, set_pod_ip_since};
pub use recording::{Isolated, Recording, recording_path};
pub use scan_lines::{LINES_OF_NEIGHBOUR, ScanLines, other_line};
pub use supervise::Supervised;
pub use wait::{LIMIT, wait_for};
