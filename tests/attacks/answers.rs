//! Scans with contacts of another kind between the probes, with servers of the attacker's own.

use yellowjack::testing::model::Severity::{Alert, Quarantine};

use crate::attack::Attack;
use crate::log::Fate::{Answers, Denied, Refuses, Silent};
use crate::log::Format::{Conntrack, Hubble, Vpc, Zeek};
use crate::log::{Fate, Format, Log};
use crate::scans::{internet, internet_v6, private, private_v6};

/// Answered contacts between the probes, meant to push those that wait for an answer out of memory.
struct Eviction {
    format: Format,
    log: fn(Format) -> Log,
    target: fn(usize) -> String,
    /// The n-th host and port that answers.
    filler: fn(usize) -> (String, u16),
    fillers_per_probe: usize,
    probe_every: f64,
    port: u16,
    fate: Fate,
}

impl Eviction {
    fn build(&self, has_fillers: bool) -> Log {
        let mut log = (self.log)(self.format);
        let mut filled = 0;
        for n in 0..40 {
            let at = n as f64 * self.probe_every;
            log.contact(at, &(self.target)(n), self.port, self.fate);
            for part in 0..self.fillers_per_probe {
                if has_fillers {
                    let (host, port) = (self.filler)(filled);
                    let after =
                        self.probe_every * (part + 1) as f64 / (self.fillers_per_probe + 1) as f64;
                    log.contact(at + after, &host, port, Answers);
                }
                filled += 1;
            }
        }
        log
    }
}

fn own_ports(n: usize) -> (String, u16) {
    (
        "198.51.100.9".to_owned(),
        1_024 + u16::try_from(n % 60_000).unwrap(),
    )
}

fn own_ports_v6(n: usize) -> (String, u16) {
    (
        "2001:db8:7::9".to_owned(),
        1_024 + u16::try_from(n % 60_000).unwrap(),
    )
}

fn own_hosts(n: usize) -> (String, u16) {
    (
        format!("198.51.100.{}", n % 250 + 1),
        8_000 + u16::try_from(n / 250).unwrap(),
    )
}

/// Waiting contacts that are pushed out of memory before they are judged.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn evictions() -> Vec<Attack> {
    let base = || Eviction {
        format: Hubble,
        log: Log::of,
        target: private,
        filler: own_ports,
        fillers_per_probe: 100,
        probe_every: 1.0,
        port: 22,
        fate: Silent,
    };
    let variants = [
        (
            "evict: 100 own ports between probes of private hosts",
            base(),
        ),
        (
            "evict: the same over the Internet",
            Eviction {
                target: internet,
                port: 2_323,
                ..base()
            },
        ),
        (
            "evict: 450 own ports in 4.5 s, one probe",
            Eviction {
                fillers_per_probe: 450,
                probe_every: 4.5,
                ..base()
            },
        ),
        (
            "evict: own hosts on few ports",
            Eviction {
                filler: own_hosts,
                ..base()
            },
        ),
        (
            "evict: UDP",
            Eviction {
                log: |format| Log::of(format).over_udp(),
                port: 161,
                ..base()
            },
        ),
        (
            "evict: IPv6",
            Eviction {
                log: |format| Log::of(format).over_v6(),
                target: private_v6,
                filler: own_ports_v6,
                ..base()
            },
        ),
        (
            "evict: conntrack",
            Eviction {
                format: Conntrack,
                ..base()
            },
        ),
        (
            "evict: zeek",
            Eviction {
                format: Zeek,
                ..base()
            },
        ),
        (
            "evict: flow logs",
            Eviction {
                format: Vpc,
                fillers_per_probe: 40,
                ..base()
            },
        ),
        (
            "evict: denied by the guard",
            Eviction {
                fate: Denied,
                fillers_per_probe: 50,
                ..base()
            },
        ),
        (
            "evict: probes 200 a second",
            Eviction {
                fillers_per_probe: 1,
                probe_every: 0.005,
                ..base()
            },
        ),
    ];
    let attack = |(name, eviction): (&str, Eviction)| {
        Attack::new(name, Quarantine, move |has_trick| eviction.build(has_trick))
    };
    variants.into_iter().map(attack).collect()
}

