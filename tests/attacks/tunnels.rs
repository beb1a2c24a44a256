//! DNS tunnels with a trick that is meant to keep them from being found.

use yellowjack::testing::model::Severity::Alert;

use crate::attack::Attack;
use crate::log::Format::{Hubble, Zeek};
use crate::log::{Format, Log};

/// A label of so many letters that carries data.
fn coded(n: usize, length: usize) -> String {
    let mut state = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'a' + u8::try_from(state >> 59).unwrap() % 26)
    };
    (0..length).map(|_| letter()).collect()
}

#[derive(Clone, Copy)]
struct Tunnel {
    format: Format,
    /// Letters of a label, and labels of a name.
    length: usize,
    labels: usize,
    domains: usize,
    /// Names in a second.
    rate: f64,
    count: usize,
    answers: &'static [&'static str],
}

impl Tunnel {
    fn build(&self) -> Log {
        let mut log = Log::of(self.format);
        for n in 0..self.count {
            let labels = (0..self.labels).map(|part| coded(n * self.labels + part, self.length));
            let data = labels.collect::<Vec<_>>().join(".");
            let name = format!("{data}.evil-{}.example", n % self.domains);
            log.query(n as f64 / self.rate, &name, self.answers);
        }
        log
    }
}

/// The plain tunnel: long names below one domain.
const PLAIN: Tunnel = Tunnel {
    format: Zeek,
    length: 32,
    labels: 1,
    domains: 1,
    rate: 5.0,
    count: 600,
    answers: &[],
};

fn attack(name: &'static str, tunnel: Tunnel) -> Attack {
    let format = tunnel.format;
    Attack::new(name, Alert, move |has_trick| {
        let plain = Tunnel { format, ..PLAIN };
        if has_trick {
            tunnel.build()
        } else {
            plain.build()
        }
    })
    .with_alert_as_control()
}

/// Tunnels over many domains.
pub fn spread() -> Vec<Attack> {
    [
        (
            "dns spread: 17 domains",
            Tunnel {
                domains: 17,
                rate: 2.0,
                ..PLAIN
            },
        ),
        (
            "dns spread: 60 domains, hubble",
            Tunnel {
                format: Hubble,
                domains: 60,
                rate: 2.0,
                ..PLAIN
            },
        ),
        (
            "dns spread: 200 domains",
            Tunnel {
                domains: 200,
                rate: 2.0,
                ..PLAIN
            },
        ),
        (
            "dns spread: each name in a domain of its own",
            Tunnel {
                domains: 1_000_000,
                rate: 2.0,
                count: 800,
                ..PLAIN
            },
        ),
        (
            "dns spread: 30 domains, 16 letters",
            Tunnel {
                domains: 30,
                length: 16,
                rate: 5.0,
                count: 1_500,
                ..PLAIN
            },
        ),
    ]
    .into_iter()
    .map(|(name, tunnel)| attack(name, tunnel))
    .collect()
}

/// Tunnels in short labels.
#[allow(clippy::too_many_lines)] // a table of attacks
pub fn short() -> Vec<Attack> {
    let mut attacks: Vec<_> = [
        (
            "dns short: 15 letters, 20 a second",
            Tunnel {
                length: 15,
                rate: 20.0,
                count: 2_400,
                ..PLAIN
            },
        ),
        (
            "dns short: 8 letters, 20 a second, hubble",
            Tunnel {
                format: Hubble,
                length: 8,
                rate: 20.0,
                count: 2_400,
                ..PLAIN
            },
        ),
        (
            "dns short: 15 letters with addresses",
            Tunnel {
                length: 15,
                rate: 20.0,
                count: 2_400,
                answers: &["192.0.2.7"],
                ..PLAIN
            },
        ),
        (
            "dns short: four labels of 8 letters",
            Tunnel {
                length: 8,
                labels: 4,
                ..PLAIN
            },
        ),
        (
            "dns short: 12 letters, 3 a second",
            Tunnel {
                length: 12,
                rate: 3.0,
                count: 1_500,
                ..PLAIN
            },
        ),
        (
            "dns short: 15 letters over 3 domains",
            Tunnel {
                length: 15,
                domains: 3,
                rate: 20.0,
                count: 3_600,
                ..PLAIN
            },
        ),
        (
            "dns slow: one long name in 40 s",
            Tunnel {
                rate: 0.025,
                count: 300,
                ..PLAIN
            },
        ),
    ]
    .into_iter()
    .map(|(name, tunnel)| attack(name, tunnel))
    .collect();
    let plain = Tunnel {
        count: 6_000,
        ..PLAIN
    };
    for (name, keeps, tunnel) in [
        (
            "dns short: 15 letters, one a second",
            "15 bytes a second, 1.3 MB a day",
            Tunnel {
                length: 15,
                rate: 1.0,
                count: 1_800,
                ..plain
            },
        ),
        (
            "dns short and spread: 15 letters over 20 domains",
            "300 bytes a second, 25.9 MB a day",
            Tunnel {
                length: 15,
                domains: 20,
                rate: 20.0,
                ..plain
            },
        ),
        (
            "dns spread: long names with addresses over 8 domains",
            "160 bytes a second, 13.8 MB a day",
            Tunnel {
                domains: 8,
                answers: &["192.0.2.7"],
                ..plain
            },
        ),
    ] {
        attacks.push(attack(name, tunnel).remaining(keeps));
    }
    attacks
}
