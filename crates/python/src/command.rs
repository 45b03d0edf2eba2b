//! The `manyhands` command: `cli` says what was asked and how it looks, Python does the work.
//!
//! Output goes straight to the streams 1 and 2: nothing is left in a buffer that the interpreter
//! would flush, and complain about, after the reader of a pipe has gone.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands_cli::arguments::{self, DemoOptions, Request, ServeOptions, WorkerOptions};
use manyhands_cli::broker_arguments::{DeadOptions, DoctorOptions};
use manyhands_cli::demo::{self, Advice, Job, Load, Moment, Run, Setting};
use manyhands_cli::ink::Ink;
use manyhands_cli::page::Page;
use manyhands_os::terminal;
use pyo3::exceptions::PyBrokenPipeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

mod top;

/// Adds what the command needs to the native module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DemoView>()?;
    module.add_function(wrap_pyfunction!(run_command, module)?)
}

/// Runs the command line `argv` (program name first) and returns its exit status.
///
/// Whatever the work raises is raised here too, except `ManyhandsError`, which becomes one line
/// on standard error and status 1.
#[pyfunction]
fn run_command(py: Python<'_>, argv: Vec<OsString>) -> PyResult<u8> {
    let (out, err) = (Stream::of(&io::stdout()), Stream::of(&io::stderr()));
    let done = match arguments::parse(argv, out.page.ink(), err.page.ink()) {
        Ok(Request::Demo(options)) => run_demo(py, &options, out, err),
        Ok(Request::Top(options)) => top::run(py, &options, out.page.ink()),
        Ok(Request::Serve(options)) => serve(py, *options),
        Ok(Request::Worker(options)) => work(py, *options),
        Ok(Request::Doctor(options)) => look_at_broker(py, options),
        Ok(Request::Dead(options)) => dead_letters(py, *options),
        Err(answer) => {
            // Whoever asked for help and closed the pipe has seen enough of it.
            _ = py.detach(|| match answer.asked_for {
                true => write(io::stdout(), &answer.text),
                false => write(io::stderr(), &answer.text),
            });
            return Ok(answer.status);
        }
    };
    match done {
        Err(error) if is_ours(py, &error)? => {
            let line = format!("manyhands: {}\n", error.value(py));
            _ = py.detach(|| write(io::stderr(), &line));
            Ok(1)
        }
        done => done,
    }
}

fn serve(py: Python<'_>, options: ServeOptions) -> PyResult<u8> {
    let keywords = PyDict::new(py);
    keywords.set_item("interface", options.interface())?;
    keywords.set_item("framing", options.framing)?;
    keywords.set_item("limit", options.limit)?;
    keywords.set_item("max_connections", options.max_connections)?;
    keywords.set_item("max_queue", options.max_queue)?;
    keywords.set_item("overflow", options.overflow)?;
    keywords.set_item("grace", options.grace)?;
    keywords.set_item("start_timeout", options.start_timeout)?;
    keywords.set_item("metrics", options.metrics)?;
    keywords.set_item("connection_timeout", options.connection_timeout)?;
    keywords.set_item("first_byte_timeout", options.first_byte_timeout)?;
    keywords.set_item("proxy_protocol", options.proxy_protocol)?;
    keywords.set_item("certificate", options.certificate)?;
    keywords.set_item("key", options.key)?;
    let run = py.import("manyhands._server.command")?.getattr("run")?;
    run.call((options.target, options.bind, options.workers), Some(&keywords))?.extract()
}

