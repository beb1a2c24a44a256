//! Which fields of a pod template the Baseline level of the Pod Security Standards forbids. The operator creates the pods of
//! a `template`, so a run may set such a field only where its GuardrailPolicy allows it, whatever the namespace enforces.
//!
//! Source of the list: Kubernetes, "Pod Security Standards", Baseline, of v1.36. Pure.

use serde_json::{Map, Value};

use crate::api::PodPrivilege;
use crate::limits;

/// Capabilities that Baseline lets a container add.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// SELinux types that Baseline allows.
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// Sysctls that Baseline allows.
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// Annotations with the AppArmor profile of a container, in the form that came before the field.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A field that Baseline forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivilegedField {
    /// What it gives.
    pub privilege: PodPrivilege,
    /// Its path below `target.template.pod`.
    pub path: String,
}

/// The fields of a template that Baseline forbids and `allowed` does not have, at most [`limits::PRIVILEGED_FIELDS_MAX`].
/// hostNetwork is not one of them: no policy may allow it.
#[must_use]
pub(crate) fn privileged_fields<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    spec: &Map<String, Value>,
    allowed: &[PodPrivilege],
) -> Vec<PrivilegedField> {
    let mut found = Fields {
        allowed,
        found: Vec::new(),
    };
    for (key, value) in annotations {
        if key.starts_with(APPARMOR_ANNOTATION) && value == "unconfined" {
            found.add(PodPrivilege::AppArmor, format!("annotations[{key}]"));
        }
    }
    for (field, privilege) in [
        ("hostPID", PodPrivilege::HostPID),
        ("hostIPC", PodPrivilege::HostIPC),
    ] {
        found.add_if(is_set(spec.get(field)), privilege, &format!("spec.{field}"));
    }
    found.security_context(spec.get("securityContext"), "spec.securityContext");
    for (place, volume) in list(spec.get("volumes")).enumerate() {
        let path = format!("spec.volumes[{place}].hostPath");
        found.add_if(has(volume, "hostPath"), PodPrivilege::HostPath, &path);
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for (place, container) in list(spec.get(kind)).enumerate() {
            found.container(container, &format!("spec.{kind}[{place}]"));
        }
    }
    found.found
}

struct Fields<'a> {
    allowed: &'a [PodPrivilege],
    found: Vec<PrivilegedField>,
}

