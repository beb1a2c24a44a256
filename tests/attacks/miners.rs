//! Miners with a trick that is meant to keep their session or their load from being found.

use yellowjack::testing::model::Severity::{Alert, Quarantine};

use crate::attack::Attack;
use crate::log::Fate::Answers;
use crate::log::Format::{Conntrack, Hubble, Vpc, Zeek};
use crate::log::{Format, Log, Volume};
use crate::scans::internet;

const POOL: &str = "198.51.100.77";
/// A port on which no pool is known, so that the session and the load decide.
const PORT: u16 = 7_012;
/// Seconds for which a miner works.
const SPAN: f64 = 1_200.0;

/// What a pool and a miner send each other in 20 minutes.
const SESSION: Volume = Volume {
    seconds: SPAN,
    bytes_out: 6_000,
    bytes_in: 40_000,
    packets: 400,
};

/// The share of a core at the n-th sample.
type Load = fn(usize) -> f64;

/// A miner, its connections and its load.
struct Miner {
    format: Format,
    port: u16,
    /// Seconds of a connection, and seconds between the begins of two.
    pieces: (f64, f64),
    volume: Volume,
    load: Load,
}

/// A number from -1 to 1, the same on every run.
fn noise(n: usize) -> f64 {
    let hash = u32::try_from(n).unwrap().wrapping_mul(2_654_435_761) >> 16;
    f64::from(hash) / 32_768.0 - 1.0
}

fn even(n: usize) -> f64 {
    0.52 + 0.01 * noise(n)
}

impl Miner {
    fn plain(format: Format) -> Self {
        Self {
            format,
            port: PORT,
            pieces: (SPAN, SPAN),
            volume: SESSION,
            load: even,
        }
    }

    /// An idle pod that begins to work with its first connection, with a sample each 15 s.
    fn build(&self) -> Log {
        let mut log = Log::of(self.format);
        log.query(10.0, "pypi.example.org", &["192.0.2.80"]);
        log.contact(11.0, "192.0.2.80", 443, Answers);
        let (seconds, every) = self.pieces;
        let mut at = 0.0;
        while at < SPAN {
            let volume = Volume {
                seconds,
                ..self.volume
            };
            log.session(130.0 + at, POOL, self.port, volume);
            at += every;
        }
        for n in 0..110 {
            let at = n as f64 * 15.0;
            let load = if at < 140.0 { 0.06 } else { (self.load)(n) };
            log.sample(at, load);
        }
        log
    }
}

fn attack(
    name: &'static str,
    miner: Miner,
    demand: yellowjack::testing::model::Severity,
) -> Attack {
    // In a flow log a session has no shape; see docs/limits.md.
    let format = if miner.format == Vpc {
        Conntrack
    } else {
        miner.format
    };
    let attack = Attack::new(name, demand, move |has_trick| {
        if has_trick {
            miner.build()
        } else {
            Miner::plain(format).build()
        }
    });
    // A log without bytes does not show who sends more.
    if format == Hubble {
        attack.with_alert_as_control()
    } else {
        attack
    }
}

