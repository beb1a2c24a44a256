//! The node's network and the link to the namespace that plays the Internet. Called by `inside`,
//! in the node's own network namespace.

use super::layout::{
    CLOSED_HOSTS, DNS_IP, NODE_IP, NODE_IP_V6, PACKAGE_HOSTS, POD_NETWORK, POD_NETWORK_V6, POOL_IP,
    REFUSING_IP, SERVER_IP_V6, SSH_HOSTS, SSH_IP, WORLD, WORLD_IP, WORLD_IP_V6,
};
use super::program::{ip_batch, run, sysctl};

/// The address of `layout::HEALTH_URL`.
const HEALTH_IP: &str = "203.0.113.80";

/// Makes both ends. What the node has no route for goes to the Internet, so that a scan of any
/// network arrives there and can be counted; it answers for the addresses that it has.
pub(super) fn make() -> anyhow::Result<()> {
    run("ip", ["netns", "add", WORLD])?;
    let node = [
        "link set lo up".to_owned(),
        format!("link add eth0 type veth peer name eth0 netns {WORLD}"),
        format!("address add {NODE_IP}/30 dev eth0"),
        format!("address add {NODE_IP_V6}/64 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
    ];
    ip_batch(false, &node)?;
    let mut world = vec![
        "link set lo up".to_owned(),
        format!("address add {WORLD_IP}/30 dev eth0"),
        format!("address add {WORLD_IP_V6}/64 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
        format!("route add {POD_NETWORK} via {NODE_IP}"),
        format!("route add {POD_NETWORK_V6} via {NODE_IP_V6}"),
        format!("address add {SERVER_IP_V6}/128 dev lo nodad"),
    ];
    let servers = [DNS_IP, HEALTH_IP, REFUSING_IP, POOL_IP, SSH_IP];
    let packages = PACKAGE_HOSTS.iter().map(|(_, address)| *address);
    for address in servers.into_iter().chain(packages) {
        world.push(format!("address add {address}/32 dev lo"));
    }
    for host in SSH_HOSTS.into_iter().chain(CLOSED_HOSTS) {
        world.push(format!("address add 198.51.100.{host}/32 dev lo"));
    }
    ip_batch(true, &world)?;
    ip_batch(
        false,
        &[
            format!("route add default via {WORLD_IP}"),
            format!("route add ::/0 via {WORLD_IP_V6}"),
        ],
    )?;
    sysctl("net/ipv4/ip_forward", "1")?;
    sysctl("net/ipv6/conf/all/forwarding", "1")
}
