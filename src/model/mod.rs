//! What the whole of Yellowjack talks about: signals, subjects, findings.
//!
//! Decoders make signals, attribution gives them a subject, detectors turn them into findings.
//! This module names no Kubernetes type and does no I/O (INV-1): the same values serve the live
//! operator and `yellowjack replay`.

pub mod duration;
pub mod escape;
mod finding;
mod flow;
mod sample;
mod subject;
mod text;
mod time;
mod trace_id;

pub use finding::{Evidence, Example, Finding, Severity, Signature};
pub use flow::{
    DnsQuery, Flow, LostEvents, Neighbour, Outcome, PodHint, Signal, TlsName, Transport, Volume,
};
pub use sample::{ComputeSample, DeviceUse, GpuSample};
pub use subject::{PodKey, RunKey, Subject};
pub use text::{BoundedText, clean, clip};
pub use time::EventTime;
pub use trace_id::{hex_digest, trace_id};
