//! Context of a detector: the configuration, and the parts of a pod's state that belong to other detectors.

use super::attributed::Workload;
use super::config::EngineConfig;
use super::reported::ReportedFindings;
use super::session::Sessions;
use super::session::names::Names;

/// Context of the scan detectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanContext<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) workload: Workload,
    /// Whether the log contains any DNS answer of this pod.
    pub(super) has_dns: bool,
    /// The findings that were reported already: evidence is written only for those to report.
    pub(super) reported: &'a ReportedFindings,
}

/// Context of the detectors of sessions, mining and tunnels.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrafficContext<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) sessions: &'a Sessions,
    pub(super) names: &'a Names,
    /// The findings that were reported already: evidence is written only for those to report.
    pub(super) reported: &'a ReportedFindings,
}
