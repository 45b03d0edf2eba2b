//! `manyhands top`: looks, draws, waits for a key, and looks again.

use std::io::{self, ErrorKind};

use manyhands_cli::arguments::TopOptions;
use manyhands_cli::ink::Ink;
use manyhands_cli::top::clean::clean;
use manyhands_cli::top::screen::{self, Sheet};
use manyhands_cli::top::{json, survey};
use manyhands_os::clock;
use manyhands_os::terminal::{self, Keys, Pressed};
use pyo3::prelude::*;

use super::{text_of, write};

/// Columns of a table that goes to a file or a pipe.
const PRINTED: usize = 120;

pub(super) fn run(py: Python<'_>, options: &TopOptions, ink: Ink) -> PyResult<u8> {
    if options.clean {
        let mut said = py.detach(clean);
        if said.is_empty() {
            said.push("nothing was left behind".to_owned());
        }
        return print(py, &text_of(&said));
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
    loop {
        py.check_signals()?;
        let pressed = py.detach(|| -> io::Result<Pressed> {
            let began = clock::now();
            let snapshot = survey::look();
            let (columns, rows) = terminal::size(io::stdout()).unwrap_or((PRINTED, 24));
            let sheet = Sheet { columns, rows: Some(rows), ink };
            write(io::stdout(), &screen::redrawn(&screen::table(&snapshot, "q: quit", sheet)))?;
            // Where looking takes long it is done less often, so that it takes half of a CPU's time at most.
            let took = clock::now() - began;
            let pause = (interval * clock::SECOND as f64) as u64;
            keys.next(clock::now() + pause.max(took))
        });
        match pressed {
            Ok(Pressed::Key(b'q' | b'Q')) | Ok(Pressed::Gone) => return Ok(0),
            Ok(Pressed::Key(_) | Pressed::Nothing) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(error.into()),
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
