//! The attacks on the Kubernetes API and on the operator, each with the test that tries it and the test that is its control.
//!
//! `make attacks` runs these tests beside the replayed attacks of `tests/attacks`. The control shows that the attack's test
//! can fail: the same request without the admission policies or by a client that may, or the same pods without the trick.
//! The tests themselves are not here, and none is tried twice in a run. Used by the program `attacks` alone.

/// A test by the program that has it and its path in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestPath {
    /// A test program of this package, or `lib`: the unit tests of the operator.
    pub program: &'static str,
    /// Its path, as `cargo test` prints it.
    pub path: &'static str,
}

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct ApiAttack {
    /// What is tried.
    pub name: &'static str,
    /// What stops it.
    pub stopped_by: &'static str,
    /// What is left to who tries it.
    pub keeps: &'static str,
    /// The test that tries it.
    pub test: TestPath,
    /// The test that is its control. It may be the same one.
    pub control: TestPath,
}

const fn chart(path: &'static str) -> TestPath {
    let program = "chart";
    TestPath { program, path }
}

const fn response(path: &'static str) -> TestPath {
    let program = "response";
    TestPath { program, path }
}

const fn guardrails(path: &'static str) -> TestPath {
    let program = "guardrails";
    TestPath { program, path }
}

const fn faults(path: &'static str) -> TestPath {
    let program = "faults";
    TestPath { program, path }
}

const fn lib(path: &'static str) -> TestPath {
    let program = "lib";
    TestPath { program, path }
}

/// A request that an admission policy refuses.
const fn refused(name: &'static str, test: TestPath) -> ApiAttack {
    ApiAttack {
        name,
        stopped_by: "admission refuses it",
        keeps: "nothing, where the admission policies are installed",
        test,
        control: UNGUARDED,
    }
}

/// All these requests in a cluster without the admission policies.
const UNGUARDED: TestPath =
    chart("unguarded::without_the_admission_policies_the_same_requests_are_accepted");

const LABEL: TestPath =
    chart("admission::nobody_but_yellowjack_sets_or_removes_the_quarantine_label");
const LEAVE: TestPath =
    chart("admission::nobody_takes_a_pod_out_of_its_run_and_its_controllers_may");
const GUARD: TestPath =
    chart("admission::an_agent_can_neither_change_nor_delete_nor_forestall_what_guards_it");
const INCIDENT: TestPath = chart("admission::an_agent_can_write_nothing_about_an_incident");
const OWNER: TestPath = chart("admission::nobody_gives_an_incident_an_owner_or_a_finalizer");
const ENTER: TestPath = chart("admission::only_the_incident_response_gets_into_a_quarantined_pod");
const OWN_NODE: TestPath = chart("admission::a_node_agent_writes_evidence_of_its_own_node_alone");
const LEASE: TestPath =
    chart("leases::an_agent_keeps_the_lease_of_its_own_node_and_cannot_take_the_leaders");
const REPORT: TestPath = chart(
    "contact_reports::an_agent_reports_contacts_of_its_own_node_alone_and_verifies_and_deletes_nothing",
);
const NO_SECRETS: TestPath = chart("render::no_role_reads_secrets_or_runs_commands_in_pods");
const FORGED: TestPath = response(
    "forged::evidence_by_the_agent_of_another_node_leads_to_nothing_and_the_honest_finding_does",
);
const NOT_JOINED: TestPath =
    response("membership::a_pod_that_names_a_run_as_its_owner_does_not_join_it");
const SCAN: TestPath =
    response("isolate::a_pod_that_scans_is_isolated_with_evidence_and_its_neighbour_is_left_alone");