fn work(py: Python<'_>, options: WorkerOptions) -> PyResult<u8> {
    let keywords = PyDict::new(py);
    keywords.set_item("queues", options.queues)?;
    keywords.set_item("workers", options.workers)?;
    keywords.set_item("broker", options.broker)?;
    keywords.set_item("broker_file", options.broker_file)?;
    keywords.set_item("max_retries", options.max_retries)?;
    keywords.set_item("pickle", options.pickle)?;
    keywords.set_item("dev", options.dev)?;
    keywords.set_item("grace", options.grace)?;
    keywords.set_item("metrics", options.metrics)?;
    keywords.set_item("hostname", options.hostname)?;
    keywords.set_item("events", options.events)?;
    let run = py.import("manyhands._cluster.worker_command")?.getattr("run")?;
    run.call((options.module,), Some(&keywords))?.extract()
}

fn look_at_broker(py: Python<'_>, options: DoctorOptions) -> PyResult<u8> {
    let run = py.import("manyhands._cluster.doctor")?.getattr("run")?;
    run.call1((options.broker, options.broker_file, options.queues, options.time_limit))?.extract()
}

fn dead_letters(py: Python<'_>, options: DeadOptions) -> PyResult<u8> {
    let keywords = PyDict::new(py);
    keywords.set_item("ids", options.ids)?;
    keywords.set_item("everything", options.all)?;
    keywords.set_item("to", options.to)?;
    keywords.set_item("as_json", options.json)?;
    keywords.set_item("broker", options.broker)?;
    keywords.set_item("broker_file", options.broker_file)?;
    let run = py.import("manyhands._cluster.dead_letters")?.getattr("run")?;
    run.call((options.act.name(), options.queue), Some(&keywords))?.extract()
}

fn run_demo(py: Python<'_>, options: &DemoOptions, out: Stream, err: Stream) -> PyResult<u8> {
    let view = Py::new(py, DemoView::new(out.page, err, options.json))?;
    let arguments = PyDict::new(py);
    let jobs = PyList::new(py, options.jobs.iter().map(|job| job.name()))?;
    arguments.set_item("jobs", jobs)?;
    arguments.set_item("workers", options.workers)?;
    arguments.set_item("quick", options.quick)?;
    arguments.set_item("view", &view)?;
    let done = py.import("manyhands.demo")?.call_method("run", (), Some(&arguments));
    view.get().clear_progress(py);
    let report = match done {
        Ok(report) => report,
        Err(_) if view.get().reader_left.load(Ordering::Relaxed) => return Ok(0),
        Err(error) => return Err(error),
    };
    let text = if options.json {
        report.call_method0("to_json")?.extract::<String>()? + "\n"
    } else {
        closing(&report, out.page)?
    };
    let equal: bool = report.getattr("equal")?.extract()?;
    match py.detach(|| write(io::stdout(), &text)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(u8::from(!equal)),
    }
}

fn closing(report: &Bound<'_, PyAny>, page: Page) -> PyResult<String> {
    let mut advice = Vec::new();
    for job in report.getattr("jobs")?.try_iter()? {
        let given = job?.getattr("advice")?;
        advice.push(Advice {
            job: given.getattr("job")?.extract()?,
            kind: given.getattr("kind")?.extract()?,
            speed_up: given.getattr("speed_up")?.extract()?,
        });
    }
    let equal = report.getattr("equal")?.extract()?;
    let seconds = report.getattr("seconds")?.extract()?;
    let load = Load {
        others: report.getattr("others")?.extract()?,
        cpus: report.getattr("setting")?.getattr("cpus")?.extract()?,
        is_busy: report.getattr("busy")?.extract()?,
    };
    Ok(text_of(&demo::closing(&advice, load, equal, seconds, page)))
}

/// A stream as it was found when the command began.
#[derive(Clone, Copy)]
struct Stream {
    is_terminal: bool,
    page: Page,
}

impl Stream {
    fn of(stream: &impl AsFd) -> Self {
        let columns = terminal::columns(stream);
        let (no_color, term) = (env::var_os("NO_COLOR"), env::var_os("TERM"));
        let ink = Ink::choose(columns.is_some(), no_color.as_deref(), term.as_deref());
        Self { is_terminal: columns.is_some(), page: Page::new(columns.unwrap_or(Page::UNBOUND), ink) }
    }
}

