//! What a pool says of its workers to whoever looks from outside.

use manyhands_os::clock;

use super::*;

#[test]
fn workers_are_noted_as_they_come_and_go() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.state.control.crew().count(), 0);
    for user_data in 0..4 {
        bench.submit(user_data);
    }
    let (actors, _) = bench.plan(0);
    let mut numbers: Vec<u16> = actors.iter().map(|actor| actor.participant).collect();
    numbers.sort_unstable();
    assert_eq!(bench.state.control.crew().collect::<Vec<_>>(), numbers);
    assert_eq!(bench.state.control.account().workers, 2);
    bench.reap(&actors[0]);
    assert_eq!(bench.state.control.crew().collect::<Vec<_>>(), [actors[1].participant]);
}

fn in_hands(bench: &Bench) -> Vec<(u16, String)> {
    bench.state.control.tasks().into_iter().map(|task| (task.participant, task.name)).collect()
}

#[test]
fn since_when_tasks_run_is_seen() {
    let mut bench = Bench::new(1);
    for user_data in 0..3 {
        bench.submit(user_data);
    }
    let (actors, _) = bench.plan(0);
    let begun =
        |bench: &Bench| bench.state.control.tasks().into_iter().map(|task| task.begun).collect::<Vec<_>>();
    let mut before = clock::now();
    for _ in 0..2 {
        let entry = actors[0].claim().expect("a task");
        let now = clock::now();
        assert!(matches!(begun(&bench)[..], [Some(then)] if before <= then && then <= now));
        let seconds = |bench: &mut Bench| bench.state.statistics(now + clock::SECOND).workers[0].task_s;
        assert!(seconds(&mut bench).is_some_and(|seconds| (1.0..60.0).contains(&seconds)));
        // The reference to a result's block, which takes the place, is not taken for a time.
        actors[0].slots.write_result_block(entry.slot, 0, 7);
        assert_eq!(begun(&bench), [None]);
        assert_eq!(seconds(&mut bench), None);
        assert_eq!(actors[0].finish(entry, 0), Finish::Published);
        assert_eq!(begun(&bench), []);
        bench.take_completions();
        before = now;
    }
    // One that is claimed and has not begun has no time yet.
    let entry = actors[0].claim_only().expect("a task");
    assert_eq!(begun(&bench), [None]);
    actors[0].side.begin(entry, false);
    assert!(matches!(begun(&bench)[..], [Some(then)] if then >= before));
}

#[test]
fn the_names_of_running_tasks_are_seen() {
    let mut bench = Bench::new(1);
    // A letter that would be cut in two.
    let long = format!("{}é", "n".repeat(63));
    bench.submit_with(0, Some(Options { name: Some(long), ..Options::default() }));
    bench.submit(1);
    let (actors, _) = bench.plan(0);
    assert_eq!(in_hands(&bench), [], "what waits is in nobody's hands");
    let entry = actors[0].claim().expect("a task");
    assert_eq!(in_hands(&bench), [(actors[0].participant, "n".repeat(63))]);
    assert_eq!(actors[0].finish(entry, 0), Finish::Published);
    assert_eq!(in_hands(&bench), []);
    let _ = actors[0].claim().expect("another task");
    assert_eq!(in_hands(&bench), [(actors[0].participant, "f".to_owned())]);
}

#[test]
fn a_task_that_runs_again_has_its_name_again() {
    let mut bench = Bench::new(1);
    bench.submit_with(0, Some(Options { name: Some("again".to_owned()), ..retrying() }));
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("a task");
    // It dies while it writes its result.
    actors[0].slots.write_result(entry.slot, Encoding::Compact, 0, b"half a result");
    bench.reap(&actors[0]);
    let (actors, _) = bench.plan(1);
    let _ = actors[0].claim().expect("the task again");
    assert_eq!(in_hands(&bench), [(actors[0].participant, "again".to_owned())]);
}
