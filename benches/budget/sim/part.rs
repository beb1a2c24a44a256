//! A part: clusters with some thousand pods for a day (a tenth of the runs for a week), small enough
//! for CI. The clusters run beside each other; what they come to does not depend on how many threads
//! there are. Called by the bench and by the tests.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use yellowjack::testing::respond::{Breaker, BreakerLimits, Crossing};

use super::cluster::Cell;
use super::group::{Origin, outages};
use super::judge::judge;
use super::tally::Tally;
use super::tape::{Outage, event_time};

/// How much to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub seed: u64,
    /// Number of this part.
    pub part: u64,
    pub pod_days: usize,
    pub threads: usize,
}

/// The clusters of a part.
pub fn cells(size: Size) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut pod_days = 0;
    let mut group = 0;
    while pod_days < size.pod_days {
        let cell = Cell::draw(Origin {
            seed: size.seed,
            part: size.part,
            group,
        });
        for plan in &cell.plans {
            pod_days += plan.pod_day_count();
            group += 1;
        }
        cells.push(cell);
    }
    cells
}

/// Simulates a part.
pub fn run(size: Size) -> Tally {
    let cells = cells(size);
    let outages = outages(size.seed, size.part);
    let mut tally = Tally::default();
    let count = u64::try_from(cells.len()).unwrap_or(u64::MAX);
    let done = beside(count, size.threads, |index| {
        let cell = usize::try_from(index).ok().and_then(|i| cells.get(i));
        cell.map(|cell| run_cell(cell, &outages))
    });
    for cell in done.into_iter().flatten() {
        tally.add(cell);
    }
    trip(&mut tally, cells.iter().map(Cell::pod_count).sum());
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

/// Simulates one cluster.
pub fn run_cell(cell: &Cell, outages: &[Outage]) -> Tally {
    let events = cell.play(outages, |_, _| {});
    Tally::of(cell, outages, &events, &judge(cell, &events))
}

/// Asks the circuit breaker, in the order of time, which quarantines it would have let through.
fn trip(tally: &mut Tally, pod_count: usize) {
    tally
        .quarantines
        .sort_by_key(|q| (q.at, q.origin.group, q.pod));
    // All in one namespace, where the breaker counts every pod.
    let namespace = "agents";
    let crossings: Vec<Crossing<'_>> = tally
        .quarantines
        .iter()
        .filter_map(|q| event_time(q.at).to_timestamp())
        .map(|time| Crossing { namespace, time })
        .collect();
    for (n, quarantine) in tally.quarantines.iter_mut().enumerate() {
        let Some(now) = crossings.get(n).map(|crossing| crossing.time) else {
            continue;
        };
        let crossed = crossings.iter().take(n + 1).copied();
        let breaker = Breaker::at(now, namespace, crossed, pod_count, BreakerLimits::default());
        quarantine.acted = !breaker.is_open();
        if let Some(row) = tally.rows.get_mut(&quarantine.stratum) {
            row.acted += usize::from(quarantine.acted);
        }
    }
}
