//! The judge: runs what happens in a cluster through the operator and notes what it says.

use yellowjack::testing::model::{Finding, Severity};

use super::cluster::Cell;
use super::operator::{Operator, Wires};
use super::tape::{DAY, Event, HOUR, SECOND, Word, event_time};

/// Event time between two looks at pods that fell silent.
const SETTLE_EVERY: i64 = 15 * SECOND;

/// A finding, and when it came.
#[derive(Clone, Debug)]
pub struct Said {
    pub at: i64,
    /// Number in the cluster.
    pub pod: usize,
    pub finding: Finding,
    /// Contacts of the attacker until then.
    pub attack_count: u64,
}

impl Said {
    pub fn is_quarantine(&self) -> bool {
        self.finding.severity == Severity::Quarantine
    }
}

/// Everything that the operator says about this.
pub fn judge(cell: &Cell, events: &[Event]) -> Vec<Said> {
    judge_with(cell, events, Wires::default())
}

/// The same with some wires cut.
pub fn judge_with(cell: &Cell, events: &[Event], wires: Wires) -> Vec<Said> {
    let mut operator = Operator::new(cell, wires);
    let mut said = Vec::new();
    let mut attack_count = 0_u64;
    let mut settled = 0;
    let mut keep = |at: i64, findings: Vec<Finding>, attack_count: u64| {
        said.extend(findings.into_iter().map(|finding| Said {
            at,
            pod: Operator::number_of(&finding),
            finding,
            attack_count,
        }));
    };
    for event in events {
        if event.arrival.saturating_sub(settled) >= SETTLE_EVERY {
            settled = event.arrival;
            let read_up_to = event_time(settled.saturating_sub(SECOND));
            keep(settled, operator.settle(read_up_to), attack_count);
        }
        if matches!(event.word, Word::Attack) {
            attack_count = attack_count.saturating_add(1);
        }
        keep(event.arrival, operator.take(event), attack_count);
    }
    let end = events.last().map_or(DAY, |event| event.arrival);
    let over = event_time(end.saturating_add(HOUR));
    keep(end, operator.settle(over), attack_count);
    // Agents exchange what that brought.
    keep(end, operator.settle(over), attack_count);
    said
}