/// Contacts as of a peer-to-peer client between the probes, each with a host and a port of its own.
pub fn camouflage() -> Vec<Attack> {
    let base = || Eviction {
        format: Conntrack,
        log: Log::of,
        target: internet,
        filler: |n| (internet(5_000 + n), 10_000 + u16::try_from(7 * n).unwrap()),
        fillers_per_probe: 1,
        probe_every: 1.0,
        port: 22,
        fate: Refuses,
    };
    let variants = [
        ("camouflage: peers on the Internet", Alert, base()),
        (
            "camouflage: three peers per probe, zeek",
            Alert,
            Eviction {
                format: Zeek,
                fillers_per_probe: 3,
                ..base()
            },
        ),
        (
            "camouflage: peers, for a scan inside",
            Quarantine,
            Eviction {
                target: private,
                fillers_per_probe: 3,
                ..base()
            },
        ),
        (
            "camouflage: peers, for a silent scan inside, hubble",
            Quarantine,
            Eviction {
                format: Hubble,
                target: private,
                fate: Silent,
                ..base()
            },
        ),
    ];
    let attack = |(name, demand, eviction): (&str, _, Eviction)| {
        Attack::new(name, demand, move |has_trick| eviction.build(has_trick))
    };
    variants.into_iter().map(attack).collect()
}

/// Answered contacts on the scanned port, from networks or hosts of the attacker's own.
struct Paid {
    format: Format,
    log: fn(Format) -> Log,
    target: fn(usize) -> String,
    own: fn(usize) -> String,
    port: u16,
    /// Answers per 100 probes.
    per_100: usize,
    /// Other contacts before each answer, which make a known target new again.
    fillers: usize,
}

impl Paid {
    fn build(&self, is_paid: bool) -> Log {
        let mut log = (self.log)(self.format);
        let (mut at, mut paid, mut filled) = (0.0, 0, 0);
        for n in 0..60 {
            at += 0.5;
            log.contact(at, &(self.target)(n), self.port, Refuses);
            while is_paid && paid * 100 < (n + 1) * self.per_100 {
                for _ in 0..self.fillers {
                    log.contact(at, &internet(10_000 + filled), 443, Answers);
                    filled += 1;
                    at += 0.002;
                }
                at += 0.1;
                log.contact(at, &(self.own)(paid), self.port, Answers);
                paid += 1;
            }
        }
        log
    }
}

/// Answers that the attacker gives itself.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn paid_answers() -> Vec<Attack> {
    let base = || Paid {
        format: Conntrack,
        log: Log::of,
        target: internet,
        own: |n| format!("198.51.100.{}", n % 250 + 1),
        port: 22,
        per_100: 55,
        fillers: 0,
    };
    let variants = [
        ("paid answers: one own /24", base()),
        (
            "paid answers: one per probe, zeek",
            Paid {
                format: Zeek,
                per_100: 100,
                ..base()
            },
        ),
        (
            "paid answers: two per probe",
            Paid {
                per_100: 200,
                ..base()
            },
        ),
        (
            "paid answers: hubble, port 3389",
            Paid {
                format: Hubble,
                port: 3_389,
                ..base()
            },
        ),
        (
            "paid answers: flow logs",
            Paid {
                format: Vpc,
                ..base()
            },
        ),
        (
            "paid answers: one own /64",
            Paid {
                log: |format| Log::of(format).over_v6(),
                target: internet_v6,
                own: |n| format!("2001:db8:7:7::{:x}", n + 1),
                ..base()
            },
        ),
        (
            "paid answers: the /64s of one own /48",
            Paid {
                log: |format| Log::of(format).over_v6(),
                target: internet_v6,
                own: |n| format!("2001:db8:7:{:x}::1", n + 1),
                ..base()
            },
        ),
        (
            "paid answers: one own host inside that becomes new again",
            Paid {
                target: private,
                own: |_| "10.8.0.1".to_owned(),
                per_100: 40,
                fillers: 800,
                ..base()
            },
        ),
        (
            "paid answers: on the Internet for a scan inside",
            Paid {
                target: private,
                per_100: 100,
                ..base()
            },
        ),
    ];
    let attack = |(name, paid): (&str, Paid)| {
        Attack::new(name, Quarantine, move |has_trick| paid.build(has_trick))
    };
    let mut attacks: Vec<_> = variants.into_iter().map(attack).collect();
    let many = Paid {
        own: |n| format!("45.7.{n}.1"),
        ..base()
    };
    attacks.push(
        Attack::new(
            "paid answers: from own networks, each once",
            Quarantine,
            move |has_trick| many.build(has_trick),
        )
        .remaining("two probes per answer at any rate, each answer from another /24 of its own"),
    );
    attacks
}

