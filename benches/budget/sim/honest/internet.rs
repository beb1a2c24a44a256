//! What honest runs do outside the cluster. Called by `Profile::play`.

use std::net::IpAddr;

use crate::sim::pod::{Pod, Site};
use crate::sim::random::Random;
use crate::sim::tape::{Fate, HOUR, Load, MINUTE, SECOND, Target};

/// Registries and mirrors, with as many addresses as their names really give.
fn registries(group: &mut Random) -> Vec<Site> {
    let mut sites = vec![
        Site::internet(group, "pypi.example", 4, 4),
        Site::internet(group, "files.pypi.example", 4, 4),
        Site::internet(group, "registry.npm.example", 12, 12),
        Site::internet(group, "git.example", 3, 0),
        Site::internet(group, "codeload.git.example", 3, 0),
        Site::internet(group, "deb.mirror.example", 8, 4),
        Site::internet(group, "conda.example", 8, 8),
        Site::internet(group, "crates.example", 4, 4),
    ];
    // One mirror in ten is down; package managers then go on to the next.
    for site in &mut sites {
        if group.chance(0.1) {
            site.fate = Fate::Silent;
        }
    }
    sites
}

/// 4 to 20 installs a day, each with 10 to 80 requests, and a clone now and then.
pub fn installer(pod: &mut Pod) {
    let sites = registries(&mut pod.group.clone());
    let per_day = pod.random().real(4.0, 20.0);
    for mut at in pod.moments(per_day) {
        for _ in 0..pod.random().count(10, 80) {
            let Some(site) = pod.random().pick(&sites).cloned() else {
                continue;
            };
            let load = if pod.random().chance(0.3) {
                Load::Transfer
            } else {
                Load::Request
            };
            pod.visit(at, &site, load);
            let gap = pod.random().gap(2 * SECOND);
            at = at.saturating_add(gap);
        }
        if pod.random().chance(0.3) {
            clone_over_ssh(pod, at);
        }
    }
}

fn clone_over_ssh(pod: &mut Pod, at: i64) {
    let mut site = Site::internet(&mut pod.group.clone(), "ssh.git.example", 3, 0);
    site.port = 22;
    pod.visit(at, &site, Load::Transfer);
}

/// 1 to 4 downloads a day: one name, 32 to 128 addresses of a CDN behind it, 8 to 32 connections
/// at once, a range each. 3 % of the connections fail, and the next address is tried.
pub fn downloader(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let (count, v6_count) = (group.count(32, 128), group.count(0, 16));
    let mut cdn = Site::internet(&mut group, "cdn.models.example", count, v6_count);
    cdn.fail_share = 0.03;
    let api = Site::internet(&mut group, "api.models.example", 4, 4);
    let per_day = pod.random().real(1.0, 4.0);
    for at in pod.moments(per_day) {
        pod.visit(at, &api, Load::Request);
        let files = pod.random().count(2, 40);
        for file in 0..files {
            let start = at.saturating_add(i64::try_from(file).unwrap_or(0) * 20 * SECOND);
            for _ in 0..pod.random().count(4, 16) {
                let shift = pod.random().between(0, SECOND);
                pod.visit(start.saturating_add(shift), &cdn, Load::Transfer);
            }
        }
    }
}

/// 300 to 1,500 pages a day. 5 to 30 % of the links are dead: 38 % of the pages of 2013 were gone
/// ten years later, and 8 % of those that were one year old (Pew Research Center, "When Online
/// Content Disappears", 2024), most of them with their host still answering, so this is worse.
/// Two in five dead links lead to a host that does not answer, the rest to a name that is gone.
pub fn crawler(pod: &mut Pod) {
    let dead_share = pod.group.clone().real(0.05, 0.30);
    let per_day = pod.random().real(300.0, 1_500.0);
    for at in pod.moments(per_day) {
        link(pod, at, dead_share);
        // A page of old links: most of them are dead, one after the other.
        if pod.random().chance(0.002) {
            for step in 1..20 {
                link(pod, at.saturating_add(step * SECOND), 0.6);
            }
        }
    }
}

fn link(pod: &mut Pod, at: i64, dead_share: f64) {
    let is_dead = pod.random().chance(dead_share);
    if is_dead && pod.random().chance(0.6) {
        let name = format!("gone-{:x}.example", pod.random().bits());
        pod.tape.ask(at, &name, &[]);
        return;
    }
    let fate = match (is_dead, pod.random().chance(0.3)) {
        (false, _) => Fate::Answers,
        (true, true) => Fate::Refuses,
        (true, false) => Fate::Silent,
    };
    let site = Site::unknown(pod.random(), fate);
    if pod.random().chance(0.02) {
        // A link that names an address.
        let host = pod.random().v4();
        pod.tape
            .contact(at, Target::tcp(host, site.port), fate, Load::Request, None);
        return;
    }
    pod.visit(at, &site, Load::Request);
}

