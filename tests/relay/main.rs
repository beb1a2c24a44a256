//! Hubble Relay as a source: messages held against Cilium's own definitions, and streams of a real
//! gRPC server on this machine.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod cilium;
mod client;
mod proxy;
mod server;
mod stream;
mod tls;
mod trouble;
mod wire;
