//! A seeded simulator of agents, honest and not, that drives the operator as a log and the API would.
//!
//! `random` and `tape` (how things look in a log), `pod` (habits of every program), `honest` and
//! `attack` (what pods do), `group` (pods of one run, with their outages), `cluster` (the groups that
//! share nodes and a log), `faults` (what a log does to its records), `operator` (the product's own
//! index, engines and what is between them), `judge` (what it says), `controls` (what it must say),
//! `part` (clusters for a day) and `tally` (counts and bounds); `accelerator` is one that pods share.
//! Called by the bench `budget` and by tests/simulation.rs.

pub mod accelerator;
pub mod attack;
pub mod cluster;
pub mod controls;
pub mod faults;
pub mod group;
pub mod honest;
pub mod judge;
pub mod operator;
pub mod part;
pub mod pod;
pub mod random;
pub mod tally;
pub mod tape;