/// A crawler of one large site, whose parts are hosts below one domain: 5 to 30 % of them do not answer.
pub fn one_site(pod: &mut Pod) {
    let dead_share = pod.group.clone().real(0.05, 0.30);
    let per_day = pod.random().real(300.0, 1_500.0);
    for at in pod.moments(per_day) {
        let fate = if pod.random().chance(dead_share) {
            Fate::Silent
        } else {
            Fate::Answers
        };
        let mut site = Site::unknown(pod.random(), fate);
        site.name = format!("part-{:x}.large.example", pod.random().bits());
        pod.visit(at, &site, Load::Request);
    }
}

/// A data loader that reads one shard a minute from an object store with 256 to 1,024 addresses in eight networks behind
/// one name, each answer with others. On one day of five a firewall drops the store for half an hour to two hours, not in
/// the first hour of the pod, and the client tries again every 20 s.
pub fn object_store(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let count = group.count(256, 1_024);
    let networks = Site::internet(&mut group, "bucket.store.example", 8, 0).v4;
    let mut store = Site::internet(&mut group, "bucket.store.example", 0, 0);
    store.v4 = (0..count)
        .filter_map(|_| {
            let network = group.pick(&networks).copied()?;
            Some(with_last_two_bytes(network, group.bits()))
        })
        .collect();
    let used_since = pod.start.saturating_add(HOUR);
    let mut outages = Vec::new();
    for at in pod.moments(0.2).into_iter().filter(|at| *at > used_since) {
        outages.push(at..at.saturating_add(pod.random().between(HOUR / 2, 2 * HOUR)));
    }
    for at in pod.moments(1_440.0) {
        if !outages.iter().any(|outage| outage.contains(&at)) {
            pod.visit(at, &store, Load::Transfer);
        }
    }
    store.fate = Fate::Silent;
    for outage in outages {
        let mut at = outage.start;
        while at < outage.end {
            pod.visit(at, &store, Load::Request);
            at = at.saturating_add(20 * SECOND);
        }
    }
}

/// Another address of the /16 of this one.
fn with_last_two_bytes(network: IpAddr, bits: u64) -> IpAddr {
    let [c, d, ..] = bits.to_be_bytes();
    match network {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            IpAddr::from([a, b, c, d])
        }
        IpAddr::V6(_) => network,
    }
}

/// MCP servers over TCP and websockets that stand for minutes to hours, tool calls, a model API,
/// a reverse tunnel's look-alike: SSH to the team's own host.
pub fn tools(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let servers: Vec<Site> = (0..group.count(2, 5))
        .map(|n| Site::service(&mut group, &format!("mcp-{n}"), 8080))
        .collect();
    let model = Site::internet(&mut group, "api.model.example", 2, 2);
    let socket = Site::internet(&mut group, "ws.saas.example", 4, 0);
    let mut host = Site::internet(&mut group, "bastion.team.example", 1, 0);
    host.port = 22;
    for at in pod.moments(60.0) {
        let length = pod.random().between(10 * MINUTE, 6 * HOUR);
        if let Some(server) = pod.random().pick(&servers).cloned() {
            pod.visit(at, &server, Load::Session(length));
        }
    }
    for at in pod.moments(200.0) {
        pod.visit(at, &model, Load::Request);
    }
    for at in pod.moments(8.0) {
        let length = pod.random().between(HOUR, 6 * HOUR);
        pod.visit(at, &socket, Load::Session(length));
        pod.visit(at, &host, Load::Session(length));
    }
    for at in pod.moments(30.0) {
        let fate = if pod.random().chance(0.1) {
            Fate::Refuses
        } else {
            Fate::Answers
        };
        let site = Site::unknown(pod.random(), fate);
        pod.visit(at, &site, Load::Request);
    }
}

/// 100 to 600 peers a day, on ports of their own but for a tenth that keep the default one; half
/// of them are gone. The tracker has a name, the peers have none.
pub fn peers(pod: &mut Pod) {
    let tracker = Site::internet(&mut pod.group.clone(), "tracker.weights.example", 2, 0);
    let per_day = pod.random().real(100.0, 600.0);
    for at in pod.moments(per_day) {
        if pod.random().chance(0.05) {
            pod.visit(at, &tracker, Load::Request);
        }
        let host = pod.random().v4();
        let is_default = pod.random().chance(0.1);
        let port = if is_default { 6881 } else { high_port(pod) };
        let fate = if pod.random().chance(0.5) {
            Fate::Answers
        } else {
            Fate::Silent
        };
        let target = if pod.random().chance(0.5) {
            Target::udp(host, port)
        } else {
            Target::tcp(host, port)
        };
        pod.tape.contact(at, target, fate, Load::Request, None);
    }
}

/// A port that somebody's system chose.
pub fn high_port(pod: &mut Pod) -> u16 {
    u16::try_from(pod.random().between(10_000, 65_000)).unwrap_or(u16::MAX)
}
