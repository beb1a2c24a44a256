//! A simulated pod: a tape, a clock and the habits that every program shares (asking for names,
//! trying the next address, IPv6 before IPv4). Profiles in `honest` and `attack` drive it.

use std::net::{IpAddr, Ipv4Addr};

use super::random::Random;
use super::tape::{API_SERVER, DAY, Fate, HOUR, Load, MINUTE, SECOND, Tape, Target};

/// Whether and how a pod uses IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V6 {
    /// No IPv6 address: the library does not even try.
    None,
    /// It works.
    Works,
    /// Packets vanish, and the client goes over to IPv4 after one or two tries (RFC 8305).
    BrokenEyeballs,
    /// Packets vanish, and the client tries every IPv6 address before the first IPv4 one, as
    /// Python's socket.create_connection and Java do by default.
    BrokenSerial,
}

/// A service with a name, inside or outside the cluster.
#[derive(Clone, Debug)]
pub struct Site {
    pub name: String,
    pub v4: Vec<IpAddr>,
    pub v6: Vec<IpAddr>,
    pub port: u16,
    pub fate: Fate,
    /// Share of single connections that fail at random, each on its own.
    pub fail_share: f64,
}

impl Site {
    /// A site of the Internet with so many addresses of each family.
    pub fn internet(random: &mut Random, name: &str, v4: usize, v6: usize) -> Self {
        Self {
            name: name.to_owned(),
            v4: (0..v4).map(|_| random.v4()).collect(),
            v6: (0..v6).map(|_| random.v6()).collect(),
            port: 443,
            fate: Fate::Answers,
            fail_share: 0.0,
        }
    }

    /// A site that nobody has met before; a third sit behind the shared addresses of a CDN.
    pub fn unknown(random: &mut Random, fate: Fate) -> Self {
        let id = random.bits();
        let v6 = if random.chance(0.4) { 2 } else { 0 };
        let mut site = Self::internet(random, &format!("www.site-{id:x}.example"), 1, v6);
        if random.chance(0.33) {
            let shared = u8::try_from(id % 250).unwrap_or_default();
            site.v4 = vec![IpAddr::V4(Ipv4Addr::new(104, 16, 1, shared))];
        }
        if random.chance(0.1) {
            site.port = 80;
        }
        site.fate = fate;
        site
    }

    /// A service of the cluster with one virtual address.
    pub fn service(random: &mut Random, name: &str, port: u16) -> Self {
        Self {
            name: format!("{name}.apps.svc.cluster.local"),
            v4: vec![in_range(random, 10, 97)],
            v6: Vec::new(),
            port,
            fate: Fate::Answers,
            fail_share: 0.0,
        }
    }
}

/// An address of a /16.
pub fn in_range(random: &mut Random, first: u8, second: u8) -> IpAddr {
    let [third, fourth, ..] = random.bits().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(first, second, third, fourth))
}

/// An address of another pod.
pub fn pod_address(random: &mut Random) -> IpAddr {
    in_range(random, 10, 245)
}

/// See the module.
#[derive(Debug)]
pub struct Pod {
    pub tape: Tape,
    /// Its number among its siblings.
    pub index: usize,
    pub start: i64,
    pub end: i64,
    pub v6: V6,
    /// What siblings of a run share.
    pub group: Random,
    /// Addresses of all pods of the run, by index.
    pub siblings: Vec<IpAddr>,
}

impl Pod {
    pub fn random(&mut self) -> &mut Random {
        &mut self.tape.random
    }

    /// Moments of a Poisson process with so many a day over the pod's life.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a day in microseconds
    pub fn moments(&mut self, per_day: f64) -> Vec<i64> {
        let mean = (DAY as f64 / per_day.max(0.01)) as i64;
        let mut moments = Vec::new();
        let mut at = self.start.saturating_add(self.random().gap(mean));
        while at < self.end {
            moments.push(at);
            at = at.saturating_add(self.random().gap(mean));
        }
        moments
    }

    /// Asks for the site's name and connects as the usual libraries do. Says whether it worked.
    pub fn visit(&mut self, at: i64, site: &Site, load: Load) -> bool {
        let v6: &[IpAddr] = if self.v6 == V6::None { &[] } else { &site.v6 };
        let mut answers = self.rotate(&site.v4);
        answers.extend(v6.iter().copied().take(8));
        if !self.tape.ask(at, &site.name, &answers) {
            // Every third client has the addresses from before and tries those.
            if answers.is_empty() || !self.random().chance(0.33) {
                return false;
            }
        }
        let at = at.saturating_add(20_000);
        let v4: Vec<IpAddr> = answers.iter().copied().filter(IpAddr::is_ipv4).collect();
        let name = site.name.as_str();
        let (tries, fate, wait) = match self.v6 {
            V6::None => (0, site.fate, 0),
            V6::Works => (1, site.fate, 250_000),
            V6::BrokenEyeballs => (2, Fate::Silent, 250_000),
            V6::BrokenSerial => (8, Fate::Silent, 10 * SECOND),
        };
        let mut at = at;
        for host in v6.iter().take(tries) {
            let fate = self.luck(site, fate);
            if self
                .tape
                .contact(at, Target::tcp(*host, site.port), fate, load, Some(name))
            {
                return true;
            }
            at = at.saturating_add(wait);
        }
        for host in v4.iter().take(3) {
            let target = Target::tcp(*host, site.port);
            let fate = self.luck(site, site.fate);
            if self.tape.contact(at, target, fate, load, Some(name)) {
                return true;
            }
            at = at.saturating_add(5 * SECOND);
        }
        false
    }

    fn luck(&mut self, site: &Site, fate: Fate) -> Fate {
        if fate == Fate::Answers && site.fail_share > 0.0 && self.random().chance(site.fail_share) {
            Fate::Silent
        } else {
            fate
        }
    }

    /// What a resolver gives: up to 8 addresses, in a new order each time.
    fn rotate(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let skip = self.random().count(0, addresses.len());
        let turned = addresses.iter().cycle().skip(skip);
        turned.take(addresses.len().min(8)).copied().collect()
    }

    /// What every pod does: it talks to the API server, pushes metrics, fetches the time, probes
    /// itself. Few targets, again and again.
    pub fn background(&mut self) {
        let mut group = self.group.clone();
        let metrics = Site::service(&mut group, "metrics-gateway", 9091);
        let telemetry = Site::internet(&mut group, "telemetry.vendor.example", 4, 2);
        let time = group.v4();
        for at in self.moments(40.0) {
            self.visit(at, &metrics, Load::Request);
        }
        for at in self.moments(20.0) {
            self.visit(at, &telemetry, Load::Request);
        }
        for at in self.moments(6.0) {
            let length = self.random().between(5 * MINUTE, HOUR);
            let target = Target::tcp(API_SERVER, 443);
            self.tape
                .contact(at, target, Fate::Answers, Load::Session(length), None);
            self.tape.contact(
                at,
                Target::udp(time, 123),
                Fate::Answers,
                Load::Request,
                None,
            );
        }
        self.probe_itself();
    }

    /// A development server looks for a free port on the loopback address.
    fn probe_itself(&mut self) {
        let at = self.start.saturating_add(MINUTE);
        for port in 3_000..3_060 {
            let target = Target::tcp(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            self.tape
                .contact(at, target, Fate::Refuses, Load::Request, None);
        }
    }
}
