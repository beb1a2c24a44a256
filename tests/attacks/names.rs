//! Scans of targets that are looked up first, under names that the attacker chooses.

use yellowjack::testing::model::Severity::{self, Alert, Quarantine};

use crate::attack::Attack;
use crate::log::Fate::{Refuses, Silent};
use crate::log::Format::{Hubble, Zeek};
use crate::log::{Fate, Format, Log};
use crate::scans::{internet, private, private_v6};

/// See the module.
struct Named {
    format: Format,
    log: fn(Format) -> Log,
    target: fn(usize) -> String,
    name: fn(usize) -> String,
    port: u16,
    fate: Fate,
    count: usize,
    every: f64,
}

impl Named {
    fn build(&self, is_named: bool) -> Log {
        let mut log = (self.log)(self.format);
        for n in 0..self.count {
            let at = n as f64 * self.every;
            let host = (self.target)(n);
            if is_named {
                log.query(at, &(self.name)(n), &[&host]);
            }
            log.contact(at + self.every / 2.0, &host, self.port, self.fate);
        }
        log
    }
}

fn dashed(host: &str) -> String {
    host.replace(['.', ':'], "-")
}

fn octets(n: usize) -> [u8; 4] {
    let host: std::net::Ipv4Addr = private(n).parse().unwrap();
    host.octets()
}

fn hex(n: usize) -> String {
    octets(n).map(|octet| format!("{octet:02x}")).concat()
}

/// The names that the cluster's DNS has for pods, and answers for any address.
fn pods() -> Named {
    Named {
        format: Hubble,
        log: Log::of,
        target: private,
        name: |n| format!("{}.team.pod.cluster.local", dashed(&private(n))),
        port: 22,
        fate: Silent,
        count: 60,
        every: 2.0,
    }
}

fn attack((name, demand, named): (&str, Severity, Named)) -> Attack {
    Attack::new(name, demand, move |has_trick| named.build(has_trick))
}

/// Names that contain the address that they resolve to.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn spelled() -> Vec<Attack> {
    let variants = [
        ("names: of pods, for any address", Quarantine, pods()),
        (
            "names: of pods, zeek, refused",
            Quarantine,
            Named {
                format: Zeek,
                fate: Refuses,
                port: 6_379,
                ..pods()
            },
        ),
        (
            "names: of pods, IPv6",
            Quarantine,
            Named {
                log: |format| Log::of(format).over_v6(),
                target: private_v6,
                name: |n| format!("{}.team.pod.cluster.local", dashed(&private_v6(n))),
                ..pods()
            },
        ),
        (
            "names: a wildcard service, private hosts",
            Quarantine,
            Named {
                name: |n| format!("{}.nip.io", private(n)),
                ..pods()
            },
        ),
        (
            "names: a wildcard service, the Internet",
            Quarantine,
            Named {
                target: internet,
                name: |n| format!("{}.sslip.io", dashed(&internet(n))),
                ..pods()
            },
        ),
        (
            "names: a wildcard service, hexadecimal",
            Quarantine,
            Named {
                name: |n| format!("app-{}.nip.io", hex(n)),
                ..pods()
            },
        ),
        (
            "names: a wildcard service, the octets reversed",
            Quarantine,
            Named {
                format: Zeek,
                target: internet,
                name: |n| {
                    let mut parts: Vec<_> = internet(n).split('.').map(str::to_owned).collect();
                    parts.reverse();
                    format!("{}.rev.example", parts.join("."))
                },
                ..pods()
            },
        ),
        (
            "names: of cloud hosts",
            Quarantine,
            Named {
                name: |n| format!("ip-{}.ec2.internal", dashed(&private(n))),
                ..pods()
            },
        ),
        (
            "names: nip.io with a decimal number",
            Quarantine,
            Named {
                name: |n| format!("{}.nip.io", u32::from_be_bytes(octets(n))),
                ..pods()
            },
        ),
    ];
    variants.into_iter().map(attack).collect()
}

/// Zones of the attacker's own.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn own_zones() -> Vec<Attack> {
    let zone = |n: usize| format!("n{n}.evil.example");
    let variants = [
        (
            "names: one own zone, private hosts",
            Quarantine,
            Named {
                name: zone,
                ..pods()
            },
        ),
        (
            "names: one own zone, port 443, zeek",
            Quarantine,
            Named {
                name: zone,
                format: Zeek,
                port: 443,
                fate: Refuses,
                ..pods()
            },
        ),
        (
            "names: one own zone over UDP",
            Quarantine,
            Named {
                name: zone,
                log: |format| Log::of(format).over_udp(),
                port: 161,
                ..pods()
            },
        ),
        (
            "names: one own zone, 8 levels deep",
            Quarantine,
            Named {
                name: |n| format!("a.b.c.d.e.n{n}.x{}.evil.example", n % 7),
                ..pods()
            },
        ),
        (
            "names: one own zone below a country's suffix",
            Quarantine,
            Named {
                name: |n| format!("n{n}.evil.co.uk"),
                ..pods()
            },
        ),
        (
            "names: one own zone, the Internet, 300 hosts",
            Alert,
            Named {
                name: zone,
                target: internet,
                count: 300,
                ..pods()
            },
        ),
        (
            "names: Services of one namespace, 300 hosts",
            Alert,
            Named {
                name: |n| format!("w{n}.w.team.svc.cluster.local"),
                count: 300,
                ..pods()
            },
        ),
    ];
    let mut attacks: Vec<_> = variants.into_iter().map(attack).collect();
    let domains = Named {
        name: |n| format!("n{n}.evil-{}.example", n % 4),
        ..pods()
    };
    attacks.push(
        attack(("names: four own domains", Quarantine, domains))
            .remaining("34 failing targets for each domain of its own"),
    );
    attacks
}
