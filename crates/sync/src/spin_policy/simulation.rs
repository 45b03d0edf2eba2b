//! The policy in a made-up machine: two parties that answer each other, CPUs, a scheduler, and others who want CPUs.
//!
//! What is modelled: time slices, wake-ups that take long on an idle CPU and push others aside on a busy one, idle CPUs that
//! take over what waits elsewhere. Nothing here is random, and no clock is read.

use std::collections::VecDeque;

use super::machine::Machine;
use super::waits::{Wait, Waits};

/// Nanoseconds of one step; everything takes a multiple of it.
const STEP: u64 = 500;
/// How long a thread keeps its CPU when others wait for it.
const SLICE: u64 = 3_000_000;
/// A thread that has run for less than this is not pushed aside by one that wakes.
const PUSHED_ASIDE: u64 = 700_000;
/// From a wake-up on a busy CPU until the woken one may run.
const SWITCH: u64 = 3_000;
/// The system call of one who wakes another one, or goes to sleep.
const CALL: u64 = 2_000;
/// What a wait takes before the policy is asked.
const FIRST_LOOKS: u64 = 500;

/// A machine, and what else it does.
#[derive(Clone, Copy)]
struct World {
    cpus: usize,
    /// From a wake-up on an idle CPU until the woken one runs.
    waking: u64,
    /// Threads that always want to run.
    hogs: usize,
    /// Whether both parties may run on the first CPU only.
    pinned: bool,
    /// How long each party works before it answers.
    work: [u64; 2],
}

const IDLE: World = World { cpus: 2, waking: 50_000, hogs: 0, pinned: false, work: [1000, 1000] };

/// What decides how long to spin.
#[derive(Clone, Copy)]
enum Rule {
    Policy,
    /// Always for so long.
    Fixed(u64),
}

#[derive(Clone, Copy)]
enum Doing {
    /// Busy until then: in CPU time of its own.
    Work(u64),
    Call(u64),
    FirstLooks(u64),
    Look {
        end: u64,
    },
    /// Has to fall asleep.
    Retire(u64),
    Asleep,
}

struct Party {
    rule: Rule,
    doing: Doing,
    waits: Waits,
    machine: Machine,
    wait: Option<Wait>,
    seen: u64,
    woke_at: u64,
    used: u64,
}

struct Cpu {
    runs: Option<usize>,
    since: u64,
    queue: VecDeque<usize>,
}

/// What came of some round trips.
#[derive(Debug)]
struct Outcome {
    /// Nanoseconds a trip, in the mean.
    mean: u64,
    /// CPU time of both parties a trip.
    used: u64,
}

struct Simulation {
    world: World,
    now: u64,
    parties: [Party; 2],
    cpus: Vec<Cpu>,
    /// Those who wake: when, where, who.
    waking: Vec<(u64, usize, usize)>,
    last_cpu: [usize; 2],
    turn: usize,
    trips: u64,
}

impl Simulation {
    fn new(world: World, rule: Rule) -> Self {
        let party = |doing| Party {
            rule,
            doing,
            waits: Waits::new(),
            machine: Machine::new(),
            wait: None,
            seen: 0,
            woke_at: 0,
            used: 0,
        };
        let mut cpus: Vec<_> =
            (0..world.cpus).map(|_| Cpu { runs: None, since: 0, queue: VecDeque::new() }).collect();
        cpus[0].runs = Some(0);
        let mut simulation = Self {
            world,
            // The first nanosecond of a clock means "never" in places.
            now: 1_000_000,
            parties: [party(Doing::Work(world.work[0])), party(Doing::Asleep)],
            cpus,
            waking: Vec::new(),
            last_cpu: [0, (world.cpus - 1) * usize::from(!world.pinned)],
            turn: 0,
            trips: 0,
        };
        simulation.set_hogs(world.hogs);
        simulation
    }

    /// From now on so many others want to run.
    fn set_hogs(&mut self, hogs: usize) {
        for cpu in &mut self.cpus {
            cpu.queue.retain(|thread| *thread < 2);
            cpu.runs = cpu.runs.filter(|thread| *thread < 2);
        }
        for hog in 0..hogs {
            let cpus = self.cpus.len();
            self.cpus[cpus - 1 - hog % cpus].queue.push_back(2 + hog);
        }
    }