/// Servers of the attacker's own that answered and then refuse, beside the scan.
struct OwnOutage {
    format: Format,
    servers: usize,
    target: fn(usize) -> String,
    port: u16,
    fate: Fate,
    /// Probes in each outage, outages, and seconds between their begins.
    probes: usize,
    rounds: usize,
    round_every: f64,
    /// Seconds between two probes.
    probe_every: f64,
}

impl OwnOutage {
    fn build(&self, has_outage: bool) -> Log {
        let mut log = Log::of(self.format);
        let server = |n: usize| format!("45.{n}.0.1");
        for round in 0..self.rounds {
            let at = round as f64 * self.round_every;
            for n in 0..self.servers {
                // Ten answers reset what an outage may cover.
                for k in 0..2 {
                    log.contact(
                        at + n as f64 * 0.02 + f64::from(k),
                        &server(n),
                        8_443,
                        Answers,
                    );
                }
                let fate = if has_outage { Refuses } else { Answers };
                log.contact(at + 5.0 + n as f64 * 0.02, &server(n), 8_443, fate);
            }
            for n in 0..self.probes {
                let at = at + 6.0 + n as f64 * self.probe_every;
                log.contact(
                    at,
                    &(self.target)(round * self.probes + n),
                    self.port,
                    self.fate,
                );
            }
        }
        log
    }
}

/// An outage that the attacker makes itself.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn outages() -> Vec<Attack> {
    let base = || OwnOutage {
        format: Conntrack,
        servers: 5,
        target: private,
        port: 22,
        fate: Refuses,
        probes: 400,
        rounds: 1,
        round_every: 0.0,
        probe_every: 0.01,
    };
    let variants = [
        ("own outage: 400 probes, 100 a second", Quarantine, base()),
        (
            "own outage: 20 servers",
            Quarantine,
            OwnOutage {
                servers: 20,
                ..base()
            },
        ),
        (
            "own outage: on the Internet, zeek",
            Quarantine,
            OwnOutage {
                format: Zeek,
                target: internet,
                ..base()
            },
        ),
        (
            "own outage: hubble, silence",
            Quarantine,
            OwnOutage {
                format: Hubble,
                fate: Silent,
                ..base()
            },
        ),
        (
            "own outage: flow logs",
            Quarantine,
            OwnOutage {
                format: Vpc,
                ..base()
            },
        ),
        (
            "own outage: 60 probes an outage, again and again",
            Quarantine,
            OwnOutage {
                probes: 60,
                rounds: 5,
                round_every: 60.0,
                probe_every: 0.5,
                ..base()
            },
        ),
        (
            "own outage: 10 probes an outage, each half hour",
            Quarantine,
            OwnOutage {
                probes: 10,
                rounds: 8,
                round_every: 2_100.0,
                probe_every: 1.0,
                ..base()
            },
        ),
        (
            "own outage: 30 probes in the first, none after",
            Alert,
            OwnOutage {
                probes: 34,
                ..base()
            },
        ),
    ];
    let attack = |(name, demand, outage): (&str, _, OwnOutage)| {
        let attack = Attack::new(name, demand, move |has_trick| outage.build(has_trick));
        if demand == Alert {
            attack.with_alert_as_control()
        } else {
            attack
        }
    };
    variants.into_iter().map(attack).collect()
}
