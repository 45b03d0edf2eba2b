//! `manyhands top`: looks, draws, waits for a key, and looks again.

use std::io::{self, ErrorKind};

use manyhands_cli::arguments::TopOptions;
use manyhands_cli::ink::Ink;
use manyhands_cli::top::clean::{Cleaned, clean};
use manyhands_cli::top::screen::{self, Sheet};
use manyhands_cli::top::{json, survey};
use manyhands_os::clock;
use manyhands_os::terminal::{self, Keys, Pressed};
use pyo3::prelude::*;

use super::{text_of, write};

/// The longest wait, in nanoseconds, after which signals and the size of the terminal are looked at.
const SLICE: u64 = clock::SECOND / 5;

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
    py.import("manyhands._screen_signals")?.call_method0("prepare")?;
    let _screen = py.detach(Screen::open)?;
    let pause = (interval * clock::SECOND as f64) as u64;
    loop {
        let size = terminal::size(io::stdout()).unwrap_or((PRINTED, 24));
        let until = py.detach(|| draw(size, pause, ink))?;
        if wait(py, keys, until, size)? {
            return Ok(0);
        }
    }
}

/// Looks and draws; returns until when that may stay.
fn draw((columns, rows): (usize, usize), pause: u64, ink: Ink) -> io::Result<u64> {
    let began = clock::now();
    let sheet = Sheet { columns, rows: Some(rows), ink };
    let lines = screen::table(&survey::look(), "q: quit", sheet);
    write(io::stdout(), &screen::redrawn(&lines))?;
    let now = clock::now();
    // Where looking takes long it is done less often, so that it takes half of a CPU's time at most.
    Ok(now + pause.max(now - began))
}

/// Waits until it is time to look again, a key is pressed or the terminal has another size; whether it is to end.
fn wait(py: Python<'_>, keys: &Keys<io::Stdin>, until: u64, size: (usize, usize)) -> PyResult<bool> {
    while clock::until(until) > 0 && terminal::size(io::stdout()).is_none_or(|now| now == size) {
        // In slices: a signal that arrives just before a wait does not end it.
        let slice = until.min(clock::now() + SLICE);
        let pressed = py.detach(|| keys.next(slice))?;
        py.check_signals()?;
        match pressed {
            Pressed::Key(b'q' | b'Q') | Pressed::Gone => return Ok(true),
            Pressed::Key(_) => return Ok(false),
            Pressed::Nothing => {}
        }
    }
    Ok(false)
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
