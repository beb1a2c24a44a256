//! Fuzzer of everything that reads what a pod may have influenced: decoders, the guess of a
//! format, pool lists, and the engine behind them.
//!
//! It runs on stable Rust and needs no compiler pass. Instead of the lines of code that an input
//! reached it looks at what the input led to ([`Behaviour`]): an input that leads to something new
//! is kept and mutated further. All is drawn from one seed, so that a run can be repeated.
//! Called by `make fuzz` and, for a second or two per target, by a test.

mod corpus;
mod mutate;
mod random;
mod target;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

pub use corpus::Corpus;
pub use mutate::Mutator;
pub use random::Random;
pub use target::{Behaviour, Target};

/// Inputs that are kept because they led to something new, per target. The oldest of them give
/// way; seeds stay.
const KEPT_MAX: usize = 2_000;

/// Inputs between two looks at the clock.
const ROUND: u64 = 64;

/// What a run over one target gave.
#[derive(Debug)]
pub struct Report {
    /// Inputs that were tried.
    pub input_count: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Different behaviours that were seen.
    pub behaviour_count: usize,
    /// The first input that broke a property, and how.
    pub failure: Option<Failure>,
}

impl Report {
    /// Inputs per second.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub fn inputs_per_second(&self) -> f64 {
        self.input_count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// An input that broke a property.
#[derive(Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// What broke: a panic's message, or the property.
    pub what: String,
}

/// Runs one target for so long, or until something breaks.
#[must_use]
pub fn fuzz(target: Target, corpus: &Corpus, seed: u64, limit: Duration) -> Report {
    let start = Instant::now();
    let mut mutator = Mutator::new(Random::new(seed), corpus.seeds(target));
    let mut behaviours: HashSet<Behaviour> = HashSet::new();
    let mut input_count = 0;
    let failure = loop {
        if input_count % ROUND == 0 && input_count > 0 && start.elapsed() >= limit {
            break None;
        }
        let input = mutator.next_input();
        input_count += 1;
        match check(target, &input) {
            Ok(behaviour) => {
                if behaviours.insert(behaviour) {
                    mutator.keep(input, KEPT_MAX);
                }
            }
            Err(what) => break Some(Failure { input, what }),
        }
    };
    Report {
        input_count,
        elapsed: start.elapsed(),
        behaviour_count: behaviours.len(),
        failure,
    }
}

/// Runs one target on one input.
pub fn check(target: Target, input: &[u8]) -> Result<Behaviour, String> {
    catch_unwind(AssertUnwindSafe(|| target.run(input))).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", message.unwrap_or("no message")))
    })
}