/// Requests that an admission policy refuses, by a client with every right that RBAC can give.
pub const REFUSED: [ApiAttack; 25] = [
    refused("quarantine label: set on a free pod", LABEL),
    refused("quarantine label: removed from a held pod", LABEL),
    refused(
        "quarantine label: changed through the status of the pod",
        LABEL,
    ),
    refused("quarantine label: present when the pod is created", LABEL),
    refused("quarantine label: brought by a binding", LABEL),
    refused("leave: the run label taken off", LEAVE),
    refused("relabel: the run label set to another run", LEAVE),
    refused("leave: owner references taken off", LEAVE),
    refused("guard: egress of the policy widened", GUARD),
    refused("guard: its label taken off", GUARD),
    refused("guard: quota raised", GUARD),
    refused("guard: policy deleted", GUARD),
    refused("guard: its name taken first", GUARD),
    refused("incident: forged", INCIDENT),
    refused("incident: evidence removed", INCIDENT),
    refused("incident: released by its own pod", INCIDENT),
    refused("incident: closed through the status", INCIDENT),
    refused("incident: deleted", INCIDENT),
    refused("record eraser: an owner that is gone", OWNER),
    refused("record eraser: a finalizer", OWNER),
    refused("enter: exec and attach", ENTER),
    refused("proxy: pods/NAME/proxy and port-forward", ENTER),
    refused(
        "proxy: pods/NAME:PORT, pods/http:NAME and pods/https:NAME:PORT",
        ENTER,
    ),
    refused("proxy: services/NAME:PORT/proxy", ENTER),
    refused("enter: a debug container", ENTER),
];

/// Requests of other parties: node agents, teams, the incident response. Each test has its control in it.
pub const PARTIES: [ApiAttack; 14] = [
    ApiAttack {
        name: "deputy: a template without the right to create Jobs",
        stopped_by: "admission refuses it",
        keeps: "what Pod Security admission of the namespace allows to its own Jobs",
        test: chart("admission::a_template_needs_the_right_to_create_jobs"),
        control: chart("admission::a_template_needs_the_right_to_create_jobs"),
    },
    ApiAttack {
        name: "deputy: a privileged field in a template",
        stopped_by: "the run is not accepted, its Job stays suspended",
        keeps: "what the GuardrailPolicy allows by name, within the Pod Security level of the namespace",
        test: guardrails(
            "a_template_with_a_privileged_field_starts_only_under_a_policy_that_allows_it",
        ),
        control: guardrails(
            "a_template_starts_behind_its_guardrails_and_stays_down_when_a_human_says_so",
        ),
    },
    ApiAttack {
        name: "tenants: pods that cross by the dozen, so that the breaker stops the response of others",
        stopped_by: "each namespace has a breaker of its own",
        keeps: "three namespaces together stop all others for five minutes",
        test: response(
            "tenants::a_namespace_of_which_many_pods_cross_holds_back_itself_and_no_other",
        ),
        control: response(
            "bounds::when_many_pods_cross_at_once_the_breaker_opens_and_a_release_still_works",
        ),
    },
    ApiAttack {
        name: "tenants: pods in quarantine that take all places",
        stopped_by: "a cap per namespace, and pods that are being deleted take none",
        keeps: "two namespaces together take all places",
        test: response(
            "tenants::one_namespace_cannot_take_all_places_and_a_pod_that_is_being_deleted_takes_none",
        ),
        control: response("bounds::the_cap_holds_back_the_next_pod_until_one_is_released"),
    },
    ApiAttack {
        name: "comes back: the quarantined pod is deleted, and its controller makes a new one",
        stopped_by: "the new pod is isolated too, until a release",
        keeps: "a pod of a changed template, or one that is made by hand",
        test: response(
            "comes_back::the_pod_that_replaces_a_deleted_one_is_isolated_until_a_release",
        ),
        control: response(
            "comes_back::pods_that_the_controller_adds_or_replaces_beside_a_quarantined_one_stay_free",
        ),
    },
    ApiAttack {
        name: "comes back: under the same name, as the pod of a StatefulSet",
        stopped_by: "the new pod is isolated too",
        keeps: "nothing",
        test: response(
            "comes_back::the_pod_of_a_stateful_set_that_comes_back_under_its_name_is_isolated",
        ),
        control: response(
            "comes_back::pods_that_the_controller_adds_or_replaces_beside_a_quarantined_one_stay_free",
        ),
    },
    ApiAttack {
        name: "deputy: a service account token for the pod of a template",
        stopped_by: "the pod gets none unless the template asks for one",
        keeps: "a token where the template asks, with the rights of that account",
        test: lib(
            "guardrails::tests::objects::the_pod_spec_is_kept_as_written_with_fields_that_this_build_does_not_know",
        ),
        control: lib(
            "guardrails::tests::objects::the_pod_spec_is_kept_as_written_with_fields_that_this_build_does_not_know",
        ),
    },
    ApiAttack {
        name: "node agent: evidence in the name of another node",
        stopped_by: "admission refuses it",
        keeps: "evidence about pods of its own node",
        test: OWN_NODE,
        control: OWN_NODE,
    },
    ApiAttack {
        name: "other node's pods: an Incident that says where they run",
        stopped_by: "admission refuses it",
        keeps: "evidence about pods of its own node",
        test: chart("admission::a_node_agent_writes_evidence_about_pods_of_its_own_node_alone"),
        control: chart("admission::a_node_agent_writes_evidence_about_pods_of_its_own_node_alone"),
    },
    ApiAttack {
        name: "node agent: the Lease of the leader, and of another node",
        stopped_by: "admission refuses it",
        keeps: "its own Lease",
        test: LEASE,
        control: LEASE,
    },
    ApiAttack {
        name: "node agent: contacts in the name of another node",
        stopped_by: "admission refuses it",
        keeps: "failed contacts for pods of its own node",
        test: REPORT,
        control: REPORT,
    },
    ApiAttack {
        name: "addresses of a run, written by a team",
        stopped_by: "admission refuses it",
        keeps: "nothing, where the admission policies are installed",
        test: chart(
            "run_status::nobody_but_the_controller_says_which_addresses_are_those_of_a_runs_pods",
        ),
        control: UNGUARDED,
    },
    ApiAttack {
        name: "incident response: evidence removed before the release",
        stopped_by: "admission refuses it",
        keeps: "the release itself, with its name and reason",
        test: chart("admission::the_incident_response_releases_and_does_not_touch_the_evidence"),
        control: chart("admission::the_incident_response_releases_and_does_not_touch_the_evidence"),
    },
    ApiAttack {
        name: "stolen token of Yellowjack: secrets, exec and wildcards",
        stopped_by: "no role of the chart has them",
        keeps: "the rights of that role",
        test: NO_SECRETS,
        control: chart("roles::a_whole_quarantine_and_release_needs_every_rule_and_no_more"),
    },
];