impl Fields<'_> {
    fn add(&mut self, privilege: PodPrivilege, path: String) {
        let has_room = self.found.len() < limits::PRIVILEGED_FIELDS_MAX;
        if has_room && !self.allowed.contains(&privilege) {
            self.found.push(PrivilegedField { privilege, path });
        }
    }

    fn add_if(&mut self, is_found: bool, privilege: PodPrivilege, path: &str) {
        if is_found {
            self.add(privilege, path.to_owned());
        }
    }

    fn container(&mut self, container: &Value, path: &str) {
        let context = container.get("securityContext");
        self.security_context(context, &format!("{path}.securityContext"));
        for (place, port) in list(container.get("ports")).enumerate() {
            let is_host = port
                .get("hostPort")
                .is_some_and(|port| *port != 0 && !port.is_null());
            let path = format!("{path}.ports[{place}].hostPort");
            self.add_if(is_host, PodPrivilege::HostPort, &path);
        }
        for hook in [
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle/postStart",
            "lifecycle/preStop",
        ] {
            for action in ["httpGet", "tcpSocket"] {
                let host = container.pointer(&format!("/{hook}/{action}/host"));
                let is_other = host.is_some_and(|host| !host.is_null() && host != "");
                let path = format!("{path}.{}.{action}.host", hook.replace('/', "."));
                self.add_if(is_other, PodPrivilege::ProbeHost, &path);
            }
        }
    }

    /// The security context of a pod or of a container; they have most fields in common.
    fn security_context(&mut self, context: Option<&Value>, path: &str) {
        let Some(context) = context else {
            return;
        };
        let at = |pointer: &str| context.pointer(pointer);
        let mut check = |is_found: bool, privilege, field: &str| {
            self.add_if(is_found, privilege, &format!("{path}.{field}"));
        };
        check(
            is_set(at("/privileged")),
            PodPrivilege::Privileged,
            "privileged",
        );
        check(
            is_set(at("/windowsOptions/hostProcess")),
            PodPrivilege::HostProcess,
            "windowsOptions.hostProcess",
        );
        let is_bare = at("/procMount").is_some_and(|kind| !kind.is_null() && kind != "Default");
        check(is_bare, PodPrivilege::ProcMount, "procMount");
        let is_unconfined = |pointer| at(pointer).is_some_and(|kind| kind == "Unconfined");
        check(
            is_unconfined("/seccompProfile/type"),
            PodPrivilege::Seccomp,
            "seccompProfile",
        );
        check(
            is_unconfined("/appArmorProfile/type"),
            PodPrivilege::AppArmor,
            "appArmorProfile",
        );
        let is_text = |pointer| at(pointer).is_some_and(|text| !text.is_null() && text != "");
        let is_other_type = at("/seLinuxOptions/type")
            .is_some_and(|kind| !kind.is_null() && SELINUX_TYPES.iter().all(|known| kind != known));
        let is_selinux =
            is_other_type || is_text("/seLinuxOptions/user") || is_text("/seLinuxOptions/role");
        check(is_selinux, PodPrivilege::SELinux, "seLinuxOptions");
        for (place, capability) in list(at("/capabilities/add")).enumerate() {
            let is_more = CAPABILITIES.iter().all(|known| capability != known);
            let field = format!("capabilities.add[{place}]");
            check(is_more, PodPrivilege::Capabilities, &field);
        }
        for (place, sysctl) in list(at("/sysctls")).enumerate() {
            let name = sysctl.get("name");
            let is_more = SYSCTLS
                .iter()
                .all(|known| name.is_none_or(|name| name != known));
            check(is_more, PodPrivilege::Sysctls, &format!("sysctls[{place}]"));
        }
    }
}

/// Whether a switch is on. The API server refuses other values than true and false.
fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
}

