//! Types of the whole program: signals, subjects, findings.
//!
//! Decoders create signals, attribution adds a subject, detectors create findings. This module uses no Kubernetes type and
//! does no I/O (INV-1): the operator and `yellowjack replay` use the same values.

mod backoff;
pub(crate) mod duration;
pub(crate) mod escape;
mod finding;
mod flow;
mod sample;
mod subject;
mod table;
mod text;
mod time;
mod trace_id;

pub(crate) use backoff::backoff;
pub(crate) use finding::{Evidence, Example};
pub use finding::{Finding, Severity, Signature};
pub(crate) use flow::PodHint;
pub use flow::{
    DnsQuery, Flow, LostEvents, Neighbour, Outcome, Signal, TlsName, Transport, Volume,
};
pub(crate) use sample::{ComputeSample, DeviceUse, GpuSample};
pub use subject::{PodKey, RunKey, Subject};
pub(crate) use table::Table;
pub(crate) use text::{BoundedText, clean, clip};
pub use time::EventTime;
pub(crate) use trace_id::{hex_digest, trace_id};
