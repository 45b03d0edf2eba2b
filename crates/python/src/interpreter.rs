//! What all of this crate needs of the interpreter: its objects by name, its end, waiting without it, and what PyO3 has not.

pub(crate) mod argument;
pub(crate) mod asked;
pub(crate) mod at_once;
pub(crate) mod beginning;
pub(crate) mod cpu_times;
pub(crate) mod ending;
pub(crate) mod ffi;
pub(crate) mod free_threading;
pub(crate) mod gil_probe;
pub(crate) mod hasty;
pub(crate) mod imports;
pub(crate) mod kick;
pub(crate) mod latch;
pub(crate) mod lock;
pub(crate) mod parker;
pub(crate) mod spare;
pub(crate) mod switching;
pub(crate) mod system_error;
