//! What happens before the first task is there.

use super::*;

#[test]
fn the_zygote_is_started_while_the_first_task_is_on_its_way() {
    let mut bench = Bench::new(1);
    bench.state.expects_first = true;
    assert_eq!(bench.plan(0).1, [Action::PrepareZygote]);
    bench.submit(0);
    let (actors, others) = bench.plan(0);
    assert_eq!((actors.len(), others), (1, vec![]));

    let mut bench = Bench::new(1);
    bench.state.expects_first = true;
    bench.plan(0);
    // It cannot be started: that is no news before there is a task, which tries again.
    bench.state.zygote_not_started();
    assert_eq!(bench.plan(0).1, []);
    bench.submit(0);
    assert_eq!(bench.plan(0).1, [Action::StartZygote]);
}

#[test]
fn a_control_block_takes_no_more_than_a_chunk() {
    let arena = arena();
    let before = arena.in_use();
    let _block = arena.allocate(Control::size()).expect("an empty arena has room");
    assert_eq!(arena.in_use() - before, 1 << 20);
}
