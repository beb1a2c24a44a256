//! Owners that one or several Incidents suspend, and pods that are throttled.

use super::*;

#[test]
fn a_cron_job_is_suspended_before_the_job_that_runs() {
    let mut world = World::new();
    world.add_cron_job();
    world.survives();
    let plan = world.settle();
    let steps = [
        "isolate",
        "capture",
        "record None",
        "suspend",
        "record Some(Bool(false))",
        "suspend p1",
    ];
    assert_eq!(world.steps, steps);
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    assert_eq!(world.status().restore.len(), 2);
}

#[test]
fn a_value_that_someone_set_after_it_was_recorded_is_recorded_again() {
    let mut world = World::new();
    world.survives();
    while world.steps.last().map(String::as_str) != Some("record Some(Bool(false))") {
        let step = world.plan().step.unwrap();
        world.execute(&step);
    }
    world.set_suspended(None);
    world.settle();
    assert_eq!(world.status().restore, [entry(None)]);
    assert_eq!(world.suspended(), Some(true));
}

#[test]
fn a_released_owner_stays_suspended_for_an_incident_of_a_pod_that_it_deleted() {
    let mut world = World::new();
    world.survives();
    world.settle();
    let mut second = other("i2", "uid-p2");
    second.pod_is_gone = true;
    world.others.push(second);
    world.human_decides(Verdict::Release);
    let plan = world.settle();
    assert!(plan.close);
    assert_eq!(
        world.steps.last().unwrap(),
        r#"restore Some(Bool(false)) needed by Some("i2")"#
    );
    assert_eq!(world.suspended(), Some(true));
}

#[test]
fn a_released_owner_is_resumed_if_no_other_incident_may_depend_on_it() {
    let stays = other("i2", "uid-p2");
    let gone = OtherIncident {
        pod_is_gone: true,
        ..stays.clone()
    };
    let of_other_run = OtherIncident {
        run_uid: Some("uid-other".to_owned()),
        ..gone.clone()
    };
    let of_other_owner = OtherIncident {
        owners: Some(vec!["uid-other".to_owned()]),
        ..gone
    };
    for second in [stays, of_other_run, of_other_owner] {
        let mut world = World::new();
        world.survives();
        world.settle();
        world.others.push(second);
        world.human_decides(Verdict::Release);
        world.settle();
        assert_eq!(world.suspended(), Some(false), "{:?}", world.others);
    }
}

fn cpu_entry() -> RestoreEntry {
    RestoreEntry {
        target: pod_target("p1"),
        field: "/spec/containers/0/resources".to_owned(),
        original_value: Some(json!({ "limits": { "cpu": "2" } })),
        applied_value: json!({ "limits": { "cpu": "100m" } }),
    }
}

#[test]
fn max_action_throttle_reduces_cpu_after_recording_the_original_value() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.simulation.cpu = CpuReduction::Possible(vec![cpu_entry()]);
    let plan = world.settle();
    assert_eq!(world.steps.len(), 2, "{:?}", world.steps);
    assert_eq!(world.steps[1], "throttle 1");
    assert_eq!(world.status().restore, [cpu_entry()]);
    check(&plan, Contained, Some(false), Reason::ActionLimited);
    assert_eq!(world.pods[0].quarantine, None);
}

#[test]
fn a_pod_that_cannot_be_throttled_is_skipped_with_a_reason() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.simulation.cpu = CpuReduction::Refused("BestEffort".to_owned());
    check(
        &world.settle(),
        Contained,
        Some(false),
        Reason::ActionLimited,
    );
    assert_eq!(world.steps, ["skip Throttle"]);
}

#[test]
fn a_throttle_that_was_not_recorded_before_a_crash_is_recorded() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.status().restore.push(cpu_entry());
    world.simulation.cpu = CpuReduction::Refused("already reduced".to_owned());
    world.settle();
    assert_eq!(world.steps, ["throttle 1"]);
}

#[test]
fn an_open_breaker_and_a_protected_pod_prevent_a_throttle_too() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.simulation.cpu = CpuReduction::Possible(vec![cpu_entry()]);
    world.breaker.crossings = 6;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    world.protected = Some("a static pod".to_owned());
    check(&world.settle(), Contained, Some(false), Reason::Protected);
    assert!(world.steps.is_empty());
}
