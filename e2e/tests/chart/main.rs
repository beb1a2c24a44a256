//! The chart against Helm and the real API server: what it renders is accepted, the roles are enough and
//! none of their rules is idle, and the admission policies refuse what they should.

#![allow(
    clippy::indexing_slicing,
    reason = "reading a JSON value by a missing key gives null"
)]

mod admission;
mod contact_reports;
mod docs;
mod helm;
mod leases;
mod pages;
mod people;
mod recorder;
mod render;
mod roles;
mod run_status;
mod unguarded;
