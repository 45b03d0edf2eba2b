//! The worker's loop: claim a task, call its function, answer.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use manyhands_channel::arena::{Arena, Block, BlockRef};
use manyhands_channel::submission_ring::Entry;
use manyhands_os::{clock, park, process, procfs, socket};
use manyhands_pool::output_pipes::{frame, kind};
use manyhands_pool::slots::{Encoding, Finish, Head, RESULT_INLINE, flag};
use manyhands_pool::worker::{Next, WorkerSide};
use manyhands_sync::Spent;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::codec::compact;
use crate::codec::payload::{self, Pickled};
use crate::interpreter::{ffi, imports, spare};
use crate::memory::shared_heap;

/// Functions that a worker keeps; beyond that it starts afresh.
const MOST_FUNCTIONS: usize = 1024;

/// For so many nanoseconds a worker without tasks only waits: looking at what a task may have changed takes longer than a
/// small task, and whoever calls one after another would wait for it where both have one CPU. Longer than a tick of the
/// system's clock: to have a timer set for a time before the next one takes microseconds on a virtual machine.
const MOMENT: u64 = 20 * clock::MILLISECOND;

/// Freed shared memory that an idle worker keeps for its next results.
const KEPT_BYTES: usize = 16 << 20;

/// This process's worker, and what it runs, as [`Entry::to_note`] has it; 0 between tasks. The handler of SIGINT looks here.
static SIDE: OnceLock<Arc<WorkerSide>> = OnceLock::new();
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// Whether the function that runs at this moment belongs to a task that has been asked to stop.
#[pyfunction]
pub(crate) fn cancel_requested() -> bool {
    let running = Entry::from_note(RUNNING.load(Ordering::Relaxed));
    running.zip(SIDE.get()).is_some_and(|(entry, side)| side.is_cancelling(entry))
}

/// What a worker's `sys.unraisablehook` does: where the exception that asks a task to stop has come up in a place that
/// lets none out, a destructor, say, the task is asked once more. All others go to `hook`, the one before.
///
/// Not in Python: its next step would run the handler of SIGINT within this call, which lets nothing out either.
///
/// # Errors
/// What `hook` raises.
#[pyfunction]
pub(crate) fn ask_again_if_ignored(hook: &Bound<'_, PyAny>, unraisable: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = unraisable.py();
    let class = unraisable.getattr(intern!(py, "exc_type"))?;
    if class.is(imports::task_cancelled(py)?) && cancel_requested() {
        imports::interrupt_main(py)?.call0()?;
    } else {
        hook.call1((unraisable,))?;
    }
    Ok(())
}

fn asked_to_stop(py: Python<'_>) -> PyErr {
    imports::error(py, imports::task_cancelled, Some("the task was asked to stop".to_owned()))
}

/// Runs tasks in a worker process.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct WorkerLoop {
    side: Arc<WorkerSide>,
    arena: Arc<Arena>,
    pid: i32,
    reports_fd: RawFd,
    most_tasks: u64,
    most_bytes: u64,
}

/// The Python functions that a worker needs, bound once.
struct Hooks<'py> {
    loads: Bound<'py, PyAny>,
    note_arrival: Bound<'py, PyAny>,
    dumps: Bound<'py, PyAny>,
    dump_exception: Bound<'py, PyAny>,
    apply_context: Bound<'py, PyAny>,
    carry: Bound<'py, PyAny>,
    finish_task: Bound<'py, PyAny>,
    idle: Bound<'py, PyAny>,
    get_ready: Bound<'py, PyAny>,
    fresh_context: Bound<'py, PyAny>,
    functions: HashMap<u64, Bound<'py, PyAny>>,
}

/// A task, read.
struct Call<'py> {
    function: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    kwargs: Option<Bound<'py, PyDict>>,
    context: Bound<'py, PyAny>,
}

#[pymethods]
impl WorkerLoop {
    /// The loop of one worker. `control` and `status` are offsets of the pool's block and of the worker's own;
    /// `most_tasks` and `most_bytes` (resident) are limits after which it ends, 0 for none.
    #[new]
    fn new(
        participant: u16,
        control: usize,
        status: usize,
        reports_fd: RawFd,
        most_tasks: u64,
        most_bytes: u64,
    ) -> PyResult<Self> {
        // The zygote's parent is the root of the segment; the zygote's child is us.
        let arena = shared_heap::join_parent(participant)?;
        spare::keep();
        let side = Arc::new(WorkerSide::new(shared_heap::parent_segment()?, participant, control, status));
        if SIDE.set(Arc::clone(&side)).is_err() {
            return Err(PyRuntimeError::new_err("this process is already a worker"));
        }
        Ok(Self { side, arena, pid: process::pid(), reports_fd, most_tasks, most_bytes })
    }