fn has(object: &Value, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn found(spec: &Value) -> Vec<(PodPrivilege, String)> {
        let spec = spec.as_object().unwrap();
        let none = BTreeMap::new();
        let found = privileged_fields(none.iter(), spec, &[]);
        found
            .into_iter()
            .map(|field| (field.privilege, field.path))
            .collect()
    }

    fn check(spec: &Value, privilege: PodPrivilege, path: &str) {
        assert_eq!(found(spec), [(privilege, path.to_owned())], "{spec}");
    }

    #[test]
    fn each_field_of_a_pod_that_baseline_forbids_is_named_with_its_path() {
        use PodPrivilege::{HostIPC, HostPID, HostPath, HostProcess, Sysctls};
        check(&json!({ "hostPID": true }), HostPID, "spec.hostPID");
        check(&json!({ "hostIPC": true }), HostIPC, "spec.hostIPC");
        let volumes = json!([{ "name": "a" }, { "name": "b", "hostPath": { "path": "/" } }]);
        let spec = json!({ "volumes": volumes });
        check(&spec, HostPath, "spec.volumes[1].hostPath");
        let sysctls = json!([{ "name": "kernel.msgmax", "value": "1" }]);
        let spec = json!({ "securityContext": { "sysctls": sysctls } });
        check(&spec, Sysctls, "spec.securityContext.sysctls[0]");
        let spec = json!({ "securityContext": { "windowsOptions": { "hostProcess": true } } });
        let path = "spec.securityContext.windowsOptions.hostProcess";
        check(&spec, HostProcess, path);
    }

    #[test]
    fn each_field_of_a_container_that_baseline_forbids_is_named_with_its_path() {
        use PodPrivilege::{
            AppArmor, Capabilities, HostPort, Privileged, ProbeHost, ProcMount, SELinux, Seccomp,
        };
        let check_field = |fields: Value, privilege, path: &str| {
            for kind in ["containers", "initContainers"] {
                let spec = json!({ kind: [{ "name": "a" }, fields] });
                check(&spec, privilege, &format!("spec.{kind}[1].{path}"));
            }
        };
        let ports = json!({ "ports": [{ "containerPort": 80, "hostPort": 80 }] });
        check_field(ports, HostPort, "ports[0].hostPort");
        let probe =
            json!({ "livenessProbe": { "httpGet": { "host": "169.254.169.254", "port": 80 } } });
        check_field(probe, ProbeHost, "livenessProbe.httpGet.host");
        let hook = json!({ "lifecycle": { "preStop": { "tcpSocket": { "host": "10.0.0.1", "port": 1 } } } });
        check_field(hook, ProbeHost, "lifecycle.preStop.tcpSocket.host");
        for (context, privilege, path) in [
            (json!({ "privileged": true }), Privileged, "privileged"),
            (
                json!({ "capabilities": { "add": ["CHOWN", "NET_RAW"] } }),
                Capabilities,
                "capabilities.add[1]",
            ),
            (json!({ "procMount": "Unmasked" }), ProcMount, "procMount"),
            (
                json!({ "seccompProfile": { "type": "Unconfined" } }),
                Seccomp,
                "seccompProfile",
            ),
            (
                json!({ "appArmorProfile": { "type": "Unconfined" } }),
                AppArmor,
                "appArmorProfile",
            ),
            (
                json!({ "seLinuxOptions": { "type": "spc_t" } }),
                SELinux,
                "seLinuxOptions",
            ),
        ] {
            let path = format!("securityContext.{path}");
            check_field(json!({ "securityContext": context }), privilege, &path);
        }
    }

    #[test]
    fn a_template_that_baseline_allows_has_none() {
        let spec = json!({
            "hostPID": false,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
                "sysctls": [{ "name": "net.ipv4.tcp_keepalive_time", "value": "60" }],
            },
            "volumes": [{ "name": "scratch", "emptyDir": {} }],
            "containers": [{
                "ports": [{ "containerPort": 80, "hostPort": 0 }],
                "readinessProbe": { "httpGet": { "port": 80 } },
                "securityContext": {
                    "privileged": false, "procMount": "Default",
                    "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
                    "seLinuxOptions": { "level": "s0:c1,c2", "type": "container_t" },
                    "appArmorProfile": { "type": "RuntimeDefault" },
                },
            }],
        });
        assert_eq!(found(&spec), []);
    }

    #[test]
    fn an_unconfined_profile_in_an_annotation_is_one_too_and_the_list_is_bounded() {
        let key = format!("{APPARMOR_ANNOTATION}agent");
        let annotations = BTreeMap::from([(key.clone(), "unconfined".to_owned())]);
        let fields = privileged_fields(annotations.iter(), &Map::new(), &[]);
        assert_eq!(fields[0].privilege, PodPrivilege::AppArmor);
        assert_eq!(fields[0].path, format!("annotations[{key}]"));
        let many = vec![json!({ "hostPath": { "path": "/" } }); 100];
        let spec = json!({ "volumes": many, "containers": [{ "securityContext": { "privileged": true } }] });
        assert_eq!(found(&spec).len(), limits::PRIVILEGED_FIELDS_MAX);
        // What is allowed takes no place of what is not.
        let none = BTreeMap::new();
        let spec = spec.as_object().unwrap();
        let fields = privileged_fields(none.iter(), spec, &[PodPrivilege::HostPath]);
        assert_eq!(fields.len(), 1);
        assert_eq!(fields[0].privilege, PodPrivilege::Privileged);
    }
}
