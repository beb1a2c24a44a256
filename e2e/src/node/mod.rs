//! A real Kubernetes node in network namespaces of its own: kubelet, containerd, CNI, the kernel's
//! egress log, and a second namespace that plays the Internet. Nothing leaves the machine.
//!
//! `bin/with_node.rs` starts it (`start`, `inside`) around a command, as `with-cluster` does with a
//! control plane; tests inside that command use `TestNode`. When the command ends, however it ends,
//! the kernel takes everything away with the namespaces, and `start` removes the control groups.

mod cgroup;
mod check;
mod cluster_dns;
mod egress_log;
mod engine;
mod handle;
mod inside;
mod kubelet;
mod layout;
mod network;
mod pods;
mod program;
mod runtime;
mod start;
mod world;

pub use check::{is_required, missing, running_elsewhere, skip_reason};
pub use engine::{ENGINE_VARIABLE, Engine, FLAGS_VARIABLE, HUBBLE_LOG};
pub use handle::{Arrival, TestNode};
pub use inside::{INSIDE_ARGUMENT, run_inside};
pub use layout::{
    CLOSED_HOST, CLUSTER_DNS_IP, DNS_IP, HEALTH_URL, IMAGE, NODE_IP, NODE_IP_V6, NODE_NAME,
    PACKAGE_HOSTS, POD_NETWORK, POD_NETWORK_V6, POOL_IP, POOL_NAME, POOL_PORT, POOL_TLS_PORT,
    REFUSING_IP, SERVER_IP_V6, SILENT_IP, SSH_IP, SSH_NETWORK, WORLD_IP, WORLD_IP_V6,
};
pub use pods::{agent_pod, agent_spec, running};
pub use start::{remove_leftovers, run_in_node};
