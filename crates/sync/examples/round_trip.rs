//! How long two threads take to pass a ball to and fro: `cargo run --release -p manyhands-sync --example round_trip`.

use std::io::{self, Write};

use manyhands_os::clock;
use manyhands_sync::atomic::{AtomicU32, Ordering};
use manyhands_sync::{EventCount, SpinPolicy};

/// Two words for the one who waits.
#[derive(Default)]
struct Words {
    sequence: AtomicU32,
    sleepers: AtomicU32,
}

impl Words {
    fn events(&self) -> EventCount<'_> {
        EventCount::new(&self.sequence, &self.sleepers)
    }
}

const TURNS: u32 = 50_000;

/// Plays the turns that are even or odd, as `parity` says.
fn play(turn: &AtomicU32, parity: u32, spin: &SpinPolicy, mine: &Words, theirs: &Words) {
    for _ in 0..TURNS / 2 {
        let my_turn = || (turn.load(Ordering::Acquire) % 2 == parity).then_some(());
        while mine.events().wait_for(spin, None, my_turn).is_err() {}
        // pairs with: my_turn of the other side (Acquire)
        turn.fetch_add(1, Ordering::Release);
        theirs.events().notify(1);
    }
}

fn main() -> io::Result<()> {
    let policies = [("sleeping", SpinPolicy::none()), ("spinning first", SpinPolicy::new())];
    for (what, spin) in policies {
        let (turn, here, there) = (AtomicU32::new(0), Words::default(), Words::default());
        let start = clock::now();
        std::thread::scope(|scope| {
            scope.spawn(|| play(&turn, 0, &spin, &here, &there));
            play(&turn, 1, &spin, &there, &here);
        });
        let each = (clock::now() - start) as f64 / f64::from(TURNS / 2) / 1e3;
        writeln!(io::stdout(), "{what:16}{each:8.2} µs per round trip")?;
    }
    let nobody = Words::default();
    let start = clock::now();
    for _ in 0..1_000_000 {
        nobody.events().notify(1);
    }
    let each = (clock::now() - start) as f64 / 1e6;
    writeln!(io::stdout(), "notify where nobody waits: {each:.1} ns")
}
