//! Attackers: a pod that scans while it goes on with its honest work. Gives how long it took until
//! the engine would have quarantined it. Called by the bench and by the tests.

use std::net::{IpAddr, Ipv4Addr};

use super::cluster::Cell;
use super::group::{Origin, Plan};
use super::honest::Profile;
use super::judge::{Said, judge};
use super::part::beside;
use super::pod::{Pod, in_range};
use super::tape::{DAY, Event, Fate, HOUR, Load, MINUTE, SECOND, Target, Word};

/// Longest that an attack lasts, and the most contacts it makes.
const LASTS_MAX: i64 = 3 * DAY;
const CONTACTS_MAX: i64 = 4_000;
/// Pods that share the work in `Manner::Spread`.
pub const SPREAD_POD_COUNT: usize = 16;

/// How fast an attacker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// The fastest pod of the recorded incident.
    TwentyTwoPerSecond,
    OnePerSecond,
    /// The slowest scan of the corpus: one target per 34 s.
    OnePer34Seconds,
    OnePer10Minutes,
}

impl Pace {
    pub const ALL: [Self; 4] = [
        Self::TwentyTwoPerSecond,
        Self::OnePerSecond,
        Self::OnePer34Seconds,
        Self::OnePer10Minutes,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TwentyTwoPerSecond => "22_per_s",
            Self::OnePerSecond => "1_per_s",
            Self::OnePer34Seconds => "1_per_34s",
            Self::OnePer10Minutes => "1_per_10min",
        }
    }

    const fn gap(self) -> i64 {
        match self {
            Self::TwentyTwoPerSecond => SECOND / 22,
            Self::OnePerSecond => SECOND,
            Self::OnePer34Seconds => 34 * SECOND,
            Self::OnePer10Minutes => 10 * MINUTE,
        }
    }
}

/// What an attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// One port on many private hosts.
    Sweep,
    /// Many ports on one host.
    Ports,
    /// One port on many hosts of the Internet, the port and scope of the pod's honest work, with
    /// no name in the log, so that every honest success speaks for the pod.
    Hidden,
    /// As `Sweep`, and after every sixth probe a host that is known to answer.
    Interleaved,
    /// As `Sweep`, shared by 16 pods of a run.
    Spread,
}

impl Manner {
    pub const ALL: [Self; 5] = [
        Self::Sweep,
        Self::Ports,
        Self::Hidden,
        Self::Interleaved,
        Self::Spread,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Ports => "ports",
            Self::Hidden => "hidden",
            Self::Interleaved => "interleaved",
            Self::Spread => "spread",
        }
    }
}

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub pace: Pace,
    pub manner: Manner,
    /// Share of the targets that answer.
    pub hit_percent: u8,
}

impl Attack {
    /// Whether the attacker does nothing against being found: what the figures by pace are of.
    pub fn is_plain(self) -> bool {
        matches!(self.manner, Manner::Sweep | Manner::Ports) && self.hit_percent <= 10
    }
}

/// What it took; `None`: it was not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Result {
    /// Contacts whose outcome the log had told when the engine crossed its line.
    pub quarantined_after: Option<u64>,
    /// The time since the first contact then, with the delay of the log.
    pub quarantined_within: Option<i64>,
    /// Contacts until the first alert.
    pub alerted_after: Option<u64>,
    /// All that it made.
    pub contact_count: u64,
}

/// Plays one attack from a seed.
pub fn run(attack: Attack, origin: Origin) -> Result {
    let cell = Cell::of(vec![plan(attack, origin)]);
    let events = cell.play(&[], |_, pod| extend(pod, attack));
    weigh(&events, &judge(&cell, &events))
}

/// Plays so many attacks of one kind; what comes of them does not depend on the threads.
pub fn run_all(attack: Attack, seed: u64, count: u64, threads: usize) -> Vec<Result> {
    let kind = u64::from(attack.hit_percent) * 16 + attack.manner as u64;
    beside(count, threads, |group| {
        let origin = Origin {
            seed,
            part: u64::MAX - kind,
            group,
        };
        run(attack, origin)
    })
}