    /// Runs tasks until no more will come.
    fn run(&self, py: Python<'_>, hooks: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut hooks = Hooks::bind(hooks)?;
        loop {
            let soon = self.side.try_next().map_or_else(|| py.detach(|| self.side.spin_next()), Ok);
            let next = match soon {
                Ok(next) => next,
                Err(spent) => self.rest(py, &hooks, spent)?,
            };
            match next {
                Next::End => return Ok(()),
                Next::Interrupted | Next::Nothing => py.check_signals()?,
                Next::Task(entry) => {
                    self.run_task(py, &mut hooks, entry);
                    if self.is_spent() {
                        self.side.announce_deferred();
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl WorkerLoop {
    /// Sleeps until there is a task. Once there has been none for a moment, it looks at what the last one may have
    /// changed; once there has been none for longer, it imports what it will need on bad days, and gives back the memory
    /// of its own results, which only this worker can.
    fn rest(&self, py: Python<'_>, hooks: &Hooks<'_>, spent: Spent<'_>) -> PyResult<Next> {
        let sleep = |nanoseconds| py.detach(|| self.side.wait_next(spent, nanoseconds));
        let next = sleep(Some(MOMENT));
        if !matches!(next, Next::Nothing) {
            return Ok(next);
        }
        hooks.idle.call0()?;
        let next = sleep(Some(clock::SECOND));
        if !matches!(next, Next::Nothing) {
            return Ok(next);
        }
        if let Err(error) = hooks.get_ready.call0() {
            error.write_unraisable(py, None);
        }
        py.detach(|| self.arena.trim(KEPT_BYTES));
        Ok(sleep(None))
    }

    fn is_spent(&self) -> bool {
        let tasks = self.most_tasks != 0 && self.side.tasks_done() >= self.most_tasks;
        tasks
            || self.most_bytes != 0
                && procfs::rss_bytes(process::pid()).is_some_and(|rss| rss > self.most_bytes)
    }

    fn run_task<'py>(&self, py: Python<'py>, hooks: &mut Hooks<'py>, entry: Entry) {
        let mut bytes = Vec::new();
        let (head, block) = self.side.slots().read_arguments(entry.slot, &mut bytes);
        self.side.begin(entry, head.flags & flag::TIMED != 0);
        let mut name = None;
        let result = self.call(py, hooks, entry, head, block, &bytes, &mut name);
        self.answer(py, hooks, entry, result, name.as_ref());
        if self.side.finish(entry) == Finish::Killed {
            // The parent's SIGKILL is on its way; nothing more may come from this worker. If it is refused, it ends so.
            py.detach(|| park::sleep_until(clock::now() + clock::SECOND));
            self.exit(py);
        }
        if self.side.clears_starving()
            && let Some(report) = frame(kind::STARVING, &[])
        {
            let _ = socket::write(ffi::borrow_descriptor(self.reports_fd), &report);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one task's parts, read by the caller")]
    fn call<'py>(
        &self,
        py: Python<'py>,
        hooks: &mut Hooks<'py>,
        entry: Entry,
        head: Head,
        block: u64,
        bytes: &[u8],
        name: &mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function(py, hooks, entry.slot)?;
        *name = Some(function.clone());
        let call = self.arguments(py, hooks, function, head, block, bytes)?;
        if call.function.is(&hooks.carry) {
            // What the task is about is the function that came along.
            *name = call.args.get_item(0).ok();
        }
        if head.flags & flag::TIMED != 0 {
            self.side.start();
        }
        RUNNING.store(entry.to_note(), Ordering::Relaxed);
        // Whoever asked it to stop before this line has sent a signal that its handler did not take for it.
        let result = if self.side.is_cancelling(entry) { Err(asked_to_stop(py)) } else { call.run() };
        // From here on SIGINT is too late: the task has ended.
        RUNNING.store(0, Ordering::Relaxed);
        result
    }

    fn function<'py>(
        &self,
        py: Python<'py>,
        hooks: &mut Hooks<'py>,
        slot: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let id = self.side.slots().function(slot);
        if let Some(function) = hooks.functions.get(&id) {
            return Ok(function.clone());
        }
        let (reference, length) = self.side.slots().function_block(slot);
        let block = self.arena.open(BlockRef::from_bits(reference)).map_err(shared_heap::bad_block)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(block.len());
        let data = PyBytes::new_with(py, length, |bytes| {
            block.read(0, bytes);
            Ok(())
        })?;
        let function = hooks.loads.call1((data,))?;
        if hooks.functions.len() >= MOST_FUNCTIONS {
            hooks.functions.clear();
        }
        hooks.functions.insert(id, function.clone());
        Ok(function)
    }

    fn arguments<'py>(
        &self,
        py: Python<'py>,
        hooks: &Hooks<'py>,
        function: Bound<'py, PyAny>,
        head: Head,
        block: u64,
        bytes: &[u8],
    ) -> PyResult<Call<'py>> {
        let decoded = |bytes: &[u8]| -> PyResult<Call<'py>> {
            let mut decoder = compact::Decoder::new(bytes);
            let Some((args, kwargs)) = decoder.call(py) else {
                let error = decoder.into_error("the arguments were overwritten in shared memory");
                hooks.note_arrival.call1((error.value(py),))?;
                return Err(error);
            };
            let context = hooks.fresh_context.call0()?;
            Ok(Call { function: function.clone(), args, kwargs, context })
        };
        let loaded = match head.encoding {
            Encoding::Compact => return decoded(bytes),
            Encoding::Pickle => hooks.loads.call1((PyBytes::new(py, bytes),))?,
            Encoding::Block => {
                let block = self.arena.open(BlockRef::from_bits(block)).map_err(shared_heap::bad_block)?;
                if head.flags & flag::COMPACT != 0 {
                    return decoded(&payload::read_compact(&block));
                }
                payload::load(py, &hooks.loads, block, head.flags & flag::RETRIED != 0)?
            }
        };
        let (args, kwargs, sent) =
            loaded
                .extract::<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>, Option<Bound<'py, PyBytes>>)>(
                )?;
        let context = match sent {
            Some(sent) => hooks.apply_context.call1((sent,))?,
            None => hooks.fresh_context.call0()?,
        };
        Ok(Call { function, args, kwargs, context })
    }

    /// Writes a result or an exception to the slot. Whatever goes wrong becomes the task's exception.
    fn answer(
        &self,
        py: Python<'_>,
        hooks: &Hooks<'_>,
        entry: Entry,
        result: PyResult<Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
    ) {
        // Into a value: that gives the exception its traceback, which a mere look does not.
        let result = result.map_err(|error| error.into_value(py).into_bound(py));
        let error = result.as_ref().err();
        let printed = hooks.finish_task.call1((error,)).and_then(|touched| touched.is_truthy());
        self.end_forked_child(py);
        let flags = if printed.unwrap_or(true) { flag::PRINTED } else { 0 };
        let written = match &result {
            Ok(value) => self.write_result(py, hooks, entry, value, flags),
            Err(error) => self.write_error(py, hooks, entry, error, flags, name, None),
        };
        if let Err(error) = written {
            let problem = error.into_value(py).into_bound(py);
            // The task's own error, if there is one: not that it could not be handed over.
            let told = result.as_ref().err().unwrap_or(&problem);
            if self.write_error(py, hooks, entry, told, flags, name, Some(&problem)).is_err() {
                self.write_last_word(entry, flags, &last_word(told));
            }
        }
        // The traceback of an exception holds its frames, and those the arguments and the exception.
        if let Err(error) = &result {
            _ = error.setattr(intern!(py, "__traceback__"), py.None());
        }
        drop(result);
    }

    /// Ends a child that the task has forked and that the hook has failed to end: what it wrote from
    /// here on would be taken for the worker's own answer.
    fn end_forked_child(&self, py: Python<'_>) {
        if process::pid() != self.pid {
            self.exit(py);
        }
    }

    /// Ends this process at once.
    fn exit(&self, py: Python<'_>) -> ! {
        _ = py.import("os").and_then(|os| os.call_method1("_exit", (1,)));
        panic!("process {} cannot be ended", self.pid);
    }

    fn write_result(
        &self,
        py: Python<'_>,
        hooks: &Hooks<'_>,
        entry: Entry,
        value: &Bound<'_, PyAny>,
        flags: u8,
    ) -> PyResult<()> {
        let mut bytes = Vec::with_capacity(RESULT_INLINE);
        if compact::encode(value, &mut bytes, RESULT_INLINE, compact::LONGEST) {
            if bytes.len() <= RESULT_INLINE {
                self.side.slots().write_result(entry.slot, Encoding::Compact, flags, &bytes);
            } else {
                self.write_block(entry, payload::write_compact(&self.arena, &bytes)?, flags | flag::COMPACT);
            }
            return Ok(());
        }
        let pickled = Pickled::from_dumps(&hooks.dumps.call1((value, "the result"))?)?;
        self.write_pickled(py, entry, &pickled, flags)
    }

    /// Writes an exception; without its traceback, if `problem` has kept it from being written with it.
    #[allow(clippy::too_many_arguments, reason = "one task's parts, read by the caller")]
    fn write_error(
        &self,
        py: Python<'_>,
        hooks: &Hooks<'_>,
        entry: Entry,
        error: &Bound<'_, PyBaseException>,
        flags: u8,
        function: Option<&Bound<'_, PyAny>>,
        problem: Option<&Bound<'_, PyBaseException>>,
    ) -> PyResult<()> {
        let name = function.map_or_else(
            || Ok("?".into()),
            |function| {
                function
                    .getattr(intern!(py, "__qualname__"))
                    .map_or_else(|_| function.repr().map(|r| r.to_string()), |name| Ok(name.to_string()))
            },
        )?;
        let data = hooks.dump_exception.call1((error, name, problem))?.cast_into::<PyBytes>()?;
        self.write_pickled(py, entry, &Pickled::plain(data), flags | flag::RAISED)
    }

    fn write_pickled(&self, py: Python<'_>, entry: Entry, pickled: &Pickled<'_>, flags: u8) -> PyResult<()> {
        if pickled.fits(RESULT_INLINE) {
            let bytes = pickled.data.as_bytes();
            self.side.slots().write_result(entry.slot, Encoding::Pickle, flags, bytes);
        } else {
            self.write_block(entry, pickled.write(py, &self.arena)?, flags);
        }
        Ok(())
    }

    fn write_block(&self, entry: Entry, block: Block, flags: u8) {
        let reference = block.hand_over(0_u16.into());
        self.side.slots().write_result_block(entry.slot, flags, reference.to_bits());
    }

    /// There is no memory even for an exception: its text, cut to what a slot holds, as a plain string
    /// that the parent makes an exception of.
    fn write_last_word(&self, entry: Entry, flags: u8, text: &str) {
        let end = text
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|&at| at <= RESULT_INLINE - 8)
            .last()
            .unwrap_or(0);
        let mut bytes = Vec::with_capacity(RESULT_INLINE);
        compact::encode_text(&text[..end], &mut bytes);
        self.side.slots().write_result(entry.slot, Encoding::Compact, flags | flag::RAISED, &bytes);
    }
}

