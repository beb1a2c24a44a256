//! A part: a cluster of some thousand pods for a day (a tenth of its runs for a week), small enough
//! for CI. Its groups run beside each other; what they come to does not depend on how many threads
//! there are. Called by the bench and by the tests.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use yellowjack::testing::respond::{Breaker, BreakerLimits};

use super::group::{Origin, Plan, outages};
use super::judge::judge;
use super::tally::Tally;
use super::tape::{Outage, Word, event_time};

/// How much to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub seed: u64,
    /// Number of this part.
    pub part: u64,
    pub pod_days: usize,
    pub threads: usize,
}

/// The groups of a part.
pub fn plans(size: Size) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut pod_days = 0;
    let mut group = 0;
    while pod_days < size.pod_days {
        let origin = Origin {
            seed: size.seed,
            part: size.part,
            group,
        };
        let plan = Plan::draw(origin);
        pod_days += plan.pod_day_count();
        plans.push(plan);
        group += 1;
    }
    plans
}

/// Simulates a part.
pub fn run(size: Size) -> Tally {
    let plans = plans(size);
    let outages = outages(size.seed, size.part);
    let mut tally = Tally::default();
    let count = u64::try_from(plans.len()).unwrap_or(u64::MAX);
    let groups = beside(count, size.threads, |index| {
        let plan = usize::try_from(index).ok().and_then(|i| plans.get(i));
        plan.map(|plan| run_group(plan, &outages))
    });
    for group in groups.into_iter().flatten() {
        tally.add(group);
    }
    let pod_count = plans.iter().map(|plan| plan.pod_count).sum();
    trip(&mut tally, &plans, pod_count);
    tally
}

/// Does independent pieces of work on some threads; the results come in the order of the pieces.
pub fn beside<T: Send>(count: u64, threads: usize, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<(u64, T)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let result = work(index);
                    let mut done = done.lock();
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Simulates one group.
pub fn run_group(plan: &Plan, outages: &[Outage]) -> Tally {
    let events = plan.play(outages, |_| {});
    let signals = events
        .iter()
        .filter(|event| matches!(event.word, Word::Signal(_)));
    Tally::of(plan, outages, signals.count(), &judge(plan, &events))
}

/// Asks the circuit breaker, in the order of time, which quarantines it would have let through.
fn trip(tally: &mut Tally, plans: &[Plan], pod_count: usize) {
    tally
        .quarantines
        .sort_by_key(|q| (q.at, q.origin.group, q.pod));
    let times: Vec<Timestamp> = tally
        .quarantines
        .iter()
        .filter_map(|q| event_time(q.at).to_timestamp())
        .collect();
    for (n, quarantine) in tally.quarantines.iter_mut().enumerate() {
        let Some(now) = times.get(n).copied() else {
            continue;
        };
        let crossed = times.iter().take(n + 1).copied();
        let breaker = Breaker::at(now, crossed, pod_count, BreakerLimits::default());
        quarantine.acted = !breaker.is_open();
        let plan = plans
            .iter()
            .find(|plan| plan.origin == quarantine.origin)
            .map(|plan| (plan.profile, plan.view.shows_dns));
        if let Some(row) = plan.and_then(|stratum| tally.rows.get_mut(&stratum)) {
            row.acted += usize::from(quarantine.acted);
        }
    }
}
