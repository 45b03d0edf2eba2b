//! Many items that are put at once: as many as there is room for, in their order, by one commit.
// Neither loom nor Miri knows shared memory.
#![cfg(not(any(loom, miri)))]

mod yard;

use std::convert::Infallible;

use manyhands_channel::queue::{GetError, Kind, Message, Options, PutError, Queue};
use manyhands_sync::Patience;
use manyhands_sync::waiting::Patient;
use yard::{Yard, get, try_get};

const KINDS: [Kind; 3] = [Kind::Fifo, Kind::Lifo, Kind::Priority];

fn plain(kind: Kind) -> Options {
    Options { kind, maxsize: 0, joinable: false }
}

/// Puts items of these bytes, with their tags and priorities, as many as possible at once.
fn try_put_many(queue: &Queue, items: &[(u16, u128, &[u8])]) -> Result<usize, PutError> {
    let parts: Vec<[&[u8]; 1]> = items.iter().map(|(_, _, bytes)| [*bytes]).collect();
    let messages: Vec<Message<'_>> = items
        .iter()
        .zip(&parts)
        .map(|((tag, priority, _), parts)| Message { tag: *tag, priority: *priority, parts })
        .collect();
    queue.try_put_many(&messages)
}

/// The tags of all items that are there.
fn drain(queue: &Queue) -> Vec<u16> {
    std::iter::from_fn(|| try_get(queue).ok().map(|(tag, _)| tag)).collect()
}

#[test]
fn as_many_go_in_as_the_queue_may_hold() {
    let items = [(1, 5, &b"a"[..]), (2, 4, b""), (3, 9, b"ccc"), (4, 0, b"d"), (5, 1, b"e")];
    for (kind, first, all) in [
        (Kind::Fifo, 1, [2, 3, 4]),
        (Kind::Lifo, 3, [4, 2, 1]),
        // By priority: 2 has 4; of the others 1 has 5, 3 has 9, 4 has 0.
        (Kind::Priority, 2, [4, 1, 3]),
    ] {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 3, joinable: false });
        assert_eq!(try_put_many(&yard.queue, &[]).expect("nothing to do"), 0);
        assert_eq!(try_put_many(&yard.queue, &items).expect("room for three"), 3, "{kind:?}");
        assert!(matches!(try_put_many(&yard.queue, &items[3..]), Err(PutError::Full)), "{kind:?}");
        let other = yard.attach();
        assert_eq!(try_get(&other).map(|(tag, _)| tag), Ok(first), "{kind:?}");
        assert_eq!(try_put_many(&other, &items[3..]).expect("room for one"), 1, "{kind:?}");
        assert_eq!(drain(&yard.queue), all, "{kind:?}");
        assert_eq!((other.statistics().puts, other.statistics().gets), (4, 4), "{kind:?}");
    }
}

#[test]
fn as_many_go_in_as_there_is_memory_for() {
    for kind in KINDS {
        let yard = Yard::new(Queue::SMALLEST, plain(kind));
        let third = vec![7; yard.queue.largest() / 3];
        let items: Vec<(u16, u128, &[u8])> = (0..9).map(|tag| (tag, u128::from(tag), &third[..])).collect();
        let count = try_put_many(&yard.queue, &items).expect("room for some");
        assert!((2..9).contains(&count), "{kind:?}: {count}");
        assert_eq!(yard.queue.len(), count);
        assert!(matches!(try_put_many(&yard.queue, &items[count..]), Err(PutError::Full)), "{kind:?}");
        let mut tags: Vec<u16> = (0..9).take(count).collect();
        if kind == Kind::Lifo {
            tags.reverse();
        }
        assert_eq!(drain(&yard.queue), tags, "{kind:?}");
        assert_eq!(try_put_many(&yard.queue, &items[..2]).expect("room again"), 2, "{kind:?}");
    }
}

#[test]
fn a_closed_queue_takes_none() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        assert_eq!(try_put_many(&yard.queue, &[(1, 0, b"in")]).expect("room"), 1);
        yard.attach().try_close(false).expect("closed");
        let late = try_put_many(&yard.queue, &[(2, 0, b"late"), (3, 0, b"late")]);
        assert!(matches!(late, Err(PutError::Closed)), "{kind:?}: {late:?}");
        assert_eq!(drain(&yard.queue), [1], "{kind:?}");
        assert_eq!(try_get(&yard.queue), Err(GetError::Closed), "{kind:?}");
    }
}

#[test]
fn what_never_fits_is_an_error_of_its_own_only() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        let limit = yard.queue.largest();
        let large = vec![0; limit + 1];
        let items = [(1, 0, &b"a"[..]), (2, 0, b"b"), (3, 0, &large), (4, 0, b"d")];
        assert_eq!(try_put_many(&yard.queue, &items).expect("those before it"), 2, "{kind:?}");
        let refused = try_put_many(&yard.queue, &items[2..]);
        assert!(
            matches!(refused, Err(PutError::TooLarge { size, limit: most }) if (size, most) == (limit + 1, limit)),
            "{kind:?}: {refused:?}"
        );
        assert_eq!(yard.queue.len(), 2, "{kind:?}");
        assert_eq!(try_put_many(&yard.queue, &items[3..]).expect("those behind it"), 1, "{kind:?}");
        let tags = if kind == Kind::Lifo { [4, 2, 1] } else { [1, 2, 4] };
        assert_eq!(drain(&yard.queue), tags, "{kind:?}");
    }
}