/// A name and a text for an exception, made with as little as possible.
fn last_word(error: &Bound<'_, PyBaseException>) -> String {
    let kind = error.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    let text = error.str().map_or_else(|_| String::new(), |text| text.to_string());
    format!("{kind}: {text}")
}

impl<'py> Hooks<'py> {
    fn bind(hooks: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self {
            loads: hooks.getattr("loads")?,
            note_arrival: hooks.getattr("note_arrival")?,
            dumps: hooks.getattr("dumps")?,
            dump_exception: hooks.getattr("dump_exception")?,
            apply_context: hooks.getattr("apply_context")?,
            carry: hooks.getattr("carry")?,
            finish_task: hooks.getattr("finish_task")?,
            idle: hooks.getattr("idle")?,
            get_ready: hooks.getattr("get_ready")?,
            fresh_context: hooks.getattr("fresh_context")?,
            functions: HashMap::new(),
        })
    }
}

impl<'py> Call<'py> {
    /// Calls the function in the task's own context.
    fn run(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.function.py();
        let mut arguments = Vec::with_capacity(self.args.len() + 1);
        arguments.push(self.function);
        arguments.extend(self.args.iter());
        let arguments = PyTuple::new(py, arguments)?;
        // The caller's only references to the arguments go with the call.
        drop(self.args);
        self.context.call_method(intern!(py, "run"), arguments, self.kwargs.as_ref())
    }
}