/// Filler in the pool's connection, or more packets than a pool needs.
pub fn padded() -> Vec<Attack> {
    let padded = |format, bytes_out, bytes_in, packets| Miner {
        volume: Volume {
            bytes_out,
            bytes_in,
            packets,
            ..SESSION
        },
        ..Miner::plain(format)
    };
    let mut attacks: Vec<_> = [
        (
            "padded: 1.9 kB/s, zeek",
            padded(Zeek, 1_140_000, 1_140_000, 2_400),
        ),
        (
            "padded: 1.9 kB/s, conntrack",
            padded(Conntrack, 1_140_000, 1_140_000, 2_400),
        ),
        (
            "padded: 10 kB/s, most of it in",
            padded(Zeek, 2_000_000, 10_000_000, 20_000),
        ),
        ("padded: 18 kB/s", padded(Zeek, 100_000, 21_500_000, 40_000)),
        (
            "padded: 1,000 packets a minute",
            padded(Zeek, 400_000, 500_000, 20_000),
        ),
        (
            "padded: 5,000 packets a minute",
            padded(Conntrack, 2_000_000, 3_000_000, 100_000),
        ),
    ]
    .into_iter()
    .map(|(name, miner)| attack(name, miner, Alert))
    .collect();
    let filler = || padded(Zeek, 1_140_000, 1_140_000, 2_400);
    let uneven = Miner {
        load: |n| {
            if n.is_multiple_of(4) { 0.478 } else { 0.52 }
        },
        ..filler()
    };
    attacks.push(attack("padded: and uneven", uneven, Alert));
    let web = Miner {
        port: 443,
        ..padded(Conntrack, 1_140_000, 1_140_000, 2_400)
    };
    attacks.push(attack("padded: port 443, conntrack", web, Alert));
    let pauses = Miner {
        load: |n| if n % 40 < 6 { 0.06 } else { even(n) },
        ..filler()
    };
    attacks.push(
        attack("padded: with pauses of 90 s in ten minutes", pauses, Alert)
            .remaining("85 % of its hashes"),
    );
    let more = padded(Zeek, 15_000_000, 20_000_000, 60_000);
    attacks.push(
        attack("padded: 29 kB/s", more, Alert)
            .remaining("all of its hashes, for 2.5 GB of filler a day"),
    );
    attacks
}

/// A miner that polls its pool in many short connections.
pub fn getwork() -> Vec<Attack> {
    let polls = |format, seconds, every| Miner {
        pieces: (seconds, every),
        volume: Volume {
            bytes_out: 400,
            bytes_in: 1_500,
            packets: 12,
            ..SESSION
        },
        ..Miner::plain(format)
    };
    let variants = [
        ("getwork: 2 s each 20 s, zeek", polls(Zeek, 2.0, 20.0)),
        ("getwork: 25 s of each 30 s", polls(Zeek, 25.0, 30.0)),
        (
            "getwork: 1 s each 45 s, conntrack",
            polls(Conntrack, 1.0, 45.0),
        ),
        (
            "getwork: 0.5 s each 10 s, conntrack",
            polls(Conntrack, 0.5, 10.0),
        ),
        ("getwork: 2 s each 20 s, hubble", polls(Hubble, 2.0, 20.0)),
        (
            "getwork: 2 s each 20 s, port 443",
            Miner {
                port: 443,
                ..polls(Zeek, 2.0, 20.0)
            },
        ),
        (
            "getwork: 2 s each 20 s, port 443, conntrack",
            Miner {
                port: 443,
                ..polls(Conntrack, 2.0, 20.0)
            },
        ),
        (
            "getwork: with 4.5 kB/s of filler",
            Miner {
                volume: Volume {
                    bytes_out: 30_000,
                    bytes_in: 60_000,
                    packets: 200,
                    ..SESSION
                },
                ..polls(Zeek, 2.0, 20.0)
            },
        ),
        ("getwork: connections of 4 min", polls(Zeek, 240.0, 245.0)),
        (
            "getwork: connections of 5 min, pauses of 90 s",
            polls(Zeek, 300.0, 390.0),
        ),
    ];
    let mut attacks: Vec<_> = variants
        .into_iter()
        .map(|(name, miner)| attack(name, miner, Alert))
        .collect();
    for (name, polls) in [
        ("getwork: 1 s each 70 s", polls(Zeek, 1.0, 70.0)),
        (
            "getwork: 30 s with pauses of 90 s",
            polls(Zeek, 30.0, 120.0),
        ),
    ] {
        let keeps = "all of its hashes, for work that is a minute old or more";
        attacks.push(attack(name, polls, Alert).remaining(keeps));
    }
    attacks
}

