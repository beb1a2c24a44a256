//! Destinations of the example contacts: a map of hosts, or of address blocks if there are many, by services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::findings::is_failed;
use super::story::{Contact, ReportedFinding, TargetRow, Targets};
use crate::limits;

/// Prefix lengths of the blocks, IPv4 and IPv6: the usual size of one route or one network segment.
const BLOCK_BITS: (u8, u8) = (24, 64);

pub(super) fn targets(evidence: &[ReportedFinding]) -> Targets {
    // The same contact may be in two entries: a horizontal and a vertical scan.
    let mut contacts: Vec<&Contact> = Vec::new();
    for contact in evidence.iter().flat_map(|finding| &finding.examples) {
        let same = |known: &&Contact| {
            known.time == contact.time
                && known.address == contact.address
                && known.service == contact.service
        };
        if !contacts.iter().any(same) {
            contacts.push(contact);
        }
    }
    let hosts = tally(contacts.iter().map(|contact| contact.address.clone()));
    let by_block = hosts.len() > limits::TARGET_ROWS_MAX;
    let place = |contact: &Contact| {
        if by_block {
            block(&contact.address)
        } else {
            contact.address.clone()
        }
    };
    let services = most(
        tally(contacts.iter().map(|contact| contact.service.clone())),
        limits::TARGET_COLUMNS_MAX,
    );
    let places = most(
        tally(contacts.iter().map(|contact| place(contact))),
        limits::TARGET_ROWS_MAX,
    );
    let rows: Vec<TargetRow> = places
        .into_iter()
        .map(|row| {
            let here: Vec<&Contact> = contacts
                .iter()
                .copied()
                .filter(|contact| place(contact) == row)
                .collect();
            let count = |service: &String| {
                let of: Vec<_> = here
                    .iter()
                    .filter(|contact| contact.service == *service)
                    .collect();
                (
                    of.iter().filter(|contact| is_failed(contact)).count(),
                    of.len(),
                )
            };
            TargetRow {
                name: here.iter().find_map(|contact| contact.name.clone()),
                counts: services.iter().map(count).collect(),
                place: row,
            }
        })
        .collect();
    let shown = rows
        .iter()
        .flat_map(|row| &row.counts)
        .map(|(_, all)| all)
        .sum();
    Targets {
        row_is: if by_block { "block" } else { "host" }.to_owned(),
        services,
        rows,
        shown,
        left_out: contacts.len().saturating_sub(shown),
    }
}

/// The block of an address. Other text is returned unchanged.
fn block(address: &str) -> String {
    let Ok(ip) = address.parse::<IpAddr>() else {
        return address.to_owned();
    };
    let bits = if ip.is_ipv4() {
        BLOCK_BITS.0
    } else {
        BLOCK_BITS.1
    };
    IpNet::new(ip, bits).map_or_else(|_| address.to_owned(), |net| net.trunc().to_string())
}

fn tally(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// The most frequent ones, those with the same count sorted by name.
fn most(counts: BTreeMap<String, usize>, count_max: usize) -> Vec<String> {
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|(_, a), (_, b)| b.cmp(a));
    sorted
        .into_iter()
        .take(count_max)
        .map(|(name, _)| name)
        .collect()
}
