//! The response against a real API server: what stands there after a pod has scanned, in which
//! order it was written, and what a human's word undoes. Each test has an operator of its own that
//! watches the test's namespace alone.

mod agents;
mod bounds;
mod cilium;
mod cluster_policy;
mod comes_back;
mod forged;
mod isolate;
mod ladder;
mod membership;
mod node_metrics;
mod nodes;
mod owners;
mod relay;
#[path = "../../../tests/relay/server.rs"]
#[allow(dead_code, clippy::unwrap_used)] // a helper of other tests too
mod relay_server;
mod release;
mod tell;
mod tenants;
mod throttle;
mod useful;