/// A load that is uneven on purpose.
pub fn uneven() -> Vec<Attack> {
    let loads: [(&str, Load); 7] = [
        ("uneven: every fourth sample 8 % lower", |n| {
            if n.is_multiple_of(4) { 0.478 } else { 0.52 }
        }),
        ("uneven: every second sample 8 % lower", |n| {
            if n.is_multiple_of(2) { 0.478 } else { 0.52 }
        }),
        ("uneven: one in twelve samples at half", |n| {
            if n.is_multiple_of(12) { 0.26 } else { even(n) }
        }),
        ("uneven: 5 % up and down", |n| {
            0.52 * (1.0 + 0.05 * noise(n))
        }),
        ("uneven: slowly up by 10 %", |n| 0.50 + 0.0005 * n as f64),
        ("uneven: pauses of 90 s in ten minutes", |n| {
            if n % 40 < 6 { 0.06 } else { even(n) }
        }),
        ("uneven: four cores", |n| 4.0 + 0.1 * noise(n)),
    ];
    let mut attacks: Vec<_> = loads
        .into_iter()
        .map(|(name, load)| {
            attack(
                name,
                Miner {
                    load,
                    ..Miner::plain(Zeek)
                },
                Alert,
            )
        })
        .collect();
    let third = Miner {
        load: |n| if n.is_multiple_of(3) { 0.2 } else { 0.52 },
        ..Miner::plain(Zeek)
    };
    attacks.push(
        attack("uneven: every third sample 60 % lower", third, Alert)
            .remaining("80 % of its hashes"),
    );
    attacks
}

/// An installer that tries one pool after the other.
struct Catalogue {
    format: Format,
    hosts: usize,
    every: f64,
    /// Each so many does not answer.
    silent: usize,
    seconds: f64,
}

const POOL_PORTS: [u16; 6] = [3_333, 4_444, 5_555, 7_777, 14_444, 45_700];

impl Catalogue {
    /// Without the trick it stays with the last pool.
    fn build(&self, is_walk: bool) -> Log {
        if !is_walk {
            let format = if self.format == Vpc {
                Conntrack
            } else {
                self.format
            };
            let miner = Miner {
                port: 3_333,
                ..Miner::plain(format)
            };
            return miner.build();
        }
        let mut log = Log::of(self.format);
        for n in 0..self.hosts {
            let (host, port) = (internet(3 * n), POOL_PORTS[n % POOL_PORTS.len()]);
            let at = n as f64 * self.every;
            if self.silent > 0 && n % self.silent == 0 {
                log.contact(at, &host, port, crate::log::Fate::Silent);
            } else {
                let volume = Volume {
                    seconds: self.seconds,
                    bytes_out: 600,
                    bytes_in: 900,
                    packets: 12,
                };
                log.session(at, &host, port, volume);
            }
        }
        log
    }
}

/// See [`Catalogue`].
pub fn catalogues() -> Vec<Attack> {
    let base = || Catalogue {
        format: Conntrack,
        hosts: 12,
        every: 20.0,
        silent: 0,
        seconds: 3.0,
    };
    let variants = [
        ("pool catalogue: 12 hosts, 20 s each, conntrack", base()),
        (
            "pool catalogue: 24 hosts, one a minute, zeek",
            Catalogue {
                format: Zeek,
                hosts: 24,
                every: 60.0,
                ..base()
            },
        ),
        (
            "pool catalogue: a third is silent",
            Catalogue {
                hosts: 30,
                silent: 3,
                ..base()
            },
        ),
        (
            "pool catalogue: hubble",
            Catalogue {
                format: Hubble,
                ..base()
            },
        ),
        (
            "pool catalogue: flow logs",
            Catalogue {
                format: Vpc,
                ..base()
            },
        ),
    ];
    let attack = |(name, walk): (&str, Catalogue)| {
        Attack::new(name, Alert, move |has_trick| walk.build(has_trick)).with_alert_as_control()
    };
    let mut attacks: Vec<_> = variants.into_iter().map(attack).collect();
    let slow = Catalogue {
        hosts: 12,
        every: 900.0,
        ..base()
    };
    attacks
        .push(attack(("pool catalogue: four hosts an hour", slow)).remaining("four pools an hour"));
    attacks
}

/// The same figures in every format: what the plain miner leads to.
pub fn plain() -> Vec<Attack> {
    [
        ("plain miner: zeek", Zeek),
        ("plain miner: conntrack", Conntrack),
    ]
    .into_iter()
    .map(|(name, format)| attack(name, Miner::plain(format), Quarantine))
    .chain([attack("plain miner: flow logs", Miner::plain(Vpc), Alert)
        .remaining("all of its hashes: a session has no shape there")])
    .collect()
}
