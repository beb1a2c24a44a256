//! Every target for a second, from a fixed seed: that the fuzzer itself works, and that nothing
//! obvious is broken. `make fuzz` runs them for longer.

use std::path::Path;
use std::time::Duration;

use yellowjack_fuzz::{Corpus, Mutator, Random, Target, fuzz};

const SEED: u64 = 20_261_124;

fn corpus() -> Corpus {
    Corpus::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

#[test]
fn no_target_breaks_within_a_second() {
    let corpus = corpus();
    for target in Target::all() {
        let report = fuzz(target, &corpus, SEED, Duration::from_secs(1));
        let name = target.name();
        assert!(report.failure.is_none(), "{name}: {:?}", report.failure);
        assert!(report.input_count >= 64, "{name}: {report:?}");
        assert!(report.behaviour_count >= 2, "{name}: {report:?}");
    }
}

#[test]
fn every_target_has_seeds() {
    let corpus = corpus();
    for target in Target::all() {
        assert!(!corpus.seeds(target).is_empty(), "{}", target.name());
    }
}

#[test]
fn a_seed_gives_the_same_inputs_again() {
    let seeds = corpus().seeds(Target::Sniff);
    let inputs = || {
        let mut mutator = Mutator::new(Random::new(SEED), seeds.clone());
        (0..500).map(|_| mutator.next_input()).collect::<Vec<_>>()
    };
    assert_eq!(inputs(), inputs());
}