#[test]
fn another_who_is_at_it_is_not_waited_for() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        assert_eq!(try_put_many(&yard.queue, &[(1, 0, b"there")]).expect("room"), 1);
        let other = yard.attach();
        let meanwhile = yard.queue.try_get(|_| Ok::<_, Infallible>(try_put_many(&other, &[(2, 0, b"next")])));
        let Ok(Ok(put)) = meanwhile else { panic!("{kind:?}: an item was there") };
        if kind == Kind::Fifo {
            assert_eq!(put.expect("one who puts does not meet one who gets"), 1);
        } else {
            assert!(matches!(put, Err(PutError::Busy(_))), "{kind:?}: {put:?}");
            assert_eq!(try_put_many(&other, &[(2, 0, b"next")]).expect("nobody is at it"), 1);
        }
        assert_eq!(drain(&other), [2], "{kind:?}");
    }
}

/// Repeats `put` until nobody is in its way; how many went in.
fn surely(mut put: impl FnMut() -> Result<usize, PutError>) -> usize {
    loop {
        match put() {
            Ok(count) => return count,
            Err(PutError::Busy(_) | PutError::Full) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn nobody_gets_in_between() {
    const GROUP: u16 = 7;
    const GROUPS: u16 = 300;
    const SINGLE: u16 = u16::MAX;
    for kind in KINDS {
        let yard = Yard::new(4 << 20, plain(kind));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for group in 0..GROUPS {
                    let tags = (0..GROUP).map(|number| group * GROUP + number);
                    let items: Vec<_> = tags.map(|tag| (tag, 1, &b"one of many"[..])).collect();
                    assert_eq!(surely(|| try_put_many(&yard.queue, &items)), usize::from(GROUP));
                }
            });
            scope.spawn(|| {
                let other = yard.attach();
                let single = Message { tag: SINGLE, priority: 1, parts: &[b"alone"] };
                for _ in 0..GROUP * GROUPS {
                    surely(|| other.try_put(&single).map(|()| 1));
                }
            });
        });
        let mut tags = drain(&yard.queue);
        if kind == Kind::Lifo {
            tags.reverse();
        }
        assert_eq!(tags.len(), 2 * usize::from(GROUP * GROUPS), "{kind:?}");
        let starts: Vec<usize> =
            (0..tags.len()).filter(|&at| tags[at] != SINGLE && tags[at].is_multiple_of(GROUP)).collect();
        let groups = starts.iter().flat_map(|&start| &tags[start..start + usize::from(GROUP)]);
        assert!(groups.copied().eq(0..GROUP * GROUPS), "{kind:?}: in order, and each group in one piece");
    }
}

#[test]
fn two_who_put_into_little_room_lose_nothing() {
    const EACH: u16 = 3_000;
    for kind in KINDS {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 10, joinable: false });
        let mut got = std::thread::scope(|scope| {
            for half in 0..2 {
                let queue = yard.attach();
                scope.spawn(move || {
                    let mut left: Vec<(u16, u128, &[u8])> = (0..EACH)
                        .map(|number| (half * EACH + number, u128::from(number), &b"x"[..]))
                        .collect();
                    while !left.is_empty() {
                        // More than there can ever be room for.
                        let wanted = left.len().min(16);
                        let count = surely(|| try_put_many(&queue, &left[..wanted]));
                        assert!((1..=10).contains(&count), "{count}");
                        left.drain(..count);
                    }
                });
            }
            let tags = (0..2 * EACH).map(|_| get(&yard.queue).expect("to come").0);
            tags.collect::<Vec<u16>>()
        });
        if kind == Kind::Fifo {
            for half in 0..2 {
                let of_one = got.iter().filter(|&&tag| tag / EACH == half);
                assert!(of_one.is_sorted(), "what one puts stays in order");
            }
        }
        got.sort_unstable();
        assert!(got.into_iter().eq(0..2 * EACH), "{kind:?}: each once");
    }
}

#[test]
fn who_waits_for_an_item_gets_one() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        std::thread::scope(|scope| {
            let consumers: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&yard.queue))).collect();
            let items = [(1, 0, &b""[..]), (2, 0, b""), (3, 0, b"")];
            assert_eq!(surely(|| try_put_many(&yard.queue, &items)), 3);
            let got = consumers.into_iter().map(|each| each.join().expect("no panic").expect("an item").0);
            let mut tags: Vec<u16> = got.collect();
            tags.sort_unstable();
            assert_eq!(tags, [1, 2, 3], "{kind:?}");
        });
        assert_eq!(yard.queue.wait_items(Patience::Now, &mut Patient), Err(GetError::Empty), "{kind:?}");
    }
}
