//! What a thread of Python does while it waits: detached from the interpreter, it runs signal handlers when signals
//! arrive, ends when its task is asked to stop, and can tell where it is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use manyhands_os::process::{self, identity};
use manyhands_sync::deadlock::Member;
use manyhands_sync::names;
use manyhands_sync::waiting::{Stopped, Waiting};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::interpreter::asked::{is_asked, stop_if_asked};
use crate::interpreter::ending::is_ending;
use crate::interpreter::imports;

/// The waiting thread.
#[derive(Default)]
struct Thread {
    /// What a signal handler raised.
    error: Option<PyErr>,
    /// Whether it is the one that runs signal handlers, once that has mattered.
    handles_signals: Option<bool>,
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let main = imports::main_thread(py)?.call0()?.getattr(intern!(py, "ident"))?;
    imports::get_ident(py)?.call0()?.eq(main)
}

/// Once the interpreter has ended, attaching a waiting daemon thread to it may crash.
fn may_attach() -> bool {
    let first = u32::try_from(identity().pid()) == Ok(process::thread_id());
    first || !is_ending()
}

impl Waiting for Thread {
    fn pause(&mut self) -> ControlFlow<()> {
        // Signal handlers run in the main thread only; the others need the interpreter once, to learn that.
        if self.handles_signals == Some(false) && !is_asked() {
            return ControlFlow::Continue(());
        }
        if !may_attach() {
            return ControlFlow::Continue(());
        }
        let looked = Python::attach(|py| {
            py.check_signals()?;
            if self.handles_signals.is_none() {
                // Calls Python, so here, too, a signal handler may run and raise.
                self.handles_signals = Some(is_main_thread(py)?);
            }
            stop_if_asked(py)
        });
        match looked {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn stack(&mut self) -> String {
        if !may_attach() {
            return String::new();
        }
        let text =
            Python::attach(|py| imports::own_stack(py).and_then(|stack| stack.call0()?.extract::<String>()));
        text.unwrap_or_default()
    }
}

/// Runs `wait` detached from the interpreter.
///
/// `Ok(None)`: its time was up first.
///
/// # Errors
/// What a signal handler raised; DeadlockError; TaskCancelled.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    wait: impl FnOnce(&mut dyn Waiting) -> Result<T, Stopped> + Send,
) -> PyResult<Option<T>> {
    let mut thread = Thread::default();
    let outcome = py.detach(|| {
        crate::interpreter::parker::count_detachment();
        wait(&mut thread)
    });
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Stopped::TimedOut) => {
            // A deadline that has passed already is no reason to let Ctrl-C wait.
            py.check_signals()?;
            Ok(None)
        }
        Err(Stopped::Broken) => Err(thread.error.unwrap_or_else(|| {
            // Never, as only an error ends a wait so.
            imports::error(py, imports::manyhands_error, Some("a wait ended for no reason".to_owned()))
        })),
        Err(Stopped::Deadlock(members)) => Err(deadlock(py, &members)),
    }
}

/// A thread that comes back with what it waits for, whatever happens in the meantime.
#[derive(Default)]
struct Steadfast(Thread);

impl Waiting for Steadfast {
    fn pause(&mut self) -> ControlFlow<()> {
        let first = self.0.error.take();
        _ = self.0.pause();
        self.0.error = first.or(self.0.error.take());
        ControlFlow::Continue(())
    }

    fn stack(&mut self) -> String {
        self.0.stack()
    }

    fn is_steadfast(&self) -> bool {
        true
    }
}

/// As [`wait`], for a lock that the caller must not come back without: what a signal handler raised in the meantime comes
/// beside it.
///
/// # Errors
/// DeadlockError.
pub(crate) fn wait_through<T: Send>(
    py: Python<'_>,
    wait: impl FnOnce(&mut dyn Waiting) -> Result<T, Stopped> + Send,
) -> PyResult<(Option<T>, Option<PyErr>)> {
    let mut thread = Steadfast::default();
    let outcome = py.detach(|| {
        crate::interpreter::parker::count_detachment();
        wait(&mut thread)
    });
    match outcome {
        Ok(value) => Ok((Some(value), thread.0.error)),
        Err(Stopped::Deadlock(members)) => Err(deadlock(py, &members)),
        Err(Stopped::TimedOut | Stopped::Broken) => Ok((None, thread.0.error)),
    }
}

/// Runs `wait` detached from the interpreter, where it says in its own way why it ended.
///
/// # Errors
/// What a signal handler raised; TaskCancelled.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    wait: impl FnOnce(&mut dyn Waiting) -> T + Send,
) -> PyResult<T> {
    let mut thread = Thread::default();
    let outcome = py.detach(|| {
        crate::interpreter::parker::count_detachment();
        wait(&mut thread)
    });
    thread.error.map_or(Ok(outcome), Err)
}

fn deadlock(py: Python<'_>, members: &[Member]) -> PyErr {
    let tell = || {
        // Looks through all processes, so once for all members.
        let names = names::entries();
        let members: Vec<_> = members
            .iter()
            .map(|member| (member.identity.pid(), member.thread, lock_of(member, &names), &member.stack))
            .collect();
        imports::make_deadlock_error(py)?.call1((PyTuple::new(py, members)?,))
    };
    tell().map_or_else(|error| error, PyErr::from_value)
}

/// What a member waits for, in words: its name, or the number that its repr shows.
fn lock_of(member: &Member, names: &BTreeMap<u64, names::Entry>) -> String {
    let entry = names.get(&member.segment);
    match entry.and_then(|entry| entry.name.as_ref()) {
        Some(name) => format!("{:?} {name:?}", member.kind),
        None => format!("{:?} {:#x}", member.kind, member.key),
    }
}

/// (process id, thread) of the caller.
pub(crate) fn caller() -> (manyhands_os::process::Identity, u32) {
    (identity(), process::thread_id())
}
