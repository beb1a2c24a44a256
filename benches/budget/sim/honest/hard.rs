//! The strata that look most like a scan. Each has a real cause, said with it. Called by
//! `Profile::play`.

use std::net::IpAddr;

use super::internet::high_port;
use crate::sim::pod::{Pod, Site, V6, in_range, pod_address};
use crate::sim::random::Random;
use crate::sim::tape::{Fate, HOUR, Load, MINUTE, SECOND, Target};

/// First contacts without a name a day: what the error budget assumes of the busiest pods.
const UNRESOLVED_PER_DAY: f64 = 1_000.0;

/// 1,000 hosts a day without a name on one port of one scope, each answering by chance.
pub fn flaky(pod: &mut Pod) {
    let success = pod.group.clone().real(0.55, 0.95);
    chance_contacts(pod, success);
}

/// The same with success one half: the worst that the null hypothesis allows.
pub fn null_edge(pod: &mut Pod) {
    chance_contacts(pod, 0.5);
}

fn chance_contacts(pod: &mut Pod, success: f64) {
    let mut group = pod.group.clone();
    let port = *group.pick(&[443, 80, 22, 8080, 6379]).unwrap_or(&443);
    let scope = group.count(0, 2);
    for at in pod.moments(UNRESOLVED_PER_DAY) {
        let random = pod.random();
        let host = match scope {
            0 => random.v4(),
            1 => pod_address(random),
            _ => in_range(random, 172, 20),
        };
        let fate = match (random.chance(success), random.chance(0.3)) {
            (true, _) => Fate::Answers,
            (false, true) => Fate::Refuses,
            (false, false) => Fate::Silent,
        };
        let target = Target::tcp(host, port);
        pod.tape.contact(at, target, fate, Load::Request, None);
    }
}

/// Workers get each other's addresses from the API (JGroups KUBE_PING, Hazelcast, Pekko management
/// and Consul join do so) and start within two minutes of each other, one to three times a day.
/// Who is not up yet refuses; it is tried again every 2 to 5 s until it is.
pub fn gang(pod: &mut Pod) {
    let mut group = pod.group.clone();
    for _ in 0..group.count(1, 3) {
        let start = group.between(HOUR, pod.end);
        // A port per incarnation, so that each start makes new contacts.
        let port = u16::try_from(group.between(20_000, 30_000)).unwrap_or(7_800);
        let up_after: Vec<i64> = pod
            .siblings
            .iter()
            .map(|_| group.between(0, 2 * MINUTE))
            .collect();
        let mine = up_after.get(pod.index).copied().unwrap_or_default();
        let peers: Vec<IpAddr> = pod.siblings.clone();
        for (index, (host, up_after)) in peers.iter().zip(&up_after).enumerate() {
            if index == pod.index {
                continue;
            }
            let mut at = start.saturating_add(mine);
            let target = Target::tcp(*host, port);
            while at < start.saturating_add(*up_after) {
                pod.tape
                    .contact(at, target, Fate::Refuses, Load::Request, None);
                at = at.saturating_add(pod.tape.random.between(2 * SECOND, 5 * SECOND));
            }
            pod.tape
                .contact(at, target, Fate::Answers, Load::Session(HOUR), None);
        }
    }
}

/// A client of a service with 20 to 60 replicas uses a part of them by address (subsetting, as gRPC
/// and Envoy do). In a rollout its part dies and it tries the rest of its list, which is as stale,
/// before the new list arrives.
pub fn rollout(pod: &mut Pod) {
    let mut group = pod.group.clone();
    let replica_count = group.count(20, 60);
    let used_count = group.count(replica_count / 3, replica_count);
    for at in pod.moments(2.0) {
        let random = &mut pod.tape.random;
        let replicas: Vec<IpAddr> = (0..replica_count).map(|_| pod_address(random)).collect();
        for host in replicas.iter().take(used_count) {
            let target = Target::tcp(*host, 50_051);
            pod.tape
                .contact(at, target, Fate::Answers, Load::Session(HOUR), None);
        }
        let mut later = at.saturating_add(2 * HOUR);
        for host in &replicas {
            pod.tape.stay(*host, at.saturating_sub(MINUTE), later);
        }
        for host in &replicas {
            let target = Target::tcp(*host, 50_051);
            pod.tape
                .contact(later, target, Fate::Refuses, Load::Request, None);
            later = later.saturating_add(SECOND);
        }
    }
}

