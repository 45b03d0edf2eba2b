//! What a worker does in single cases; `history` has random ones.

mod history;
mod world;

use super::{Cause, Counts, Shutdown};
use crate::link::Refusal;
use world::{Message, SECOND, World};

#[test]
fn a_message_is_acknowledged_after_all_that_follows_from_it() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    world.deliver();
    world.finish(world.first_job());
    assert_eq!(world.published.len(), 2);
    world.confirm(world.first_token());
    assert_eq!(world.unacknowledged.len(), 1, "the answer is not confirmed yet");
    world.confirm(world.first_token());
    assert!(world.unacknowledged.is_empty());
    assert_eq!((world.words("next"), world.words("answers")), (vec!["a "], vec!["a SUCCESS"]));
}

#[test]
fn what_runs_is_recognised_when_it_comes_again() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    world.deliver();
    world.cut();
    world.connect();
    world.deliver();
    world.finish(world.first_job());
    world.drain();
    assert_eq!(world.begun, ["a"], "it has run once");
}

#[test]
fn what_was_done_is_not_run_once_more() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    world.deliver();
    world.finish(world.first_job());
    world.cut();
    // Published and confirmed over the next connection; its message comes after that.
    world.connect();
    world.confirm(world.first_token());
    world.confirm(world.first_token());
    assert!(world.deliver(), "it comes again");
    assert_eq!((world.begun.len(), world.unacknowledged.len()), (1, 0), "and is acknowledged at once");
}

#[test]
fn an_id_that_was_given_twice_runs_twice() {
    let mut world = World::new(2);
    world.tasks.extend([Message::new("a"), Message { eta: Some(5 * SECOND), ..Message::new("a") }]);
    world.deliver();
    world.deliver();
    world.finish(world.first_job());
    world.drain();
    assert_eq!(world.begun, ["a", "a"]);
}

#[test]
fn a_task_over_which_processes_die_is_a_dead_letter() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    for _ in 0..3 {
        world.deliver();
        world.crash(world.first_job());
        while let Some(token) = world.published.keys().next() {
            world.confirm(*token);
        }
    }
    assert_eq!(world.words("tasks"), ["a 1", "a 2"]);
    assert_eq!(world.words("dead"), ["a Deaths(3)"]);
    assert_eq!(world.words("answers"), ["a FAILURE"]);
    let Counts { deaths, dead, .. } = world.duties.counts();
    assert_eq!((deaths, dead), (3, 1));
}

#[test]
fn poison_is_a_dead_letter_and_needs_no_slot() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    world.deliver();
    world.deliver();
    world.consumers.insert(9, 1);
    world.tasks.push_back(Message { unfit: Some(Cause::Unreadable("json")), ..Message::new("b") });
    world.deliver();
    world.confirm(world.first_token());
    assert_eq!(world.words("dead"), ["b Unreadable(\"json\")"]);
    assert_eq!(world.begun, ["a"]);
}

#[test]
fn too_late_is_revoked_and_too_early_waits() {
    let mut world = World::new(4);
    world.tasks.extend([
        Message { expires: Some(SECOND / 2), ..Message::new("late") },
        Message { eta: Some(3 * SECOND), ..Message::new("early") },
        Message { eta: Some(SECOND / 2), ..Message::new("past") },
    ]);
    while world.deliver() {}
    assert_eq!(world.begun, ["past"]);
    assert_eq!(world.duties.next_tick(), Some(3 * SECOND));
    assert_eq!(world.consumers.len(), 2, "what is put off takes nobody's place");
    world.pass(SECOND);
    assert_eq!(world.begun, ["past"]);
    world.pass(SECOND);
    assert_eq!(world.begun, ["past", "early"]);
    world.drain();
    assert_eq!(world.words("answers"), ["late REVOKED", "early SUCCESS", "past SUCCESS"]);
}

#[test]
fn revoked_tasks_do_not_run_and_running_ones_are_stopped() {
    let mut world = World::new(1);
    world.tasks.extend(["a", "b", "c"].map(Message::new));
    world.consumers.insert(9, 2);
    while world.deliver() {}
    world.duties.revoke(["a", "b"], false, world.now);
    world.act();
    assert_eq!(world.published.len(), 1, "b only: a runs");
    world.duties.revoke(["a"], true, world.now);
    world.act();
    world.crash(world.first_job());
    world.drain();
    assert_eq!(world.words("answers"), ["b REVOKED", "a REVOKED", "c SUCCESS"]);
    assert_eq!(world.duties.counts().deaths, 0, "it had to die");
}

#[test]
fn tiny_tasks_are_fetched_ahead_until_they_grow() {
    let mut world = World::new(2);
    world.tasks.extend((0..80).map(|number| Message::new(&number.to_string())));
    let mut most = 0;
    while !(world.tasks.is_empty() && world.running.is_empty()) {
        while world.deliver() {}
        most = most.max(world.unacknowledged.len());
        world.now += if world.tasks.is_empty() { SECOND } else { SECOND / 1000 };
        world.finish(world.first_job());
        let tokens: Vec<_> = world.published.keys().copied().collect();
        tokens.into_iter().for_each(|token| world.confirm(token));
    }
    assert!(most > 60, "{most} at a time");
    assert_eq!(world.consumers.values().collect::<Vec<_>>(), [&2], "the second consumer is gone");
    let order: Vec<_> = (0..80).map(|number| number.to_string()).collect();
    assert_eq!(world.begun, order);
}

#[test]
fn what_nobody_takes_goes_where_dead_letters_go() {
    let mut world = World::new(1);
    world.tasks.push_back(Message::new("a"));
    world.deliver();
    world.finish(world.first_job());
    let [task, answer] = *world.published.keys().copied().collect::<Vec<_>>() else { panic!("two") };
    world.refuse(task, &Refusal::Unroutable);
    world.refuse(answer, &Refusal::Error("too large".into()));
    world.refuse(world.first_token(), &Refusal::Nacked);
    assert_eq!(world.published.len(), 1, "refused for now");
    world.pass(SECOND);
    world.drain();
    assert_eq!(world.words("dead"), ["a there is no queue for it"]);
    assert_eq!(world.words("answers"), ["a FAILURE"]);
}

#[test]
fn a_warm_end_waits_for_what_runs_and_a_cold_one_does_not() {
    for is_late in [false, true] {
        let mut world = World::new(1);
        world.tasks.extend(["a", "b"].map(Message::new));
        world.consumers.insert(9, 1);
        while world.deliver() {}
        world.duties.shut_down(Shutdown::Warm(Some(world.now + SECOND)), world.now);
        world.act();
        assert_eq!((world.tasks.len(), world.has_ended), (1, false), "b is for others");
        if is_late {
            world.pass(SECOND);
        } else {
            world.finish(world.first_job());
            world.confirm(world.first_token());
            world.confirm(world.first_token());
        }
        assert!(world.has_ended && world.unacknowledged.is_empty());
        assert_eq!((world.tasks.len(), world.words("answers").len()), if is_late { (2, 0) } else { (1, 1) });
    }
}