/// The attacker's pods, and the honest work that they do meanwhile.
fn plan(attack: Attack, origin: Origin) -> Plan {
    let covers = [
        Profile::Quiet,
        Profile::Installer,
        Profile::Crawler,
        Profile::Tools,
        Profile::Services,
    ];
    let profile = match attack.manner {
        Manner::Hidden => Profile::Crawler,
        _ => *origin.random(9).pick(&covers).unwrap_or(&Profile::Quiet),
    };
    let is_spread = attack.manner == Manner::Spread;
    let pod_count = if is_spread { SPREAD_POD_COUNT } else { 1 };
    let mut plan = Plan::of(origin, profile, pod_count);
    plan.day_count = if attack.pace.gap() < MINUTE / 2 { 1 } else { 3 };
    plan.is_declared_crawler = false;
    // Where nothing is seen of answers, nobody is quarantined for what failed.
    plan.cluster.see_answers();
    plan.shares_accelerator = false;
    if attack.manner == Manner::Hidden {
        plan.cluster.shows_dns = false;
        plan.cluster.shows_tls = false;
    }
    plan
}

/// Adds the attack to a pod's work.
pub fn extend(pod: &mut Pod, attack: Attack) {
    let gap = attack.pace.gap();
    let is_spread = attack.manner == Manner::Spread;
    let (sharers, turn) = if is_spread {
        (SPREAD_POD_COUNT, pod.index)
    } else {
        (1, 0)
    };
    let start = 2 * HOUR;
    let count = (LASTS_MAX / gap).min(CONTACTS_MAX);
    let victim = in_range(&mut pod.group.clone(), 172, 20);
    for n in 0..count {
        let step = usize::try_from(n).unwrap_or_default();
        if step % sharers != turn {
            continue;
        }
        let at = start.saturating_add(n.saturating_mul(gap));
        if attack.manner == Manner::Interleaved && n % 7 == 6 {
            let host = in_range(pod.random(), 172, 21);
            probe(pod, at, Target::tcp(host, 22), Fate::Answers);
            continue;
        }
        let target = target(pod, attack.manner, n, victim);
        let fate = match (
            pod.random().chance(f64::from(attack.hit_percent) / 100.0),
            pod.random().chance(0.4),
        ) {
            (true, _) => Fate::Answers,
            (false, true) => Fate::Refuses,
            (false, false) => Fate::Silent,
        };
        probe(pod, at, target, fate);
    }
}

fn target(pod: &mut Pod, manner: Manner, n: i64, victim: IpAddr) -> Target {
    match manner {
        Manner::Ports => Target::tcp(victim, u16::try_from(n + 1).unwrap_or(u16::MAX)),
        Manner::Hidden => Target::tcp(pod.random().v4(), 443),
        Manner::Sweep | Manner::Interleaved | Manner::Spread => {
            let [.., high, low] = n.to_be_bytes();
            Target::tcp(IpAddr::V4(Ipv4Addr::new(172, 20, high, low)), 22)
        }
    }
}

fn probe(pod: &mut Pod, at: i64, target: Target, fate: Fate) {
    pod.tape.contact(at, target, fate, Load::Request, None);
    let told_after = pod.tape.view.log.told_after(fate);
    pod.tape.mark(at.saturating_add(told_after));
}

fn weigh(events: &[Event], said: &[Said]) -> Result {
    let marks = events
        .iter()
        .filter(|event| matches!(event.word, Word::Attack));
    let contact_count = u64::try_from(marks.count()).unwrap_or(u64::MAX);
    let quarantine = said.iter().find(|word| word.is_quarantine());
    Result {
        quarantined_after: quarantine.map(|word| word.attack_count),
        quarantined_within: quarantine.map(|word| word.at.saturating_sub(2 * HOUR)),
        alerted_after: said.first().map(|word| word.attack_count),
        contact_count,
    }
}
