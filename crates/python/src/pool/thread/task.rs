//! One call to run, as a thread pool keeps it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::future::FutureBase;
use crate::interpreter::imports;

/// One call to run and the future that waits for its outcome.
pub(crate) struct Task {
    /// Grows with every task of a pool; the same for all attempts of a task.
    pub(crate) token: u64,
    pub(crate) future: Py<FutureBase>,
    /// The context of whoever submitted the task, copied then.
    context: Py<PyAny>,
    /// The function, followed by its positional arguments.
    call: Py<PyTuple>,
    keywords: Option<Py<PyDict>>,
    /// `None` for most tasks.
    pub(crate) options: Option<Box<Options>>,
}

/// How to run a task, where that differs from the usual.
pub(crate) struct Options {
    /// Seconds that one attempt may take.
    pub(crate) timeout: Option<f64>,
    pub(crate) retries_left: u32,
    /// Whether this is not the first attempt.
    pub(crate) is_retry: bool,
    pub(crate) retry_on: Py<PyAny>,
    /// Seconds to wait before each further attempt; the last counts for all that follow.
    pauses: Vec<f64>,
    /// How many attempts there have been before this one.
    attempt: usize,
    pub(crate) priority: i32,
    pub(crate) name: Option<Py<PyString>>,
}

impl Options {
    /// Reads a `TaskOptions`; `None` when nothing in it is out of the ordinary.
    pub(crate) fn read(options: &Bound<'_, PyAny>) -> PyResult<Option<Box<Self>>> {
        let py = options.py();
        let waits = !options.getattr(intern!(py, "backoff"))?.is_none();
        let this = Self {
            timeout: options.getattr(intern!(py, "timeout"))?.extract()?,
            retries_left: options.getattr(intern!(py, "retries"))?.extract()?,
            is_retry: false,
            retry_on: options.getattr(intern!(py, "retry_on"))?.unbind(),
            pauses: match waits {
                true => options.call_method0(intern!(py, "pauses"))?.extract()?,
                false => Vec::new(),
            },
            attempt: 0,
            priority: options.getattr(intern!(py, "priority"))?.extract()?,
            name: options.getattr(intern!(py, "name"))?.extract()?,
        };
        let plain =
            this.timeout.is_none() && this.retries_left == 0 && this.priority == 0 && this.name.is_none();
        Ok((!plain).then(|| Box::new(this)))
    }
}

impl Options {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            timeout: self.timeout,
            retries_left: self.retries_left,
            is_retry: self.is_retry,
            retry_on: self.retry_on.clone_ref(py),
            pauses: self.pauses.clone(),
            attempt: self.attempt,
            priority: self.priority,
            name: self.name.as_ref().map(|name| name.clone_ref(py)),
        }
    }
}

impl Task {
    pub(crate) fn new(
        token: u64,
        future: Py<FutureBase>,
        context: Py<PyAny>,
        call: Py<PyTuple>,
        keywords: Option<Py<PyDict>>,
        options: Option<Box<Options>>,
    ) -> Self {
        Self { token, future, context, call, keywords, options }
    }

    pub(crate) fn priority(&self) -> i32 {
        self.options.as_ref().map_or(0, |options| options.priority)
    }

    /// Whether an earlier attempt has begun.
    pub(crate) fn is_retry(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.is_retry)
    }

    /// Calls the function in the task's context, or in a copy of it when another attempt may need it as it was. What the
    /// worker's initializer has set, `base`, holds where the context says nothing else.
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
        base: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keywords = self.keywords.as_ref().map(|keywords| keywords.bind(py));
        let mut context = self.context.bind(py).clone();
        if self.options.as_ref().is_some_and(|options| options.retries_left > 0) {
            context = context.call_method0(intern!(py, "copy"))?;
            imports::make_own(py)?.call1((&context,))?;
        }
        if let Some(base) = base {
            imports::lay_under(py)?.call1((&context, base))?;
        }
        context.getattr(intern!(py, "run"))?.call(self.call.bind(py), keywords)
    }

    /// What to call the task in errors and statistics.
    pub(crate) fn label(&self, py: Python<'_>) -> Label {
        let name = self.options.as_ref().and_then(|options| options.name.as_ref());
        Label { name: name.map(|name| name.clone_ref(py)), call: self.call.clone_ref(py) }
    }

    /// Whether another attempt may follow one that ended with `error`.
    pub(crate) fn may_retry(&self, error: &PyErr, py: Python<'_>) -> bool {
        let Some(options) = &self.options else { return false };
        options.retries_left > 0 && error.is_instance(py, options.retry_on.bind(py))
    }

    /// The same task for its next attempt.
    pub(crate) fn next_attempt(&self, py: Python<'_>) -> Self {
        let mut next = self.clone_ref(py);
        if let Some(options) = &mut next.options {
            options.is_retry = true;
            options.attempt += 1;
            options.retries_left -= 1;
        }
        next
    }

    /// Seconds to wait before this attempt, if it must wait.
    pub(crate) fn pause(&self) -> Option<f64> {
        let options = self.options.as_ref()?;
        let at = options.attempt.checked_sub(1)?.min(options.pauses.len().checked_sub(1)?);
        Some(options.pauses[at]).filter(|pause| *pause > 0.0)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            token: self.token,
            future: self.future.clone_ref(py),
            context: self.context.clone_ref(py),
            call: self.call.clone_ref(py),
            keywords: self.keywords.as_ref().map(|keywords| keywords.clone_ref(py)),
            options: self.options.as_ref().map(|options| Box::new(options.clone_ref(py))),
        }
    }

    /// Seconds that one attempt may take.
    pub(crate) fn timeout(&self) -> Option<f64> {
        self.options.as_ref()?.timeout
    }
}

/// What a task is called; worked out only when somebody asks.
pub(crate) struct Label {
    name: Option<Py<PyString>>,
    call: Py<PyTuple>,
}

impl Label {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { name: self.name.as_ref().map(|name| name.clone_ref(py)), call: self.call.clone_ref(py) }
    }

    /// The task's own name, else that of its function, else the function's `repr`.
    pub(crate) fn text(&self, py: Python<'_>) -> PyResult<String> {
        if let Some(name) = &self.name {
            return name.extract(py);
        }
        let function = self.call.bind(py).get_item(0)?;
        match function.getattr(intern!(py, "__qualname__")) {
            Ok(name) => name.extract(),
            Err(_) => Ok(function.repr()?.to_string()),
        }
    }
}
