//! Controls of the simulator: an attacker in a run of each profile is found beside all honest work, and
//! each value that the operator gives to the engine changes what is found. A figure of no false
//! quarantine is worth nothing without them. Called by the bench and by the tests.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use yellowjack::testing::model::Signal;

use super::attack::{self, Attack, Manner, Pace};
use super::cluster::Cell;
use super::group::{Origin, Plan};
use super::honest::Profile;
use super::judge::{judge, judge_with};
use super::operator::Wires;
use super::part::beside;
use super::pod::Pod;
use super::tape::{Answers, Event, Fate, HOUR, Load, Log, MINUTE, SECOND, Target, Word};

/// Parts that no figure is made of.
const PLANTED_PART: u64 = u64::MAX - 1_000_000;
const WIRES_PART: u64 = PLANTED_PART - 1;

/// Targets of each pod in a scan that only its run shows.
const SHARE: usize = 12;

/// Pods that a value convicts, with that value and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub name: &'static str,
    pub wired: usize,
    pub cut: usize,
}

/// For each profile: whether the pod that scans one target in 34 s beside its honest work is found, and
/// nobody else is, neither in its run nor in so many other ones.
pub fn planted(seed: u64, neighbours: u64, threads: usize) -> Vec<(Profile, bool)> {
    let count = u64::try_from(Profile::ALL.len()).unwrap_or(u64::MAX);
    beside(count, threads, |number| {
        let profile = Profile::ALL
            .into_iter()
            .nth(usize::try_from(number).ok()?)?;
        let origin = |group| Origin {
            seed,
            part: PLANTED_PART,
            group: number * super::cluster::GROUPS + group,
        };
        let mut attacked = Plan::of(origin(0), profile, 2);
        attacked.cluster.see_answers();
        attacked.is_declared_crawler = false;
        let mut plans = vec![attacked];
        for group in 1..=neighbours {
            let mut plan = Plan::draw(origin(group));
            // They share its nodes.
            plan.cluster.see_answers();
            plans.push(plan);
        }
        for plan in &mut plans {
            plan.day_count = 1;
        }
        let cell = Cell::of(plans);
        let attack = Attack {
            pace: Pace::OnePer34Seconds,
            manner: Manner::Sweep,
            hit_percent: 10,
        };
        let events = cell.play(&[], |plan, pod| {
            if plan.first_pod == 0 && pod.index == 0 {
                attack::extend(pod, attack);
            }
        });
        let convicted = convicted(&cell, &events, Wires::default());
        Some((profile, convicted == BTreeSet::from([0])))
    })
    .into_iter()
    .flatten()
    .collect()
}

/// What each wired value is worth.
pub fn wires(seed: u64) -> Vec<Control> {
    let without_runs = Wires {
        runs: false,
        ..Wires::default()
    };
    let without_nodes = Wires {
        nodes: false,
        ..Wires::default()
    };
    let without_others = Wires {
        others: false,
        ..Wires::default()
    };
    let without_siblings = Wires {
        siblings: false,
        ..Wires::default()
    };
    let without_ended = Wires {
        ended: false,
        ..Wires::default()
    };
    let both = |name, (cell, events): (Cell, Vec<Event>), wires| Control {
        name,
        wired: convicted(&cell, &events, Wires::default()).len(),
        cut: convicted(&cell, &events, wires).len(),
    };
    let answered = scan_alone(seed, Answers::Seen);
    let blind = scan_alone(seed, Answers::VerdictsOnly);
    vec![
        both("run", shared_scan(seed, false), without_runs),
        both("run_of_agents", shared_scan(seed, true), without_runs),
        both("siblings", gang(seed, false), without_runs),
        both("siblings_of_agents", gang(seed, true), without_siblings),
        both("ended_of_agents", stale_list(seed), without_ended),
        both("node", loss_elsewhere(seed), without_nodes),
        both("others", answered.clone(), without_others),
        Control {
            name: "answers",
            wired: convicted(&answered.0, &answered.1, Wires::default()).len(),
            cut: convicted(&blind.0, &blind.1, Wires::default()).len(),
        },
    ]
}

fn convicted(cell: &Cell, events: &[Event], wires: Wires) -> BTreeSet<usize> {
    let said = if wires == Wires::default() {
        judge(cell, events)
    } else {
        judge_with(cell, events, wires)
    };
    let quarantines = said.iter().filter(|word| word.is_quarantine());
    quarantines.map(|word| word.pod).collect()
}

