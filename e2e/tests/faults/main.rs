//! The operator behind a proxy that fails on demand, and with bad input: it loses nothing, does
//! nothing twice, and ends where it would have ended without the fault.

mod api;
mod fixture;
mod input;
mod kill;
mod leader;
mod malformed;
mod memory;
mod outage;
mod replicas;
