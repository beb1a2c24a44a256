//! Owners that are held, by one Incident and by several, and pods that are throttled.

use super::*;

#[test]
fn a_cron_job_is_suspended_before_the_job_that_runs() {
    let mut world = World::new();
    let cron_job = ObjectTarget {
        kind: "CronJob".to_owned(),
        uid: "uid-nightly".to_owned(),
        ..job()
    };
    world.above = vec![hold(cron_job, None)];
    world.survives();
    let plan = world.settle();
    let steps = [
        "isolate",
        "capture",
        "save None",
        "suspend",
        "save Some(Bool(false))",
        "suspend p1",
    ];
    assert_eq!(world.steps, steps);
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    assert_eq!(world.status().restore.len(), 2);
}

#[test]
fn what_somebody_set_after_it_was_saved_is_what_a_release_goes_back_to() {
    let mut world = World::new();
    world.survives();
    while world.steps.last().map(String::as_str) != Some("save Some(Bool(false))") {
        let step = world.plan().step.unwrap();
        world.carry_out(step);
    }
    world.suspended = None;
    world.settle();
    assert_eq!(world.status().restore, [entry(None)]);
    assert_eq!(world.suspended, Some(true));
}

#[test]
fn a_released_owner_stays_held_for_an_incident_whose_pod_went_with_it() {
    let mut world = World::new();
    world.survives();
    world.settle();
    let mut second = other("i2", "uid-p2");
    second.pod_is_gone = true;
    world.others.push(second);
    world.human_says(Verdict::Release);
    let plan = world.settle();
    assert!(plan.close);
    assert_eq!(
        world.steps.last().unwrap(),
        r#"restore Some(Bool(false)) held by Some("i2")"#
    );
    assert_eq!(world.suspended, Some(true));
}

#[test]
fn a_released_owner_is_not_held_for_a_pod_that_did_not_go_with_it() {
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
        world.human_says(Verdict::Release);
        world.settle();
        assert_eq!(world.suspended, Some(false), "{:?}", world.others);
    }
}

fn cpu_entry() -> RestoreEntry {
    RestoreEntry {
        target: pod_target("p1"),
        field: "/spec/containers/0/resources".to_owned(),
        before: Some(json!({ "limits": { "cpu": "2" } })),
        set: json!({ "limits": { "cpu": "100m" } }),
    }
}

#[test]
fn max_action_throttle_takes_cpu_once_what_it_was_is_noted() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.cpu = Some(Cpu::Take(vec![cpu_entry()]));
    let plan = world.settle();
    assert_eq!(world.steps.len(), 2, "{:?}", world.steps);
    assert_eq!(world.steps[1], "throttle 1");
    assert_eq!(world.status().restore, [cpu_entry()]);
    check(&plan, Contained, Some(false), Reason::ActionLimited);
    assert_eq!(world.pods[0].quarantine, None);
}

#[test]
fn a_pod_that_cannot_be_throttled_is_left_alone_and_the_record_says_why() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.cpu = Some(Cpu::Refused("BestEffort".to_owned()));
    check(
        &world.settle(),
        Contained,
        Some(false),
        Reason::ActionLimited,
    );
    assert_eq!(world.steps, ["skip Throttle"]);
}

#[test]
fn a_throttle_that_a_crash_kept_out_of_the_record_is_recorded() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.status().restore.push(cpu_entry());
    world.cpu = Some(Cpu::Refused("may use no more CPU".to_owned()));
    world.settle();
    assert_eq!(world.steps, ["throttle 1"]);
}

#[test]
fn an_open_breaker_and_a_protected_pod_hold_back_a_throttle_too() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Throttle;
    world.cpu = Some(Cpu::Take(vec![cpu_entry()]));
    world.breaker.crossings = 6;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    world.protected = Some("a static pod".to_owned());
    check(&world.settle(), Contained, Some(false), Reason::Protected);
    assert!(world.steps.is_empty());
}