/// A group on nodes whose log of packets shows everything.
fn group(seed: u64, profile: Profile, pod_count: usize) -> Plan {
    let origin = Origin {
        seed,
        part: WIRES_PART,
        group: 0,
    };
    let mut plan = Plan::of(origin, profile, pod_count);
    plan.cluster.log = Log::Hubble;
    plan.cluster.has_agents = false;
    plan.cluster.see_answers();
    plan.shares_accelerator = false;
    plan.day_count = 1;
    plan
}

/// Contacts so many hosts inside that say nothing, from this number on.
fn scan(pod: &mut Pod, first: usize, count: usize) {
    for number in first..first + count {
        let at = 2 * HOUR + i64::try_from(number).unwrap_or_default() * 5 * SECOND;
        let [.., high, low] = number.to_be_bytes();
        let target = Target::tcp(IpAddr::V4(Ipv4Addr::new(172, 20, high, low)), 22);
        pod.tape
            .contact(at, target, Fate::Silent, Load::Request, None);
    }
}

/// 240 hosts by 20 pods of one run: of each pod too few for its own walk.
fn shared_scan(seed: u64, has_agents: bool) -> (Cell, Vec<Event>) {
    let mut plan = group(seed, Profile::Quiet, 20);
    plan.cluster.has_agents = has_agents;
    let cell = Cell::of(vec![plan]);
    let events = cell.play(&[], |_, pod| scan(pod, pod.index * SHARE, SHARE));
    (cell, events)
}

/// Workers that contact each other before all of them listen.
fn gang(seed: u64, has_agents: bool) -> (Cell, Vec<Event>) {
    let mut plan = group(seed, Profile::Gang, 64);
    plan.cluster.has_agents = has_agents;
    let cell = Cell::of(vec![plan]);
    let events = cell.play(&[], |_, _| {});
    (cell, events)
}

/// Clients whose list of peers on other nodes is stale, twice within half an hour: the first list alone is taken for an
/// outage.
fn stale_list(seed: u64) -> (Cell, Vec<Event>) {
    let mut plan = group(seed, Profile::Quiet, 2);
    plan.cluster.has_agents = true;
    let cell = Cell::of(vec![plan]);
    let events = cell.play(&[], |_, pod| {
        for list in 0..2_u8 {
            let ended = 2 * HOUR + i64::from(list) * 20 * MINUTE;
            for number in 1..=60_u8 {
                let host = IpAddr::V4(Ipv4Addr::new(10, 245, list, number));
                let at = ended + i64::from(number) * SECOND;
                let target = Target::tcp(host, 50_051);
                pod.tape.stay(host, ended - HOUR, ended);
                pod.tape
                    .contact(at, target, Fate::Refuses, Load::Request, None);
            }
        }
    });
    (cell, events)
}

/// A scan on one node while another one loses records all the time.
fn loss_elsewhere(seed: u64) -> (Cell, Vec<Event>) {
    let mut plan = group(seed, Profile::Quiet, 2);
    plan.nodes = vec![0, 1];
    let cell = Cell::of(vec![plan]);
    let mut events = cell.play(&[], |_, pod| {
        if pod.index == 0 {
            scan(pod, 0, 60);
        }
    });
    for number in 0..300 {
        events.push(Event {
            arrival: 2 * HOUR + number * 5 * SECOND,
            pod: 1,
            word: Word::Lost(3),
        });
    }
    events.sort_by_key(|event| event.arrival);
    (cell, events)
}

/// A pod that does nothing but scan, so that nothing of its own shows what its log shows.
fn scan_alone(seed: u64, answers: Answers) -> (Cell, Vec<Event>) {
    let mut plan = group(seed, Profile::Quiet, 1);
    for node in &mut plan.cluster.nodes {
        node.answers = answers;
    }
    let cell = Cell::of(vec![plan]);
    let mut events = cell.play(&[], |_, pod| scan(pod, 0, 60));
    events.retain(|event| match &event.word {
        Word::Signal(Signal::Flow(flow)) => match flow.destination {
            IpAddr::V4(v4) => v4.octets().starts_with(&[172, 20]),
            IpAddr::V6(_) => false,
        },
        Word::Signal(_) => false,
        _ => true,
    });
    (cell, events)
}
