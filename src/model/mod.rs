//! Types of the whole program: signals, subjects, findings.
//!
//! Decoders create signals, attribution adds a subject, detectors create findings. This module uses no Kubernetes type and
//! does no I/O (INV-1): the operator and `yellowjack replay` use the same values.

mod backoff;
pub mod duration;
pub mod escape;
mod finding;
mod flow;
mod sample;
mod subject;
mod table;
mod text;
mod time;
mod trace_id;

pub use backoff::backoff;
pub use finding::{Evidence, Example, Finding, Severity, Signature};
pub use flow::{
    DnsQuery, Flow, LostEvents, Neighbour, Outcome, PodHint, Signal, TlsName, Transport, Volume,
};
pub use sample::{ComputeSample, DeviceUse, GpuSample};
pub use subject::{PodKey, RunKey, Subject};
pub use table::Table;
pub use text::{BoundedText, clean, clip};
pub use time::EventTime;
pub use trace_id::{hex_digest, trace_id};