    /// Makes so many round trips.
    fn run(&mut self, trips: u64) -> Outcome {
        let (end, begun) = (self.trips + trips, self.now);
        let used = |parties: &[Party; 2]| parties.iter().map(|party| party.used).sum::<u64>();
        let before = used(&self.parties);
        while self.trips < end {
            self.step();
            assert!(self.now < begun + 20_000_000_000, "it does not end");
        }
        Outcome { mean: (self.now - begun) / trips, used: (used(&self.parties) - before) / trips }
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        let (ready, still): (Vec<_>, Vec<_>) = self.waking.iter().partition(|(at, _, _)| *at <= now);
        self.waking = still;
        for (_, place, party) in ready {
            let cpu = &mut self.cpus[place];
            match cpu.runs {
                Some(other) if other >= 2 || now - cpu.since >= PUSHED_ASIDE => {
                    cpu.queue.push_back(other);
                    (cpu.runs, cpu.since) = (Some(party), now);
                }
                Some(_) => cpu.queue.push_front(party),
                None => (cpu.runs, cpu.since) = (Some(party), now),
            }
        }
        for place in 0..self.cpus.len() {
            self.schedule(place);
            if let Some(thread @ 0..2) = self.cpus[place].runs {
                self.last_cpu[thread] = place;
                self.parties[thread].used += STEP;
                if self.act(thread) {
                    self.cpus[place].runs = None;
                }
            }
        }
    }

    fn schedule(&mut self, place: usize) {
        let now = self.now;
        let over = |cpu: &Cpu| now - cpu.since >= SLICE && !cpu.queue.is_empty();
        if over(&self.cpus[place]) {
            let cpu = &mut self.cpus[place];
            cpu.queue.extend(cpu.runs.take());
        }
        if self.cpus[place].runs.is_none() {
            let next = self.cpus[place].queue.pop_front().or_else(|| self.take_over(place));
            let cpu = &mut self.cpus[place];
            (cpu.runs, cpu.since) = (next, now);
        }
    }

    /// An idle CPU takes over what waits for another one.
    fn take_over(&mut self, place: usize) -> Option<usize> {
        let pinned = self.world.pinned;
        let may_move = |thread: &usize| !pinned || *thread >= 2 || place == 0;
        self.cpus.iter_mut().find_map(|cpu| {
            let at = cpu.queue.iter().position(may_move)?;
            cpu.queue.remove(at)
        })
    }

    /// One step of a party; whether it sleeps now.
    fn act(&mut self, me: usize) -> bool {
        let (now, mine) = (self.now, self.turn == me);
        let party = &mut self.parties[me];
        match &mut party.doing {
            Doing::Work(left) | Doing::Call(left) | Doing::FirstLooks(left) | Doing::Retire(left)
                if *left > STEP =>
            {
                *left -= STEP;
            }
            Doing::Work(_) => self.answer(me),
            Doing::Call(_) => party.doing = Doing::FirstLooks(FIRST_LOOKS),
            Doing::FirstLooks(_) if mine => self.receive(me, None),
            Doing::FirstLooks(_) => {
                let wait = party.waits.begin(now, std::mem::take(&mut party.woke_at), &party.machine);
                (party.wait, party.seen) = (Some(wait), now);
                let end = match party.rule {
                    Rule::Policy => wait.end(),
                    Rule::Fixed(length) => now + length,
                };
                party.doing = Doing::Look { end };
            }
            Doing::Look { end } => {
                let wait = party.wait.as_mut().expect("begun");
                wait.look(party.seen, now);
                party.seen = now;
                let present = wait.was_present();
                if !mine && now < *end && present {
                    return false;
                }
                wait.tell(&party.machine);
                if mine {
                    self.receive(me, present.then_some(true));
                } else {
                    party.doing = Doing::Retire(CALL);
                }
            }
            Doing::Retire(_) | Doing::Asleep if mine => self.receive(me, Some(false)),
            Doing::Retire(_) | Doing::Asleep => {
                party.doing = Doing::Asleep;
                return true;
            }
        }
        false
    }

    /// What it waited for is there.
    fn receive(&mut self, me: usize, looked: Option<bool>) {
        let (now, work) = (self.now, self.world.work[me]);
        let party = &mut self.parties[me];
        if let (Some(wait), Some(looked)) = (party.wait.take(), looked) {
            party.waits.found(&wait, now, looked, &party.machine);
        }
        party.doing = Doing::Work(work);
        if me == 0 {
            self.trips += 1;
        }
    }

