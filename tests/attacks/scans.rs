//! Scans with a trick that is meant to keep them from being found.

use std::net::Ipv6Addr;

use yellowjack::testing::model::Severity::{Alert, Quarantine};

use crate::attack::Attack;
use crate::log::Fate::{Refuses, Silent};
use crate::log::Format::{Conntrack, Hubble, Zeek};
use crate::log::{Fate, Format, Log};

/// The n-th host of the Internet, each in a network of its own.
pub fn internet(n: usize) -> String {
    format!("23.{}.{}.{}", (n / 250) % 250, n % 250, n / 62_500 + 1)
}

/// The n-th private address, none of which is a pod.
pub fn private(n: usize) -> String {
    format!("10.9.{}.{}", n / 250, n % 250 + 1)
}

pub fn internet_v6(n: usize) -> String {
    Ipv6Addr::new(0x2600, 1 + u16::try_from(n).unwrap(), 0, 0, 0, 0, 0, 1).to_string()
}

pub fn private_v6(n: usize) -> String {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1 + u16::try_from(n).unwrap()).to_string()
}

/// A shuffle that is the same on every run: the numbers below `count` in another order.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state: usize = 12_345;
    for last in (1..count).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) % (last + 1));
    }
    order
}

/// Many ports in random order over many hosts, so that no port and no host gets enough of the failures.
struct ManyPorts {
    format: Format,
    log: fn(Format) -> Log,
    target: fn(usize) -> String,
    ports: usize,
    fate: Fate,
    probes: usize,
    every: f64,
    /// Each port of each host, in place of a port of each host.
    is_matrix: bool,
}

impl ManyPorts {
    fn build(&self, is_mixed: bool) -> Log {
        let mut log = (self.log)(self.format);
        for (nth, n) in shuffled(self.probes).into_iter().enumerate() {
            let port = if is_mixed {
                1_000 + 37 * (n % self.ports)
            } else {
                1_000
            };
            let host = match (is_mixed, self.is_matrix) {
                (true, true) => n / self.ports,
                (true, false) => nth,
                (false, _) => n,
            };
            let host = (self.target)(host);
            log.contact(
                nth as f64 * self.every,
                &host,
                u16::try_from(port).unwrap(),
                self.fate,
            );
        }
        log
    }
}

/// See [`ManyPorts`].
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn many_ports() -> Vec<Attack> {
    let base = || ManyPorts {
        format: Conntrack,
        log: Log::of,
        target: internet,
        ports: 100,
        fate: Refuses,
        probes: 2_000,
        every: 0.05,
        is_matrix: false,
    };
    let variants = [
        (
            "many ports: 41 in random order",
            Quarantine,
            ManyPorts {
                ports: 41,
                ..base()
            },
        ),
        (
            "many ports: 60 in random order",
            Alert,
            ManyPorts {
                ports: 60,
                ..base()
            },
        ),
        ("many ports: 100 in random order", Alert, base()),
        (
            "many ports: 100, silent, hubble",
            Alert,
            ManyPorts {
                format: Hubble,
                fate: Silent,
                ..base()
            },
        ),
        (
            "many ports: 100, zeek, one in 2 s",
            Alert,
            ManyPorts {
                format: Zeek,
                every: 2.0,
                ..base()
            },
        ),
        (
            "many ports: 200, private hosts",
            Alert,
            ManyPorts {
                ports: 200,
                target: private,
                probes: 4_000,
                ..base()
            },
        ),
        (
            "many ports: 300",
            Alert,
            ManyPorts {
                ports: 300,
                probes: 4_000,
                ..base()
            },
        ),
        (
            "many ports: 23 of each of 23 hosts, in random order",
            Alert,
            ManyPorts {
                ports: 23,
                probes: 529,
                is_matrix: true,
                ..base()
            },
        ),
        (
            "many ports: 15 of each of 23 hosts, then 15 others of 23 others",
            Alert,
            ManyPorts {
                ports: 15,
                probes: 345,
                is_matrix: true,
                ..base()
            },
        ),
        (
            "many ports: 23 of each of 23 private hosts, in random order",
            Alert,
            ManyPorts {
                ports: 23,
                probes: 529,
                target: private,
                is_matrix: true,
                ..base()
            },
        ),
        (
            "many ports: 40 of each of 60 hosts, in random order, zeek",
            Quarantine,
            ManyPorts {
                format: Zeek,
                ports: 40,
                probes: 2_400,
                is_matrix: true,
                ..base()
            },
        ),
        (
            "many ports: 100 over UDP",
            Alert,
            ManyPorts {
                log: |format| Log::of(format).over_udp(),
                fate: Silent,
                format: Zeek,
                ..base()
            },
        ),
    ];
    let attack = |(name, demand, scan): (&str, _, ManyPorts)| {
        Attack::new(name, demand, move |has_trick| scan.build(has_trick))
    };
    variants.into_iter().map(attack).collect()
}

/// A scan that the pods of a run share out.
struct Shared {
    format: Format,
    pods: u8,
    probes_each: usize,
    target: fn(usize) -> String,
    /// Ports of one host in place of hosts.
    is_vertical: bool,
    /// One pod after the other; else in turns.
    is_in_order: bool,
    every: f64,
}