/// A headless browser on 100 to 400 sites a day. Half of them offer QUIC; half of the networks drop
/// UDP port 443. The browser then uses TCP, and tries QUIC again with the next site. Both go to
/// the same address.
pub fn browser(pod: &mut Pod) {
    let drops_quic = pod.group.clone().chance(0.5);
    let per_day = pod.random().real(100.0, 400.0);
    for at in pod.moments(per_day) {
        let site = Site::unknown(pod.random(), Fate::Answers);
        pod.visit(at, &site, Load::Request);
        let v6 = site.v6.first().filter(|_| pod.v6 == V6::Works);
        if let Some(host) = v6.or(site.v4.first()).copied()
            && site.port == 443
            && pod.random().chance(0.5)
        {
            let fate = if drops_quic {
                Fate::Silent
            } else {
                Fate::Answers
            };
            let target = Target::udp(host, 443);
            let at = at.saturating_add(200_000);
            pod.tape
                .contact(at, target, fate, Load::Request, Some(&site.name));
        }
    }
}

/// 50 to 300 sites a day, three in five with 1 to 8 IPv6 addresses (CloudFront gives 8), while IPv6
/// packets vanish. How the client takes it (`V6`) is drawn by the group.
pub fn broken_v6(pod: &mut Pod) {
    let per_day = pod.random().real(50.0, 300.0);
    for at in pod.moments(per_day) {
        let random = pod.random();
        let v6_count = if random.chance(0.6) {
            random.count(1, 8)
        } else {
            0
        };
        let name = format!("www.dual-{:x}.example", random.bits());
        let site = Site::internet(random, &name, 2, v6_count);
        pod.visit(at, &site, Load::Request);
    }
}

/// Nothing but the allow list gets out, and the agent does not know: it tries 20 to 200 sites a
/// day. Half of the walls are a policy on the node, half a firewall behind it that just drops.
pub fn walled(pod: &mut Pod) {
    let wall = if pod.group.clone().chance(0.5) {
        Fate::Denied
    } else {
        Fate::Silent
    };
    let allowed = Site::internet(&mut pod.group.clone(), "api.model.example", 2, 0);
    for at in pod.moments(200.0) {
        pod.visit(at, &allowed, Load::Request);
    }
    let per_day = pod.random().real(20.0, 200.0);
    for at in pod.moments(per_day) {
        let site = Site::unknown(pod.random(), wall);
        pod.visit(at, &site, Load::Request);
    }
}

/// A data set over passive FTP: each of 20 to 200 files a day opens another port of one host. Half
/// of the firewalls drop those, and the client tries the next file.
pub fn ftp(pod: &mut Pod) {
    let mut group: Random = pod.group.clone();
    let mut site = Site::internet(&mut group, "ftp.data.example", 1, 0);
    site.port = 21;
    let fate = if group.chance(0.5) {
        Fate::Silent
    } else {
        Fate::Answers
    };
    let per_day = pod.random().real(20.0, 200.0);
    for at in pod.moments(per_day) {
        pod.visit(at, &site, Load::Request);
        let Some(host) = site.v4.first().copied() else {
            continue;
        };
        let target = Target::tcp(host, high_port(pod));
        let at = at.saturating_add(SECOND);
        pod.tape
            .contact(at, target, fate, Load::Transfer, Some(&site.name));
    }
}
