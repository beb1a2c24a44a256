//! The next steps: the urgent one first, then the three possible decisions.
//!
//! A command is built only from valid Kubernetes names, because it is copied into a shell and the texts in an Incident are
//! untrusted (INV-6).

use super::ReportInput;
use super::findings::strongest;
use super::policies::ceiling_of;
use super::state::status_and_reason;
use super::story::{NextStep, Phase};
use crate::api::{IncidentCondition, Reason, Verdict};
use crate::limits;

pub(super) fn steps(input: &ReportInput, phase: Phase) -> Vec<NextStep> {
    let commands = Commands::of(input);
    let mut steps = match phase {
        Phase::Closed => return closed(),
        Phase::Ending => return ending(input, &commands),
        Phase::Proven => Vec::new(),
        Phase::Unproven => unproven(input, &commands),
        Phase::Survives => vec![commands.decide(
            "End it",
            "Connections survive the isolation, and no stronger action is allowed or left. This suspends the owner and deletes the pod.",
            Verdict::Terminate,
        )],
        Phase::Uncontained | Phase::Watched => uncontained(input, &commands),
    };
    steps.push(commands.step(
        "Look at what the pod did",
        "Its own output from the first contact on, while the pod exists.",
        commands.logs(input),
    ));
    let is_confirmed = input.incident.spec.disposition.is_some();
    if !is_confirmed {
        steps.push(commands.decide(
            "It was right: keep the pod contained",
            "Records that a human confirmed the finding. The pod stays contained until a release.",
            Verdict::Confirm,
        ));
    }
    steps.push(commands.decide(
        "It was wrong: release",
        "Lifts the quarantine and restores every field that was changed, and nothing else.",
        Verdict::Release,
    ));
    if phase != Phase::Survives {
        steps.push(commands.decide(
            "It was right: end the run",
            "Suspends the owner and deletes the pod.",
            Verdict::Terminate,
        ));
    }
    steps
}

fn closed() -> Vec<NextStep> {
    vec![NextStep {
        title: "Nothing".to_owned(),
        why: "A human closed it. The record expires later; keep this report if you need it longer."
            .to_owned(),
        command: None,
    }]
}

fn ending(input: &ReportInput, commands: &Commands) -> Vec<NextStep> {
    let incident = commands.incident.as_ref();
    let mut steps = vec![commands.step(
        "Wait until it is closed",
        "The decision is being carried out step by step.",
        incident.map(|name| {
            format!(
                "kubectl -n {} wait --for=condition=Closed incident/{name} --timeout=2m",
                commands.namespace
            )
        }),
    )];
    let contained = status_and_reason(&input.incident, IncidentCondition::Contained);
    if contained.1 == Reason::ActionFailed.name() {
        steps.push(commands.step(
            "Look at the operator's log",
            "An action failed and is retried.",
            None,
        ));
    }
    steps
}

fn unproven(input: &ReportInput, commands: &Commands) -> Vec<NextStep> {
    if status_and_reason(&input.incident, IncidentCondition::Verified).1
        == Reason::SourceSilent.name()
    {
        return vec![commands.step(
            "Bring the egress log back",
            "No source delivers lines, and silence proves nothing. Until a log delivers lines again it is unknown whether the traffic stopped.",
            commands.run.as_ref().map(|run| format!("kubectl -n {} get agentrun {run} -o yaml", commands.namespace)),
        )];
    }
    let wait = commands.incident.as_ref().map(|name| {
        format!(
            "kubectl -n {} wait --for=condition=Verified incident/{name} --timeout=2m",
            commands.namespace
        )
    });
    vec![commands.step(
        "Wait for the proof",
        "The log has to show traffic of other pods for 10 s, and none of this pod.",
        wait,
    )]
}

