//! Inventories by DNS alone: reverse look-ups of the addresses of a network, and guesses of the names of Services.
//!
//! Neither opens a connection to a host, so no contact shows them. Distinct names are counted for an hour and lead to
//! alerts. Called by `pod` per query.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::hourly_count::HourlyCount;
use crate::detect::config::EngineConfig;
use crate::detect::context::ScanContext;
use crate::detect::detection::Detection;
use crate::detect::domain::hash_name;
use crate::detect::reported::ReportLevel;
use crate::detect::scope::Scope;
use crate::model::{BoundedText, DnsQuery, Evidence, clip, duration};

/// Distinct names in an hour that lead to an alert. Tools that show names for addresses look up those of their peers: a
/// node of a large database has some 100.
const NAMES_ALERT: f64 = 200.0;

/// Second labels of names on the Internet that resolvers look up below `svc.cluster.local` first (`ndots`), beside those
/// of countries, which have two letters.
const INTERNET_TOP: [&str; 24] = [
    "com", "org", "net", "edu", "gov", "mil", "info", "biz", "name", "dev", "app", "cloud", "xyz",
    "online", "site", "tech", "store", "blog", "page", "pro", "news", "live", "top", "science",
];

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sought {
    /// The name of an address inside.
    Address,
    /// A Service that does not exist.
    Service,
}

/// See the module. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct NameInventory {
    addresses: Option<Box<HourlyCount>>,
    services: Option<Box<HourlyCount>>,
}

impl NameInventory {
    /// Counts a query. Returns a detection that is to be reported.
    pub(super) fn observe(
        &mut self,
        query: &DnsQuery<'_>,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let name = query.query.trim_end_matches('.');
        let sought = if let Some(address) = reversed_address(name) {
            let scope = context.config.scopes.classify(address);
            let is_inside = !matches!(scope, Scope::Internet | Scope::Excluded);
            is_inside.then_some(Sought::Address)
        } else {
            let is_missing = query.nonexistent == Some(true) && is_service_name(name);
            is_missing.then_some(Sought::Service)
        }?;
        let count = match sought {
            Sought::Address => &mut self.addresses,
            Sought::Service => &mut self.services,
        };
        let count = count.get_or_insert_with(|| Box::new(HourlyCount::since(query.time)));
        let hash = context.config.hash_key.word(hash_name(name));
        let level = count.count(query.time, hash, NAMES_ALERT, context.config)?;
        context
            .reported
            .should_report(level)
            .then(|| detection(sought, name, count, level, context.config))
    }
}

fn detection(
    sought: Sought,
    name: &str,
    counted: &HourlyCount,
    level: ReportLevel,
    config: &EngineConfig,
) -> Detection {
    let (count, span) = (
        level.contact_count,
        duration::rounded(counted.last.micros_since(counted.first)),
    );
    let name = clip(name, 80);
    let (summary, against) = match sought {
        Sought::Address => (
            format!(
                "The names of about {count} addresses inside were looked up within {span}, the latest with {name}. An inventory of a network looks like this, without a connection to any host."
            ),
            "monitoring and log tools look up the names of the addresses that they show",
        ),
        Sought::Service => (
            format!(
                "About {count} Services that do not exist were looked up within {span}, the latest {name}. Guesses of names look like this, without a connection to any host."
            ),
            "a client with a list of Services that were deleted looks the same",
        ),
    };
    Detection {
        signature: level.signature,
        severity: level.severity,
        evidence: Evidence {
            score: level.score,
            threshold: config.alert_nats,
            first: counted.first,
            last: counted.last,
            contact_count: count,
            summary: BoundedText::new(&summary),
            examples: Vec::new(),
            against: vec![BoundedText::new(against)],
        },
    }
}

/// Whether a name is that of a Service of the cluster: `name.namespace.svc` and the cluster's domain, or that of one of its
/// ports: `_port._protocol` before it. A resolver also looks up `example.com` as `example.com.svc.cluster.local`.
fn is_service_name(name: &str) -> bool {
    let mut labels = name.split('.').skip_while(|label| label.starts_with('_'));
    let (Some(service), Some(namespace), Some(svc), Some(_)) =
        (labels.next(), labels.next(), labels.next(), labels.next())
    else {
        return false;
    };
    let is_of_internet = namespace.len() == 2
        || INTERNET_TOP
            .iter()
            .any(|top| top.eq_ignore_ascii_case(namespace));
    svc.eq_ignore_ascii_case("svc") && !service.is_empty() && !is_of_internet
}

/// The address of a reverse look-up.
fn reversed_address(name: &str) -> Option<IpAddr> {
    let is_below = |suffix: &str| {
        let start = name.len().checked_sub(suffix.len())?;
        let tail = name.get(start..)?;
        tail.eq_ignore_ascii_case(suffix)
            .then(|| name.get(..start))?
    };
    if let Some(octets) = is_below(".in-addr.arpa") {
        let mut address = [0; 4];
        let mut labels = octets.split('.');
        for octet in address.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(address).into());
    }
    let digits = is_below(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for digit in digits.split('.') {
        let value = u128::from(u8::from_str_radix(digit, 16).ok().filter(|v| *v < 16)?);
        bits |= value.checked_shl(4 * count)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_look_up_names_its_address() {
        let found = |name: &str| reversed_address(name).map(|ip| ip.to_string());
        assert_eq!(
            found("7.0.96.10.in-addr.arpa").as_deref(),
            Some("10.96.0.7")
        );
        let v6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(found(v6).as_deref(), Some("2001:db8::7"));
        for name in [
            "96.10.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "x.ip6.arpa",
            "a.example",
        ] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn a_service_has_a_name_and_a_namespace() {
        assert!(is_service_name("vault.team.svc.cluster.local"));
        assert!(is_service_name("_http._tcp.vault.team.svc.cluster.local"));
        for name in [
            "_mongodb._tcp.db.example.net.team.svc.cluster.local",
            "_ldap._tcp.example.com.svc.cluster.local",
            "example.com.svc.cluster.local",
            "api.example.com.team.svc.cluster.local",
            "example.io.svc.cluster.local",
            "team.svc.cluster.local",
            "vault.team.svc",
        ] {
            assert!(!is_service_name(name), "{name}");
        }
    }
}