/// What the operator makes of objects that the API server accepted.
pub const OPERATOR: [ApiAttack; 24] = [
    ApiAttack {
        name: "leave: the label that the run selects taken off",
        stopped_by: "the pod stays in its run, PodLeft, quarantine",
        keeps: "egress without the guard until the finding",
        test: response(
            "membership::a_pod_without_the_label_that_its_run_selects_stays_in_the_run_and_is_isolated",
        ),
        control: NOT_JOINED,
    },
    ApiAttack {
        name: "leave: owner references and run label of a template's pod, without admission policies",
        stopped_by: "the run label is set back, quarantine",
        keeps: "egress without the guard for the time of a watch event",
        test: response(
            "membership::a_pod_of_a_template_without_owner_and_run_label_gets_the_label_back_and_is_isolated",
        ),
        control: NOT_JOINED,
    },
    ApiAttack {
        name: "second run: a wider AgentRun over the same pods",
        stopped_by: "the guard of the younger run leaves them out, Overlap",
        keeps: "a new pod is under both until it has the label",
        test: response("membership::a_second_run_over_the_same_pods_widens_nothing"),
        control: guardrails("a_run_gets_its_guardrails_and_becomes_ready"),
    },
    ApiAttack {
        name: "joiner: a pod that names the run as its owner",
        stopped_by: "the pod is in no run",
        keeps: "nothing",
        test: NOT_JOINED,
        control: SCAN,
    },
    ApiAttack {
        name: "owner cache: an owner of another kind or name under the UID of the victim's",
        stopped_by: "owners are cached by the whole reference",
        keeps: "nothing",
        test: guardrails("forged_owner_references_do_not_keep_the_pods_of_a_run_from_it"),
        control: guardrails("a_reference_finds_pods_through_kinds_that_this_build_does_not_know"),
    },
    ApiAttack {
        name: "bad owner: an API version that no server has",
        stopped_by: "it counts as no owner",
        keeps: "nothing",
        test: guardrails("forged_owner_references_do_not_keep_the_pods_of_a_run_from_it"),
        control: guardrails("a_reference_finds_pods_through_kinds_that_this_build_does_not_know"),
    },
    ApiAttack {
        name: "other node's pods: forged evidence that the API server accepted",
        stopped_by: "the controller ignores it, NodeMismatch",
        keeps: "nothing",
        test: FORGED,
        control: response(
            "forged::evidence_by_the_agent_of_the_pods_own_node_leads_to_a_quarantine",
        ),
    },
    ApiAttack {
        name: "squat: the name of the Incident of another's pod",
        stopped_by: "the finding takes the next free name",
        keeps: "nothing",
        test: FORGED,
        control: SCAN,
    },
    ApiAttack {
        name: "record eraser: an Incident that is gone while its pod is held",
        stopped_by: "the Incident is made again and can be released",
        keeps: "the evidence, and what a release would have restored",
        test: response(
            "release::a_quarantined_pod_of_which_the_incident_was_deleted_gets_it_again_and_can_be_released",
        ),
        control: response(
            "release::a_release_takes_the_label_off_and_old_contacts_no_longer_count",
        ),
    },
    ApiAttack {
        name: "quarantine label: removed, without admission policies",
        stopped_by: "it is set back",
        keeps: "some milliseconds without the deny",
        test: response("isolate::a_label_that_somebody_takes_off_comes_back_without_a_release"),
        control: response(
            "release::a_release_takes_the_label_off_and_old_contacts_no_longer_count",
        ),
    },
    ApiAttack {
        name: "ceiling: a profile that the policy does not allow",
        stopped_by: "Accepted=False, Standard is in force, quarantine",
        keeps: "all profiles, where the policy does not set allowedProfiles",
        test: response("bounds::a_profile_that_the_policy_does_not_allow_is_not_in_force"),
        control: response("bounds::a_profile_that_the_policy_does_not_allow_is_not_in_force"),
    },
    ApiAttack {
        name: "spread: 20 pods of one run on four nodes, an agent on each",
        stopped_by: "quarantine of each pod, also over a restart",
        keeps: "three failed targets per pod and port",
        test: response(
            "nodes::what_no_node_sees_enough_of_adds_up_within_seconds_and_survives_a_restart",
        ),
        control: response(
            "nodes::the_same_contacts_by_pods_of_no_run_or_of_a_run_per_node_get_nobody_quarantined",
        ),
    },
    ApiAttack {
        name: "restart: a scan over a restart of the operator",
        stopped_by: "quarantine: the state is kept",
        keeps: "a restart without its state, as by an upgrade that changes its form",
        test: faults("memory::a_scan_that_a_restart_interrupts_is_found"),
        control: faults(
            "memory::without_the_state_it_is_not_found_and_a_state_that_cannot_be_used_is_left_aside",
        ),
    },
    ApiAttack {
        name: "restart: a forged state with a checksum that fits",
        stopped_by: "bounds on everything that is read",
        keeps: "whoever is root on the node can hide a pod of it",
        test: lib(
            "pipeline::saved_state::tests::a_forged_state_with_a_valid_checksum_never_causes_a_panic",
        ),
        control: lib(
            "pipeline::saved_state::tests::a_walk_continues_where_it_was_when_the_state_was_written",
        ),
    },
    ApiAttack {
        name: "guard: its objects changed, without admission policies",
        stopped_by: "they are set back",
        keeps: "the time of a watch event",
        test: guardrails("drift_is_repaired_whoever_made_it"),
        control: guardrails("objects_of_others_are_left_exactly_as_they_are"),
    },
    ApiAttack {
        name: "union: another policy that allows everything, before the start",
        stopped_by: "the template waits, UnionWidened",
        keeps: "nothing",
        test: guardrails("a_template_waits_while_another_policy_widens_it"),
        control: guardrails(
            "a_template_starts_behind_its_guardrails_and_stays_down_when_a_human_says_so",
        ),
    },
    ApiAttack {
        name: "union: the same for a pod in quarantine",
        stopped_by: "UnionWidened, the owner is suspended",
        keeps: "egress until the owner is suspended; all of it for a pod without an owner",
        test: response("ladder::a_policy_that_widens_the_union_is_named_and_the_job_suspended"),
        control: response(
            "ladder::max_action_isolate_leaves_the_job_running_and_says_that_it_does_not_hold",
        ),
    },
    ApiAttack {
        name: "union: a kind of policy that is served and not read",
        stopped_by: "NetworkGuarded names the kind",
        keeps: "what such a policy allows",
        test: lib(
            "controller::cluster_facts::tests::kinds_of_policy_that_are_served_and_not_read_are_named_once",
        ),
        control: lib(
            "controller::cluster_facts::tests::kinds_of_policy_that_are_served_and_not_read_are_named_once",
        ),
    },
    ApiAttack {
        name: "framing: the address of a pod in quarantine, inherited",
        stopped_by: "the heir is in no Incident",
        keeps: "nothing",
        test: response("isolate::a_pod_that_inherits_a_rogue_pods_address_is_not_blamed"),
        control: SCAN,
    },
    ApiAttack {
        name: "framing: scans from the network of the host",
        stopped_by: "no pod is named, HostNetwork",
        keeps: "the scan itself: pods on the network of the host are not seen",
        test: response("isolate::lines_of_a_pod_on_the_hosts_network_are_held_against_nobody"),
        control: SCAN,
    },
    ApiAttack {
        name: "text: escapes and treacherous characters in names, to a terminal, Markdown, JSON and HTML",
        stopped_by: "they are replaced",
        keeps: "nothing",
        test: lib("report::tests::no_text_of_the_adversary_controls_a_terminal"),
        control: lib("model::text::tests::invisible_characters_are_replaced_and_letters_are_not"),
    },
    ApiAttack {
        name: "text: names in a log that is replayed",
        stopped_by: "they are replaced",
        keeps: "nothing",
        test: lib("replay::report::tests::names_from_a_log_do_not_steer_the_terminal"),
        control: lib("model::escape::tests::terminal_control_characters_become_visible"),
    },
    ApiAttack {
        name: "capture: credentials in arguments and headers",
        stopped_by: "the copy of the pod has (withheld)",
        keeps: "names of programs, images and variables",
        test: lib(
            "respond::plan::capture::tests::what_may_be_a_credential_is_withheld_and_nothing_else",
        ),
        control: lib(
            "respond::plan::capture::tests::what_may_be_a_credential_is_withheld_and_nothing_else",
        ),
    },
    ApiAttack {
        name: "addresses: IPv4 behind NAT64 and 240.0.0.0/4",
        stopped_by: "they are judged as private or by their IPv4 address",
        keeps: "nothing",
        test: lib("detect::scope::tests::ipv4_inside_ipv6_counts_as_ipv4"),
        control: lib("detect::scope::tests::private_ranges_end_where_their_rfcs_end"),
    },
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static ApiAttack> {
    REFUSED.iter().chain(&PARTIES).chain(&OPERATOR)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// The files that may have the tests of a program.
    fn files_of(program: &str) -> Vec<PathBuf> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![if program == "lib" {
            package.join("../src")
        } else {
            package.join("tests").join(program)
        }];
        let mut files = vec![package.join(format!("tests/{program}.rs"))];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.retain(|file| file.is_file());
        files
    }

    #[test]
    fn every_test_that_is_named_exists() {
        for attack in all() {
            for TestPath { program, path } in [attack.test, attack.control] {
                let (module, name) = path.rsplit_once("::").unwrap_or((program, path));
                let module = module.trim_end_matches("::tests");
                let module = module.rsplit("::").next().unwrap_or(module);
                let has = |file: &PathBuf| {
                    let text = std::fs::read_to_string(file).unwrap_or_default();
                    let is_in = file.components().any(|part| {
                        let part = part.as_os_str().to_string_lossy();
                        part.trim_end_matches(".rs") == module
                    });
                    is_in && text.contains(&format!("fn {name}("))
                };
                let is_there = files_of(program).iter().any(has);
                assert!(is_there, "{}: no test {path} in {program}", attack.name);
            }
        }
    }

    #[test]
    fn no_two_attacks_have_one_name() {
        let mut names: Vec<_> = all().map(|attack| attack.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
