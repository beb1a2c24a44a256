//! ContactReport: what one observer saw of the first contacts of a run's pods, for the observers of
//! the run's other nodes.
//!
//! `spec` is written by the node's agent, or by a controller that reads logs itself, and only while
//! a pod has several failed first contacts in one scan of its run: an honest pod causes none.
//! `status` is the controller's: which of the pods are really the run's and on that node. Only those
//! count. The run owns the report, so it goes with the run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::RunReference;

/// What one observer saw of the first contacts of a run's pods.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "yellowjack.dev",
    version = "v1alpha1",
    kind = "ContactReport",
    plural = "contactreports",
    category = "yellowjack",
    namespaced,
    status = "ContactReportStatus",
    derive = "PartialEq",
    doc = "What the log of one node shows of failed first contacts of a run's pods, so that a scan that is distributed over nodes is summed up. Written and read only by Yellowjack.",
    printcolumn = r#"{"name":"Run","type":"string","jsonPath":".spec.run.name","description":"The AgentRun"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.node","description":"The node that the log belongs to"}"#,
    printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".spec.pods[*].name","description":"Pods with failed first contacts"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.run == oldSelf.run").message("run is immutable"),
    validation = Rule::new("has(self.node) == has(oldSelf.node) && (!has(self.node) || self.node == oldSelf.node)")
        .message("node is immutable")
)]
pub struct ContactReportSpec {
    /// The AgentRun that the pods belong to. Immutable.
    pub run: RunReference,

    /// The node that the log belongs to; left out if the controller itself read the log. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node: Option<String>,

    /// Pods with failed first contacts that count in a scan of the run, and those contacts.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub pods: Vec<ContactingPod>,

    /// First contacts of the run's pods on this node that were answered, or may have been, on the same
    /// services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub answered: Vec<FirstContact>,
}

/// A pod with failed first contacts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ContactingPod {
    /// Name, in the report's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID, so that a later pod of the same name is not meant.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Its failed first contacts.
    #[schemars(length(max = 256))]
    pub failed: Vec<FirstContact>,
}

/// The first contact of a pod with a target. Addresses stay on their node; a hash replaces them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FirstContact {
    /// When, as the log recorded it.
    pub time: MicroTime,
    /// Hash of the target: host, protocol and port. The key comes from the run.
    pub target: ContactHash,
    /// Hash of the host alone.
    pub host: ContactHash,
    /// The part of the world that the host belongs to.
    pub scope: ContactScope,
    /// IP protocol number: 6 is TCP, 17 is UDP.
    #[schemars(range(min = 0, max = 255))]
    pub protocol_number: i32,
    /// Target port; 0 where the protocol has none.
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
    /// What became of it.
    pub outcome: ContactOutcome,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub attributes: Vec<ContactAttribute>,
}

/// The part of the world that a host belongs to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactScope {
    /// Pods and services of the cluster.
    Cluster,
    /// Nodes, metadata services and other link-local addresses.
    Infrastructure,
    /// Private ranges.
    Private,
    /// Everything else that can be routed.
    Internet,
}

/// What became of a first contact.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactOutcome {
    /// The target answered.
    Answered,
    /// The target refused.
    Refused,
    /// No answer came.
    Unanswered,
    /// A policy dropped it.
    Denied,
    /// The log shows no answers, so that it may have been answered.
    NotShown,
}

/// What else is known of a first contact.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactAttribute {
    /// The host is a pod of the same run, or was a pod a short time ago.
    Neighbour,
    /// Names of the pod's targets are in the log.
    NamesLogged,
    /// It failed over IPv6, over which no target ever answered the pod.
    Ipv6Unproven,
    /// Targets that had answered before failed at the same time.
    InOutage,
    /// It failed on a high port of a host that had answered as an FTP server.
    FtpData,
    /// The log lost records at the time.
    RecordsLost,
    /// The log had shown no flows that passed, so that successes may be missing beside this failure. It
    /// counts for an alert alone.
    SuccessesNotShown,
    /// It looks like a server's answer to a request that is not in the log.
    ServerAnswer,
}

/// What the controller found out about a report.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ContactReportStatus {
    /// UIDs of the pods in `spec.pods` that belong to the run and are on the node. No other counts.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub verified_pods: Vec<String>,
    /// Whether the run has any pod on the node. Answers count only then.
    #[serde(default)]
    pub has_pods: bool,
}

/// A hash of 64 bits, as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactHash(pub u64);

impl Serialize for ContactHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ContactHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let is_hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = is_hash.then(|| u64::from_str_radix(&text, 16).ok());
        hash.flatten()
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a hash has 16 hexadecimal digits"))
    }
}

impl JsonSchema for ContactHash {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ContactHash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{16}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_it_is_read_and_nothing_else_is_one() {
        let text = serde_json::to_string(&ContactHash(0xab)).unwrap();
        assert_eq!(text, "\"00000000000000ab\"");
        let read = |text: &str| serde_json::from_str::<ContactHash>(text).ok();
        assert_eq!(read(&text), Some(ContactHash(0xab)));
        for wrong in [
            "\"ab\"",
            "\"00000000000000xy\"",
            "171",
            "\"+0000000000000ab\"",
            "null",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
