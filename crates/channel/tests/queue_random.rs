//! Queues against a model: random sequences of what can be done with them, with items of all sizes.
// Neither loom nor Miri knows shared memory.
#![cfg(not(any(loom, miri)))]

mod yard;

use std::collections::BTreeMap;

use manyhands_channel::queue::{Batch, GetError, Kind, Message, Options, PutError, TaskError};
use proptest::prelude::*;
use yard::{Yard, try_get};

#[derive(Clone, Debug)]
enum Step {
    Put { len: usize, priority: u8 },
    PutMany { lens: Vec<usize> },
    Get,
    GetMany { most: usize, bytes: usize },
    Refuse { most: usize },
    Done { count: u32 },
    Trim,
    Close { immediate: bool },
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..40_usize, 4 => 0..3000_usize, 2 => 3000..70_000_usize, 1 => 70_000..400_000_usize]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (len(), 0..4_u8).prop_map(|(len, priority)| Step::Put { len, priority }),
        10 => prop::collection::vec(len(), 0..30).prop_map(|lens| Step::PutMany { lens }),
        30 => Just(Step::Get),
        10 => (1..40_usize, 1..100_000_usize).prop_map(|(most, bytes)| Step::GetMany { most, bytes }),
        4 => (1..5_usize).prop_map(|most| Step::Refuse { most }),
        10 => (1..4_u32).prop_map(|count| Step::Done { count }),
        4 => Just(Step::Trim),
    ];
    let close = prop_oneof![
        9 => Just(Vec::new()),
        1 => any::<bool>().prop_map(|immediate| vec![Step::Close { immediate }]),
    ];
    (prop::collection::vec(step.clone(), 1..200), close, prop::collection::vec(step, 0..20))
        .prop_map(|(before, close, after)| [before, close, after].concat())
}

/// What a queue should hold: by what decides the order, number and length of each item.
struct Model {
    options: Options,
    items: BTreeMap<(i64, i64), (u64, usize)>,
    next: u64,
    taken: i64,
    closed: bool,
    gone: bool,
}

impl Model {
    fn add(&mut self, len: usize, priority: u8) {
        let number = self.next as i64;
        let place = match self.options.kind {
            Kind::Fifo => (0, number),
            Kind::Lifo => (0, -number),
            Kind::Priority => (i64::from(priority), number),
        };
        self.items.insert(place, (self.next, len));
        self.next += 1;
    }

    fn room(&self) -> usize {
        match self.options.maxsize {
            0 => usize::MAX,
            most => most as usize - self.items.len(),
        }
    }

    fn remove(&mut self) -> (u64, usize) {
        self.taken += 1;
        self.items.pop_first().expect("an item").1
    }

    fn nothing(&self) -> GetError {
        if self.closed { GetError::Closed } else { GetError::Empty }
    }
}

fn content(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|index| (number as usize * 31 + index) as u8).collect()
}

fn check(item: (u16, &[u8]), expected: (u64, usize)) {
    assert_eq!((item.0, item.1.len()), (expected.0 as u16, expected.1));
    assert!(item.1 == content(expected.0, expected.1), "item {} has other bytes", expected.0);
}

struct World {
    yard: Yard,
    other: manyhands_channel::queue::Queue,
    model: Model,
}

impl World {
    fn new(options: Options) -> Self {
        let yard = Yard::new(1 << 20, options);
        let other = yard.attach();
        let model = Model { options, items: BTreeMap::new(), next: 0, taken: 0, closed: false, gone: false };
        Self { yard, other, model }
    }

    fn step(&mut self, step: Step) {
        let (queue, model) = (&self.yard.queue, &mut self.model);
        match step {
            Step::Put { len, priority } => {
                let bytes = content(model.next, len);
                let parts: [&[u8]; 2] = [&bytes[..len / 2], &bytes[len / 2..]];
                let message = Message { tag: model.next as u16, priority: priority.into(), parts: &parts };
                match queue.try_put(&message) {
                    Ok(()) => {
                        assert!(!model.closed && model.room() > 0);
                        model.add(len, priority);
                    }
                    Err(PutError::Closed) => assert!(model.closed),
                    // Whether memory suffices is not for the model to say, but an empty queue has room.
                    Err(PutError::Full) => assert!(model.room() == 0 || model.items.len() > 1),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::PutMany { lens } => self.put_many(&lens),
            Step::Get => match try_get(&self.other) {
                Ok((tag, bytes)) => check((tag, &bytes), model.remove()),
                Err(error) => assert!(model.items.is_empty() && error == model.nothing()),
            },
            Step::GetMany { most, bytes } => {
                let mut batch = Batch::default();
                match self.other.try_get_batch(most, bytes, &mut batch) {
                    Ok(count) => {
                        assert!(count <= most && count == batch.len());
                        batch.iter().for_each(|item| check(item, model.remove()));
                    }
                    Err(error) => assert!(model.items.is_empty() && error == model.nothing()),
                }
            }
            Step::Refuse { most } => {
                let mut left = most.min(model.items.len());
                let outcome = queue.try_get_many(most, |_| {
                    left -= 1;
                    if left == 0 { Err(()) } else { Ok(()) }
                });
                let expected = if model.items.is_empty() { Err(model.nothing()) } else { Ok(Err(())) };
                assert_eq!(outcome, expected);
            }
            Step::Done { count } => {
                let left = model.taken + model.items.len() as i64;
                let expected = if i64::from(count) <= left { Ok(()) } else { Err(TaskError::TooOften) };
                assert_eq!(queue.try_task_done(count), expected);
                if expected.is_ok() {
                    model.taken -= i64::from(count);
                }
            }
            Step::Trim => {
                queue.trim();
            }
            Step::Close { immediate } => {
                queue.try_close(immediate).expect("closed");
                model.closed = true;
                if immediate {
                    model.gone = true;
                    model.items.clear();
                }
            }
        }
    }

    fn put_many(&mut self, lens: &[usize]) {
        let (queue, model) = (&self.yard.queue, &mut self.model);
        let mut batch = Batch::default();
        for (index, len) in lens.iter().enumerate() {
            let number = model.next + index as u64;
            batch.push(number as u16, &[&content(number, *len)]);
        }
        let count = match queue.try_put_batch(&mut batch) {
            Ok(count) => count,
            Err(PutError::Closed) if model.closed => 0,
            Err(PutError::Full) if model.room() == 0 || model.items.len() > 1 => 0,
            Err(error) => panic!("{error} with {} items", model.items.len()),
        };
        assert!(count <= model.room() && batch.len() == lens.len() - count);
        lens[..count].iter().for_each(|len| model.add(*len, 0));
    }

    fn check(&self) {
        let (queue, model) = (&self.yard.queue, &self.model);
        assert_eq!(queue.len(), model.items.len());
        let statistics = self.other.statistics();
        assert_eq!(statistics.puts, model.next);
        if !model.gone {
            assert_eq!(statistics.puts - statistics.gets, model.items.len() as u64);
        }
        let left = (model.taken + model.items.len() as i64).max(0) as u64;
        assert_eq!(queue.unfinished().map(|unfinished| unfinished.count), Ok(left));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queues_do_what_the_model_does(
        kind in prop_oneof![Just(Kind::Fifo), Just(Kind::Lifo), Just(Kind::Priority)],
        maxsize in prop_oneof![Just(0), 1..40_u32],
        steps in steps(),
    ) {
        let mut world = World::new(Options { kind, maxsize, joinable: true });
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}
