//! The part of the crate that tests/, benches/, fuzz/ and e2e/ use. Nothing else of the crate is public.
//!
//! All other modules are private, so the compiler reports what the program does not use. An item is added here when
//! a test outside the crate needs it, and removed with its last user. The program itself never uses this module.

/// Kinds, conditions and labels of the API.
pub mod api {
    pub use crate::api::{
        ActionKind, ActionRecord, ActionResult, AgentRun, ContactReport, EvidenceEntry,
        GuardrailPolicy, Incident, IncidentCondition, condition_is, condition_of, conditions_page,
        crds, crds_to_yaml, labels,
    };
}

/// The command line, without running it.
pub mod cli {
    pub use crate::cli::{check, help_page};
}

/// A client for an address without TLS, and the objects it reads.
pub mod cluster {
    pub use crate::cluster::{Pod, connect_plain};
}

/// The detection engine and its input.
pub mod detect {
    pub use crate::detect::{Attributed, Engine, EngineConfig, Origin, PoolList, Scopes, Workload};
}

/// Bounds that tests fill.
pub mod limits {
    pub use crate::limits::{
        AGAINST_MAX, BATCH_QUEUE_MAX, COUNTERS_MAX, DNS_ANSWERS_MAX, EVENT_SECONDS_MAX,
        EXAMPLES_MAX, LINE_BYTES_MAX, LOG_AHEAD_MAX_MICROS, NAME_BYTES_MAX, POOL_PROBLEMS_MAX,
        RELAY_MESSAGE_BYTES_MAX, STATE_SLICE_BYTES,
    };
}

/// Signals, subjects and findings.
pub mod model {
    pub use crate::model::{
        DnsQuery, EventTime, Finding, Flow, LostEvents, Neighbour, Outcome, PodKey, RunKey,
        Severity, Signal, Signature, Subject, TlsName, Transport, Volume,
    };
}

/// The generated page of Events.
pub mod notify {
    pub use crate::notify::payload::events_section;
}

/// The generated page of metrics.
pub mod observability {
    pub use crate::observability::{Kind, Metric, metrics_page};
}

/// What the controller and the node agents are put together from, between the watches and the engine.
pub mod pipeline {
    pub use crate::pipeline::ended_pods::{EndedPods, parse as parse_ended_pods};
    pub use crate::pipeline::pod_facts::{membership_of, pod_facts};
    pub use crate::pipeline::step::{expire_pods, process_loss, process_sample, process_signal};
}

/// Recorded logs through the same decoders and detectors.
pub mod replay {
    pub use crate::replay::{
        Capture, CaptureResult, LabelKind, Labels, Policies, Setup, SetupFiles, Verdict,
        find_captures, json, replay_capture, score,
    };
}

/// The report of one Incident.
pub mod report {
    pub use crate::report::{Lookup, ReportInput, page, story};
}

/// The circuit breaker, and the names of Incidents.
pub mod respond {
    pub use crate::respond::plan::{Breaker, BreakerLimits, Crossing};
    pub use crate::respond::record::incident_name;
}

/// Decoders, sources and attribution.
pub mod signals {
    pub use crate::signals::attribute::{Index, Membership, PodFacts, PodLocator};
    pub use crate::signals::health::{SignalHealth, SignalsVerdict};

    /// Bytes to signals.
    pub mod decode {
        pub use crate::signals::decode::{
            Decoded, Decoder, Format, MetricsFormat, MetricsRead, MetricsReader, PodSample,
            Unconfirmed, blind_spots_page, decode, decode_sample, looks_like, relay, sniff,
        };
    }

    /// Logs and Hubble Relay.
    pub mod source {
        pub use crate::signals::source::{
            Batch, SourceHandle, SourceHealth, SourceId, SourceState, StartAt, channel, compressed,
            relay,
        };
    }
}
