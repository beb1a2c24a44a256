//! Containment, shown with packets: real pods on the test node do wrong, and what counts is what the
//! namespace that plays the Internet received. Runs inside `with-node`, one test at a time, because
//! all share the node's policy stand-in; elsewhere each test says that it is skipped.

mod clocks;
mod disturbed;
mod doctor;
mod drops;
mod elsewhere;
mod escape;
mod fixture;
mod kinds;
mod ladder;
mod packets;
mod replicas;
mod scan;
mod tunnel;
mod upstream;
