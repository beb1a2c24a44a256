//! Named targets: what the name of a target is worth as an explanation of a contact.
//!
//! An honest client looks up names, a scanner enumerates addresses, so a contact with a named target is no part of a walk
//! over a service. But whoever controls a DNS zone can have its names resolve to any address, and some names contain the
//! address that they resolve to. Such a name explains nothing. All others are explained by their registered domain:
//! failed contacts with many targets of one domain are a walk of their own. Pure; called by `contacts`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::detect::domain::{has_service_label, hash_name, is_local, registered};
use crate::detect::scope::Scope;
use crate::detect::state::HashKey;
use crate::detect::state::generational_cache::DomainId;

/// The domain that explains a contact with `host`, if the name resolves to it. `None` if the name explains nothing: it
/// contains the address, or it is a name of the Internet for an address of the cluster.
pub(super) fn domain_of(name: &str, host: IpAddr, scope: Scope, key: HashKey) -> Option<DomainId> {
    let name = name.trim_end_matches('.');
    let is_local = is_local(name);
    let is_foreign = scope == Scope::Cluster && !is_local && !has_service_label(name);
    if is_foreign || contains_address(name, host) {
        return None;
    }
    let domain = key.word(hash_name(registered(name)));
    Some(DomainId::of(domain, is_local && scope != Scope::Internet))
}

/// Whether a name contains the address that it resolves to, as the names of pods (`10-0-0-7.ns.pod.cluster.local`), of
/// hosts (`ip-10-0-0-7.ec2.internal`) and of public wildcard services (`10.0.0.7.nip.io`, `0a000007.nip.io`) do. Such a
/// name can be made from any address.
fn contains_address(name: &str, host: IpAddr) -> bool {
    match host {
        IpAddr::V4(v4) => {
            let mut window = [None; 4];
            let octets = v4.octets().map(Some);
            let mut reversed = octets;
            reversed.reverse();
            name.split(['.', '-']).any(|token| {
                let digits = token.trim_start_matches(|c: char| c.is_ascii_alphabetic());
                window.rotate_left(1);
                window[3] = digits.parse().ok();
                window == octets || window == reversed || is_hex_v4(token, v4)
            })
        }
        IpAddr::V6(v6) => name.split('.').any(|label| spells_v6(label, v6)),
    }
}

/// Whether a token is the eight hexadecimal digits of an IPv4 address.
fn is_hex_v4(token: &str, v4: Ipv4Addr) -> bool {
    token.len() == 8 && u32::from_str_radix(token, 16) == Ok(v4.to_bits())
}

/// Whether a label is an IPv6 address with dashes for colons, or its 32 hexadecimal digits.
fn spells_v6(label: &str, v6: Ipv6Addr) -> bool {
    let is_dashed = label.contains('-') && label.replace('-', ":").parse() == Ok(v6);
    is_dashed || label.len() == 32 && u128::from_str_radix(label, 16) == Ok(v6.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str, host: &str, scope: Scope) -> Option<DomainId> {
        domain_of(name, host.parse().unwrap(), scope, HashKey::default())
    }

    #[test]
    fn a_name_that_contains_its_address_explains_nothing() {
        for (name, host) in [
            ("10-0-0-7.team.pod.cluster.local", "10.0.0.7"),
            ("10-0-0-7.db.team.svc.cluster.local.", "10.0.0.7"),
            ("ip-10-0-0-7.ec2.internal", "10.0.0.7"),
            ("a.10.0.0.7.nip.io", "10.0.0.7"),
            ("app-10-0-0-7.sslip.io", "10.0.0.7"),
            ("node10-0-0-7.example.com", "10.0.0.7"),
            ("7.0.0.10.in-addr.arpa", "10.0.0.7"),
            ("0A000007.nip.io", "10.0.0.7"),
            ("2001-db8--7.sslip.io", "2001:db8::7"),
            (
                "20010db8000000000000000000000007.example.com",
                "2001:db8::7",
            ),
        ] {
            assert_eq!(domain(name, host, Scope::Private), None, "{name}");
        }
        let other = domain("10-0-0-7.example.com", "10.0.0.8", Scope::Private);
        assert!(other.is_some());
    }

    #[test]
    fn a_name_of_the_internet_explains_no_contact_with_the_cluster() {
        for (name, explains) in [
            ("a.evil.example", false),
            ("kafka-0.kafka.team.svc.cluster.local", true),
            ("kafka.team.svc.k8s.example.com", true),
            ("kafka", true),
        ] {
            let found = domain(name, "10.244.0.7", Scope::Cluster);
            assert_eq!(found.is_some(), explains, "{name}");
        }
        assert!(domain("a.evil.example", "10.1.0.7", Scope::Private).is_some());
    }

    #[test]
    fn names_below_one_registered_domain_or_in_one_namespace_have_the_same_explanation() {
        let of = |name| domain(name, "203.0.113.9", Scope::Internet);
        assert_eq!(of("a.example.com"), of("b.c.EXAMPLE.com."));
        assert_ne!(of("a.example.com"), of("a.example.org"));
        assert_eq!(of("a.example.co.uk"), of("b.example.co.uk"));
        assert_ne!(of("a.one.co.uk"), of("a.two.co.uk"));
        assert_eq!(
            of("a.team.svc.cluster.local"),
            of("b.c.team.svc.cluster.local")
        );
        assert_ne!(
            of("a.team.svc.cluster.local"),
            of("a.other.svc.cluster.local")
        );
    }
}