/// The step for the reason why the pod is not contained.
fn uncontained(input: &ReportInput, commands: &Commands) -> Vec<NextStep> {
    let (_, reason) = status_and_reason(&input.incident, IncidentCondition::Contained);
    let known = Reason::ALL.iter().find(|known| known.name() == reason);
    let policy = input
        .run
        .found()
        .map(ceiling_of)
        .filter(|name| is_name(name));
    let edit_policy = policy.map(|name| format!("kubectl edit guardrailpolicy {name}"));
    let step = match known {
        Some(Reason::UnionWidened) => return narrowed(input, commands),
        Some(Reason::ObserveOnly) => (
            "Decide whether to enforce",
            "The mode is Observe, so the traffic continues. With Enforce the next finding leads to the response.",
            edit_policy,
        ),
        Some(Reason::ActionLimited) => (
            "Decide whether to allow more",
            "maxAction of the run or its policy is below isolation, so the traffic continues.",
            edit_policy,
        ),
        Some(Reason::Protected) => (
            "Act by hand",
            "The namespace or pod is protected from automatic action.",
            None,
        ),
        Some(Reason::BreakerOpen) => (
            "Look at what the pods share",
            "Many pods crossed the threshold at once: DNS, the network plug-in or a registry may be down, and the findings wrong.",
            Some("kubectl get incidents -A".to_owned()),
        ),
        Some(Reason::CapReached) => (
            "Release wrong findings, or raise the cap",
            "The maximum number of pods is in quarantine.",
            Some("kubectl get incidents -A".to_owned()),
        ),
        Some(Reason::ActionFailed) => (
            "Look at the operator's log",
            "An action failed and is retried. The error of the API server is in the timeline.",
            None,
        ),
        Some(Reason::NodeMismatch) => (
            "Find out who wrote this Incident",
            "It names another node than that of its pod, so its evidence does not count. A node agent writes about pods of its own node: \
             another one was taken over, or its token is in other hands.",
            None,
        ),
        Some(Reason::AlertOnly) => (
            "Look at the evidence",
            "It does not cross the quarantine threshold, so nothing is done to the pod.",
            None,
        ),
        _ => (
            "Wait for the operator",
            "It has not set the condition yet. If this does not change, check whether it runs.",
            None,
        ),
    };
    vec![commands.step(step.0, step.1, step.2)]
}

/// One step for each policy that widens the deny.
fn narrowed(input: &ReportInput, commands: &Commands) -> Vec<NextStep> {
    let namespace = &commands.namespace;
    let names = input
        .incident
        .status
        .iter()
        .flat_map(|status| &status.widened_by);
    names
        .take(limits::WIDENED_BY_MAX)
        .filter(|name| is_name(name))
        .map(|name| {
            commands.step(
                "Narrow this policy",
                "Network policies are additive, and this one allows the pod's traffic.",
                Some(format!("kubectl -n {namespace} edit networkpolicy {name}")),
            )
        })
        .collect()
}

/// The names in commands, where they are valid.
struct Commands {
    namespace: String,
    incident: Option<String>,
    pod: Option<String>,
    run: Option<String>,
}

impl Commands {
    fn of(input: &ReportInput) -> Self {
        let incident = &input.incident;
        let fit = |name: Option<&String>| name.filter(|name| is_name(name)).cloned();
        let namespace = fit(incident.metadata.namespace.as_ref());
        // Without a namespace no command works.
        let has_namespace = namespace.is_some();
        let scoped = |name: Option<String>| name.filter(|_| has_namespace);
        Self {
            incident: scoped(fit(incident.metadata.name.as_ref())),
            pod: scoped(fit(Some(&incident.spec.subject.name))),
            run: scoped(fit(incident.spec.run.as_ref().map(|run| &run.name))),
            namespace: namespace.unwrap_or_default(),
        }
    }

    #[allow(clippy::unused_self)] // called like the other steps
    fn step(&self, title: &str, why: &str, command: Option<String>) -> NextStep {
        NextStep {
            title: title.to_owned(),
            why: why.to_owned(),
            command,
        }
    }

    fn decide(&self, title: &str, why: &str, verdict: Verdict) -> NextStep {
        let word = match verdict {
            Verdict::Confirm => "confirm",
            Verdict::Release => "release",
            Verdict::Terminate => "terminate",
        };
        let command = self.incident.as_ref().map(|name| {
            let namespace = &self.namespace;
            format!("yellowjack {word} -n {namespace} {name} --why REASON")
        });
        self.step(title, why, command)
    }

    fn logs(&self, input: &ReportInput) -> Option<String> {
        let pod = self.pod.as_ref().filter(|_| input.pod.found().is_some())?;
        let first = strongest(&input.incident)?.first_seen.0;
        let first = jiff::Timestamp::from_second(first.as_second()).unwrap_or(first);
        Some(format!(
            "kubectl -n {} logs {pod} --all-containers --timestamps --since-time={first}",
            self.namespace
        ))
    }
}

/// Whether the text is a valid Kubernetes name, which has no special meaning in a shell.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    text.len() <= 253
        && text.chars().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}
