//! What honest runs do inside the cluster. Called by `Profile::play`.

use std::net::IpAddr;

use crate::sim::pod::{Pod, Site, pod_address};
use crate::sim::random::Random;
use crate::sim::tape::{Fate, HOUR, Load, MINUTE, SECOND, Target};

fn addresses(random: &mut Random, count: usize) -> Vec<IpAddr> {
    (0..count).map(|_| pod_address(random)).collect()
}

/// A few dependencies that work.
pub fn quiet(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let sites: Vec<Site> = (0..3)
        .map(|n| Site::service(&mut group, &format!("dependency-{n}"), 8080))
        .collect();
    for at in pod.moments(60.0) {
        if let Some(site) = pod.random().pick(&sites).cloned() {
            pod.visit(at, &site, Load::Request);
        }
    }
}

/// 10 to 40 services by name; 5 to 30 peers by address, whose list comes from the API, so no DNS
/// answer shows them; two rolling updates a day, each leaving some addresses stale.
pub fn services(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let sites: Vec<Site> = (0..group.count(10, 40))
        .map(|n| Site::service(&mut group, &format!("service-{n}"), 8080))
        .collect();
    for at in pod.moments(150.0) {
        if let Some(site) = pod.random().pick(&sites).cloned() {
            pod.visit(at, &site, Load::Request);
        }
    }
    let peer_count = group.count(5, 30);
    let mut peers = addresses(&mut group, peer_count);
    for at in pod.moments(2.0) {
        // A client that came in the middle of the update knows some old addresses only by hearsay.
        let stale_count = pod.random().count(0, peer_count / 3);
        peers.extend(addresses(&mut group, stale_count));
        for (n, host) in peers.iter().enumerate() {
            let is_stale = n >= peer_count;
            let fate = match (is_stale, pod.random().chance(0.5)) {
                (false, _) => Fate::Answers,
                (true, true) => Fate::Refuses,
                (true, false) => Fate::Silent,
            };
            let shift = pod.random().between(0, MINUTE);
            let target = Target::tcp(*host, 9000);
            pod.tape
                .contact(at.saturating_add(shift), target, fate, Load::Request, None);
        }
        peers = addresses(&mut group, peer_count);
        for host in &peers {
            let shift = pod.random().between(MINUTE, 3 * MINUTE);
            let target = Target::tcp(*host, 9000);
            pod.tape.contact(
                at.saturating_add(shift),
                target,
                Fate::Answers,
                Load::Session(HOUR),
                None,
            );
        }
    }
}

/// A service, 3 to 8 backends by address and a name outside are dead for 2 to 10 hours; every
/// sibling retries each with a wait of 5 to 60 s.
pub fn retrier(pod: &mut Pod) {
    quiet(pod);
    let mut group = pod.group.clone();
    let mut service = Site::service(&mut group, "dead", 8080);
    service.fate = Fate::Refuses;
    let count = group.count(2, 8);
    let mut outside = Site::internet(&mut group, "dead.vendor.example", count, 0);
    outside.fate = Fate::Silent;
    let count = group.count(3, 8);
    let backends = addresses(&mut group, count);
    let from = group.between(HOUR, 12 * HOUR);
    let until = from.saturating_add(group.between(2 * HOUR, 10 * HOUR));
    let wait = group.between(20 * SECOND, 3 * MINUTE);
    let mut at = from;
    while at < until.min(pod.end) {
        pod.visit(at, &service, Load::Request);
        pod.visit(at.saturating_add(SECOND), &outside, Load::Request);
        if let Some(host) = pod.random().pick(&backends).copied() {
            let target = Target::tcp(host, 6379);
            pod.tape
                .contact(at, target, Fate::Silent, Load::Request, None);
        }
        let jitter = pod.random().gap(wait);
        at = at.saturating_add(jitter);
    }
}

/// 3 to 9 brokers by address. Twice a day they restart under new addresses: every client tries
/// the old ones, once a second at first (Kafka's reconnect.backoff.max.ms), then finds the new ones.
pub fn queue(pod: &mut Pod) {
    quiet(pod);
    let mut group = pod.group.clone();
    let count = group.count(3, 9);
    let mut brokers = addresses(&mut group, count);
    let mut at = pod.start;
    while at < pod.end {
        for host in &brokers {
            let target = Target::tcp(*host, 9092);
            pod.tape
                .contact(at, target, Fate::Answers, Load::Session(HOUR), None);
        }
        at = at.saturating_add(group.between(6 * HOUR, 18 * HOUR));
        for retry in 0..30 {
            for host in &brokers {
                let target = Target::tcp(*host, 9092);
                let time = at.saturating_add(retry * SECOND);
                pod.tape
                    .contact(time, target, Fate::Refuses, Load::Request, None);
            }
        }
        brokers = addresses(&mut group, count);
        at = at.saturating_add(MINUTE);
    }
}

/// A primary and two replicas by address, two failovers a day; and 1 to 5 addresses of load
/// balancers that cannot be reached from inside the cluster (hairpin), tried again and again.
pub fn database(pod: &mut Pod) {
    quiet(pod);
    let mut group = pod.group.clone();
    let balancers: Vec<IpAddr> = (0..group.count(1, 5)).map(|_| group.v4()).collect();
    for at in pod.moments(100.0) {
        if let Some(host) = pod.random().pick(&balancers).copied() {
            let target = Target::tcp(host, 443);
            pod.tape
                .contact(at, target, Fate::Silent, Load::Request, None);
        }
    }
    let mut at = pod.start;
    while at < pod.end {
        let nodes = addresses(&mut group, 3);
        for (n, host) in nodes.iter().enumerate() {
            let fate = if n == 0 { Fate::Refuses } else { Fate::Answers };
            let target = Target::tcp(*host, 5432);
            pod.tape
                .contact(at, target, fate, Load::Session(HOUR), None);
        }
        at = at.saturating_add(group.between(6 * HOUR, 18 * HOUR));
    }
}

/// Scrapes 20 to 200 pods by address every half hour; 5 to 15 % of a list are gone, and a fifth of
/// the list is new each time.
pub fn scraper(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let count = group.count(20, 200);
    let gone = group.real(0.05, 0.15);
    let mut targets: Vec<(IpAddr, bool)> = Vec::new();
    let mut at = pod.start;
    while at < pod.end {
        targets.drain(..targets.len() / 5);
        while targets.len() < count {
            targets.push((pod_address(&mut group), group.chance(gone)));
        }
        for (host, is_gone) in &targets {
            let fate = if *is_gone {
                Fate::Silent
            } else {
                Fate::Answers
            };
            let shift = pod.tape.random.between(0, 30 * SECOND);
            let target = Target::tcp(*host, 9100);
            pod.tape
                .contact(at.saturating_add(shift), target, fate, Load::Request, None);
        }
        at = at.saturating_add(30 * MINUTE);
    }
}
