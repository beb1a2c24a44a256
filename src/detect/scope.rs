//! Scopes: the classes of addresses that are evaluated separately.
//!
//! Called for every flow. Each scope has its own walks, so that a pod's many successes on the Internet never offset its
//! failures inside the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A class of addresses that is evaluated separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Pod and service ranges of this cluster.
    Cluster,
    /// Nodes, metadata services and other link-local addresses.
    Infrastructure,
    /// Private ranges: RFC 1918, carrier-grade NAT, unique local IPv6.
    Private,
    /// All other routable addresses.
    Internet,
    /// Loopback, multicast, broadcast and unspecified addresses: they identify no other host, so flows to them are
    /// ignored.
    Excluded,
}

impl Scope {
    /// The adjective in "40 ... hosts".
    #[must_use]
    pub const fn adjective(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Infrastructure => "infrastructure",
            Self::Private => "private",
            Self::Internet => "Internet",
            Self::Excluded => "local",
        }
    }
}

/// The address ranges of this cluster. Well-known ranges are built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    cluster: Ranges,
    infrastructure: Ranges,
}

/// Address ranges, sorted and disjoint, because a cluster has thousands of nodes and every flow is looked up. IPv4
/// addresses are stored as IPv4-mapped IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    fn new<'n>(nets: impl IntoIterator<Item = &'n IpNet>) -> Self {
        let ends = |net: &IpNet| (bits(net.network()), bits(net.broadcast()));
        let mut ranges: Vec<(u128, u128)> = nets.into_iter().map(ends).collect();
        ranges.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    fn contain(&self, ip: IpAddr) -> bool {
        let ip = bits(ip);
        let after = self.0.partition_point(|(first, _)| *first <= ip);
        let before = after.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|(_, last)| ip <= *last)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Scopes {
    /// From the ranges of pods and services, and the addresses of nodes and of other infrastructure that pods must not
    /// reach.
    #[must_use]
    pub fn new<'n>(
        cluster: impl IntoIterator<Item = &'n IpNet>,
        infrastructure: impl IntoIterator<Item = &'n IpNet>,
    ) -> Self {
        Self {
            cluster: Ranges::new(cluster),
            infrastructure: Ranges::new(infrastructure),
        }
    }

    /// The scope of an address. Ranges that the user listed take precedence over built-in ranges, and infrastructure
    /// takes precedence over cluster because it is the stricter scope.
    #[must_use]
    pub fn classify(&self, ip: IpAddr) -> Scope {
        let ip = plain(ip);
        if self.infrastructure.contain(ip) || is_infrastructure(ip) {
            return Scope::Infrastructure;
        }
        if self.cluster.contain(ip) {
            return Scope::Cluster;
        }
        if is_excluded(ip) {
            Scope::Excluded
        } else if is_private(ip) {
            Scope::Private
        } else {
            Scope::Internet
        }
    }
}

/// The address that a packet really goes to. IPv4 inside IPv6 (mapped, or behind NAT64: the well-known prefix 64:ff9b::/96 of
/// RFC 6052, or a /96 of 64:ff9b:1::/48 of RFC 8215) becomes that IPv4 address; otherwise one target would count as several,
/// and a private one as of the Internet.
pub(super) fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, .., high, low] => IpAddr::V4(
            Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)),
        ),
        _ => ip,
    }
}

/// EC2's metadata address for IPv6; that for IPv4, 169.254.169.254, is link-local.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_infrastructure(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6 == METADATA_V6 || v6.is_unicast_link_local(),
    }
}

fn is_excluded(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    broadcast || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified()
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64.0.0/10 is the range of carrier-grade NAT (RFC 6598), and 240.0.0.0/4 is reserved (RFC 1112); clouds use both
        // for pods.
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            v4.is_private() || bits >> 22 == 0x6440_0000_u32 >> 22 || bits >> 28 == 0xf
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: &str, expected: Scope) {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let cluster = nets(&["10.244.0.0/17", "10.244.128.0/17", "fd00:10::/64"]);
        let scopes = Scopes::new(&cluster, &nets(&["10.0.0.0/24", "203.0.113.9/32"]));
        assert_eq!(scopes.classify(ip.parse().unwrap()), expected, "{ip}");
    }

    #[test]
    fn the_users_ranges_win_over_the_built_in_ones() {
        check("10.244.3.4", Scope::Cluster);
        check("10.244.255.255", Scope::Cluster);
        check("10.243.255.255", Scope::Private);
        check("10.245.0.0", Scope::Private);
        check("fd00:10::7", Scope::Cluster);
        check("203.0.113.9", Scope::Infrastructure);
        check("203.0.113.10", Scope::Internet);
        check("10.0.0.7", Scope::Infrastructure);
        check("10.1.0.1", Scope::Private);
    }

    #[test]
    fn metadata_addresses_are_infrastructure_without_configuration() {
        check("169.254.169.254", Scope::Infrastructure);
        check("fd00:ec2::254", Scope::Infrastructure);
    }

    #[test]
    fn private_ranges_end_where_their_rfcs_end() {
        check("100.64.0.0", Scope::Private);
        check("100.127.255.255", Scope::Private);
        check("100.128.0.0", Scope::Internet);
        check("100.63.255.255", Scope::Internet);
        check("172.31.255.255", Scope::Private);
        check("172.32.0.0", Scope::Internet);
        check("fd12::1", Scope::Private);
        check("2001:db8::1", Scope::Internet);
    }

    #[test]
    fn ipv4_inside_ipv6_counts_as_ipv4() {
        check("::ffff:10.244.0.9", Scope::Cluster);
        check("64:ff9b::a9fe:a9fe", Scope::Infrastructure);
        check("64:ff9b:1:7::a9fe:a9fe", Scope::Infrastructure);
        check("64:ff9b:1:7::0a09:0001", Scope::Private);
        check("240.1.2.3", Scope::Private);
        check("255.255.255.255", Scope::Excluded);
    }

    #[test]
    fn loopback_multicast_and_broadcast_are_excluded() {
        for ip in [
            "127.0.0.1",
            "::1",
            "239.255.255.250",
            "ff02::1",
            "255.255.255.255",
            "0.0.0.0",
        ] {
            check(ip, Scope::Excluded);
        }
    }
}
