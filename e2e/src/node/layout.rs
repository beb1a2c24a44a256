//! Names and addresses of the test node and of the Internet beside it. Data only: `network` and
//! `world` set them up, scenarios name them.
//!
//! All addresses are for documentation (RFC 5737, RFC 3849) or private.

use std::path::{Path, PathBuf};

/// The node's name in the cluster.
pub const NODE_NAME: &str = "node";
/// The image of test pods: a shell, nmap, socat, dbclient (SSH) and the toolbox. Never pulled.
pub const IMAGE: &str = "yellowjack.test/toolbox:test";
/// The network of the pods.
pub const POD_NETWORK: &str = "10.244.0.0/24";
/// The pods' network of IPv6.
pub const POD_NETWORK_V6: &str = "fd00:10:244::/64";
/// The node's address, on the link to the Internet.
pub const NODE_IP: &str = "192.0.2.1";
/// The node's address of IPv6.
pub const NODE_IP_V6: &str = "2001:db8:0:2::1";
/// The Internet's end of that link: where connections from outside into a pod come from.
pub const WORLD_IP: &str = "192.0.2.2";
/// The same of IPv6.
pub const WORLD_IP_V6: &str = "2001:db8:0:2::2";

/// The cluster's DNS, as pods ask it; pods `k8s-app=kube-dns` in `kube-system` answer.
pub const CLUSTER_DNS_IP: &str = "10.96.0.10";
/// The Internet's DNS server, which the cluster's asks. It knows the names below and no others.
pub const DNS_IP: &str = "203.0.113.53";
/// Package servers: HTTP on port 80, `/bytes/N` gives N random bytes.
pub const PACKAGE_HOSTS: [(&str, &str); 6] = [
    ("index.pkg.example.org", "203.0.113.10"),
    ("files.pkg.example.org", "203.0.113.11"),
    ("crates.pkg.example.org", "203.0.113.12"),
    ("npm.pkg.example.org", "203.0.113.13"),
    ("models.example.com", "203.0.113.14"),
    ("data.example.com", "203.0.113.15"),
];
/// An endpoint that answers "ok".
pub const HEALTH_URL: &str = "http://203.0.113.80:8080/healthz";
/// A host that refuses every connection.
pub const REFUSING_IP: &str = "203.0.113.90";
/// Nobody has this address.
pub const SILENT_IP: &str = "203.0.113.99";
/// The name of the mining pool.
pub const POOL_NAME: &str = "pool.example.net";
/// The pool.
pub const POOL_IP: &str = "203.0.113.133";
/// The pool's Stratum port.
pub const POOL_PORT: u16 = 3333;
/// The pool's Stratum port inside TLS.
pub const POOL_TLS_PORT: u16 = 443;
/// An SSH server that takes `/etc/tunnel_key` of the image and opens reverse tunnels.
pub const SSH_IP: &str = "203.0.113.22";
/// The network that scans walk: 12 hosts answer SSH, 12 refuse, nobody has the other addresses.
pub const SSH_NETWORK: &str = "198.51.100.0/24";
/// One host of that network that refuses.
pub const CLOSED_HOST: &str = "198.51.100.7";
/// HTTP on port 80, SSH on 22 and Stratum on 3333 over IPv6.
pub const SERVER_IP_V6: &str = "2001:db8:113::10";

/// Hosts of `SSH_NETWORK` with SSH, by their last number.
pub(super) const SSH_HOSTS: [u8; 12] = [5, 11, 20, 34, 40, 52, 77, 101, 130, 164, 199, 231];
/// Hosts of `SSH_NETWORK` that refuse.
pub(super) const CLOSED_HOSTS: [u8; 12] = [7, 12, 21, 35, 41, 53, 78, 102, 131, 165, 200, 232];

/// The name of the Internet's network namespace, for `ip netns`.
pub(super) const WORLD: &str = "world";
/// Everything that the node stores, in memory: a mount that ends with the mount namespace.
pub(super) const FOLDER: &str = "/run/yellowjack-node";
/// Where a process finds what the node is (`handle`).
pub(super) const STATE_VARIABLE: &str = "YELLOWJACK_NODE";

/// A path in the node's folder.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Where the logs of a node's programs go, by its name: inside the node this is `logs` in its folder.
/// They outlive the node, for somebody may have to read them; the next start removes them.
pub(super) fn log_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/e2e-logs")
        .join(name)
}