/// What `manyhands.demo` tells its progress and its results to; they are shown at once.
#[pyclass(frozen, module = "manyhands._native")]
struct DemoView {
    page: Page,
    // Where progress is shown: standard error, and only if somebody watches it.
    progress_page: Option<Page>,
    // Results are not shown as they come when they form one JSON object in the end.
    quiet: bool,
    // The progress line on the screen, empty if there is none: a line is only drawn when it changes.
    progress_line: Mutex<String>,
    reader_left: AtomicBool,
}

impl DemoView {
    fn new(page: Page, err: Stream, quiet: bool) -> Self {
        Self {
            page,
            progress_page: err.is_terminal.then_some(err.page),
            quiet,
            progress_line: Mutex::new(String::new()),
            reader_left: AtomicBool::new(false),
        }
    }

    fn show(&self, py: Python<'_>, lines: &[String]) -> PyResult<()> {
        if self.quiet {
            return Ok(());
        }
        self.clear_progress(py);
        let text = text_of(lines);
        py.detach(|| write(io::stdout(), &text)).map_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.reader_left.store(true, Ordering::Relaxed);
                return PyBrokenPipeError::new_err("the reader of standard output has closed it");
            }
            error.into()
        })
    }

    fn draw_progress(&self, py: Python<'_>, line: String) {
        // Detached before the lock is taken and until it is free again: a terminal may stand still.
        py.detach(|| {
            let Ok(mut drawn) = self.progress_line.lock() else { return };
            if *drawn == line {
                return;
            }
            // Progress that cannot be shown is no reason to stop the work.
            _ = write(io::stderr(), &format!("\r\x1b[2K{line}"));
            *drawn = line;
        });
    }

    fn clear_progress(&self, py: Python<'_>) {
        self.draw_progress(py, String::new());
    }
}

#[pymethods]
impl DemoView {
    /// Shows where and on what the jobs will run.
    fn begin(&self, py: Python<'_>, setting: &Bound<'_, PyAny>) -> PyResult<()> {
        let setting = Setting {
            python: setting.getattr("python")?.extract()?,
            cpus: setting.getattr("cpus")?.extract()?,
            files: setting.getattr("files")?.extract()?,
            bytes: setting.getattr("bytes")?.extract()?,
        };
        self.show(py, &demo::heading(&setting, self.page))
    }

    /// Shows how far run `run` of `runs` is; `share` of its tasks are done.
    fn progress(&self, py: Python<'_>, job: &str, kind: &str, share: f64, run: usize, runs: usize) {
        if let Some(page) = self.progress_page {
            let moment = Moment { job, kind, share, run, runs };
            self.draw_progress(py, demo::progress(&moment, page));
        }
    }

    /// Shows a job that has run in every kind.
    fn finish(&self, py: Python<'_>, job: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut runs = Vec::new();
        for run in job.getattr("runs")?.try_iter()? {
            let run = run?;
            runs.push(Run {
                kind: run.getattr("kind")?.extract()?,
                seconds: run.getattr("seconds")?.extract()?,
                speed_up: run.getattr("speed_up")?.extract()?,
            });
        }
        let job = Job {
            name: job.getattr("name")?.extract()?,
            description: job.getattr("description")?.extract()?,
            tasks: job.getattr("tasks")?.extract()?,
            runs,
            best: job.getattr("advice")?.getattr("kind")?.extract()?,
            choice: job.getattr("choice")?.extract()?,
            reason: job.getattr("reason")?.extract()?,
            differences: job.getattr("differences")?.extract()?,
        };
        self.show(py, &demo::job(&job, self.page))
    }
}

fn is_ours(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let base = py.import("manyhands._errors.base")?.getattr("ManyhandsError")?;
    Ok(error.is_instance(py, &base))
}

fn text_of(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn write(mut stream: impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}
