//! Lists of hosts: names and addresses of mining pools or tunnel services, from the user or from the starter list of
//! the chart.
//!
//! Parsed once from the text of a file; read by `mining` and `tunnel` for every name and flow.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::scope::plain;
use crate::limits;
use crate::model::BoundedText;

/// Longest name in DNS, in bytes (RFC 1035).
const DNS_NAME_BYTES_MAX: usize = 253;

/// Names, addresses and ranges of mining pools or tunnel services.
#[derive(Clone, Debug, Default)]
pub struct PoolList {
    names: HashSet<Box<str>>,
    networks: HashSet<IpNet>,
    /// Prefix lengths that occur in `networks`, for IPv4 and IPv6 alike: one look-up each.
    prefix_lengths: BTreeSet<u8>,
    ports: HashMap<IpAddr, Vec<u16>>,
    entry_count: usize,
}

/// A line of a list that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read line {line} of the list: {reason}: {text}")]
pub struct ParseProblem {
    /// Line number, from 1.
    pub line: usize,
    /// The start of the line.
    pub text: BoundedText,
    /// The reason.
    pub reason: &'static str,
}

impl PoolList {
    /// Reads one name, address, CIDR or host:port per line; `#` starts a comment. Returns the lines that cannot be
    /// used, at most [`limits::POOL_PROBLEMS_MAX`] of them.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<ParseProblem>) {
        let mut list = Self::default();
        let mut problems = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            if let Err(reason) = list.add(entry)
                && problems.len() < limits::POOL_PROBLEMS_MAX
            {
                problems.push(ParseProblem {
                    line: index + 1,
                    text: BoundedText::new(entry),
                    reason,
                });
            }
        }
        (list, problems)
    }

    /// Adds all entries of another list, up to the same bound as one list.
    pub fn merge(&mut self, other: Self) {
        let room = limits::POOL_ENTRIES_MAX.saturating_sub(self.entry_count);
        self.entry_count += other.entry_count.min(room);
        self.names.extend(other.names.into_iter().take(room));
        for network in other.networks.into_iter().take(room) {
            self.add_network(network);
        }
        for (ip, ports) in other.ports.into_iter().take(room) {
            self.ports.entry(ip).or_default().extend(ports);
        }
    }

    /// Whether the list has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Whether any entry is an address or a range. Without one, an address alone cannot match.
    #[must_use]
    pub fn has_addresses(&self) -> bool {
        !self.networks.is_empty() || !self.ports.is_empty()
    }

    /// The entry that covers this name: the name itself or one of its parent domains.
    #[must_use]
    pub fn listed_name(&self, name: &str) -> Option<&str> {
        if self.names.is_empty() {
            return None;
        }
        let name = name.trim_end_matches('.');
        // A name in a query is not longer than this. Of a longer text only the end can match an entry.
        let start = name.len().saturating_sub(DNS_NAME_BYTES_MAX);
        let tail = name.as_bytes().get(start..)?;
        let mut buffer = [0; DNS_NAME_BYTES_MAX];
        let lower = buffer.get_mut(..tail.len())?;
        lower.copy_from_slice(tail);
        lower.make_ascii_lowercase();
        let mut rest = std::str::from_utf8(lower).ok()?;
        loop {
            if let Some(entry) = self.names.get(rest) {
                return Some(entry);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// Whether the list contains this address, or this port of it.
    #[must_use]
    pub fn lists_address(&self, ip: IpAddr, port: u16) -> bool {
        let ip = plain(ip);
        let in_network = || {
            let networks = self
                .prefix_lengths
                .iter()
                .filter_map(|len| IpNet::new(ip, *len).ok());
            networks
                .map(|network| network.trunc())
                .any(|network| self.networks.contains(&network))
        };
        let on_port = || {
            self.ports
                .get(&ip)
                .is_some_and(|ports| ports.contains(&port))
        };
        self.entry_count > 0 && (in_network() || on_port())
    }

    fn add_network(&mut self, network: IpNet) {
        self.prefix_lengths.insert(network.prefix_len());
        self.networks.insert(network);
    }

    fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        if self.entry_count >= limits::POOL_ENTRIES_MAX {
            return Err("the list is longer than what is read");
        }
        if let Ok(ip) = entry.parse::<IpAddr>() {
            self.add_network(IpNet::from(plain(ip)));
        } else if let Ok(network) = entry.parse::<IpNet>() {
            if network.prefix_len() < 8 {
                return Err("a range wider than /8 would list half the Internet");
            }
            self.add_network(network.trunc());
        } else if let Ok(socket) = entry.parse::<SocketAddr>() {
            self.ports
                .entry(plain(socket.ip()))
                .or_default()
                .push(socket.port());
        } else {
            self.names.insert(host_name(entry)?);
        }
        self.entry_count += 1;
        Ok(())
    }
}

/// A host name in lower case, without port and trailing dot. Users copy entries from miner configurations, so a scheme
/// (`stratum+tcp://`) is removed as well.
fn host_name(entry: &str) -> Result<Box<str>, &'static str> {
    let host = entry
        .split_once("://")
        .map_or(entry, |(_scheme, host)| host);
    let host = match host.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) => return Err("what follows the colon is no port"),
        None => host,
    };
    let host = host.trim_end_matches('.');
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if host.is_empty() || host.len() > 253 || !host.chars().all(valid) {
        return Err("neither a name nor an address, a range or host:port");
    }
    if !host.contains('.') {
        return Err("a name without a dot would list a whole top-level domain");
    }
    Ok(host.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> PoolList {
        let (list, problems) = PoolList::parse(text);
        assert_eq!(problems, vec![]);
        list
    }

    #[test]
    fn a_listed_name_covers_the_names_below_it_and_no_others() {
        let list = list("Pool.Example.NET. # a comment\n\n");
        assert_eq!(
            list.listed_name("pool.example.net"),
            Some("pool.example.net")
        );
        assert_eq!(
            list.listed_name("EU1.pool.example.net."),
            Some("pool.example.net")
        );
        assert_eq!(list.listed_name("carpool.example.net"), None);
        assert_eq!(list.listed_name("example.net"), None);
    }

    #[test]
    fn addresses_ranges_and_ports_are_honoured() {
        let list = list(
            "203.0.113.5\n198.51.100.0/24\n192.0.2.1:3333\n[2001:db8::1]:443\n2001:db8:1::/48",
        );
        let check = |ip: &str, port, expected| {
            assert_eq!(
                list.lists_address(ip.parse().unwrap(), port),
                expected,
                "{ip} {port}"
            );
        };
        check("203.0.113.5", 1, true);
        check("::ffff:203.0.113.5", 1, true);
        check("203.0.113.6", 1, false);
        check("198.51.100.77", 1, true);
        check("192.0.2.1", 3333, true);
        check("192.0.2.1", 80, false);
        check("2001:db8::1", 443, true);
        check("2001:db8:1::9", 1, true);
    }

    #[test]
    fn a_name_with_a_scheme_and_a_port_is_a_name() {
        let list = list("stratum+tcp://pool.example.net:3333");
        assert!(list.listed_name("pool.example.net").is_some());
    }

    #[test]
    fn lines_that_cannot_be_used_are_reported_with_their_number() {
        let (list, problems) = PoolList::parse("ok.example.net\n\u{1b}[31m\nnet\n0.0.0.0/0\na.b:x");
        assert_eq!(
            problems.iter().map(|p| p.line).collect::<Vec<_>>(),
            vec![2, 3, 4, 5]
        );
        assert!(!problems[0].to_string().contains('\u{1b}'));
        assert!(list.listed_name("ok.example.net").is_some());
    }

    #[test]
    fn an_endless_list_is_cut() {
        let names: Vec<_> = (0..limits::POOL_ENTRIES_MAX + 10)
            .map(|n| format!("p{n}.example.net"))
            .collect();
        let text = names.join(
            "
",
        );
        let (list, problems) = PoolList::parse(&text);
        assert_eq!(list.names.len(), limits::POOL_ENTRIES_MAX);
        assert_eq!(problems.len(), 10);
    }
}
