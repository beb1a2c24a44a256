//! The API group `yellowjack.dev/v1alpha1`: what ML teams apply and what platform teams read.
//!
//! Types, conditions, reasons and labels; no client and no tokio (INV-1). The CRDs in `crds/` are
//! generated from here by `yellowjack crds`, so every doc comment on a field is what
//! `kubectl explain` shows.

mod agent_run;
mod conditions;
mod contact_report;
mod crds;
mod former;
mod incident;
pub mod labels;
mod page;
mod policy;
mod schema;

#[cfg(test)]
pub use agent_run::PodTemplate;
pub use agent_run::{
    AgentRun, AgentRunSpec, AgentRunStatus, DetectionSpec, EgressPort, EgressRule, IngressRule,
    Mode, NetworkSpec, OwnerReferenceTarget, PodAddresses, PodsSummary, Profile, Protocol,
    ResourceDefaults, ResourcesSpec, ResponseAction, ResponseScope, ResponseSpec, RunTemplate,
    SignatureModes, Target, Trace,
};
pub use conditions::{
    AgentRunCondition, IncidentCondition, Reason, condition_is, condition_of, set_condition,
};
pub use contact_report::{
    ContactAttribute, ContactHash, ContactOutcome, ContactReport, ContactReportSpec,
    ContactReportStatus, ContactScope, ContactingPod, FirstContact,
};
pub use crds::{all as crds, to_yaml as crds_to_yaml};
pub use incident::{
    ActionKind, ActionRecord, ActionResult, Capture, CiliumEnforcement, Disposition, EvidenceEntry,
    ExampleFlow, HistoryPoint, Incident, IncidentSpec, IncidentStatus, ObjectTarget, Observation,
    Replacement, RestoreEntry, RunReference, SubjectReference, Verdict,
};
pub use page::conditions_page;
pub use policy::{
    CidrText, GuardrailPolicy, GuardrailPolicySpec, PodPrivilege, PolicyNetwork, PolicyResources,
    PolicyResponse,
};

/// The API group.
pub const GROUP: &str = "yellowjack.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// The policy that an AgentRun gets when it names none.
pub const DEFAULT_POLICY: &str = "default";