impl Shared {
    fn build(&self, is_shared: bool) -> Log {
        let pods = if is_shared { self.pods } else { 1 };
        let mut log = Log::of(self.format).with_run(pods);
        let total = usize::from(self.pods) * self.probes_each;
        for n in 0..total {
            let pod = match (is_shared, self.is_in_order) {
                (false, _) => 0,
                (true, true) => n / self.probes_each,
                (true, false) => n % usize::from(self.pods),
            };
            let (host, port) = if self.is_vertical {
                ("10.9.7.7".to_owned(), 1_000 + u16::try_from(n).unwrap())
            } else {
                ((self.target)(n), 22)
            };
            log.contact_by(pod, n as f64 * self.every, &host, port, Refuses);
        }
        log
    }
}

/// Scans over several pods of a run.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn shared() -> Vec<Attack> {
    let base = || Shared {
        format: Conntrack,
        pods: 20,
        probes_each: 20,
        target: private,
        is_vertical: false,
        is_in_order: false,
        every: 0.5,
    };
    let variants = [
        ("shared: 20 pods, 20 hosts each", base()),
        (
            "shared: 20 pods, one after the other, zeek",
            Shared {
                format: Zeek,
                is_in_order: true,
                ..base()
            },
        ),
        (
            "shared: 32 pods, 6 hosts each",
            Shared {
                pods: 32,
                probes_each: 6,
                ..base()
            },
        ),
        (
            "shared: 5 pods, 12 hosts of the Internet each",
            Shared {
                pods: 5,
                probes_each: 12,
                target: internet,
                ..base()
            },
        ),
        (
            "shared: a successor goes on after 30",
            Shared {
                pods: 2,
                probes_each: 30,
                is_in_order: true,
                ..base()
            },
        ),
        (
            "shared: ports of one host over 5 pods",
            Shared {
                pods: 5,
                probes_each: 20,
                is_vertical: true,
                ..base()
            },
        ),
        (
            "shared: 10 pods, one probe in 2 min",
            Shared {
                pods: 10,
                probes_each: 20,
                every: 120.0,
                ..base()
            },
        ),
        (
            "shared: 20 pods, hubble",
            Shared {
                format: Hubble,
                ..base()
            },
        ),
    ];
    let attack = |(name, scan): (&str, Shared)| {
        Attack::new(name, Quarantine, move |has_trick| scan.build(has_trick))
    };
    let mut attacks: Vec<_> = variants.into_iter().map(attack).collect();
    let thin = Shared {
        pods: 50,
        probes_each: 3,
        ..base()
    };
    attacks.push(
        attack(("shared: 50 pods, 3 hosts each", thin))
            .remaining("three failed targets per pod and port: 150 for a run of 50 pods"),
    );
    let many = Shared {
        pods: 100,
        probes_each: 6,
        ..base()
    };
    attacks.push(attack(("shared: 100 pods, 6 hosts each", many)).remaining(
        "68 of 100 pods go on to 34 hosts each; the other 32 and the run have Incidents",
    ));
    attacks
}

/// An inventory without a contact: queries alone.
struct Inventory {
    format: Format,
    name: fn(usize) -> String,
    count: usize,
    every: f64,
}

impl Inventory {
    /// Without the trick the same addresses are contacted.
    fn build(&self, is_silent: bool) -> Log {
        let mut log = Log::of(self.format);
        for n in 0..self.count {
            let at = n as f64 * self.every;
            if is_silent {
                log.query(at, &(self.name)(n), &[]);
            } else if n < 200 {
                log.contact(at, &private(n), 22, Refuses);
            }
        }
        log
    }
}

/// See [`Inventory`].
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn inventories() -> Vec<Attack> {
    let base = || Inventory {
        format: Zeek,
        name: |n| format!("{}.{}.96.10.in-addr.arpa", n % 256, n / 256),
        count: 1_000,
        every: 0.055,
    };
    let variants = [
        (
            "inventory: reverse look-ups of the range of Services, 18 a second",
            base(),
        ),
        (
            "inventory: the same, 300 an hour, hubble",
            Inventory {
                format: Hubble,
                count: 400,
                every: 12.0,
                ..base()
            },
        ),
        (
            "inventory: reverse look-ups, IPv6",
            Inventory {
                name: |n| {
                    let digits = format!("fd0000100096000000000000{n:08x}");
                    let digits: Vec<String> = digits.chars().rev().map(String::from).collect();
                    format!("{}.ip6.arpa", digits.join("."))
                },
                ..base()
            },
        ),
        (
            "inventory: guessed Services of one namespace",
            Inventory {
                name: |n| format!("svc-{n}.team.svc.cluster.local"),
                every: 0.1,
                ..base()
            },
        ),
        (
            "inventory: guessed Services over many namespaces, hubble",
            Inventory {
                format: Hubble,
                name: |n| format!("redis.team-{n}.svc.cluster.local"),
                count: 600,
                every: 1.0,
            },
        ),
        (
            "inventory: guessed ports of Services",
            Inventory {
                name: |n| format!("_http._tcp.svc-{n}.team.svc.cluster.local"),
                count: 600,
                every: 1.0,
                ..base()
            },
        ),
    ];
    let attack = |(name, inventory): (&str, Inventory)| {
        Attack::new(name, Alert, move |has_trick| inventory.build(has_trick))
    };
    let mut attacks: Vec<_> = variants.into_iter().map(attack).collect();
    let remaining = [
        (
            "inventory: guessed names of pods of StatefulSets",
            Inventory {
                name: |n| format!("app-{n}-0.app-{n}.team.svc.cluster.local"),
                ..base()
            },
        ),
        (
            "inventory: guessed Services of a namespace called dev",
            Inventory {
                name: |n| format!("svc-{n}.dev.svc.cluster.local"),
                ..base()
            },
        ),
    ];
    for inventory in remaining {
        attacks.push(attack(inventory).remaining("such guesses at any rate, 18 a second here"));
    }
    attacks
}