    fn answer(&mut self, me: usize) {
        let other = 1 - me;
        self.turn = other;
        let asleep = matches!(self.parties[other].doing, Doing::Asleep)
            && self.waking.iter().all(|(_, _, thread)| *thread != other);
        if !asleep {
            self.parties[me].doing = Doing::FirstLooks(FIRST_LOOKS);
            return;
        }
        let places = if self.world.pinned { 1 } else { self.cpus.len() };
        let idle = (0..places).find(|place| {
            self.cpus[*place].runs.is_none() && self.waking.iter().all(|(_, where_to, _)| where_to != place)
        });
        let (place, latency) =
            idle.map_or((self.last_cpu[other], SWITCH), |place| (place, self.world.waking));
        self.waking.push((self.now + latency, place, other));
        self.parties[me].woke_at = self.now;
        self.parties[me].doing = Doing::Call(CALL);
    }
}

/// A trip in the mean, when things have settled.
fn settled(world: World, rule: Rule) -> Outcome {
    let mut simulation = Simulation::new(world, rule);
    simulation.run(200);
    simulation.run(if world.work[0] > 100_000 { 100 } else { 1500 })
}

fn best_fixed(world: World) -> u64 {
    let means = [0, 5_000, 20_000, 110_000].map(|length| settled(world, Rule::Fixed(length)).mean);
    means.into_iter().min().expect("four")
}

/// In each of these worlds another length is best, and none is good in all.
#[test]
fn nearly_as_fast_as_the_best_fixed_length() {
    let worlds = [
        ("idle", IDLE),
        ("slow to wake", World { waking: 90_000, ..IDLE }),
        ("one hog", World { hogs: 1, ..IDLE }),
        ("two hogs", World { hogs: 2, ..IDLE }),
        ("four hogs", World { hogs: 4, ..IDLE }),
        ("one CPU for both", World { pinned: true, ..IDLE }),
        ("one CPU for both and a hog", World { pinned: true, cpus: 1, hogs: 1, ..IDLE }),
        ("more CPUs than threads", World { cpus: 4, hogs: 2, ..IDLE }),
        ("30 us of work", World { work: [1000, 30_000], ..IDLE }),
        ("300 us of work", World { work: [1000, 300_000], ..IDLE }),
    ];
    for (name, world) in worlds {
        let (policy, best) = (settled(world, Rule::Policy), best_fixed(world));
        assert!(policy.mean <= best * 5 / 4, "{name}: {policy:?}, and {best} is possible");
    }
}

/// A thread that sleeps at once wakes the other one each time, and so does the other.
#[test]
fn two_that_wake_each_other_find_out() {
    let mut simulation = Simulation::new(World { work: [2_000_000, 1000], ..IDLE }, Rule::Policy);
    simulation.run(100);
    simulation.world.work[0] = 1000;
    simulation.run(100);
    let (after, best) = (simulation.run(1000), best_fixed(IDLE));
    assert!(after.mean <= best * 5 / 4, "{after:?}, and {best} is possible");
}

#[test]
fn others_that_come_and_go_are_noticed() {
    let mut simulation = Simulation::new(IDLE, Rule::Policy);
    simulation.run(1000);
    for hogs in [4, 0, 1, 0, 2] {
        simulation.set_hogs(hogs);
        simulation.run(1000);
        let (after, best) = (simulation.run(2000), best_fixed(World { hogs, ..IDLE }));
        assert!(after.mean <= best * 2, "{hogs} hogs: {after:?}, and {best} is possible");
    }
}

/// Looking is paid for in CPU time, which nobody has to spare for waits that are long.
#[test]
fn a_slow_pace_costs_little() {
    let extra = |work, rule| settled(World { work, ..IDLE }, rule).used - work.iter().sum::<u64>();
    // Until one who has to be woken answers, looking is worth it: it costs as long as that takes, and no more.
    for work in [[500_000, 1000], [2_000_000, 1000]] {
        let (policy, sleeping) = (extra(work, Rule::Policy), extra(work, Rule::Fixed(0)));
        assert!(policy < sleeping + IDLE.waking * 5 / 4, "{policy}, and {sleeping} is possible");
    }
    // Where both take long, it is not.
    let (policy, sleeping) = ([Rule::Policy, Rule::Fixed(0)]).map(|rule| extra([1_000_000; 2], rule)).into();
    assert!(policy < 2 * sleeping, "{policy}, and {sleeping} is possible");
}
