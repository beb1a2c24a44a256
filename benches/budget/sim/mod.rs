//! A seeded simulator of agents, honest and not, that drives the engine as a log would.
//!
//! `random` and `tape` (how things look in a log), `pod` (habits of every program), `honest` and
//! `attack` (what pods do), `group` (pods of one run, with their outages), `faults` (what a log
//! does to its records), `judge` (the engine, and what it says), `part` (a cluster for a day) and
//! `tally` (counts and bounds); `accelerator` is one that pods share. Called by the bench `budget` and by tests/simulation.rs; uses the
//! engine's public interface alone.

pub mod accelerator;
pub mod attack;
pub mod faults;
pub mod group;
pub mod honest;
pub mod judge;
pub mod part;
pub mod pod;
pub mod random;
pub mod tally;
pub mod tape;
