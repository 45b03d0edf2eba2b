//! `manyhands top`: looks, draws, waits for a key, and looks again.

use std::io::{self, ErrorKind};

use manyhands_cli::arguments::TopOptions;
use manyhands_cli::ink::Ink;
use manyhands_cli::top::clean::{Cleaned, clean};
use manyhands_cli::top::keys::Typing;
use manyhands_cli::top::screen::{self, Sheet};
use manyhands_cli::top::view::{Answer, View};
use manyhands_cli::top::{Snapshot, json, survey};
use manyhands_os::clock;
use manyhands_os::terminal::{self, Keys, Pressed};
use pyo3::prelude::*;

use super::{text_of, write};

/// The longest wait, in nanoseconds, after which signals and the size of the terminal are looked at.
const SLICE: u64 = clock::SECOND / 5;

/// How long, in nanoseconds, the rest of what a key sends may take.
const KEY: u64 = clock::SECOND / 20;

/// Columns of a table that goes to a file or a pipe.
const PRINTED: usize = 120;

pub(super) fn run(py: Python<'_>, options: &TopOptions, ink: Ink) -> PyResult<u8> {
    if let Some(names) = &options.clean {
        let Cleaned { mut said, is_complete } = py.detach(|| clean(names));
        if said.is_empty() {
            said.push("nothing was left behind".to_owned());
        }
        return Ok(print(py, &text_of(&said))?.max(u8::from(!is_complete)));
    }
    let size = terminal::size(io::stdout());
    if !options.once
        && size.is_some()
        && let Ok(keys) = Keys::of(io::stdin())
    {
        return show(py, options.interval, &keys, ink);
    }
    let columns = size.map_or(PRINTED, |(columns, _)| columns);
    let text = py.detach(|| match options.json {
        true => json::object(&survey::look()) + "\n",
        false => text_of(&screen::table(&survey::look(), "", Sheet { columns, rows: None, ink })),
    });
    print(py, &text)
}

fn print(py: Python<'_>, text: &str) -> PyResult<u8> {
    match py.detach(|| write(io::stdout(), text)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}

/// Refreshes the screen until a key ends it.
fn show(py: Python<'_>, interval: f64, keys: &Keys<io::Stdin>, ink: Ink) -> PyResult<u8> {
    py.import("manyhands._interpreter.screen_signals")?.call_method0("prepare")?;
    let _screen = py.detach(Screen::open)?;
    let pause = (interval * clock::SECOND as f64) as u64;
    let (mut view, mut typing) = (View::default(), Typing::default());
    loop {
        let (snapshot, until) = py.detach(|| look(&mut view, pause));
        if watch(py, keys, &mut typing, &mut view, &snapshot, until, ink)? == Answer::Quit {
            return Ok(0);
        }
    }
}

/// Everything, and until when that may stay.
fn look(view: &mut View, pause: u64) -> (Snapshot, u64) {
    let began = clock::now();
    let mut snapshot = survey::look();
    let now = clock::now();
    view.take_in(&mut snapshot, clock::seconds(now));
    // Where looking takes long it is done less often, so that it takes half of a CPU's time at most.
    (snapshot, now + pause.max(now - began))
}

/// Shows a snapshot as keys and the terminal's size want it, until it is time to look again or to end.
fn watch(
    py: Python<'_>,
    keys: &Keys<io::Stdin>,
    typing: &mut Typing,
    view: &mut View,
    snapshot: &Snapshot,
    until: u64,
    ink: Ink,
) -> PyResult<Answer> {
    let terminal_size = || terminal::size(io::stdout()).unwrap_or((PRINTED, 24));
    loop {
        let size = terminal_size();
        let sheet = Sheet { columns: size.0, rows: Some(size.1), ink };
        let lines = screen::screen(snapshot, view, sheet);
        py.detach(|| write(io::stdout(), &screen::redrawn(&lines)))?;
        loop {
            if clock::until(until) == 0 {
                return Ok(Answer::Look);
            }
            // In slices: a signal that arrives just before a wait does not end it.
            let slice = if typing.is_open() { KEY } else { SLICE };
            let slice = until.min(clock::now() + slice);
            let pressed = py.detach(|| keys.next(slice))?;
            py.check_signals()?;
            let key = match pressed {
                Pressed::Gone => return Ok(Answer::Quit),
                Pressed::Key(byte) => typing.byte(byte),
                Pressed::Nothing => typing.pause(),
            };
            match key.map(|key| view.press(key)) {
                None if terminal_size() == size => {}
                None | Some(Answer::Draw) => break,
                Some(answer) => return Ok(answer),
            }
        }
    }
}

/// A screen of our own over the one that was there, which comes back when this is dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        write(io::stdout(), screen::OPEN)?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing any more.
        let _ = write(io::stdout(), screen::CLOSE);
    }
}
